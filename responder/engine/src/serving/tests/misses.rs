//! What a miss says of the credentials that were presented.

use super::*;
use crate::near_miss::NearMiss;

const RESIGN: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
    {"type":"json_path","config":{"path":"access_token"}},
    {"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}]}]}"#;

/// Claims of a token that was issued at the time of the recording and is valid for an hour.
fn claims(sub: &str, iat: i64) -> Value {
    json!({"iss": "https://id.example", "aud": "shop", "sub": sub, "iat": iat, "exp": iat + 3600})
}

fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let mut token = format!("{}.{}", part(&header.to_string()), part(&claims.to_string()));
    let mut signature = Vec::new();
    let alg = crate::jwt::alg::Alg::Hs256;
    SigningKey::parse(key).unwrap().sign(alg, token.as_bytes(), &mut signature).unwrap();
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    token
}

/// Each of these users logs in and asks who he is.
fn recording(users: &[&str]) -> Vec<RrPair> {
    let of = |user: &&str| {
        let token = recorded_token(&claims(user, RECORDED_AT));
        let login = pair(
            "POST",
            "/login",
            &format!(r#"{{"username":"{user}","password":"hunter2"}}"#),
            &format!(r#"{{"access_token":"{token}"}}"#),
        );
        let mut me = pair("GET", "/me", "", user);
        let value = format!("Bearer {token}").into();
        let request = me.request.as_mut().unwrap();
        request.headers.push(Header { name: "Authorization".into(), value });
        [login, me]
    };
    users.iter().flat_map(of).collect()
}

fn miss(serving: &Serving, method: &str, target: &str, token: &str, body: &str) -> NearMiss {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let authorization = format!("Bearer {token}").parse().unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, authorization)]);
    let body = body.as_bytes();
    let host = "api.example";
    let request =
        Request { method, host, path, query, headers: &headers, body, ..Request::default() };
    let miss = serving.near_miss(&request, seconds(NOW));
    let text = serde_json::to_string(&miss).unwrap();
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("s3cr3t"), "{text}");
    miss
}

fn codes(miss: &NearMiss) -> Vec<&'static str> {
    miss.credentials[0].findings.iter().map(|finding| finding.code).collect()
}

fn message<'m>(miss: &'m NearMiss, code: &str) -> &'m str {
    let findings = &miss.credentials[0].findings;
    &findings.iter().find(|finding| finding.code == code).unwrap().message
}

