//! `date` in both directions and on both sides.

use super::*;

/// 2023-11-14T22:13:20Z, the time of [`Lab::scope`].
const NOW: i64 = 1_700_000_000;

fn dated(config: &str, value: &str, recorded_at: i64) -> Result<String, &'static str> {
    let lab = Lab::new();
    let mut scope = lab.scope();
    scope.recorded_at = Some(recorded_at * 1_000_000_000);
    let ops = chain(BODY, &step("date", config)).ops;
    apply(&ops, value.as_bytes(), &mut Marks::new(scope))
        .map(|out| String::from_utf8(out).unwrap())
        .map_err(|why| why.code)
}

#[test]
fn date_keeps_its_age() {
    let recorded = NOW - 86_400 * 10;
    for (config, value, moved) in [
        ("", "2023-11-04T22:13:19Z", "2023-11-14T22:13:19Z"),
        ("", "2023-11-05T00:13:20.250+02:00", "2023-11-15T00:13:20.250+02:00"),
        ("", "1699136000", "1700000000"),
        (r#""layout":"epoch_ms""#, "1699136000123", "1700000000123"),
        (r#""layout":"epoch""#, "1699136060", "1700000060"),
        (r#""layout":"auto","precision":"24h""#, "2023-11-01", "2023-11-10"),
        (r#""layout":"2006-01-02""#, "2023-11-01", "2023-11-11"),
        (r#""layout":"02 Jan 06 15:04""#, "04 Nov 23 22:13", "14 Nov 23 22:13"),
        ("", "{speedscale_date(24h0m0s)}", "2023-11-13T22:13:20Z"),
        (r#""layout":"epoch""#, "{speedscale_date(-1m0s)}", "1700000060"),
        (r#""offset":"1d""#, "2023-11-04", "2023-11-05"),
        (r#""offset":"-1h30m","layout":"epoch""#, "1699136000", "1699130600"),
        (r#""offset":"0s","precision":"1h""#, "2023-11-04T22:40:00Z", "2023-11-04T23:00:00Z"),
    ] {
        assert_eq!(dated(config, value, recorded).unwrap(), moved, "{config} {value}");
    }
    for (config, value) in [
        ("", "soon"),
        (r#""layout":"epoch""#, "2023-11-04"),
        (r#""layout":"2006-01-02""#, "1699136000"),
        (r#""offset":"290000h""#, "2262-04-11T00:00:00Z"),
        ("", ""),
    ] {
        assert_eq!(dated(config, value, recorded), Err("not_a_date"), "{config} {value}");
    }
    assert_eq!(refused("date", r#""layout":"YYYY-MM-DD""#), ["bad_layout"]);
    assert_eq!(refused("date", r#""offset":"one day""#), ["wrong_type"]);
}

#[test]
fn dates_of_equal_age_are_equal_on_requests() {
    let world = Arc::new(World::default());
    let ops = chain(r#"{"type":"req_body"}"#, &step("date", r#""precision":"1m""#)).ops;
    let run = |scope, value: &str| apply(&ops, value.as_bytes(), &mut Marks::new(scope)).unwrap();
    let recorded = Scope::recorded(&world, Side::Request, Some(NOW * 1_000_000_000));
    let live = Scope::live(&world, Side::Request, (NOW + 3600) * 1_000_000_000);
    let placeholder = run(recorded, "2023-11-14T22:00:20Z");
    assert_eq!(placeholder, b"{speedscale_date(13m0s)}");
    assert_eq!(run(live, "2023-11-14T23:00:13Z"), placeholder);
    let unknown = Scope::recorded(&world, Side::Request, None);
    assert_eq!(
        apply(&ops, b"2023-11-14", &mut Marks::new(unknown)).unwrap_err().code,
        "no_recorded_time"
    );
}
