//! A plot as SVG: throughput and p99 against the size of the snapshot.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A size, requests a second, and p99 in milliseconds.
pub(crate) type Point = (usize, f64, f64);

/// Draws the points; both scales begin at zero, so that flat looks flat.
pub(crate) fn draw(points: &[Point]) -> anyhow::Result<String> {
    let (fastest, slowest) = points.iter().fold((1.0_f64, 0.1_f64), |(fastest, slowest), point| {
        (fastest.max(point.1), slowest.max(point.2))
    });
    let (fastest, slowest) = (round_up(fastest), round_up(slowest));
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="20" fill="#0b62a4">requests a second of one core</text>
<text x="{}" y="20" fill="#b4442c" text-anchor="end">p99, ms</text>
<text x="{}" y="{}" text-anchor="middle">pairs in the snapshot</text>
"##,
        WIDTH - RIGHT,
        WIDTH / 2.0,
        HEIGHT - 10.0
    );
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let y = y(part);
        writeln!(
            svg,
            r##"<path d="M{LEFT} {y:.1}H{}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end" fill="#0b62a4">{:.0}</text><text x="{}" y="{:.1}" fill="#b4442c">{:.2}</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            fastest * part,
            WIDTH - RIGHT + 8.0,
            y + 4.0,
            slowest * part
        )?;
    }
    let ends = points.iter().map(|point| decades(point.0));
    let ends = ends.fold((f64::MAX, 0.0_f64), |ends, at| (ends.0.min(at), ends.1.max(at)));
    for (size, ..) in points {
        let (x, y) = (x(decades(*size), ends), HEIGHT - BOTTOM + 16.0);
        writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{size}</text>"#)?;
    }
    let places = |of: fn(&Point) -> f64, limit: f64| {
        let place = |point: &Point| (x(decades(point.0), ends), y(of(point) / limit));
        points.iter().map(place).collect::<Vec<_>>()
    };
    line(&mut svg, &places(|point| point.1, fastest), "#0b62a4")?;
    line(&mut svg, &places(|point| point.2, slowest), "#b4442c")?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn line(svg: &mut String, places: &[(f64, f64)], colour: &str) -> std::fmt::Result {
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let path = path.join("L");
    writeln!(svg, r#"<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#)?;
    for (x, y) in places {
        writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#)?;
    }
    Ok(())
}

fn decades(size: usize) -> f64 {
    f64::from(u32::try_from(size.max(1)).unwrap_or(u32::MAX)).log10()
}

fn x(decades: f64, (least, most): (f64, f64)) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * (decades - least) / (most - least).max(f64::EPSILON)
}

fn y(part: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
}

/// The next number that makes a good end of a scale.
fn round_up(number: f64) -> f64 {
    const ENDS: [f64; 8] = [1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0];
    let unit = 10.0_f64.powf(number.log10().floor());
    let end = ENDS.into_iter().find(|end| end * unit >= number);
    end.unwrap_or(10.0) * unit
}
