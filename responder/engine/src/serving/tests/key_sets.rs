//! Key sets, discovery documents and introspection answers as clients read them.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};

use super::*;
use crate::jwt::key::PublicKey;

const RSA: &[u8] = include_bytes!("../../jwt/vectors/rfc7515-a2.pem");
const EC: &[u8] = include_bytes!("../../jwt/vectors/rfc7515-a3.pem");
const EC_OTHER: &[u8] = include_bytes!("../../jwt/vectors/p256-other.pem");
/// A recorded key set; its second key was recorded with what is private about it.
const RECORDED: &str = r#"{"extra": true, "keys":[{"kty":"RSA","kid":"k1","n":"AQAB","e":"AQAB","use":"sig"},{"kty":"EC","kid":"k2","d":"secret","x":"a"},{"kty":"oct","k":"secret"}]}"#;

fn key(pem: &[u8]) -> Arc<SigningKey> {
    Arc::new(SigningKey::parse(pem).unwrap())
}

fn ring_of(keys: &[(&str, &[u8])], beside: &[&[u8]]) -> KeyRing {
    let beside: Vec<_> =
        beside.iter().map(|pem| Arc::new(PublicKey::of(&key(pem)).unwrap())).collect();
    let entry = |(name, pem): &(&str, &[u8])| {
        let secret = SecretRef { secret: "jwt-demo".into(), key: (*name).to_owned() };
        let beside = beside.clone();
        (secret, KeyEntry { key: Some(key(pem)), problem: None, generation: 1, text: None, beside })
    };
    KeyRing::new(1, keys.iter().map(entry).collect())
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.b2xk", part(header), part(claims))
}

fn claims(iss: &str) -> Value {
    json!({"iss": iss, "sub": "alice", "iat": RECORDED_AT, "exp": RECORDED_AT + 600})
}

fn login(path: &str, header: &Value, claims: &Value) -> RrPair {
    pair("GET", path, "", &json!({"access_token": token(header, claims)}).to_string())
}

/// A chain for each path, which re-signs with the key of that name.
fn chains(paths: &[(&str, &str, &str)]) -> String {
    let chain = |(path, key, more): &(&str, &str, &str)| {
        format!(
            r#"{{"filters":{{"filters":[{{"include":true,"detectedLocation":"{path}"}}]}},"extractor":{{"type":"res_body"}},"transforms":[{{"type":"json_path","config":{{"path":"access_token"}}}},{{"type":"jwt_resign","config":{{"secretPath":"jwt-demo/{key}"{more}}}}}]}}"#
        )
    };
    let chains: Vec<String> = paths.iter().map(chain).collect();
    format!(r#"{{"id":"t","responder":[{}]}}"#, chains.join(","))
}

fn located(mut pair: RrPair) -> RrPair {
    pair.location = pair.request.as_ref().unwrap().path.clone();
    pair
}

fn get(serving: &Serving, path: &str) -> Value {
    serde_json::from_slice(&hit(ask(serving, "GET", path, "")).body).unwrap()
}

/// What a verifier does: find the key that the token names, and verify with it.
fn accepted(set: &Value, token: &str, alg: Algorithm) -> Option<Value> {
    let set: JwkSet = serde_json::from_value(set.clone()).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid?;
    let matching: Vec<_> =
        set.keys.iter().filter(|jwk| jwk.common.key_id.as_deref() == Some(&kid)).collect();
    let [jwk] = matching.as_slice() else { return None };
    let mut rules = Validation::new(alg);
    rules.validate_exp = false;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    jsonwebtoken::decode(token, &key, &rules).ok().map(|data| data.claims)
}

fn kids(set: &Value) -> Vec<&str> {
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap_or("")).collect()
}

fn codes(serving: &Serving) -> Vec<(&str, &str)> {
    serving
        .diagnostics()
        .iter()
        .filter(|d| d.code.starts_with("jwks") || d.code.starts_with("kid"))
        .map(|d| (d.code, d.subject.as_str()))
        .collect()
}

