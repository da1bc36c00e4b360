//! Explanations of requests.

use super::*;
use crate::explain::Outcome;

fn explain(serving: &Serving, target: &str, authorization: &str) -> crate::explain::Explanation {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, authorization.parse().unwrap())]);
    serving.explain(
        &Request {
            method: "GET",
            host: "api.example",
            path,
            query,
            headers: &headers,
            body: b"",
            ..Request::default()
        },
        seconds(RECORDED_AT),
    )
}

#[test]
fn says_who_could_answer_and_moves_nothing() {
    let template = r#"{"id":"t","responder":[
        {"filters":{"filters":[{"include":true,"detectedLocation":"/me"}]},"extractor":{"type":"http_queryparam","config":{"name":"t"}},"transforms":[{"type":"delete_sig","config":{"key":"http:queryparams:t"}}]},
        {"filters":{"filters":[{"include":true,"detectedLocation":"/other"}]},"extractor":{"type":"req_body"},"transforms":[{"type":"constant","config":{"new":"x"}}]}
    ]}"#;
    let pairs = vec![pair("GET", "/me?t=1", "", "a"), pair("GET", "/me?t=2", "", "b")];
    let serving = serve(pairs, template, &ring(None));
    let first = explain(&serving, "/me?t=9", "Bearer opaque");
    assert_eq!(first, explain(&serving, "/me?t=9", "Bearer opaque"));
    assert_eq!(first.chains, ["responder[0]"]);
    assert_eq!(first.credentials[0].place, "header authorization");
    let chosen = |found: &crate::explain::Explanation| match &found.outcome {
        Outcome::Hit { candidates, chosen, .. } => {
            (candidates.len(), *chosen, candidates[*chosen].ordinal)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen(&first), (2, 0, 0));
    hit(ask(&serving, "GET", "/me?t=9", ""));
    assert_eq!(chosen(&explain(&serving, "/me?t=9", "Bearer opaque")), (2, 1, 1));
    let Outcome::Hit { narrowing, .. } = &first.outcome else { panic!("no hit") };
    assert_eq!(
        narrowing.tell(2),
        "asked by somebody whom the recording does not know: all 2 recorded pairs of this signature take turns"
    );
    let Outcome::Miss(nearest) = explain(&serving, "/you", "x").outcome else { panic!("no miss") };
    assert_eq!(nearest.nearest.len(), 1);
}

#[test]
fn says_who_asks_and_what_is_left_for_him() {
    let bearer = |user: &str| format!("Bearer {}", recorded_token(&json!({"sub": user})));
    let me = |user: &str, answer: &str| {
        let mut pair = pair("GET", "/me", "", answer);
        let request = pair.request.as_mut().unwrap();
        request.headers.push(Header { name: "Authorization".into(), value: bearer(user).into() });
        pair
    };
    let mut change = me("bob", "ok");
    change.request.as_mut().unwrap().method = "POST".into();
    let pairs = vec![me("ann", "a"), me("bob", "before"), change, me("bob", "after")];
    let serving = serve(pairs, r#"{"id":"t"}"#, &ring(None));
    let told = |user: &str| match explain(&serving, "/me", &bearer(user)).outcome {
        Outcome::Hit { candidates, narrowing, .. } => narrowing.tell(candidates.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told("ann"), "asked by sub=ann: 1 of 3 recorded pairs are for this identity");
    assert_eq!(
        told("bob"),
        "asked by sub=bob: 1 of 3 recorded pairs are for this identity, as before it changed anything"
    );
}
