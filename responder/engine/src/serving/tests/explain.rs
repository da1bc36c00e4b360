//! Explanations of requests.

use super::*;
use crate::explain::Outcome;

fn explain(serving: &Serving, target: &str, authorization: &str) -> crate::explain::Explanation {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, authorization.parse().unwrap())]);
    serving.explain(
        &Request { method: "GET", host: "api.example", path, query, headers: &headers, body: b"" },
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
        Outcome::Hit { candidates, chosen } => {
            (candidates.len(), *chosen, candidates[*chosen].ordinal)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen(&first), (2, 0, 0));
    hit(ask(&serving, "GET", "/me?t=9", ""));
    assert_eq!(chosen(&explain(&serving, "/me?t=9", "Bearer opaque")), (2, 1, 1));
    let Outcome::Miss(nearest) = explain(&serving, "/you", "x").outcome else { panic!("no miss") };
    assert_eq!(nearest.nearest.len(), 1);
}
