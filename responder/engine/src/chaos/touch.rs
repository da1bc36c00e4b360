//! What is left of a stroke on the answer: how it is sent, the marker field, and what is counted.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

/// Tells in an answer what has befallen it.
pub(crate) const MARKER: HeaderName = HeaderName::from_static("x-speedscale-chaos");

/// How an answer is sent, or that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// As it is.
    #[default]
    Sent,
    /// The connection is reset at once, as if nobody listened.
    Refused,
    /// The connection is reset.
    Reset,
    /// Nothing is sent, until the client gives up.
    Stalled,
    /// The connection is closed without an answer.
    Dropped,
    /// Only so many bytes of the body are sent, then the connection ends.
    Cut(usize),
}

/// What has befallen an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched {
    /// How it is sent.
    pub fate: Fate,
    kinds: u32,
}

impl Touched {
    /// The names of everything that may befall an answer, as it is counted.
    pub const KINDS: [&'static str; 24] = [
        "latency",
        "status",
        "refuse",
        "reset",
        "stall",
        "drop",
        "no-response",
        "corrupt",
        "truncate",
        "header",
        "jwks-error",
        "jwks-slow",
        "jwks-stale",
        "jwks-empty",
        "token-expired",
        "token-not-yet-valid",
        "token-wrong-key",
        "token-unknown-kid",
        "token-alg-none",
        "token-alg-confusion",
        "token-wrong-aud",
        "token-wrong-iss",
        "token-truncated",
        "token-bad-signature",
    ];

    /// Which of [`Self::KINDS`] have befallen it, by their position.
    pub fn kinds(self) -> impl Iterator<Item = usize> {
        (0..Self::KINDS.len()).filter(move |nth| {
            let bit = u32::try_from(*nth).ok().and_then(|nth| self.kinds.checked_shr(nth));
            bit.unwrap_or_default() & 1 == 1
        })
    }

    /// Adds one by its name.
    pub(super) fn add(&mut self, prefix: &str, name: &str) {
        let mut kinds = Self::KINDS.iter();
        let nth = kinds.position(|kind| kind.strip_prefix(prefix) == Some(name));
        let bit =
            nth.and_then(|nth| u32::try_from(nth).ok()).and_then(|nth| 1_u32.checked_shl(nth));
        self.kinds |= bit.unwrap_or_default();
    }

    /// Whether anything has.
    pub(super) fn is_any(self) -> bool {
        self.kinds != 0
    }
}

/// The value of the marker: `effect=latency,status;latency=2s;status=503;rule=chaos-1`.
#[derive(Debug, Default)]
pub(super) struct Marker {
    effects: String,
    details: String,
}

impl Marker {
    /// Adds an effect and what it is.
    pub(super) fn add(&mut self, effect: &str, detail: &str) {
        if !self.effects.split(',').any(|known| known == effect) {
            if !self.effects.is_empty() {
                self.effects.push(',');
            }
            self.effects.push_str(effect);
        }
        let _ = write!(self.details, ";{effect}={detail}");
    }

    pub(super) fn value(&self, rule: &str) -> Option<HeaderValue> {
        let text = format!("effect={}{};rule={rule}", self.effects, self.details);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_fault::TokenFault;

    #[test]
    fn every_kind_is_counted_apart() {
        for fault in TokenFault::ALL {
            let mut touched = Touched::default();
            touched.add("token-", fault.as_str());
            let kinds: Vec<&str> = touched.kinds().map(|nth| Touched::KINDS[nth]).collect();
            assert_eq!(kinds, [format!("token-{}", fault.as_str())]);
        }
        let mut touched = Touched::default();
        assert!(!touched.is_any());
        touched.add("", "latency");
        touched.add("jwks-", "empty");
        touched.add("", "what is this");
        assert_eq!(touched.kinds().collect::<Vec<_>>(), [0, 13]);
    }

    #[test]
    fn the_marker_names_effects_and_rule() {
        let mut marker = Marker::default();
        marker.add("latency", "2s");
        marker.add("token", "expired");
        marker.add("token", "wrong-key");
        assert_eq!(
            marker.value("chaos-1").unwrap(),
            "effect=latency,token;latency=2s;token=expired;token=wrong-key;rule=chaos-1"
        );
    }
}
