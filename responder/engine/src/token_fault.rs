//! Faults of tokens and of the key sets that verify them, by name. How a token is spoilt is the signer's business, see
//! [`crate::jwt`]; when one is, that of [`crate::chaos`].

use crate::chaos::Latency;

/// What is wrong with a token. Everything else about it is sound, so that a verifier has one reason to refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenFault {
    /// It ended an hour ago.
    Expired,
    /// It begins in an hour.
    NotYetValid,
    /// It is signed with a key that nobody has published.
    WrongKey,
    /// Its `kid` is in no key set.
    UnknownKid,
    /// Its `alg` is `none`, and it is not signed.
    AlgNone,
    /// It is signed with HS256, and the secret is the text of the public key.
    AlgConfusion,
    /// It is meant for somebody else.
    WrongAud,
    /// It is from somebody else.
    WrongIss,
    /// Its end is missing.
    Truncated,
    /// One bit of its JWS signature is wrong.
    BadSignature,
}

impl TokenFault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongKey,
        Self::UnknownKid,
        Self::AlgNone,
        Self::AlgConfusion,
        Self::WrongAud,
        Self::WrongIss,
        Self::Truncated,
        Self::BadSignature,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::WrongKey => "wrong-key",
            Self::UnknownKid => "unknown-kid",
            Self::AlgNone => "alg-none",
            Self::AlgConfusion => "alg-confusion",
            Self::WrongAud => "wrong-aud",
            Self::WrongIss => "wrong-iss",
            Self::Truncated => "truncated",
            Self::BadSignature => "bad-signature",
        }
    }

    /// Reads a name; case and `_` for `-` do not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase().replace('_', "-");
        Self::ALL.into_iter().find(|fault| fault.as_str() == text)
    }
}

/// What is wrong with a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeySetFault {
    /// It is not there: this status is answered.
    Error(u16),
    /// It comes late.
    Slow(Latency),
    /// It holds the recorded keys only, and not the one that signs now.
    Stale,
    /// It holds no key.
    Empty,
}

/// How late a slow key set is when nothing is said.
const SLOW: &str = "10s";

impl KeySetFault {
    /// Reads `error` or a status of 400 and above, `slow` or `slow:2s`, `stale` or `empty`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (name, more) = match text.split_once(':') {
            Some((name, more)) => (name.trim(), Some(more.trim())),
            None => (text.as_str(), None),
        };
        match (name, more) {
            ("error", None) => Some(Self::Error(500)),
            ("slow", more) => Latency::parse(more.unwrap_or(SLOW)).map(Self::Slow),
            ("stale", None) => Some(Self::Stale),
            ("empty", None) => Some(Self::Empty),
            (status, None) | ("error", Some(status)) => {
                status.parse().ok().filter(|status| (400..=599).contains(status)).map(Self::Error)
            }
            _ => None,
        }
    }

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Slow(_) => "slow",
            Self::Stale => "stale",
            Self::Empty => "empty",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_read_again() {
        for fault in TokenFault::ALL {
            assert_eq!(TokenFault::parse(fault.as_str()), Some(fault));
        }
        assert_eq!(TokenFault::parse(" Alg_None"), Some(TokenFault::AlgNone));
        assert_eq!(TokenFault::parse("none"), None);
    }

    #[test]
    fn faults_of_key_sets_are_read() {
        let slow = |seconds| KeySetFault::Slow(Latency::Fixed(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("error", Some(KeySetFault::Error(500))),
            ("503", Some(KeySetFault::Error(503))),
            ("error:404", Some(KeySetFault::Error(404))),
            ("slow", Some(slow(10))),
            ("slow:2s", Some(slow(2))),
            ("Stale", Some(KeySetFault::Stale)),
            ("empty", Some(KeySetFault::Empty)),
            ("slow:soon", None),
            ("200", None),
            ("gone", None),
            ("", None),
        ] {
            assert_eq!(KeySetFault::parse(text), expected, "{text}");
        }
    }
}
