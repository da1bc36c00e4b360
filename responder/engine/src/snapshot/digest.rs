//! Content addresses: a hash over the exact bytes of a blob, BLAKE3 unless somebody chose SHA-256, and their number.
//!
//! Addresses of both functions lie side by side, and none equals one of the other function.

use std::{fmt, str::FromStr};

/// What makes the hash of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Function {
    /// BLAKE3, the faster one.
    #[default]
    Blake3,
    /// SHA-256, for where only approved functions may be used, and for checks with `sha256sum`.
    Sha256,
}

impl Function {
    /// All functions.
    pub const ALL: [Self; 2] = [Self::Blake3, Self::Sha256];

    /// Its name, as it stands in the text of an address.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    fn hash(self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Self::Blake3 => *blake3::hash(bytes).as_bytes(),
            Self::Sha256 => {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
                // It is as long as its name says.
                hash.as_ref().try_into().unwrap_or_default()
            }
        }
    }
}

impl FromStr for Function {
    type Err = UnknownFunction;

    fn from_str(name: &str) -> Result<Self, UnknownFunction> {
        Self::ALL.into_iter().find(|function| function.name() == name).ok_or(UnknownFunction)
    }
}

/// There is no such function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the digest functions are blake3 and sha256")]
pub struct UnknownFunction;

/// The address of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    hash: [u8; 32],
    size: u64,
    function: Function,
}

impl Digest {
    /// The address of these bytes by BLAKE3.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::by(Function::Blake3, bytes)
    }

    /// The address of these bytes by a function.
    #[must_use]
    pub fn by(function: Function, bytes: &[u8]) -> Self {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { hash: function.hash(bytes), size, function }
    }

    /// An address from its parts.
    #[must_use]
    pub fn from_parts(function: Function, hash: [u8; 32], size: u64) -> Self {
        Self { hash, size, function }
    }

    /// The address of a blob of this size whose file has this name.
    #[must_use]
    pub fn from_file_name(name: &str, size: u64) -> Option<Self> {
        let (function, hash) = match name.split_once('-') {
            None => (Function::Blake3, name),
            Some((function, hash)) if function == Function::Sha256.name() => {
                (Function::Sha256, hash)
            }
            Some(_) => return None,
        };
        Some(Self { hash: unhex(hash)?, size, function })
    }

    /// The function that made the hash.
    #[must_use]
    pub fn function(&self) -> Function {
        self.function
    }

    /// The raw hash.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The size of the blob in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether these bytes are the blob.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        u64::try_from(bytes.len()) == Ok(self.size) && self.function.hash(bytes) == self.hash
    }

    /// The hash in lower-case hex.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.hash
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|nibble| char::from_digit(u32::from(nibble), 16))
            .collect()
    }

    /// What the blob's file is called: the hash in hex, behind the function's name unless that is BLAKE3.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.function {
            Function::Blake3 => self.to_hex(),
            Function::Sha256 => format!("{}-{}", self.function.name(), self.to_hex()),
        }
    }
}

/// The bytes of a hash in lower-case hex.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function.name(), self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_empty_blob_as_the_specifications_do() {
        let known = [
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ];
        for (function, known) in Function::ALL.into_iter().zip(known) {
            assert_eq!(Digest::by(function, b"").to_string(), known);
            assert_eq!(function.name().parse(), Ok(function));
        }
        assert!("md5".parse::<Function>().is_err());
    }

    #[test]
    fn tells_a_flipped_bit_and_the_function() {
        for function in Function::ALL {
            let digest = Digest::by(function, b"abc");
            assert!(digest.matches(b"abc") && !digest.matches(b"abb") && !digest.matches(b"ab"));
            let other = Function::ALL.into_iter().find(|other| *other != function).unwrap();
            assert!(!Digest::from_parts(other, *digest.hash(), 3).matches(b"abc"));
            assert_ne!(Digest::from_parts(other, *digest.hash(), 3), digest);
        }
    }

    #[test]
    fn file_names_come_back_and_those_of_blake3_are_plain() {
        for function in Function::ALL {
            let digest = Digest::by(function, b"abc");
            assert_eq!(Digest::from_file_name(&digest.file_name(), 3), Some(digest));
        }
        assert_eq!(Digest::of(b"abc").file_name(), Digest::of(b"abc").to_hex());
        let hex = Digest::of(b"abc").to_hex();
        for name in ["", "12", &hex.to_uppercase(), &format!("md5-{hex}"), &format!("{hex}0")] {
            assert_eq!(Digest::from_file_name(name, 3), None, "{name}");
        }
    }
}
