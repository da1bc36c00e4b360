//! Verifying JWS signatures with keys that are at hand, to tell on a miss who signed a token. It decides nothing: a mock does not authenticate.

use aws_lc_rs::{
    constant_time,
    signature::{self as sig, RsaParameters, UnparsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Mac, Material, PublicKey, SigningKey};
use crate::jwt::alg::Alg;

/// How a signature of an algorithm is verified.
enum Way {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

impl SigningKey {
    /// Whether this key has signed the message. An HMAC secret counts with and without a line feed at its end.
    #[must_use]
    pub fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        if self.can_sign(alg).is_err() {
            return false;
        }
        match &self.material {
            Material::Hmac { exact, trimmed } => [Some(exact), trimmed.as_ref()]
                .into_iter()
                .flatten()
                .any(|mac| mac.verifies(alg, message, signature)),
            _ => PublicKey::of(self).is_some_and(|key| key.has_signed(alg, message, signature)),
        }
    }
}

impl Mac {
    fn verifies(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        let mut own = Vec::new();
        self.sign(alg, message, &mut own);
        constant_time::verify_slices_are_equal(&own, signature).is_ok()
    }
}

impl PublicKey {
    /// Whether the private half of this key has signed the message.
    #[must_use]
    pub fn has_signed(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        let part = |name: &str| {
            let text = self.jwk.get(name).and_then(Value::as_str)?;
            URL_SAFE_NO_PAD.decode(text).ok()
        };
        let verified = || match way(alg)? {
            Way::Rsa(parameters) => {
                let key = sig::RsaPublicKeyComponents { n: part("n")?, e: part("e")? };
                key.verify(parameters, message, signature).ok()
            }
            Way::Other(algorithm) => {
                let key = match part("y") {
                    Some(y) => [&[4_u8], &*part("x")?, &y].concat(),
                    None => part("x")?,
                };
                UnparsedPublicKey::new(algorithm, key).verify(message, signature).ok()
            }
        };
        self.verifies(alg) && verified().is_some()
    }
}

fn way(alg: Alg) -> Option<Way> {
    Some(match alg {
        Alg::Hs256 | Alg::Hs384 | Alg::Hs512 => return None,
        Alg::Rs256 => Way::Rsa(&sig::RSA_PKCS1_2048_8192_SHA256),
        Alg::Rs384 => Way::Rsa(&sig::RSA_PKCS1_2048_8192_SHA384),
        Alg::Rs512 => Way::Rsa(&sig::RSA_PKCS1_2048_8192_SHA512),
        Alg::Ps256 => Way::Rsa(&sig::RSA_PSS_2048_8192_SHA256),
        Alg::Ps384 => Way::Rsa(&sig::RSA_PSS_2048_8192_SHA384),
        Alg::Ps512 => Way::Rsa(&sig::RSA_PSS_2048_8192_SHA512),
        Alg::Es256 => Way::Other(&sig::ECDSA_P256_SHA256_FIXED),
        Alg::Es384 => Way::Other(&sig::ECDSA_P384_SHA384_FIXED),
        Alg::Es512 => Way::Other(&sig::ECDSA_P521_SHA512_FIXED),
        Alg::EdDsa => Way::Other(&sig::ED25519),
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests may read files")]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"eyJhbGciOiJYIn0.e30";

    fn vector(name: &str) -> SigningKey {
        let path = format!("{}/src/jwt/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        SigningKey::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_key_verifies_what_it_signed_and_nothing_else() {
        let keys = [
            vector("rfc7515-a2.pem"),
            vector("rfc7515-a3.pem"),
            vector("rfc7515-a4.pem"),
            vector("rfc8037-a1.pem"),
            SigningKey::parse(b"a secret of at least thirty-two bytes").unwrap(),
        ];
        let other = vector("p256-other.pem");
        let mut tried = 0;
        for key in &keys {
            for alg in Alg::ALL.into_iter().filter(|alg| key.can_sign(*alg).is_ok()) {
                let mut signature = Vec::new();
                key.sign(alg, MESSAGE, &mut signature).unwrap();
                assert!(key.verifies(alg, MESSAGE, &signature), "{alg:?}");
                assert!(!key.verifies(alg, b"eyJhbGciOiJYIn0.e31", &signature), "{alg:?}");
                assert!(!other.verifies(alg, MESSAGE, &signature), "{alg:?}");
                *signature.last_mut().unwrap() ^= 1;
                assert!(!key.verifies(alg, MESSAGE, &signature), "{alg:?}");
                assert!(!key.verifies(alg, MESSAGE, b""), "{alg:?}");
                tried += 1;
            }
        }
        assert_eq!(tried, 6 + 1 + 1 + 1 + 3);
    }

    #[test]
    fn a_line_feed_at_the_end_of_a_secret_does_not_matter() {
        let plain = SigningKey::parse(b"a secret of at least thirty-two bytes").unwrap();
        let with = SigningKey::parse(b"a secret of at least thirty-two bytes\n").unwrap();
        let mut signature = Vec::new();
        plain.sign(Alg::Hs256, MESSAGE, &mut signature).unwrap();
        assert!(with.verifies(Alg::Hs256, MESSAGE, &signature));
    }
}
