//! The public half of a key, as it is published in key sets: what verifies, and nothing that signs.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{SigningKey, der, load};
use crate::jwt::alg::Alg;

/// The public half of an asymmetric key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) jwk: Value,
    thumbprint: String,
    algs: Vec<Alg>,
}

impl PublicKey {
    /// The public half of a key; `None` for an HMAC secret, which has none.
    #[must_use]
    pub fn of(key: &SigningKey) -> Option<Self> {
        Some(Self {
            jwk: key.jwk()?,
            thumbprint: key.thumbprint()?,
            algs: Alg::ALL.into_iter().filter(|alg| key.can_sign(*alg).is_ok()).collect(),
        })
    }

    /// A key that somebody publishes (RFC 7517): RSA, P-256, P-384, P-521 or Ed25519. `None` for every other one, for RSA keys that are too weak or too
    /// large to sign here, and where a member is missing or has not the length that it must have. That a point lies on its curve is found when something
    /// is verified.
    #[must_use]
    pub fn of_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_long = |name: &str, length: usize| bytes(name).is_some_and(|b| b.len() == length);
        let rsa = &[Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512];
        let (members, algs): (&[&str], &[Alg]) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                load::judge_rsa(der::without_zeros(&modulus), der::without_zeros(&exponent))
                    .ok()?;
                (&["e", "kty", "n"], rsa)
            }
            ("EC", Some(curve)) => {
                let (alg, length): (&[Alg], usize) = match curve {
                    "P-256" => (&[Alg::Es256], 32),
                    "P-384" => (&[Alg::Es384], 48),
                    "P-521" => (&[Alg::Es512], 66),
                    _ => return None,
                };
                (is_long("x", length) && is_long("y", length)).then_some(())?;
                (&["crv", "kty", "x", "y"], alg)
            }
            ("OKP", Some("Ed25519")) if is_long("x", 32) => (&["crv", "kty", "x"], &[Alg::EdDsa]),
            _ => return None,
        };
        // Only the required members, which are all that a thumbprint covers (RFC 7638, section 3.2).
        let kept: Option<Map<String, Value>> = members
            .iter()
            .map(|name| Some(((*name).to_owned(), Value::from(text(name)?))))
            .collect();
        let jwk = Value::Object(kept?);
        let hash = digest::digest(&digest::SHA256, jwk.to_string().as_bytes());
        Some(Self { jwk, thumbprint: URL_SAFE_NO_PAD.encode(hash), algs: algs.to_vec() })
    }

    /// Its thumbprint (RFC 7638), which is the `kid` that it is published under.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether tokens of this algorithm can be verified with it.
    #[must_use]
    pub fn verifies(&self, alg: Alg) -> bool {
        self.algs.contains(&alg)
    }

    /// The key as a member of a key set. `algs` are those of the tokens that it verifies: a JWK can name one, so of several none is named.
    #[must_use]
    pub fn published(&self, kid: &str, algs: &[Alg]) -> Value {
        let mut jwk = self.jwk.clone();
        if let Value::Object(members) = &mut jwk {
            members.insert("kid".to_owned(), kid.into());
            members.insert("use".to_owned(), "sig".into());
            if let [alg] = algs {
                members.insert("alg".to_owned(), alg.as_str().into());
            }
        }
        jwk
    }
}
