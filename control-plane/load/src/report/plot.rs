//! Plots as SVG, to stand inside the HTML.

use std::fmt::Write as _;

use crate::number::{count, float};

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 60.0;
const BELOW: f64 = 24.0;
/// More points than this are thinned out: each stands for the worst of its part.
const MAX_POINTS: usize = 600;

/// A line of a plot.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) colour: &'static str,
    /// One figure a second.
    pub(super) figures: Vec<f64>,
}

/// Draws lines over the seconds of a run.
pub(super) fn draw(title: &str, unit: &str, lines: &[Line]) -> String {
    let length = lines.iter().map(|line| line.figures.len()).max().unwrap_or(0);
    let most = lines.iter().flat_map(|line| &line.figures).copied().fold(0.0, f64::max);
    let top = if most > 0.0 { most * 1.1 } else { 1.0 };
    let mut out = format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">",
        HEIGHT + BELOW
    );
    // Writing to a string cannot fail.
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = HEIGHT - part * (HEIGHT - 10.0);
        write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" class=\"grid\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(top * part, unit)
        )
        .ok();
    }
    let last = float(count(length.saturating_sub(1)));
    let x = |nth: usize| LEFT + (WIDTH - LEFT - 6.0) * float(count(nth)) / last.max(1.0);
    for line in lines {
        let step = line.figures.len().div_ceil(MAX_POINTS).max(1);
        let points: Vec<String> = line
            .figures
            .chunks(step)
            .enumerate()
            .map(|(nth, part)| {
                let worst = part.iter().copied().fold(0.0, f64::max);
                format!("{:.1},{:.1}", x(nth * step), HEIGHT - worst / top * (HEIGHT - 10.0))
            })
            .collect();
        write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            points.join(" "),
            line.colour
        )
        .ok();
    }
    for (nth, line) in lines.iter().enumerate() {
        let at = LEFT + 10.0 + 110.0 * float(count(nth));
        write!(
            out,
            "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT + 10.0,
            line.colour,
            at + 14.0,
            HEIGHT + 19.0,
            line.name
        )
        .ok();
    }
    write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{length} s</text></svg></figure>",
        WIDTH - 6.0,
        HEIGHT + 19.0
    )
    .ok();
    out
}

fn label(figure: f64, unit: &str) -> String {
    if figure >= 10.0 { format!("{figure:.0}{unit}") } else { format!("{figure:.2}{unit}") }
}
