//! Answers that take as long as they took.

use std::time::Duration;

use super::*;

#[test]
fn answers_take_the_recorded_time_where_that_is_wanted() {
    let mut slow = pair("GET", "/slow", "", "{}");
    slow.duration = 1_500_000_000;
    let set = r#"{"id":"t","responder":[{"extractor":{"type":"latency"},"transforms":[
        {"type":"constant","config":{"new":"20ms"}}]}]}"#;
    for (responder, template, millis) in [
        ("{}", r#"{"id":"t"}"#, 0),
        (r#"{"timing":"recorded"}"#, r#"{"id":"t"}"#, 1500),
        (r#"{"timing":"0.5x"}"#, r#"{"id":"t"}"#, 750),
        (r#"{"timing":{"mode":"4x","cap":"5s"}}"#, r#"{"id":"t"}"#, 5000),
        // What a chain says is meant as it is.
        (r#"{"timing":"2x"}"#, set, 20),
        ("{}", set, 20),
    ] {
        let (template, _) = Template::parse(template.as_bytes());
        let config = format!(r#"{{"id":"c","responder":{responder}}}"#);
        let config = TestConfig::parse(config.as_bytes()).unwrap();
        let (compiled, _) = compile(vec![slow.clone()], &template, &config, Serve::Out);
        let serving = Serving::new(Arc::new(compiled), &ring(None));
        let delay = hit(ask(&serving, "GET", "/slow", "")).delay;
        assert_eq!(delay, Duration::from_millis(millis), "{responder}");
    }
}
