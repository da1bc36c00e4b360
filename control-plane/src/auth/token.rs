//! Tokens of users: 256 random bits, of which only the SHA-256 digest is stored.
//!
//! Nobody guesses 256 bits, so a fast digest is enough: there is nothing that a slow one would protect. A digest is looked up as a whole, so how long
//! that takes tells of the digest at most, which nobody can choose.

use std::{fmt, str::FromStr};

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// What tokens begin with, so that scanners of repositories and logs find them.
pub const PREFIX: &str = "cst_";
/// What is random of a token, in bytes.
const RANDOM: usize = 32;
/// What its digest begins with in a file.
const FUNCTION: &str = "sha256:";

/// The digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits")]
pub struct NotAHash;

/// No token can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// Makes a token.
///
/// # Errors
/// When the system gives no random bytes.
pub fn make() -> Result<Zeroizing<String>, NoRandom> {
    let mut random = Zeroizing::new([0; RANDOM]);
    rand::fill(&mut *random).map_err(|_| NoRandom)?;
    Ok(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*random))))
}

impl TokenHash {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let found = digest::digest(&digest::SHA256, token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(found.as_ref());
        Self(hash)
    }
}

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let hex = text.strip_prefix(FUNCTION).filter(|hex| hex.len() == 64).ok_or(NotAHash)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAHash)?;
            let is_hex = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex).ok_or(NotAHash)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FUNCTION)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_256_bits() {
        let (one, two) = (make().unwrap(), make().unwrap());
        assert_ne!(*one, *two);
        let random = one.strip_prefix(PREFIX).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), RANDOM);
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        // printf abc | sha256sum
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), expected);
        assert_eq!(expected.parse(), Ok(TokenHash::of("abc")));
        for bad in [
            "",
            "sha256:",
            "sha256:ba78",
            expected.trim_start_matches("sha256:"),
            &expected.replace('a', "g"),
        ] {
            assert_eq!(bad.parse::<TokenHash>(), Err(NotAHash), "{bad}");
        }
        assert!(expected.replace("ba", "+a").parse::<TokenHash>().is_err());
    }
}
