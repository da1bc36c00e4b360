//! Answers whose tokens take long to sign.

use super::*;
use crate::serving::Pending;

const RSA: &[u8] = include_bytes!("../../jwt/vectors/rfc7515-a2.pem");

#[test]
fn a_token_that_was_never_signed_is_owed_once() {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 3600}).to_string();
    let token = [&part(r#"{"alg":"RS256"}"#), &part(&claims), "c2ln"].join(".");
    let recorded = pair("GET", "/login", "", &json!({ "access_token": token }).to_string());
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"access_token"}},
        {"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}]}]}"#;
    let serving = serve(vec![recorded], template, &ring(Some(RSA)));
    let headers = HeaderMap::new();
    let request = Request {
        method: "GET",
        host: "api",
        path: "/login",
        headers: &headers,
        ..Request::default()
    };
    let now = seconds(NOW);
    let Err(Pending::Token(owed)) = serving.answer_or_owe(&request, now) else {
        panic!("a token is owed")
    };
    let paid = serving.pay(&owed).unwrap();
    assert_eq!((paid.resigned, paid.unsigned), (1, 0));
    let Ok(Answer::Hit(hit)) = serving.answer_or_owe(&request, now) else { panic!("it is signed") };
    assert_eq!(hit.body, paid.body);
    // Later within its patience nothing is owed, and beyond it there is something again.
    assert!(serving.answer_or_owe(&request, seconds(NOW + 60)).is_ok());
    assert!(serving.answer_or_owe(&request, seconds(NOW + 200)).is_err());
    let Answer::Hit(hit) = serving.answer(&request, seconds(NOW + 300)) else {
        panic!("whoever cannot wait elsewhere waits here")
    };
    assert_ne!(hit.body, paid.body);
}
