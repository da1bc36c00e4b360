//! Fields behind the body: tokens in them are made anew, and those of a request are there for chains.

use super::*;

const TRAILING: &str = r#"{"http":{"res":{"trailers":{"X-Token":["TOKEN"],"X-Sum":["7"]}},"req":{"trailers":{"X-Sum":["7"]}}}}"#;

#[test]
fn trailers_are_served_and_their_tokens_signed() {
    let token = recorded_token(&json!({"sub": "a", "iat": RECORDED_AT, "exp": RECORDED_AT + 60}));
    let trailing =
        RrPair { extra_json: TRAILING.replace("TOKEN", &token), ..pair("GET", "/t", "", "{}") };
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"http_res_trailer","config":{"name":"x-token"}},
        "transforms":[{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}]}]}"#;
    let serving = serve(vec![trailing.clone()], template, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "GET", "/t", ""));
    let trailers = answer.trailers.unwrap();
    assert_eq!(
        (answer.status, answer.resigned, &trailers["x-sum"]),
        (200, 1, &"7".parse().unwrap())
    );
    assert_eq!(verified(trailers["x-token"].to_str().unwrap())["exp"], json!(NOW + 60));

    let keyless = serve(vec![trailing], template, &ring(None));
    let answer = hit(ask(&keyless, "GET", "/t", ""));
    assert_eq!(
        (answer.unsigned, &answer.trailers.unwrap()["x-token"]),
        (1, &token.parse().unwrap())
    );
}

#[test]
fn chains_see_the_trailers_of_a_request() {
    let trailing = RrPair { extra_json: TRAILING.to_owned(), ..pair("POST", "/t", "{}", "yes") };
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"http_req_trailer","config":{"name":"x-sum"}},
        "transforms":[{"type":"store_sig","config":{"key":"sum"}}]}]}"#;
    let serving = serve(vec![trailing], template, &ring(None));
    let asked = |sum: &'static str| {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static(sum),
        )]);
        let request = Request {
            method: "POST",
            host: "api.example",
            path: "/t",
            body: b"{}",
            trailers: Some(&trailers),
            ..Request::default()
        };
        matches!(serving.answer(&request, seconds(NOW)), Answer::Hit(_))
    };
    assert_eq!((asked("7"), asked("8")), (true, false));
}