fn two_logins() -> Vec<RrPair> {
    let rsa = login("/rsa", &json!({"alg": "RS256", "kid": "k1"}), &claims("https://id.example"));
    let ec = login("/ec", &json!({"typ": "JWT", "alg": "ES256"}), &claims("https://id.example"));
    let keys = pair("GET", "/certs", "", &RECORDED.replace("{\"extra\": true, ", "{"));
    [rsa, ec, keys].map(located).into()
}

#[test]
fn a_recorded_key_set_verifies_every_token_that_is_given_out() {
    let template = chains(&[("/rsa", "rsa", ""), ("/ec", "ec", "")]);
    let keys = ring_of(&[("rsa", RSA), ("ec", EC)], &[]);
    let serving = serve(two_logins(), &template, &keys);
    let set = get(&serving, "/certs");
    for (path, alg) in [("/rsa", Algorithm::RS256), ("/ec", Algorithm::ES256)] {
        let answer = get(&serving, path);
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(accepted(&set, token, alg).unwrap()["exp"], NOW + 600, "{path}");
    }
    let (rsa, ec) = (key(RSA).thumbprint().unwrap(), key(EC).thumbprint().unwrap());
    let mut ours = vec![rsa.as_str(), ec.as_str()];
    ours.sort_unstable();
    assert_eq!(kids(&set), [ours, vec!["k1", "k2"]].concat());
    for key in set["keys"].as_array().unwrap() {
        assert!(["d", "p", "q", "k"].iter().all(|name| key.get(name).is_none()), "{key}");
        assert_ne!(key["kty"], "oct");
    }
    let own = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *rsa).unwrap();
    assert_eq!((&own["alg"], &own["use"]), (&json!("RS256"), &json!("sig")));
    assert!(codes(&serving).contains(&("jwks_served", "api.example/certs")));
    assert!(codes(&serving).contains(&("jwks_published", "api.example/certs")));

    // Another node makes the same bytes.
    let bytes = |serving: &Serving| hit(ask(serving, "GET", "/certs", "")).body;
    assert_eq!(bytes(&serving), bytes(&serve(two_logins(), &template, &keys)));
    assert_eq!(bytes(&serving), bytes(&serving.rebind(&keys)));
}

#[test]
fn an_entity_tag_of_the_recorded_document_is_not_served() {
    let mut pairs = two_logins();
    for name in ["ETag", "Last-Modified", "Cache-Control"] {
        let value = Bytes::from_static(b"max-age=1");
        pairs[2].response.headers.push(Header { name: name.into(), value });
    }
    let mut unmodified = pairs[2].clone();
    unmodified.response.status = 304;
    unmodified.response.body = Bytes::new();
    pairs.push(unmodified);
    let serving = serve(pairs, &chains(&[("/rsa", "rsa", "")]), &ring_of(&[("rsa", RSA)], &[]));
    let (first, second) =
        (hit(ask(&serving, "GET", "/certs", "")), hit(ask(&serving, "GET", "/certs", "")));
    assert!(first.headers.get("etag").is_none() && first.headers.get("last-modified").is_none());
    assert_eq!(first.headers["cache-control"], "max-age=1");
    assert_eq!((second.status, second.body, second.headers), (200, first.body, first.headers));
}

#[test]
fn compressed_key_sets_are_read_and_served_plain() {
    let mut pairs = two_logins();
    pairs[2].response.body = crate::body::fold(&pairs[2].response.body).unwrap().into();
    pairs[2]
        .response
        .headers
        .push(Header { name: "Content-Encoding".into(), value: "gzip".into() });
    let serving = serve(pairs, &chains(&[("/rsa", "rsa", "")]), &ring_of(&[("rsa", RSA)], &[]));
    assert_eq!(kids(&get(&serving, "/certs")).len(), 3);
    assert!(hit(ask(&serving, "GET", "/certs", "")).headers.get("content-encoding").is_none());
}

