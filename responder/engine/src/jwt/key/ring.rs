//! All keys of a node, of one moment. A ring is never changed: it is replaced whole.

use std::{collections::BTreeMap, sync::Arc};

use zeroize::Zeroizing;

use super::{PublicKey, SecretRef, SigningKey};

/// All keys of a node.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    generation: u64,
    keys: BTreeMap<SecretRef, KeyEntry>,
}

/// One secret's key.
#[derive(Clone)]
pub struct KeyEntry {
    /// The key in use: a broken new file does not take away the good one before it.
    pub key: Option<Arc<SigningKey>>,
    /// What is wrong with the file as it is now.
    pub problem: Option<KeyProblem>,
    /// Grows each time the key is replaced.
    pub generation: u64,
    /// The file, byte for byte, for templates that put an HMAC secret into an answer; no private key is.
    pub text: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// The public halves of keys that are published beside the one in use: its successors that do not sign yet, then its predecessors,
    /// whose tokens are still about.
    pub beside: Vec<Arc<PublicKey>>,
}

/// What is wrong with a key file. Holds nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl KeyRing {
    /// A ring of these keys.
    #[must_use]
    pub fn new(generation: u64, keys: BTreeMap<SecretRef, KeyEntry>) -> Self {
        Self { generation, keys }
    }

    /// Grows with each ring that replaces another.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A secret's key.
    #[must_use]
    pub fn get(&self, secret: &SecretRef) -> Option<&KeyEntry> {
        self.keys.get(secret)
    }

    /// The same with the keys of these secrets only.
    #[must_use]
    pub fn only(&self, secrets: &[SecretRef]) -> Self {
        let entry = |secret: &SecretRef| Some((secret.clone(), self.keys.get(secret)?.clone()));
        Self { generation: self.generation, keys: secrets.iter().filter_map(entry).collect() }
    }

    /// All secrets and their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&SecretRef, &KeyEntry)> {
        self.keys.iter()
    }
}

impl std::fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyEntry")
            .field("problem", &self.problem)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_ring_has_no_other_keys() {
        let secret = |key: &str| SecretRef { secret: "s".into(), key: key.into() };
        let entry =
            || KeyEntry { key: None, problem: None, generation: 1, text: None, beside: Vec::new() };
        let ring = KeyRing::new(3, ["a", "b"].map(|key| (secret(key), entry())).into());
        let part = ring.only(&[secret("b"), secret("c")]);
        assert_eq!(part.generation(), 3);
        assert_eq!(part.iter().map(|(name, _)| name.key.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
