//! Verification without Python: the same library that signs, so that it proves less than PyJWT, but more than nothing.

use aws_lc_rs::{hmac, signature as sig};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use crate::{now, python::Ask};

/// The claims, or the name of the error that PyJWT would raise.
pub(crate) fn verify(ask: &Ask) -> Result<Value, String> {
    let malformed = || "DecodeError".to_owned();
    let (message, signature) = ask.token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let header = json(header).ok_or_else(malformed)?;
    if header.get("alg").and_then(Value::as_str) != Some(&ask.alg) {
        return Err("InvalidAlgorithmError".to_owned());
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    if !signed(ask, message.as_bytes(), &signature) {
        return Err("InvalidSignatureError".to_owned());
    }
    let claims = json(payload).ok_or_else(malformed)?;
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    let now = f64::from(u32::try_from(now()).unwrap());
    if time("exp").is_some_and(|exp| exp <= now) {
        return Err("ExpiredSignatureError".to_owned());
    }
    if ["nbf", "iat"].into_iter().filter_map(time).any(|begin| begin > now) {
        return Err("ImmatureSignatureError".to_owned());
    }
    Ok(claims)
}

fn signed(ask: &Ask, message: &[u8], signature: &[u8]) -> bool {
    let hmac =
        |alg| hmac::verify(&hmac::Key::new(alg, ask.key.as_bytes()), message, signature).is_ok();
    let public = |alg: &'static dyn sig::VerificationAlgorithm| {
        sig::UnparsedPublicKey::new(alg, der(&ask.key)).verify(message, signature).is_ok()
    };
    match &*ask.alg {
        "HS256" => hmac(hmac::HMAC_SHA256),
        "HS384" => hmac(hmac::HMAC_SHA384),
        "HS512" => hmac(hmac::HMAC_SHA512),
        "RS256" => public(&sig::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => public(&sig::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => public(&sig::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => public(&sig::RSA_PSS_2048_8192_SHA256),
        "PS384" => public(&sig::RSA_PSS_2048_8192_SHA384),
        "PS512" => public(&sig::RSA_PSS_2048_8192_SHA512),
        "ES256" => public(&sig::ECDSA_P256_SHA256_FIXED),
        "ES384" => public(&sig::ECDSA_P384_SHA384_FIXED),
        "ES512" => public(&sig::ECDSA_P521_SHA512_FIXED),
        "EdDSA" => public(&sig::ED25519),
        other => panic!("there is no algorithm {other}"),
    }
}

/// What a PEM block holds.
fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.map(str::trim).collect::<String>()).expect("a key in PEM")
}