#[test]
fn a_rotation_publishes_both_keys_under_kids_of_their_own() {
    let pairs = || two_logins().into_iter().skip(1).collect::<Vec<_>>();
    let template = chains(&[("/ec", "key", "")]);
    let before = serve(pairs(), &template, &ring_of(&[("key", EC)], &[]));
    let after = before.rebind(&ring_of(&[("key", EC_OTHER)], &[EC]));
    let (old, new) = (get(&before, "/ec"), get(&after, "/ec"));
    let set = get(&after, "/certs");
    for token in [&old, &new] {
        let token = token["access_token"].as_str().unwrap();
        assert!(accepted(&set, token, Algorithm::ES256).is_some());
    }
    assert_eq!(kids(&set)[0], key(EC_OTHER).thumbprint().unwrap());
    assert_eq!(kids(&set)[1], key(EC).thumbprint().unwrap());
    let told = after.diagnostics().iter().find(|d| d.code == "jwks_published").unwrap();
    assert!(told.message.ends_with("and 1 keys of a rotation"), "{told}");
}

#[test]
fn a_configured_kid_is_published_and_a_recorded_key_gives_way_to_it() {
    let serving = serve(
        two_logins(),
        &chains(&[("/rsa", "rsa", r#","kid":"k2""#)]),
        &ring_of(&[("rsa", RSA)], &[]),
    );
    let (answer, set) = (get(&serving, "/rsa"), get(&serving, "/certs"));
    assert!(accepted(&set, answer["access_token"].as_str().unwrap(), Algorithm::RS256).is_some());
    assert_eq!(kids(&set), ["k2", "k1"]);
    assert!(codes(&serving).contains(&("kid_configured", "jwt-demo/rsa")));
}

#[test]
fn hmac_secrets_are_never_published() {
    let login = login("/rsa", &json!({"alg": "HS256", "kid": "k1"}), &claims("https://id.example"));
    let keys = pair("GET", "/certs", "", RECORDED);
    let pairs = || [&login, &keys].map(|pair| located(pair.clone())).to_vec();
    let serving = serve(pairs(), &chains(&[("/rsa", "key", "")]), &ring_of(&[("key", KEY)], &[]));
    assert_eq!(kids(&get(&serving, "/certs")), ["k1", "k2"]);
    let served = hit(ask(&serving, "GET", "/certs", ""));
    assert!(!text(&served).contains("secret"), "private members are left out");
    assert!(text(&served).contains(r#""extra":true"#));
    let answer = get(&serving, "/rsa");
    let header = jsonwebtoken::decode_header(answer["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(header.kid.as_deref(), Some("k1"), "a kid that stands for a secret stays");
    assert_eq!(codes(&serving), [("jwks_as_recorded", "api.example/certs")]);

    // Nor does a key that is missing change anything.
    let public = r#"{"keys": [{"kty":"RSA","kid":"k1"}]}"#;
    let pairs = [login, pair("GET", "/certs", "", public)].map(located).to_vec();
    let serving = serve(pairs, &chains(&[("/rsa", "key", "")]), &ring_of(&[], &[]));
    assert_eq!(text(&hit(ask(&serving, "GET", "/certs", ""))), public);
}

#[test]
fn each_key_set_publishes_the_keys_that_belong_to_it() {
    let set = |host: &str, path: &str, kid: &str| {
        let mut pair = located(pair(
            "GET",
            path,
            "",
            &json!({"keys": [{"kty": "RSA", "kid": kid}]}).to_string(),
        ));
        pair.request.as_mut().unwrap().host = host.to_owned();
        pair
    };
    let pairs = vec![
        located(login("/a", &json!({"alg": "RS256", "kid": "ka"}), &claims("https://b.example"))),
        located(login("/b", &json!({"alg": "ES256", "kid": "kx"}), &claims("https://b.example"))),
        located(pair(
            "GET",
            "/.well-known/openid-configuration",
            "",
            &json!({"issuer": "https://b.example/", "jwks_uri": "https://api.example:8443/keys-b",
                "id_token_signing_alg_values_supported": ["RS384"]})
            .to_string(),
        )),
        set("api.example", "/keys-a", "ka"),
        set("api.example", "/keys-b", "kb"),
        set("api.example", "/keys-c", "kc"),
    ];
    let keys = ring_of(&[("rsa", RSA), ("ec", EC)], &[]);
    let serving = serve(pairs, &chains(&[("/a", "rsa", ""), ("/b", "ec", "")]), &keys);
    let (rsa, ec) = (key(RSA).thumbprint().unwrap(), key(EC).thumbprint().unwrap());
    assert_eq!(kids(&get(&serving, "/keys-a")), [&rsa, "ka"], "by kid");
    assert_eq!(kids(&get(&serving, "/keys-b")), [&ec, "kb"], "by issuer");
    assert_eq!(kids(&get(&serving, "/keys-c")).len(), 3, "all, for none belongs to it");
    assert_eq!(
        get(&serving, "/.well-known/openid-configuration")["id_token_signing_alg_values_supported"],
        json!(["RS384", "ES256", "RS256"])
    );
}

#[test]
fn a_key_set_that_was_not_recorded_is_served_on_request() {
    let pairs = || {
        let header = json!({"alg": "RS256"});
        vec![located(login("/rsa", &header, &claims("https://id.example/realms/shop")))]
    };
    let template = chains(&[("/rsa", "rsa", "")]);
    let keys = ring_of(&[("rsa", RSA)], &[]);
    let silent = serve(pairs(), &template, &keys);
    assert!(matches!(ask(&silent, "GET", "/.well-known/jwks.json", ""), Answer::Miss));

    let (parsed, _) = Template::parse(template.as_bytes());
    let config = TestConfig::parse(br#"{"id":"c","responder":{"serveJwks":true}}"#).unwrap();
    let (compiled, _) = compile(pairs(), &parsed, &config, Serve::Out);
    let serving = Serving::new(Arc::new(compiled), &keys);
    for path in ["/.well-known/jwks.json", "/realms/shop/.well-known/jwks.json"] {
        let set = get(&serving, path);
        let answer = get(&serving, "/rsa");
        let token = answer["access_token"].as_str().unwrap();
        assert!(accepted(&set, token, Algorithm::RS256).is_some(), "{path}");
        assert_eq!(hit(ask(&serving, "GET", path, "")).headers["content-type"], "application/json");
    }
    assert!(matches!(ask(&serving, "POST", "/.well-known/jwks.json", ""), Answer::Miss));
    assert!(matches!(ask(&serving, "GET", "/realms/.well-known/jwks.json", ""), Answer::Miss));
}

#[test]
fn introspection_moves_with_the_token_that_it_is_about() {
    let recorded = token(&json!({"alg": "RS256"}), &claims("i"));
    let mut login = login("/rsa", &json!({"alg": "RS256"}), &claims("i"));
    login.location = "/rsa".into();
    let asked = pair(
        "POST",
        "/introspect",
        &format!("token_type_hint=access_token&token={recorded}"),
        &format!(
            r#"{{"active": true, "exp": {}, "iat":{}, "nbf": {}, "updated_at":{}}}"#,
            RECORDED_AT + 600,
            RECORDED_AT,
            RECORDED_AT - 5,
            RECORDED_AT
        ),
    );
    let mut other = asked.clone();
    other.request.as_mut().unwrap().path = "/other".into();
    other.response.body = format!(r#"{{"active":true,"exp":{},"nbf":5}}"#, RECORDED_AT + 1).into();
    let template = chains(&[("/rsa", "rsa", "")]);
    let pairs = vec![asked, other, login];
    for (keys, shift) in
        [(ring_of(&[("rsa", RSA)], &[]), NOW - RECORDED_AT), (ring_of(&[], &[]), 0)]
    {
        let serving = serve(pairs.clone(), &template, &keys);
        let form = format!("token_type_hint=access_token&token={recorded}");
        let answer = |path: &str| text(&hit(ask(&serving, "POST", path, &form))).to_owned();
        assert_eq!(
            answer("/introspect"),
            format!(
                r#"{{"active": true, "exp": {}, "iat":{}, "nbf": {}, "updated_at":{}}}"#,
                RECORDED_AT + 600 + shift,
                RECORDED_AT + shift,
                RECORDED_AT - 5 + shift,
                RECORDED_AT
            )
        );
        assert!(answer("/other").ends_with(r#""nbf":5}"#), "it speaks of something else");
    }
}
