//! Public keys as JWKs (RFC 7517, RFC 7518 section 6, RFC 8037) and their thumbprints (RFC 7638).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::SigningKey;

/// The required members, which are all that a thumbprint covers.
pub(super) fn of(key: &SigningKey) -> Option<Value> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    if let Some(public) = key.rsa_public() {
        let (n, e) = (public.modulus(), public.exponent());
        return Some(
            json!({"kty": "RSA", "n": b64(n.big_endian_without_leading_zero()), "e": b64(e.big_endian_without_leading_zero())}),
        );
    }
    if let Some((curve, point)) = key.ec_public() {
        let (_, coordinates) = point.split_first()?;
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
        return Some(json!({"kty": "EC", "crv": curve.name(), "x": b64(x), "y": b64(y)}));
    }
    key.ed25519_public().map(|x| json!({"kty": "OKP", "crv": "Ed25519", "x": b64(x)}))
}

pub(super) fn thumbprint(key: &SigningKey) -> Option<String> {
    // serde_json's map is sorted by name, which is the order that RFC 7638 asks for.
    let canonical = of(key)?.to_string();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    Some(URL_SAFE_NO_PAD.encode(hash))
}
