//! Rules as text, read and refused.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Rule, Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    let rule = rule(text, "chaos-1".into(), "chaos.rules[0]", &mut found);
    assert!(found.iter().all(|d| d.path == "chaos.rules[0]"), "{found:?}");
    rule.ok_or_else(|| found.into_iter().map(|d| (d.code, d.hint)).collect())
}

#[test]
fn rules_are_read() {
    for (text, filtered, effects) in [
        ("status=503", false, 1),
        ("*: status=503", false, 1),
        (": status=503", false, 1),
        ("(): status=503", false, 1),
        (r#"(location IS "/pay"): status=503"#, true, 1),
        (r#"(location IS "/a:b") AND (header[x:y] IS ")"): latency=1s, no-response"#, true, 2),
        (r#"(location CONTAINS "\"(:"): body=truncate:10; connection=reset"#, true, 2),
        ("header X-A: b@c, header=\"X-B: a, b\"@50, header=X-C:", false, 3),
        ("latency=100ms-2s@12.5%, percent=20, seed=7, sticky, max-latency=5s", false, 1),
        ("token=expired|wrong-key, claims=sub:alice, start-after=10s, duration=1m", false, 1),
        ("id=mine, rate=1/3, pick=one, jwks=stale, status=500", false, 2),
    ] {
        let rule = read(text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        assert_eq!((rule.filters.is_some(), rule.effects.len()), (filtered, effects), "{text}");
    }
    let doses: Vec<_> = read("latency=1s@50, status=500, header=\"X: a@5\", header=X: a@b")
        .unwrap()
        .effects
        .iter()
        .map(|dosed| dosed.toxicity)
        .collect();
    assert_eq!(doses, [Share::parse("50"), None, None, None]);
}

#[test]
fn mistakes_are_named() {
    for (text, code, hint) in [
        ("(location IS \"/pay\")", "bad_rule", "write (location"),
        ("(location \"/pay\"): status=500", "bad_query", "the operators"),
        ("(locaton IS \"/pay\"): status=500", "unknown_filter", "did you mean `location`?"),
        ("latncy=2s", "unknown_field", "did you mean `latency`?"),
        ("status=500, percnt=5", "unknown_field", "did you mean `percent`?"),
        ("percent=200, status=500", "invalid_value", ""),
        ("percent=5@5, status=500", "invalid_value", ""),
        ("header=\"X: a", "invalid_value", ""),
        ("header=\"X: a\"@lots", "invalid_value", "write @50"),
        ("header=\"X: a\" b", "invalid_value", ""),
        ("status=500, rate=3/2", "invalid_value", "write 1/3"),
        ("latency=1s, max-latency=2m", "invalid_value", "write 60s"),
        ("status=500, id=a b", "invalid_value", ""),
        ("status=500, claims=alice", "invalid_value", "write claims=sub:alice"),
        ("status=500, sticky=maybe", "invalid_value", ""),
        ("status=500, seed=-1", "invalid_value", ""),
    ] {
        let found = read(text).expect_err(text);
        assert_eq!(found[0].0, code, "{text}");
        assert!(found[0].1.starts_with(hint), "{text}: {found:?}");
    }
}

#[test]
fn faults_have_a_pattern() {
    let read = |text: &str| {
        let mut found = Vec::new();
        let rule = fault(text, "fault-1".into(), "chaos.faults[0]", &mut found);
        rule.ok_or_else(|| found.first().map(|d| d.code))
    };
    let rule = read("api\\.example:?[0-9]*/v1/(?:a|b):status=503,rate=1/3").unwrap();
    let pattern = rule.pattern.as_ref().unwrap();
    assert!(pattern.is_match(b"api.example:443/v1/a") && !pattern.is_match(b"/v1/c"));
    assert_eq!(rule.rate, Some((1, 3)));
    assert!(read(":latency=2s").unwrap().pattern.is_none());
    assert_eq!(read("/pay").unwrap_err(), Some("bad_rule"));
    assert_eq!(read("(:status=500").unwrap_err(), Some("bad_regex"));
    assert_eq!(read("/pay:status=x").unwrap_err(), Some("invalid_value"));
}

proptest! {
    #[test]
    fn no_text_panics(text in r#"[-a-z0-9=@,;:"\\()\[\]*% ./|é]{0,80}"#) {
        let mut found = Vec::new();
        let read = rule(&text, "r".into(), "p", &mut found);
        prop_assert_eq!(read.is_none(), crate::diagnostic::has_errors(&found));
        let _read = fault(&text, "r".into(), "p", &mut Vec::new());
    }
}
