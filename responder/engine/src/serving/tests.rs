//! Answers of a compiled snapshot; tokens are verified by the verifier, never by the signer.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

mod calls;
mod chaos;
mod clock;
mod explain;
mod key_sets;
mod misses;
mod owed;
mod per_request;
mod shared;
mod steps;
mod streams;
mod successors;
mod timing;
mod trailers;

use super::Serving;
use crate::{
    answer::{Answer, Hit},
    compile::compile,
    diagnostic::Diagnostic,
    jwt::key::{KeyEntry, KeyRing, SecretRef, SigningKey},
    request::Request,
    snapshot::{Header, HttpRequest, HttpResponse, RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

const KEY: &[u8] = b"a secret of at least thirty-two bytes";
const RECORDED_AT: i64 = 1_700_000_000;
const NOW: i64 = 1_800_000_000;

fn seconds(seconds: i64) -> i64 {
    seconds * 1_000_000_000
}

/// A token as somebody else signed it; its JWS signature is of no account.
fn recorded_token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(&claims.to_string()),
        part("old signature, 32 bytes of them..")
    )
}

fn pair(method: &str, target: &str, request: &str, response: &str) -> RrPair {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    RrPair {
        ts: Some(seconds(RECORDED_AT)),
        request: Some(HttpRequest {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            host: "api.example:443".into(),
            headers: vec![Header { name: "Content-Type".into(), value: "application/json".into() }],
            body: Bytes::copy_from_slice(request.as_bytes()),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            headers: vec![
                Header { name: "Content-Type".into(), value: "application/json".into() },
                Header { name: "Content-Length".into(), value: "999".into() },
                Header { name: "Date".into(), value: "Tue, 14 Nov 2023 22:13:20 GMT".into() },
            ],
            body: Bytes::copy_from_slice(response.as_bytes()),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

fn ring(key: Option<&[u8]>) -> KeyRing {
    let secret = SecretRef { secret: "jwt-demo".into(), key: "tls.key".into() };
    let entry = key.map(|key| {
        (
            secret,
            KeyEntry {
                key: Some(Arc::new(SigningKey::parse(key).unwrap())),
                problem: None,
                generation: 1,
                text: Some(Arc::new(key.to_vec().into())),
                beside: Vec::new(),
            },
        )
    });
    KeyRing::new(1, entry.into_iter().collect::<BTreeMap<_, _>>())
}

fn serve(mut pairs: Vec<RrPair>, template: &str, keys: &KeyRing) -> Serving {
    for (ordinal, pair) in (0..).zip(&mut pairs) {
        pair.ordinal = ordinal;
    }
    let (template, found) = Template::parse(template.as_bytes());
    assert_eq!(found.into_vec(), []);
    let (compiled, _) = compile(
        pairs,
        &template,
        &TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap(),
        Serve::Out,
    );
    Serving::new(Arc::new(compiled), keys)
}

fn ask(serving: &Serving, method: &str, target: &str, body: &str) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers =
        HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    serving.answer(
        &Request {
            method,
            host: "api.example",
            path,
            query,
            headers: &headers,
            body: body.as_bytes(),
            ..Request::default()
        },
        seconds(NOW),
    )
}

fn hit(answer: Answer) -> Hit {
    let Answer::Hit(hit) = answer else { panic!("a miss") };
    hit
}

fn text(hit: &Hit) -> &str {
    std::str::from_utf8(&hit.body).unwrap()
}

/// The claims of a token, if an independent verifier accepts it under the key.
fn verified(token: &str) -> Value {
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.validate_exp = false;
    rules.required_spec_claims.clear();
    jsonwebtoken::decode::<Value>(token, &jsonwebtoken::DecodingKey::from_secret(KEY), &rules)
        .unwrap()
        .claims
}

fn resign(path: &str) -> String {
    template(&format!(
        r#"{{"type":"json_path","config":{{"path":"{path}"}}}},{{"type":"jwt_resign","config":{{"secretPath":"${{{{secret:jwt-demo/tls.key}}}}"}}}}"#
    ))
}

fn template(steps: &str) -> String {
    format!(
        r#"{{"id":"t","responder":[{{"extractor":{{"type":"res_body"}},"transforms":[{steps}]}}]}}"#
    )
}

fn codes(found: &[Diagnostic]) -> Vec<&str> {
    // How chains were compiled is told of every template.
    found.iter().map(|d| d.code).filter(|code| *code != "chain_compiled").collect()
}

#[test]
fn a_login_comes_back_with_a_current_token_and_nothing_else_changed() {
    let token =
        recorded_token(&json!({"sub": "alice", "iat": RECORDED_AT, "exp": RECORDED_AT + 3600}));
    let body = format!("{{ \"expires_in\":3600,\n  \"access_token\" : \"{token}\", \"n\": 1.50 }}");
    let serving = serve(
        vec![pair("POST", "/login", r#"{"u":"alice"}"#, &body)],
        &resign("access_token"),
        &ring(Some(KEY)),
    );
    let answer = hit(ask(&serving, "POST", "/login", r#"{ "u": "alice" }"#));

    let fresh: Value = serde_json::from_slice(&answer.body).unwrap();
    let fresh = fresh["access_token"].as_str().unwrap();
    assert_eq!(text(&answer), body.replace(&token, fresh));
    assert_eq!(verified(fresh), json!({"sub": "alice", "iat": NOW, "exp": NOW + 3600}));
    assert_eq!((answer.resigned, answer.unsigned), (1, 0));
    assert!(!answer.headers.contains_key("date") && !answer.headers.contains_key("content-length"));
    assert_eq!(codes(serving.diagnostics()), [""; 0]);
}

#[test]
fn without_a_key_the_recorded_answer_is_served_and_counted() {
    let token = recorded_token(&json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 60}));
    let body = format!(r#"{{"access_token":"{token}","expires_on":"{}"}}"#, RECORDED_AT + 60);
    let pairs = vec![pair("GET", "/t", "", &body)];
    let serving = serve(pairs.clone(), &resign("access_token"), &ring(None));
    let answer = hit(ask(&serving, "GET", "/t", ""));
    assert_eq!((text(&answer), answer.resigned, answer.unsigned), (body.as_str(), 0, 1));
    assert_eq!(codes(serving.diagnostics()), ["secret_missing"]);

    let rsa_expected = serve(pairs, &resign("access_token"), &ring(None)).rebind(&ring(Some(KEY)));
    assert_eq!(
        hit(ask(&rsa_expected, "GET", "/t", "")).resigned,
        1,
        "a key that appears later is used"
    );
}

#[test]
fn what_is_no_token_stays_and_is_reported() {
    let none = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let bodies = [
        r#"{"access_token":"opaque"}"#.to_owned(),
        format!(r#"{{"access_token":"{none}"}}"#),
        r#"{"error":"x"}"#.to_owned(),
    ];
    for (body, code) in bodies.iter().zip([Some("not_a_jwt"), Some("alg_not_allowed"), None]) {
        let serving =
            serve(vec![pair("GET", "/t", "", body)], &resign("access_token"), &ring(Some(KEY)));
        let answer = hit(ask(&serving, "GET", "/t", ""));
        assert_eq!((text(&answer), answer.resigned), (body.as_str(), 0));
        assert_eq!(codes(serving.diagnostics()), code.into_iter().collect::<Vec<_>>(), "{body}");
    }
}

#[test]
fn a_chain_that_fails_behind_a_token_leaves_it_alone_and_uncounted() {
    let token = |sub: &str| {
        recorded_token(&json!({"sub": sub, "iat": RECORDED_AT, "exp": RECORDED_AT + 60}))
    };
    let (first, second) = (token("first"), token("second"));
    let body = format!(r#"{{"a":"{first}","b":"{second}"}}"#);
    let resigned =
        r#"{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#;
    let chain =
        |steps: &str| format!(r#"{{"extractor":{{"type":"res_body"}},"transforms":[{steps}]}}"#);
    let fails = chain(&format!(
        r#"{{"type":"json_path","config":{{"path":"a"}}}},{resigned},{{"type":"json_path","config":{{"path":"x"}}}}"#
    ));
    let works = chain(&format!(r#"{{"type":"json_path","config":{{"path":"b"}}}},{resigned}"#));
    let template = format!(r#"{{"id":"t","responder":[{fails},{works}]}}"#);
    let serving = serve(vec![pair("GET", "/t", "", &body)], &template, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "GET", "/t", ""));
    assert_eq!((answer.resigned, serving.snapshot().tokens()), (1, 1));
    let fresh: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(fresh["a"], json!(first));
    assert_eq!(verified(fresh["b"].as_str().unwrap())["sub"], json!("second"));
    assert_eq!(codes(serving.diagnostics()), ["not_json", "chain_per_request"]);
}

#[test]
fn a_response_never_takes_the_token_of_another() {
    let token = |sub: &str| {
        recorded_token(&json!({"sub": sub, "iat": RECORDED_AT, "exp": RECORDED_AT + 60}))
    };
    let body = |sub: &str| {
        let blob = base64::engine::general_purpose::STANDARD.encode(token(sub));
        format!(r#"{{"blob":"{blob}","b":"{}"}}"#, token(sub))
    };
    let resign = r#"{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#;
    let chain = |path: &str, between: &str| {
        format!(
            r#"{{"extractor":{{"type":"res_body"}},"transforms":[{{"type":"json_path","config":{{"path":"{path}"}}}},{between}{resign}]}}"#
        )
    };
    // The last chain meets, live, a token that the one before it has just re-signed.
    let chains = [chain("blob", r#"{"type":"base64"},"#), chain("b", ""), chain("b", "")].join(",");
    let template = format!(r#"{{"id":"t","responder":[{chains}]}}"#);
    let pairs =
        vec![pair("GET", "/alice", "", &body("alice")), pair("GET", "/bob", "", &body("bob"))];
    let serving = serve(pairs, &template, &ring(Some(KEY)));
    for user in ["alice", "bob"] {
        let answer = hit(ask(&serving, "GET", &format!("/{user}"), ""));
        let fresh: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(verified(fresh["b"].as_str().unwrap())["sub"], json!(user));
        assert_eq!(answer.resigned, 2);
    }
}

#[test]
fn points_in_time_beside_a_token_move_with_it() {
    let token = recorded_token(&json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 60}));
    let body = format!(
        r#"{{"access_token":"{token}","expires_on":"{}","expires_at":{},"expires_in":60}}"#,
        RECORDED_AT + 60,
        (RECORDED_AT + 60) * 1000
    );
    let serving =
        serve(vec![pair("GET", "/t", "", &body)], &resign("access_token"), &ring(Some(KEY)));
    let fresh: Value = serde_json::from_slice(&hit(ask(&serving, "GET", "/t", "")).body).unwrap();
    assert_eq!(fresh["expires_on"], json!((NOW + 60).to_string()));
    assert_eq!(fresh["expires_at"], json!((NOW + 60) * 1000));
    assert_eq!(fresh["expires_in"], json!(60));
}

#[test]
fn expires_in_follows_a_new_lifetime() {
    let token = recorded_token(&json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 3600}));
    let steps = r#"{"type":"json_path","config":{"path":"access_token"}},{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}","expiresIn":"15m"}}"#;
    let body = format!(r#"{{"access_token":"{token}","expires_in":3600}}"#);
    let serving = serve(vec![pair("GET", "/t", "", &body)], &template(steps), &ring(Some(KEY)));
    let fresh: Value = serde_json::from_slice(&hit(ask(&serving, "GET", "/t", "")).body).unwrap();
    assert_eq!(fresh["expires_in"], json!(900));
    assert_eq!(verified(fresh["access_token"].as_str().unwrap())["exp"], json!(NOW + 900));
}

#[test]
fn a_token_inside_base64_is_signed_per_request() {
    let token = recorded_token(&json!({"iat": RECORDED_AT, "exp": RECORDED_AT + 60}));
    let wrapped = base64::engine::general_purpose::STANDARD.encode(format!(r#"{{"t":"{token}"}}"#));
    let steps = format!(
        r#"{{"type":"json_path","config":{{"path":"blob"}}}},{{"type":"base64"}},{}"#,
        {
            r#"{"type":"json_path","config":{"path":"t"}},{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#
        }
    );
    let serving = serve(
        vec![pair("GET", "/t", "", &format!(r#"{{"blob":"{wrapped}"}}"#))],
        &template(&steps),
        &ring(Some(KEY)),
    );
    assert_eq!(codes(serving.diagnostics()), ["chain_per_request"]);
    let answer = hit(ask(&serving, "GET", "/t", ""));
    assert_eq!(answer.resigned, 1);
    let outer: Value = serde_json::from_slice(&answer.body).unwrap();
    let inner = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(outer["blob"].as_str().unwrap())
        .unwrap();
    let inner: Value = serde_json::from_slice(&inner).unwrap();
    assert_eq!(verified(inner["t"].as_str().unwrap())["exp"], json!(NOW + 60));
}

#[test]
fn request_chains_work_on_recorded_and_live_requests_alike() {
    let mask = r#"{"id":"t","responder":[{"filters":{"filters":[{"detectedLocation":"/pay"},{"detectedStatus":"200"}]},
        "extractor":{"type":"req_body"},"transforms":[{"type":"json_path","config":{"path":"nonce"}},{"type":"constant","config":{"new":"*"}}]}]}"#;
    let mut refused = pair("POST", "/pay", r#"{"nonce":"1","to":"mallory"}"#, "no");
    refused.response.status = 403;
    let serving = serve(
        vec![pair("POST", "/pay", r#"{"nonce":"1","to":"bob"}"#, "yes"), refused],
        mask,
        &ring(None),
    );
    assert_eq!(text(&hit(ask(&serving, "POST", "/pay", r#"{"to":"bob","nonce":"77"}"#))), "yes");
    assert!(matches!(ask(&serving, "POST", "/pay", r#"{"to":"eve","nonce":"1"}"#), Answer::Miss));
    // The filter asks for a status that only the recording knows: the unmasked request still finds its own answer.
    assert_eq!(text(&hit(ask(&serving, "POST", "/pay", r#"{"nonce":"1","to":"mallory"}"#))), "no");
    assert!(matches!(
        ask(&serving, "POST", "/pay", r#"{"nonce":"2","to":"mallory"}"#),
        Answer::Miss
    ));
}

#[test]
fn answers_of_one_signature_take_turns() {
    let serving = serve(
        vec![pair("GET", "/n", "", "1"), pair("GET", "/n", "", "2")],
        r#"{"id":"t"}"#,
        &ring(None),
    );
    let seen: Vec<_> =
        (0..4).map(|_| text(&hit(ask(&serving, "GET", "/n", ""))).to_owned()).collect();
    assert_eq!(seen, ["1", "2", "1", "2"]);
    assert_eq!(
        text(&hit(ask(&serving.rebind(&ring(None)), "GET", "/n", ""))),
        "1",
        "new keys do not disturb the turns"
    );
}

#[test]
fn a_compressed_answer_is_unfolded_for_a_client_that_takes_none() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"hello").unwrap();
    let folded = encoder.finish().unwrap();
    let mut zipped = pair("GET", "/z", "", "");
    zipped.response.headers.push(Header { name: "Content-Encoding".into(), value: "gzip".into() });
    let mut decoded = pair("GET", "/d", "", "hello");
    decoded.response.headers.push(Header { name: "Content-Encoding".into(), value: "gzip".into() });
    zipped.response.body = folded.clone().into();
    let serving = serve(vec![zipped, decoded], r#"{"id":"t"}"#, &ring(None));
    for target in ["/z", "/d"] {
        let plain = hit(ask(&serving, "GET", target, ""));
        assert_eq!(
            (text(&plain), plain.headers.get("content-encoding")),
            ("hello", None),
            "{target}"
        );
    }
    let headers =
        HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, "br;q=0.5, gzip".parse().unwrap())]);
    let request = Request {
        method: "GET",
        host: "api.example",
        path: "/z",
        query: "",
        headers: &headers,
        body: b"",
        ..Request::default()
    };
    let answer = hit(serving.answer(&request, seconds(NOW)));
    assert_eq!(answer.body, folded);
    assert_eq!(answer.headers["content-encoding"], "gzip");
}

#[test]
fn two_tokens_in_body_and_header_are_both_current() {
    let token = |sub: &str| {
        recorded_token(&json!({"sub": sub, "iat": RECORDED_AT, "exp": RECORDED_AT + 60}))
    };
    let mut both = pair("GET", "/t", "", &format!(r#"{{"access_token":"{}"}}"#, token("body")));
    both.response.headers.push(Header {
        name: "X-Token".into(),
        value: format!("Bearer {}", token("header")).into(),
    });
    let chains = r#"{"id":"t","responder":[
        {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"access_token"}},{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}]},
        {"extractor":{"type":"http_res_header","config":{"name":"x-token"}},"transforms":[{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}]}]}"#;
    let serving = serve(vec![both], chains, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "GET", "/t", ""));
    assert_eq!(answer.resigned, 2);
    let header = answer.headers["x-token"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    assert_eq!(verified(header)["sub"], json!("header"));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(verified(body["access_token"].as_str().unwrap())["sub"], json!("body"));
}
