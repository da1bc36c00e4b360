//! What a client asks of a replay that stands: matched, answered and explained, and its tokens judged.

use std::sync::{Arc, LazyLock};

use countersign_engine::{
    answer::Answer,
    compile::compile,
    jwt::{
        alg::Alg,
        key::{KeyRing, PublicKey, SigningKey},
        trusted::TrustedKeys,
    },
    request::Request,
    serving::Serving,
    snapshot::Serve,
    test_config::TestConfig,
    transform::Template,
};

/// A request in parts that zero bytes divide: method, target, `Authorization`, `Cookie`, content type, and the body, which may have more.
pub fn request(data: &[u8]) {
    static REPLAY: LazyLock<Serving> = LazyLock::new(|| {
        let template =
            Template::parse(include_bytes!("../../deploy/recipes/keycloak/transform.json"));
        let config = br#"{"id":"f","responder":{"serveJwks":true}}"#;
        let config = TestConfig::parse(config).expect("the config is sound");
        let (compiled, _) =
            compile(crate::connection::recorded(), &template.0, &config, Serve::All);
        Serving::new(Arc::new(compiled), &KeyRing::default())
    });
    let mut parts = data.splitn(6, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (Ok(method), Ok(target)) = (str::from_utf8(part()), str::from_utf8(part())) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = http::HeaderMap::new();
    for name in [http::header::AUTHORIZATION, http::header::COOKIE, http::header::CONTENT_TYPE] {
        if let Ok(value) = http::HeaderValue::from_bytes(part()) {
            headers.append(name, value);
        }
    }
    let body = part();
    let hosts = ["sso.shop.example", "accounts.shop.example:50051", "events.shop.example"];
    let Some(host) = hosts.get(body.len() % hosts.len()) else { return };
    let request =
        Request { method, host, path, query, headers: &headers, body, ..Request::default() };
    let missed = matches!(REPLAY.answer(&request, crate::NOW), Answer::Miss);
    // Explaining takes many times as long; some of them will do.
    if missed && data.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) % 16 == 0 {
        let _ = REPLAY.near_miss(&request, crate::NOW);
        let _ = REPLAY.credentials(&request, crate::NOW);
    }
}

/// A token, and behind a zero byte the key set of who may have signed it. No token is believed that the one key which is known here did not sign.
pub fn trusted(data: &[u8]) {
    static SET: LazyLock<TrustedKeys> = LazyLock::new(|| {
        let pem = include_bytes!("../../responder/engine/src/jwt/vectors/p256-other.pem");
        let key = SigningKey::parse(pem).expect("a key");
        let jwk = PublicKey::of(&key).expect("it has a public half").published("one", &[]);
        let set = format!(r#"{{"keys":[{jwk}]}}"#);
        TrustedKeys::parse(set.as_bytes()).expect("a sound set")
    });
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (token, set) = data.split_at(at);
    let Ok(token) = str::from_utf8(token) else { return };
    assert!(SET.claims(token, &Alg::ALL).is_err(), "nobody can have signed it");
    if let Ok(keys) = TrustedKeys::parse(set.get(1..).unwrap_or_default()) {
        let _ = keys.claims(token, &Alg::ALL);
    }
}
