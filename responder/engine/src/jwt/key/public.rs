//! The public half of a key, as it is published in key sets: what verifies, and nothing that signs.

use serde_json::Value;

use super::SigningKey;
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
