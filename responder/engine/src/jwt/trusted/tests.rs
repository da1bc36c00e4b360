//! What of a key set is trusted, and which tokens are believed.
#![expect(clippy::disallowed_methods, reason = "tests may read files")]

mod wycheproof;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::jwt::key::SigningKey;

fn vector(name: &str) -> SigningKey {
    let path = format!("{}/src/jwt/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    SigningKey::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn token(key: &SigningKey, alg: Alg, header: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(&json!({"sub": "anna"})));
    let mut signature = Vec::new();
    key.sign(alg, message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn published(key: &SigningKey, kid: &str) -> Value {
    PublicKey::of(key).unwrap().published(kid, &[])
}

fn set(keys: &[Value]) -> TrustedKeys {
    TrustedKeys::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

#[test]
fn each_kind_of_key_verifies_its_own_tokens() {
    for (name, alg) in [
        ("rfc7515-a2.pem", Alg::Rs256),
        ("rfc7515-a2.pem", Alg::Ps512),
        ("rfc7515-a3.pem", Alg::Es256),
        ("rfc7515-a4.pem", Alg::Es512),
        ("rfc8037-a1.pem", Alg::EdDsa),
    ] {
        let key = vector(name);
        let header = json!({"alg": alg.as_str(), "kid": "one"});
        let keys = set(&[published(&key, "one")]);
        let claims = keys.claims(&token(&key, alg, &header), &Alg::ALL).unwrap();
        assert_eq!(claims.get("sub"), Some(&json!("anna")), "{name}");
    }
}

#[test]
fn whatever_else_a_token_says_it_is_not_believed() {
    let (key, other) = (vector("rfc7515-a3.pem"), vector("p256-other.pem"));
    let keys = set(&[published(&key, "one"), published(&other, "two")]);
    let refused = |key: &SigningKey, header: Value| {
        keys.claims(&token(key, Alg::Es256, &header), &[Alg::Es256, Alg::Rs256]).unwrap_err()
    };
    let es256 = |kid: &str| json!({"alg": "ES256", "kid": kid});
    assert_eq!(refused(&key, es256("two")), DistrustError::Signature);
    assert_eq!(refused(&other, es256("one")), DistrustError::Signature);
    assert_eq!(refused(&key, es256("three")), DistrustError::UnknownKey);
    assert_eq!(refused(&key, json!({"alg": "ES256", "kid": 1})), DistrustError::UnknownKey);
    assert_eq!(refused(&key, json!({"alg": "ES256"})), DistrustError::Unnamed);
    let rs256 = json!({"alg": "RS256", "kid": "one"});
    assert_eq!(refused(&key, rs256), DistrustError::Mismatch("RS256"));
    let hs256 = json!({"alg": "HS256", "kid": "one"});
    assert_eq!(refused(&key, hs256), DistrustError::Alg("HS256"));
    for header in [
        json!({"alg": "none", "kid": "one"}),
        json!({"kid": "one"}),
        json!({"alg": "ES256", "kid": "one", "crit": ["x"]}),
    ] {
        assert!(matches!(refused(&key, header), DistrustError::Token(_)));
    }
    let embedded = json!({"alg": "ES256", "kid": "x", "jwk": published(&key, "x")});
    assert_eq!(refused(&key, embedded), DistrustError::UnknownKey);
    let good = token(&key, Alg::Es256, &es256("one"));
    let (message, _) = good.rsplit_once('.').unwrap();
    let unsigned = keys.claims(&format!("{message}."), &Alg::ALL).unwrap_err();
    assert!(matches!(unsigned, DistrustError::Token(_)));
}

#[test]
fn of_two_keys_of_one_name_neither_is_believed() {
    let (key, other) = (vector("rfc7515-a3.pem"), vector("p256-other.pem"));
    let (es256, rs256) =
        (json!({"alg": "ES256", "kid": "one"}), json!({"alg": "RS256", "kid": "one"}));
    let signed = token(&key, Alg::Es256, &es256);
    let twice = set(&[published(&key, "one"), published(&other, "one")]);
    assert_eq!(twice.claims(&signed, &Alg::ALL), Err(DistrustError::Twice));
    let same = set(&[published(&key, "one"), published(&key, "one")]);
    assert!(same.claims(&signed, &Alg::ALL).is_ok());
    // What is for another algorithm is not meant (RFC 7517, section 4.5).
    let rsa = vector("rfc7515-a2.pem");
    let kinds = set(&[published(&rsa, "one"), published(&key, "one")]);
    assert!(kinds.claims(&signed, &Alg::ALL).is_ok());
    assert!(kinds.claims(&token(&rsa, Alg::Rs256, &rs256), &Alg::ALL).is_ok());
}

#[test]
fn claims_that_readers_disagree_about_are_not_believed() {
    let key = vector("rfc7515-a3.pem");
    let keys = set(&[published(&key, "one")]);
    for (claims, code) in [
        (r#"{"sub":"anna","sub":"ben"}"#, "jwt_duplicate_member"),
        ("", "jwt_malformed"),
        ("[]", "jwt_malformed"),
    ] {
        let message =
            [r#"{"alg":"ES256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let mut signature = Vec::new();
        key.sign(Alg::Es256, message.as_bytes(), &mut signature).unwrap();
        let signed = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert!(keys.verified(&signed, &Alg::ALL).is_ok());
        let Err(DistrustError::Token(why)) = keys.claims(&signed, &Alg::ALL) else {
            panic!("{claims}")
        };
        assert_eq!(why.code(), code, "{claims}");
    }
}

#[test]
fn keys_for_something_else_are_passed_over() {
    let key = vector("rfc7515-a3.pem");
    let with = |name: &str, value: Value| {
        let mut jwk = published(&key, "one");
        jwk[name] = value;
        TrustedKeys::parse(json!({"keys": [jwk]}).to_string().as_bytes())
    };
    assert!(with("key_ops", json!(["verify"])).is_ok());
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("ECDH-ES")),
        ("alg", json!(5)),
        ("kty", json!("oct")),
        ("crv", json!("secp256k1")),
        ("x", json!("AA")),
        ("x", json!(null)),
    ] {
        assert_eq!(with(name, value.clone()).unwrap_err(), KeySetError::Empty, "{name} {value}");
    }
    let named = with("alg", json!("ES256")).unwrap();
    let good = token(&key, Alg::Es256, &json!({"alg": "ES256", "kid": "one"}));
    assert!(named.claims(&good, &[Alg::Es256]).is_ok());
    let parse = |text: &str| TrustedKeys::parse(text.as_bytes()).unwrap_err();
    for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
        assert_eq!(parse(text), KeySetError::Malformed, "{text}");
    }
    let many = json!({"keys": vec![json!({}); MAX_KEYS + 1]}).to_string();
    assert_eq!(parse(&many), KeySetError::TooMany);
}
