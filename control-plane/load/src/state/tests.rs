//! Requests as they are sent once answers have come.

use http_body_util::BodyExt as _;

use super::*;
use crate::recording::tests::{pair, recording, token};

async fn sent(
    state: &State<'_>,
    step: &Step,
    target: &str,
    http2: bool,
) -> (String, HeaderMap, String) {
    let target = Target::parse(target).unwrap();
    let writing = Writing {
        target: &target,
        protocol: if http2 { Protocol::Http2 } else { Protocol::Http1 },
        keep_host: http2,
        carry: true,
        headers: &[(HeaderName::from_static("x-run"), HeaderValue::from_static("7"))],
        generator: None,
        host: &HeaderValue::from_static("sut:80"),
        now: 0,
    };
    let request = state.request(step, &writing, &mut 0).unwrap();
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.uri.to_string(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

#[tokio::test]
async fn fresh_tokens_cookies_and_ids_take_the_place_of_recorded_ones() {
    let (old, fresh) = (token("ann", "old"), token("ann", "fresh"));
    let made = recording(vec![
        pair(
            "POST /login",
            &[],
            r#"{"user":"ann"}"#,
            (
                200,
                &[("Set-Cookie", "sid=recorded-1")],
                &format!(r#"{{"access_token":"{old}","id":"u-17"}}"#),
            ),
        ),
        pair(
            "PUT /users/u-17",
            &[
                ("Authorization", &format!("Bearer {old}")),
                ("Cookie", "theme=dark; sid=recorded-1"),
                ("Accept", "*/*"),
            ],
            &format!(r#"{{"token":"{old}","id":"u-17"}}"#),
            (200, &[], "{}"),
        ),
    ]);
    let session = &made.sessions[0];
    let [login, put] = &*session.steps else { panic!("two steps") };
    let mut state = State::new(session);
    let (uri, headers, body) = sent(&state, put, "http://sut", false).await;
    assert_eq!((&*uri, headers["host"].as_bytes()), ("/users/u-17", &b"sut:80"[..]));
    assert!(body.contains(&old) && headers["cookie"] == "theme=dark; sid=recorded-1");

    let answer = format!(r#"{{"access_token":"{fresh}","id":"a b/\"c\""}}"#);
    let set = fields(&[
        ("set-cookie", "sid=live-1; Path=/"),
        ("set-cookie", "lb=7"),
        ("set-cookie", "theme=; Max-Age=0"),
    ]);
    state.learn(login, &set, answer.as_bytes());
    let (uri, headers, body) = sent(&state, put, "http://sut/base", false).await;
    assert_eq!(uri, "/base/users/a%20b%2F%22c%22");
    assert_eq!(headers["authorization"].to_str().unwrap(), format!("Bearer {fresh}"));
    assert_eq!(headers["cookie"], "sid=live-1; lb=7");
    assert_eq!(
        (headers["x-run"].as_bytes(), headers["accept"].as_bytes()),
        (&b"7"[..], &b"*/*"[..])
    );
    assert_eq!(body, format!(r#"{{"token":"{fresh}","id":"a b/\"c\""}}"#));
    assert_eq!(state.live(&old), Some(&*fresh));

    // An answer that lacks a value leaves what is known.
    state.learn(login, &HeaderMap::new(), b"{}");
    assert_eq!(state.live(&old), Some(&*fresh));
    let (uri, headers, _) = sent(&state, put, "https://sut", true).await;
    assert!(uri.starts_with("https://api.example/users/"), "{uri}");
    assert!(!headers.contains_key("host"));
}

#[tokio::test]
async fn cookies_that_the_recording_knows_nothing_of_go_along() {
    let made = recording(vec![
        pair(
            "GET /a",
            &[("Authorization", "Bearer key-number-1")],
            "",
            (200, &[("Set-Cookie", "own=recorded-9; Path=/x")], ""),
        ),
        pair("GET /b", &[("Authorization", "Bearer key-number-1")], "", (200, &[], "")),
    ]);
    let [a, b] = &*made.sessions[0].steps else { panic!("two steps") };
    let mut state = State::new(&made.sessions[0]);
    state.learn(a, &fields(&[("set-cookie", "own=1"), ("set-cookie", "lb=node-2")]), b"");
    let (_, headers, _) = sent(&state, b, "http://sut", false).await;
    assert_eq!(headers["cookie"], "lb=node-2", "the recorded client did not send its own there");
}
