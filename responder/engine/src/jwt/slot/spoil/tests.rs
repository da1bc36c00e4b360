//! Unsound tokens, each looked at by an independent verifier.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde_json::{Value, json};

use super::*;
use crate::{diagnostic::Diagnostics, jwt::ResignConfig};

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn slot(alg: &str, claims: &Value) -> TokenSlot {
    let config = BTreeMap::from([("secretpath".to_owned(), "a/b".to_owned())]);
    let config = ResignConfig::parse(&config, "c", &mut Diagnostics::default()).unwrap();
    let header = json!({"alg": alg, "typ": "JWT", "kid": "k"}).to_string();
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let token = format!("Bearer {}.{}.c2ln", part(header), part(claims.to_string()));
    TokenSlot::new(token.as_bytes(), &Arc::new(config), None).unwrap()
}

fn claims() -> Value {
    json!({"iss": "https://i", "aud": ["a", "b"], "sub": "alice", "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_003_600})
}

fn spoilt(slot: &TokenSlot, key: &SigningKey, fault: TokenFault, seed: u64) -> Option<String> {
    let mut sound = Vec::new();
    slot.render(NOW, key, &mut sound).unwrap();
    let unsound = slot.spoil(&sound, key, NOW, fault, seed)?;
    let text = String::from_utf8(unsound).unwrap();
    assert_ne!(text.as_bytes(), sound);
    Some(text.strip_prefix("Bearer ").unwrap().to_owned())
}

fn parts(token: &str) -> (Value, Value) {
    let part = |nth: usize| {
        let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(nth).unwrap()).unwrap();
        serde_json::from_slice(&part).unwrap()
    };
    (part(0), part(1))
}

fn verifier(key: &SigningKey) -> DecodingKey {
    DecodingKey::from_jwk(&serde_json::from_value(key.jwk().unwrap()).unwrap()).unwrap()
}

/// Whether the signature is right, whatever else the token says.
fn is_signed(token: &str, alg: Algorithm, key: &DecodingKey) -> bool {
    let mut rules = Validation::new(alg);
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    match jsonwebtoken::decode::<Value>(token, key, &rules) {
        Ok(_) => true,
        Err(why) => {
            assert_eq!(*why.kind(), ErrorKind::InvalidSignature, "{token}");
            false
        }
    }
}

#[test]
fn one_thing_is_wrong_and_nothing_else() {
    let key = SigningKey::parse(SECRET).unwrap();
    let slot = slot("HS256", &claims());
    let (alg, secret) = (Algorithm::HS256, DecodingKey::from_secret(SECRET));
    let moved =
        |shift: i64| json!({"iat": NOW + shift, "nbf": NOW + shift, "exp": NOW + shift + 3600});
    for (fault, header, changed, signed) in [
        (TokenFault::Expired, json!({}), moved(-7200), true),
        (TokenFault::NotYetValid, json!({}), json!({"nbf": NOW + 3600, "exp": NOW + 7200}), true),
        (TokenFault::WrongKey, json!({}), json!({}), false),
        (TokenFault::BadSignature, json!({}), json!({}), false),
        (TokenFault::WrongAud, json!({}), json!({"aud": OTHER_AUDIENCE}), true),
        (TokenFault::WrongIss, json!({}), json!({"iss": OTHER_ISSUER}), true),
    ] {
        let token = spoilt(&slot, &key, fault, 7).unwrap();
        let with = |mut base: Value, more: &[Value]| {
            for more in more {
                base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            }
            base
        };
        let expected = [
            with(json!({"alg": "HS256", "typ": "JWT", "kid": "k"}), &[header]),
            with(claims(), &[moved(0), changed]),
        ];
        let (header, claims) = parts(&token);
        assert_eq!([header, claims], expected, "{fault:?}");
        assert_eq!(is_signed(&token, alg, &secret), signed, "{fault:?}");
        assert_eq!(spoilt(&slot, &key, fault, 7).as_ref(), Some(&token), "the same again");
    }
    let token = spoilt(&slot, &key, TokenFault::UnknownKid, 7).unwrap();
    assert!(parts(&token).0["kid"].as_str().unwrap().starts_with("unknown-"));
    assert!(is_signed(&token, alg, &secret));
    let token = spoilt(&slot, &key, TokenFault::AlgNone, 7).unwrap();
    assert!(token.ends_with('.') && parts(&token).0["alg"] == "none");
    let token = spoilt(&slot, &key, TokenFault::Truncated, 7).unwrap();
    assert_eq!(token.split('.').count(), 2);
    assert_eq!(spoilt(&slot, &key, TokenFault::AlgConfusion, 7), None, "there is no public key");
    let other = |seed| spoilt(&slot, &key, TokenFault::WrongKey, seed);
    assert_ne!(other(7), other(8), "the seed matters");
}

#[test]
fn what_a_token_has_not_is_added() {
    let key = SigningKey::parse(SECRET).unwrap();
    let slot = slot("HS256", &json!({}));
    let claims = |fault| parts(&spoilt(&slot, &key, fault, 0).unwrap()).1;
    assert_eq!(claims(TokenFault::Expired), json!({"exp": NOW - 3600}));
    assert_eq!(claims(TokenFault::NotYetValid), json!({"nbf": NOW + 3600}));
    assert_eq!(claims(TokenFault::WrongAud), json!({"aud": OTHER_AUDIENCE}));
}

#[test]
fn confusion_signs_with_the_text_of_the_public_key() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = SigningKey::parse(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
    let slot = slot("ES256", &claims());
    let token = spoilt(&slot, &key, TokenFault::AlgConfusion, 0).unwrap();
    assert_eq!(parts(&token).0["alg"], "HS256");
    let pem = key.public_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.ends_with("-----\n"));
    assert!(is_signed(&token, Algorithm::HS256, &DecodingKey::from_secret(pem.as_bytes())));
    let verifier = verifier(&key);
    for fault in [TokenFault::WrongKey, TokenFault::BadSignature] {
        let token = spoilt(&slot, &key, fault, 3).unwrap();
        assert!(!is_signed(&token, Algorithm::ES256, &verifier), "{fault:?}");
    }
}

#[test]
fn a_foreign_signature_has_the_shape_of_one() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let key = SigningKey::parse(pkcs8.as_ref()).unwrap();
    let slot = slot("EdDSA", &claims());
    let verifier = verifier(&key);
    for seed in 0..20 {
        let token = spoilt(&slot, &key, TokenFault::WrongKey, seed).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
        assert_eq!((signature.len(), signature[63] & 0xf0), (64, 0));
        assert!(!is_signed(&token, Algorithm::EdDSA, &verifier));
    }
}
