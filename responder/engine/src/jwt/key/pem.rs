//! The public key as text, as verifiers have it in a file.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Material, SigningKey};

/// Characters in a line (RFC 7468, section 2).
const LINE: usize = 64;

impl SigningKey {
    /// The public key in PEM (RFC 7468, section 13); `None` for an HMAC secret, which has none.
    pub(crate) fn public_pem(&self) -> Option<String> {
        let der: PublicKeyX509Der<'_> = match &self.material {
            Material::Hmac { .. } => return None,
            Material::Rsa { pair, .. } => pair.public_key().as_der().ok()?,
            Material::Ec(_, pair) => pair.public_key().as_der().ok()?,
            Material::Ed25519(pair) => pair.public_key().as_der().ok()?,
        };
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for (nth, c) in STANDARD.encode(der.as_ref()).chars().enumerate() {
            if nth > 0 && nth % LINE == 0 {
                pem.push('\n');
            }
            pem.push(c);
        }
        pem.push_str("\n-----END PUBLIC KEY-----\n");
        Some(pem)
    }
}
