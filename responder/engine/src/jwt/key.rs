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