#[test]
fn a_fresh_token_of_a_recorded_user_has_nothing_the_matter() {
    let serving = serve(recording(&["alice", "bob"]), RESIGN, &ring(Some(KEY)));
    let answer = hit(ask(&serving, "POST", "/login", r#"{"username":"bob","password":"hunter2"}"#));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let miss = miss(&serving, "GET", "/you", body["access_token"].as_str().unwrap(), "");
    assert_eq!(codes(&miss), [""; 0]);
    let presented = &miss.credentials[0];
    assert_eq!(presented.place, "header authorization");
    assert_eq!((presented.identity.as_deref(), presented.recorded), (Some("sub=bob"), true));
    assert!(presented.what.ends_with("valid for 60 min"), "{}", presented.what);
    assert_eq!(miss.nearest[0].recorded_for, ["sub=alice", "sub=bob"]);
    assert_eq!(miss.nearest[0].identity, None);
}

#[test]
fn what_is_the_matter_with_a_token_is_told() {
    let serving = serve(recording(&["alice", "carol"]), RESIGN, &ring(Some(KEY)));
    let plain = json!({"alg": "HS256"});
    let look = |header: &Value, claims: &Value, key: &[u8]| {
        miss(&serving, "GET", "/you", &signed(header, claims, key), "")
    };
    let old = look(&plain, &claims("alice", NOW - 3600 - 200), KEY);
    assert_eq!(codes(&old), ["token_expired"]);
    assert_eq!(message(&old, "token_expired"), "expired 3 min ago");

    let mut early = claims("alice", NOW);
    early["nbf"] = (NOW + 90).into();
    let early = look(&plain, &early, KEY);
    assert_eq!(message(&early, "token_not_yet_valid"), "not valid before 90 s from now");

    let bob = look(&plain, &claims("bob", NOW), KEY);
    assert_eq!(codes(&bob), ["identity_not_recorded"]);
    assert_eq!(
        message(&bob, "identity_not_recorded"),
        "sub=alice, sub=carol recorded, sub=bob presented"
    );
    assert!(!bob.credentials[0].recorded);
    assert_eq!(
        bob.nearest[0].identity.as_deref(),
        Some("sub=alice, sub=carol recorded, sub=bob presented")
    );

    let other = b"another secret of at least thirty-two bytes";
    assert_eq!(codes(&look(&plain, &claims("alice", NOW), other)), ["key_unknown"]);
    let named = look(&json!({"alg": "HS256", "kid": "k9"}), &claims("alice", NOW), other);
    assert_eq!(codes(&named), ["kid_unknown", "key_unknown"]);
    assert_eq!(
        message(&named, "kid_unknown"),
        "kid k9 is unknown: the tokens that are given out name no kid"
    );

    let mut elsewhere = claims("alice", NOW);
    elsewhere["iss"] = "https://other.example".into();
    elsewhere["aud"] = json!(["x", "y"]);
    let elsewhere = look(&plain, &elsewhere, KEY);
    assert_eq!(codes(&elsewhere), ["issuer_differs", "audience_differs"]);
    assert_eq!(
        message(&elsewhere, "audience_differs"),
        "aud=shop recorded, aud=x, aud=y presented"
    );

    let none = look(&json!({"alg": "none"}), &claims("alice", NOW), KEY);
    assert_eq!(codes(&none), ["alg_not_allowed"]);
    let recorded = recorded_token(&claims("alice", RECORDED_AT));
    let recorded = miss(&serving, "GET", "/you", &recorded, "");
    assert_eq!(codes(&recorded), ["token_expired", "recorded_token"]);
}

#[test]
fn one_user_alone_is_told_from_another() {
    let serving = serve(recording(&["alice"]), RESIGN, &ring(Some(KEY)));
    let bob = signed(&json!({"alg": "HS256"}), &claims("bob", NOW), KEY);
    let miss = miss(&serving, "GET", "/you", &bob, "");
    assert_eq!(codes(&miss), ["subject_differs"]);
    assert_eq!(message(&miss, "subject_differs"), "sub=alice recorded, sub=bob presented");
}

#[test]
fn nobody_signs_where_no_key_is() {
    let serving = serve(recording(&["alice", "bob"]), r#"{"id":"t"}"#, &ring(None));
    let fresh = signed(&json!({"alg": "HS256"}), &claims("alice", NOW), KEY);
    assert_eq!(codes(&miss(&serving, "GET", "/you", &fresh, "")), [""; 0]);
}

#[test]
fn credentials_in_what_differs_are_not_told() {
    let serving = serve(recording(&["alice", "bob"]), RESIGN, &ring(Some(KEY)));
    let miss = miss(
        &serving,
        "POST",
        "/login?api_key=s3cr3t-api-key",
        "opaque-bearer-token",
        r#"{"username":"bob","password":"s3cr3t-password"}"#,
    );
    let differing: Vec<_> = miss.nearest[0].differing.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(differing, ["http:queryparams", "http:requestBodyJSON"]);
    let body = miss.nearest[0].differing[1].presented.as_deref().unwrap();
    assert!(body.contains("bob"), "{body}");
    assert_eq!(codes(&miss), ["identity_not_recorded"]);
    assert_eq!(
        message(&miss, "identity_not_recorded"),
        "sub=alice, sub=bob recorded, another credential presented"
    );
}

#[test]
fn a_test_config_says_whether_misses_are_meant_for_the_real_host() {
    let (template, _) = Template::parse(br#"{"id":"t"}"#);
    for (responder, expected) in [("{}", false), (r#"{"passthrough_mode":true}"#, true)] {
        let config = format!(r#"{{"id":"c","responder":{responder}}}"#);
        let config = TestConfig::parse(config.as_bytes()).unwrap();
        let (compiled, _) = compile(recording(&["alice"]), &template, &config, Serve::All);
        assert_eq!(compiled.passes_through(), expected);
    }
}
