//! Our parsed keys behind `jsonwebtoken`'s own signing trait, for code that speaks that crate's language.
//!
//! Its `encode` would parse the key anew for each token; a [`Door`] does not.

use jsonwebtoken::{Algorithm, crypto::JwtSigner, signature};

use super::{
    alg::Alg,
    key::{KeyError, SigningKey},
};

/// A parsed key and the algorithm that it signs with.
#[derive(Debug, Clone, Copy)]
pub struct Door<'k> {
    key: &'k SigningKey,
    alg: Alg,
    registered: Algorithm,
}

impl<'k> Door<'k> {
    /// A key and an algorithm that fit each other. `None` for ES512, which `jsonwebtoken` does not know.
    ///
    /// # Errors
    /// When the key does not sign with this algorithm.
    pub fn new(key: &'k SigningKey, alg: Alg) -> Result<Option<Self>, KeyError> {
        key.can_sign(alg)?;
        Ok(alg.as_str().parse().ok().map(|registered| Self { key, alg, registered }))
    }
}

impl signature::Signer<Vec<u8>> for Door<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut out = Vec::new();
        self.key.sign(self.alg, message, &mut out).map_err(signature::Error::from_source)?;
        Ok(out)
    }
}

impl JwtSigner for Door<'_> {
    fn algorithm(&self) -> Algorithm {
        self.registered
    }
}
