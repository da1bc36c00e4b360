//! Signing keys and the ring that holds a node's keys.

use std::fmt;

/// Names a key of a mounted secret: the file `<secret-dir>/<secret>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    /// The secret, which is a directory.
    pub secret: String,
    /// The key, which is a file in it.
    pub key: String,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.secret, self.key)
    }
}
use std::{collections::BTreeMap, sync::Arc};
#[derive(Debug)]
pub struct SigningKey;
impl SigningKey {
    pub fn can_sign(&self, _a: super::alg::Alg) -> Result<(), KeyError> {
        Ok(())
    }
    pub fn weakness(&self, _a: super::alg::Alg) -> Option<String> {
        None
    }
}
#[derive(Debug, thiserror::Error)]
#[error("k")]
pub struct KeyError;
impl KeyError {
    pub fn code(&self) -> &'static str {
        "k"
    }
}
#[derive(Debug)]
pub struct KeyProblem {
    pub code: &'static str,
    pub message: String,
}
#[derive(Debug)]
pub struct KeyEntry {
    pub key: Option<Arc<SigningKey>>,
    pub problem: Option<KeyProblem>,
    pub generation: u64,
}
#[derive(Debug, Default)]
pub struct KeyRing;
impl KeyRing {
    pub fn generation(&self) -> u64 {
        0
    }
    pub fn get(&self, _s: &SecretRef) -> Option<&KeyEntry> {
        None
    }
}
