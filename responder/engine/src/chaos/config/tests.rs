//! `chaos` of test configs, read and refused.

use serde_json::json;

use super::*;
use crate::chaos::effect::{Break, Latency};

fn load(chaos: &Value) -> (Option<Config>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let generator = json!({"requestTimeoutSeconds": 20});
    (read(Some(chaos), Some(&generator), &mut found), found)
}

fn rules(chaos: &Value) -> Vec<Rule> {
    let (config, found) = load(chaos);
    assert_eq!(found, [], "{chaos}");
    config.map(|config| config.rules).unwrap_or_default()
}

#[test]
fn rules_are_objects_or_text() {
    let all = rules(&json!({"rules": [
        "(location IS \"/a\"): status=503, percent=5",
        {"id": "pay", "filter": "(location IS \"/pay\")", "effects": {"latency": "2s", "status": [500, 503], "toxicity": 20},
         "percent": 12.5, "seed": 9, "sticky": true, "max_latency": "5s", "start-after": "10s", "duration": "1m"},
        {"filter": {"filters": [{"include": true, "detectedLocation": "/x"}]}, "effects": ["body=truncate:5@10", {"connection": "drop"}]},
        {"claims": {"sub": "alice", "level": 3}, "tokens": ["expired", "wrong-key"], "header": {"X-A": "b", "ETag": null}},
        {"filter": "", "noResponse": true, "jwks": "stale"},
    ], "faults": ["/v1/.*:status=500,rate=1/3"]}));
    let told: Vec<_> = all
        .iter()
        .map(|rule| (rule.id.as_str(), rule.filters.is_some(), rule.effects.len()))
        .collect();
    assert_eq!(
        told,
        [
            ("chaos-1", true, 1),
            ("pay", true, 2),
            ("chaos-3", true, 2),
            ("chaos-4", false, 3),
            ("chaos-5", false, 2),
            ("fault-1", false, 1),
        ]
    );
    assert_eq!(all[1].effects[0].toxicity, Share::parse("20"));
    assert_eq!((all[1].seed, all[1].sticky), (Some(9), true));
    assert_eq!(all[1].start_after, Duration::from_secs(10));
    assert!(all[3].fits_claims(br#"{"sub":"alice","level":3}"#));
    assert!(!all[3].fits_claims(br#"{"sub":"bob","level":3}"#));
    assert!(!all[3].fits_claims(b"[]"));
}

#[test]
fn caps_come_from_the_config_or_the_generator() {
    let cap = |chaos: Value| load(&chaos).0.unwrap().cap;
    assert_eq!(cap(json!({"rules": ["status=500"]})), Duration::from_secs(20));
    assert_eq!(cap(json!({"rules": ["status=500"], "maxLatency": "3s"})), Duration::from_secs(3));
    assert_eq!(request_timeout(None), DEFAULT_CAP);
    assert_eq!(request_timeout(Some(&json!({"requestTimeoutSeconds": "900"}))), MAX_DELAY);
}

#[test]
fn the_older_form_is_folded_into_one_rule() {
    let folded = |chaos: Value| {
        let mut all = rules(&chaos);
        assert!(all.len() < 2);
        all.pop().map(|rule| {
            assert_eq!((rule.id.as_str(), rule.pick), ("classic", Pick::One));
            (rule.percent, rule.effects.into_iter().map(|dosed| dosed.effect).collect::<Vec<_>>())
        })
    };
    let ten = Share::parse("10").unwrap();
    let ms = |ms: u64| Effect::Latency(Latency::Fixed(Duration::from_millis(ms)));
    for (chaos, expected) in [
        (json!({}), None),
        (json!({"chaosPercent": 0, "badStatusCodes": true}), None),
        (json!({"chaosPercent": 10}), None),
        (
            json!({"chaosPercent": 10, "badStatusCodes": true, "intermittentResponses": true, "randomLatency": true, "randomHighlatencyMs": 700}),
            Some((
                ten,
                vec![
                    Effect::Status(vec![404, 500]),
                    Effect::Connection(Break::NoResponse),
                    ms(700),
                ],
            )),
        ),
        (
            json!({"chaosPercent": "10", "badStatusCodes": [503, "404"], "intermittentResponses": false, "randomLatency": false, "randomHighlatencyMs": 700}),
            Some((ten, vec![Effect::Status(vec![503, 404])])),
        ),
        (
            json!({"chaosPercent": 10, "randomLatency": true, "randomHighLatencyFactor": 3}),
            Some((ten, vec![Effect::Latency(Latency::Times(3_000_000))])),
        ),
    ] {
        assert_eq!(folded(chaos.clone()), expected, "{chaos}");
    }
}

#[test]
fn mistakes_have_a_path_and_a_hint() {
    for (chaos, code, path, hint) in [
        (json!({"rule": []}), "unknown_field", "chaos.rule", "did you mean `rules`?"),
        (json!({"rules": {}}), "wrong_type", "chaos.rules", ""),
        (json!({"rules": [5]}), "wrong_type", "chaos.rules[0]", ""),
        (json!({"rules": [{}]}), "missing_field", "chaos.rules", "name one"),
        (
            json!({"rules": [{"effects": {"latncy": "2s"}}]}),
            "unknown_field",
            "chaos.rules[0].effects.latncy",
            "did you mean `latency`?",
        ),
        (
            json!({"rules": [{"status": 500, "percnt": 5}]}),
            "unknown_field",
            "chaos.rules[0].percnt",
            "did you mean `percent`?",
        ),
        (
            json!({"rules": [{"effects": [{"status": 5000}]}]}),
            "invalid_value",
            "chaos.rules[0].effects[0].status",
            "write 503",
        ),
        (
            json!({"rules": [{"status": 500, "filter": {"filters": [{"operator": "LIKE", "detectedLocation": "/"}]}}]}),
            "unknown_operator",
            "chaos.rules[0].filter.filters[0].operator",
            "",
        ),
        (
            json!({"rules": [{"status": 500, "filter": "(x"}]}),
            "unknown_filter",
            "chaos.rules[0].filter",
            "",
        ),
        (json!({"rules": [{"header": 5}]}), "wrong_type", "chaos.rules[0].header", ""),
        (json!({"rules": [{"status": {"a": 1}}]}), "wrong_type", "chaos.rules[0].status", ""),
        (
            json!({"rules": [{"status": 500, "claims": "alice"}]}),
            "wrong_type",
            "chaos.rules[0].claims",
            "",
        ),
        (
            json!({"rules": [{"id": "a", "status": 500}, {"id": "a", "status": 500}]}),
            "duplicate_id",
            "chaos.rules",
            "",
        ),
        (json!({"rules": ["status=600"]}), "invalid_value", "chaos.rules[0]", "write 503"),
        (json!({"faults": [1]}), "wrong_type", "chaos.faults[0]", ""),
        (json!({"seed": -1}), "invalid_value", "chaos.seed", ""),
        (json!({"maxLatency": "2m"}), "invalid_value", "chaos.maxLatency", "write 60s"),
        (
            json!({"chaosPercent": 200, "badStatusCodes": true}),
            "invalid_value",
            "chaos.chaosPercent",
            "",
        ),
        (
            json!({"chaosPercent": 2, "badStatusCodes": "x"}),
            "invalid_value",
            "chaos.badStatusCodes",
            "write 503",
        ),
    ] {
        let (_, found) = load(&chaos);
        let first = found.first().unwrap_or_else(|| panic!("nothing is wrong with {chaos}"));
        assert_eq!((first.code, first.path.as_str()), (code, path), "{chaos}");
        assert!(first.hint.starts_with(hint), "{chaos}: {}", first.hint);
    }
    let many = json!({"rules": vec!["status=500"; 70]});
    assert!(load(&many).1.iter().any(|d| d.code == "too_many"));
}
