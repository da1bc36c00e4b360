//! Project Wycheproof's tokens and key sets, from its Go module, which `.ci/run` takes them from: whoever publishes a key is believed as strictly as the
//! project asks, and so is the holder of a secret. `tests/system/vectors.rs` has the signatures beneath.

use std::{io::Write as _, path::PathBuf};

use super::*;
use crate::jwt::{key::SigningKey, token::Jws};

/// Where a strict reader and the vectors differ, and why.
const DEVIATIONS: [(&str, u64, &str); 9] = [
    ("signature", 346, "the key is for PS384 and the token says PS256"),
    ("signature", 347, "the key is for PS256 and the token says PS384"),
    ("signature", 350, "the alg of the key is registered nowhere"),
    ("signature", 351, "the alg of the key is registered nowhere"),
    ("signature", 367, "it is, byte for byte, the valid 357"),
    ("signature", 370, "it is, byte for byte, the valid 357"),
    ("signature", 372, "a question mark in base64url is no base64url"),
    ("signature", 373, "a question mark in base64url is no base64url"),
    ("key", 2, "a key file has one private key, this one has two"),
];

/// A file of vectors; `None`, with a notice, where there is none, which CI must have.
fn vectors(name: &str) -> Option<Value> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ci-tools/wycheproof");
    let dir =
        std::env::var_os("COUNTERSIGN_WYCHEPROOF").map_or_else(|| built.into(), PathBuf::from);
    let Ok(text) = std::fs::read(dir.join(format!("json_web_{name}_test.json"))) else {
        assert!(std::env::var_os("CI").is_none(), "CI needs the vectors of Wycheproof");
        let notice = "there are no vectors of Wycheproof; `.ci/run vectors` fetches them";
        drop(writeln!(std::io::stderr(), "NOTICE: {notice}"));
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// Whether a token is believed by who has the public key, or where there is none the secret.
fn is_believed(group: &Value, token: &str) -> bool {
    let Some(public) = group.get("public") else {
        let secret = group["private"].to_string();
        let (Ok(key), Ok(jws)) =
            (SigningKey::parse(secret.as_bytes()), Jws::parse(token.as_bytes()))
        else {
            return false;
        };
        // Short secrets sign only where a transform allows weak keys.
        return !key.is_short(jws.alg, false) && key.verifies(jws.alg, jws.message, &jws.signature);
    };
    let set = if public.get("keys").is_some() { public.clone() } else { json!({"keys": [public]}) };
    TrustedKeys::parse(set.to_string().as_bytes())
        .is_ok_and(|keys| keys.verified(token, &Alg::ALL).is_ok())
}

/// Asserts that so many tokens of a file are judged right and only the listed ones otherwise.
fn judge(name: &str, right: usize) {
    let Some(file) = vectors(name) else { return };
    let mut found = Vec::new();
    let mut tried = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            tried += 1;
            let token = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            if is_believed(group, &token) != (test["result"] == "valid") {
                found.push(test["tcId"].as_u64().unwrap());
            }
        }
    }
    let listed: Vec<u64> =
        DEVIATIONS.iter().filter(|(file, ..)| *file == name).map(|(_, id, _)| *id).collect();
    assert_eq!(found, listed, "{name}: of {tried}");
    assert_eq!(tried - found.len(), right, "{name}");
}

#[test]
fn tokens_are_believed_as_strictly_as_wycheproof_asks() {
    judge("signature", 393);
}

#[test]
fn keys_are_trusted_as_strictly_as_wycheproof_asks() {
    judge("key", 25);
}
