//! Marks: what stands in place of a value that was taken out.
//!
//! A mark depends on the value and the key alone, so that a value has the same mark wherever it occurs. Nobody without the key can tell
//! what a mark stands for; with the key, values that can be guessed (there are only a billion social security numbers) can be tried.

use std::fmt;

use regex::bytes::Regex;

/// What marks are made with. A snapshot has one, and whoever serves the snapshot has it too.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactionKey([u8; 32]);

impl RedactionKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key that follows from a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8]) -> Self {
        Self(blake3::derive_key("countersign redaction key", seed))
    }

    /// Its bytes, to be stored beside the snapshot.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Sixteen hexadecimal digits that stand for a value.
    pub(super) fn hash(&self, value: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.0, value);
        hash.to_hex().chars().take(HASH_LEN).collect()
    }

    /// Decimal digits that follow from a value, without end.
    pub(super) fn digits(&self, purpose: &str, value: &[u8]) -> impl Iterator<Item = u8> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose.as_bytes()).update(b"\0").update(value);
        let mut stream = hasher.finalize_xof();
        std::iter::repeat_with(move || {
            let mut byte = [0];
            stream.fill(&mut byte);
            let [byte] = byte;
            byte % 10
        })
    }
}

/// No byte of the key is shown.
impl fmt::Debug for RedactionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedactionKey")
    }
}

const PREFIX: &str = "REDACTED-";
const HASH_LEN: usize = 16;

/// The mark of a value.
pub(super) fn mark(key: &RedactionKey, category: &str, value: &[u8]) -> String {
    labelled(category, &key.hash(value))
}

/// A mark of a known hash.
pub(super) fn labelled(category: &str, hash: &str) -> String {
    format!("{PREFIX}{category}-{hash}")
}

/// Category and hash, when the whole text is a mark.
pub(super) fn parse(text: &[u8]) -> Option<(&str, &str)> {
    let (category, hash) =
        std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?.rsplit_once('-')?;
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let named = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (hash.len() == HASH_LEN
        && hash.bytes().all(hexadecimal)
        && !category.is_empty()
        && category.bytes().all(named))
    .then_some((category, hash))
}

/// The pattern of marks within a text.
pub(super) fn pattern() -> Option<&'static Regex> {
    static PATTERN: std::sync::LazyLock<Option<Regex>> =
        std::sync::LazyLock::new(|| Regex::new("(?-u)REDACTED-[A-Z0-9_]{1,64}-[0-9a-f]{16}").ok());
    PATTERN.as_ref()
}

/// A name as a category: upper case, other characters than letters and digits as `_`, at most 32 of them.
pub(super) fn category(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(32) {
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    }
    if out.is_empty() { "VALUE".to_owned() } else { out }
}

/// A JSON number in place of another: sign, point, exponent and number of digits stay, the digits before the exponent are others. The
/// leading one is no larger than the recorded one, so that what fitted a type still fits.
pub(super) fn number(key: &RedactionKey, text: &[u8]) -> Vec<u8> {
    let mut digits = key.digits("number", text);
    let mut out = Vec::with_capacity(text.len());
    let mantissa = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let whole =
        text.iter().filter(|byte| **byte != b'-').take_while(|b| b.is_ascii_digit()).count();
    let mut nth = 0;
    for (at, byte) in text.iter().enumerate() {
        if at >= mantissa || !byte.is_ascii_digit() {
            out.push(*byte);
            continue;
        }
        let drawn = digits.next().unwrap_or_default();
        nth += 1;
        let new = match (nth, whole, byte - b'0') {
            // A number does not begin with a zero, and `0.5` stays below one. Nineteen digits are what 64 bits hold.
            (1, _, 0) | (2, 19.., _) => 0,
            (1, 1, _) => 1 + drawn % 9,
            (1, _, recorded) => 1 + drawn % (recorded - 1).max(1),
            _ => drawn,
        };
        out.push(b'0' + new);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> RedactionKey {
        RedactionKey::from_seed(b"test")
    }

    #[test]
    fn a_mark_depends_on_value_and_key_only() {
        let a = mark(&key(), "EMAIL", b"a@b.test");
        assert_eq!(a, mark(&key(), "EMAIL", b"a@b.test"));
        assert_ne!(a, mark(&key(), "EMAIL", b"a@c.test"));
        assert_ne!(a, mark(&RedactionKey::from_seed(b"else"), "EMAIL", b"a@b.test"));
        let (category, hash) = parse(a.as_bytes()).unwrap();
        assert_eq!(category, "EMAIL");
        assert_eq!(labelled("LOGIN", hash), mark(&key(), "LOGIN", b"a@b.test"));
    }

    #[test]
    fn only_marks_are_marks() {
        for text in [
            "",
            "REDACTED-",
            "REDACTED--0123456789abcdef",
            "REDACTED-A-0123456789ABCDEF",
            "REDACTED-a-0123456789abcdef",
            "xREDACTED-A-0123456789abcdef",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert!(pattern().unwrap().is_match(b"x REDACTED-API_KEY-0123456789abcdef."));
        assert_eq!(category("x-api Key"), "X_API_KEY");
        assert_eq!(category(""), "VALUE");
    }

    #[test]
    fn numbers_stay_numbers_of_their_size() {
        for text in [
            "0",
            "7",
            "42",
            "-42",
            "4111111111111111",
            "249.95",
            "0.05",
            "-1.5e-10",
            "9223372036854775807",
            "18446744073709551615",
            "2147483647",
        ] {
            let new = String::from_utf8(number(&key(), text.as_bytes())).unwrap();
            assert_eq!(new.len(), text.len(), "{text} {new}");
            assert!(serde_json::from_str::<serde_json::Number>(&new).is_ok(), "{text} {new}");
            assert_eq!(text.parse::<i64>().is_ok(), new.parse::<i64>().is_ok(), "{text} {new}");
            assert_eq!(text.parse::<u64>().is_ok(), new.parse::<u64>().is_ok(), "{text} {new}");
            assert_eq!(text.parse::<i32>().is_ok(), new.parse::<i32>().is_ok(), "{text} {new}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", key()), "RedactionKey");
    }

    proptest! {
        #[test]
        fn integers_fit_where_they_fitted(n in any::<i64>()) {
            let new = String::from_utf8(number(&key(), n.to_string().as_bytes())).unwrap();
            prop_assert!(new.parse::<i64>().is_ok(), "{} {}", n, new);
        }

        #[test]
        fn every_value_has_a_mark(value in prop::collection::vec(any::<u8>(), 0..40), name in ".{0,40}") {
            let mark = mark(&key(), &category(&name), &value);
            prop_assert!(parse(mark.as_bytes()).is_some());
        }
    }
}
