//! Tokens in events and in messages of WebSockets are made anew.

use super::*;

const RESIGN: &str =
    r#"{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#;

fn token(sub: &str, at: i64) -> String {
    recorded_token(&json!({"sub": sub, "iat": at, "exp": at + 60}))
}

#[test]
fn a_token_inside_an_event_is_made_anew() {
    let body = format!("event: token\ndata: {}\n\ndata: end\n\n", token("a", RECORDED_AT));
    let mut events = pair("GET", "/events", "", &body);
    events.response.headers =
        vec![Header { name: "Content-Type".into(), value: "text/event-stream".into() }];
    let template = format!(
        r#"{{"id":"t","responder":[{{"extractor":{{"type":"res_body"}},"transforms":[
        {{"type":"regex","config":{{"pattern":"data: (ey[^\\s]+)","captureGroup":"1"}}}},{RESIGN}]}}]}}"#
    );
    let serving = serve(vec![events], &template, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "GET", "/events", ""));
    let fresh = text(&answer).strip_prefix("event: token\ndata: ").unwrap();
    let fresh = fresh.strip_suffix("\n\ndata: end\n\n").unwrap();
    assert_eq!(verified(fresh)["exp"], json!(NOW + 60));
}

/// A message and its answer in the connection whose handshake is the first pair.
fn exchange(said: &str, answer: &str) -> RrPair {
    let mut pair = pair("GET", "/ws", said, answer);
    pair.response.status = 101;
    pair.extra_json = r#"{"netinfo":{"id":"1"}}"#.to_owned();
    pair
}

#[test]
fn a_websocket_is_answered_with_fresh_tokens_and_asked_with_fresh_ones() {
    let mut handshake = exchange("", "");
    handshake.response.headers = vec![Header { name: "Upgrade".into(), value: "websocket".into() }];
    let recorded = vec![
        handshake,
        exchange("login", &format!(r#"{{"access_token":"{}"}}"#, token("a", RECORDED_AT))),
        exchange(&format!(r#"{{"token":"{}"}}"#, token("a", RECORDED_AT)), "a"),
        exchange(&format!(r#"{{"token":"{}"}}"#, token("b", RECORDED_AT)), "b"),
    ];
    let serving = serve(recorded, &resign("access_token"), &ring(Some(KEY)));
    let opened = hit(ask(&serving, "GET", "/ws", ""));
    assert_eq!(opened.status, 101);
    let mut talk = serving.talk(&opened).unwrap();
    assert_eq!(serving.greet(&mut talk, seconds(NOW)), []);
    let headers = HeaderMap::new();
    let mut say = |said: &str| {
        let request = Request {
            path: "/ws",
            host: "api.example",
            headers: &headers,
            body: said.as_bytes(),
            ..Request::default()
        };
        let said = serving.say(&mut talk, &request, seconds(NOW))?;
        said.into_iter().next().map(|said| String::from_utf8(said.bytes.to_vec()).unwrap())
    };
    let login: Value = serde_json::from_str(&say("login").unwrap()).unwrap();
    let fresh = login["access_token"].as_str().unwrap().to_owned();
    assert_eq!(verified(&fresh)["exp"], json!(NOW + 60));
    assert_eq!(say(&format!(r#"{{"token":"{}"}}"#, token("b", NOW))).unwrap(), "b");
    assert_eq!(say(&format!(r#"{{"token":"{fresh}"}}"#)).unwrap(), "a");
    assert_eq!(say("never said"), None);
}
