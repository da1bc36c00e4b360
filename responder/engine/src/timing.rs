//! Pacing: how much of the time that something took in the recording it takes in a replay.
//!
//! Answers and the messages of streams are paced by the same rule. Nothing here waits: whoever sends waits as long as it is told.

use std::time::Duration;

use serde_json::Value;

use crate::{
    diagnostic::Diagnostic,
    transform::{MAX_DELAY, did_you_mean, parse_duration},
};

/// A factor of one.
const MILLION: u64 = 1_000_000;
/// The largest factor.
const MAX_FACTOR: f64 = 1_000.0;
const WORDS: [&str; 2] = ["none", "recorded"];
const HINT: &str = "write none, recorded, or a factor such as 2x or 0.5x";

/// How recorded times are kept. Without a word said nothing is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// In millionths of the recorded time.
    factor: u64,
    cap: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { factor: 0, cap: MAX_DELAY }
    }
}

impl Timing {
    /// As it was recorded.
    pub const RECORDED: Self = Self { factor: MILLION, cap: MAX_DELAY };

    /// Reads `none`, `recorded` or a factor such as `2x`, which holds back twice as long as was recorded.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let factor = match text.to_ascii_lowercase().as_str() {
            "none" => 0,
            "recorded" => MILLION,
            other => factor(other)?,
        };
        Some(Self { factor, ..Self::default() })
    }

    /// Whether nothing is held back.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.factor == 0
    }

    /// How long that takes which took so long in the recording; never longer than the cap.
    #[must_use]
    pub fn of(self, recorded: Duration) -> Duration {
        match self.factor {
            0 => Duration::ZERO,
            MILLION => recorded.min(self.cap),
            factor => scaled(recorded, factor).min(self.cap),
        }
    }

    /// Reads `responder.timing` of a test config, else the incumbent's `responder.responseDelay`.
    pub(crate) fn read(responder: Option<&Value>, found: &mut Vec<Diagnostic>) -> Self {
        const PATH: &str = "responder.timing";
        let get = |name: &str| responder.and_then(|responder| responder.get(name));
        match get("timing") {
            None | Some(Value::Null) => incumbent(get("responseDelay"), found),
            Some(Value::Object(members)) => {
                let mut timing = Self::default();
                for (name, value) in members {
                    let at = format!("{PATH}.{name}");
                    match name.as_str() {
                        "mode" => {
                            timing.factor = mode(value, &at, found).unwrap_or_default().factor;
                        }
                        "cap" => timing.cap = cap(value, &at, found),
                        other => found.push(
                            Diagnostic::error("unknown_field", at, "timing has no such setting")
                                .hint(did_you_mean(other, &["mode", "cap"])),
                        ),
                    }
                }
                timing
            }
            Some(value) => mode(value, PATH, found).unwrap_or_default(),
        }
    }
}

/// A factor such as `2x` in millionths.
pub(crate) fn factor(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix(['x', 'X'])?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let number: f64 = number.parse().ok().filter(|number| (0.0..=MAX_FACTOR).contains(number))?;
    format!("{number:.6}").replace('.', "").parse().ok()
}

/// A time, scaled by millionths.
pub(crate) fn scaled(time: Duration, factor: u64) -> Duration {
    let nanos = time.as_nanos().saturating_mul(factor.into()) / u128::from(MILLION);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn mode(value: &Value, at: &str, found: &mut Vec<Diagnostic>) -> Option<Timing> {
    let read = value.as_str().and_then(Timing::parse);
    if read.is_none() {
        let message = "this says no timing of answers";
        found.push(Diagnostic::error("invalid_value", at, message).hint(HINT));
    }
    read
}

fn cap(value: &Value, at: &str, found: &mut Vec<Diagnostic>) -> Duration {
    let nanos = value.as_str().and_then(parse_duration);
    let cap = nanos.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
    match cap {
        Some(cap) if cap <= MAX_DELAY => cap,
        Some(_) => {
            let message = "an answer is held back for 60 s at the most";
            found.push(Diagnostic::warning("delay_cut", at, message));
            MAX_DELAY
        }
        None => {
            let message = "`cap` is no duration";
            found.push(Diagnostic::error("invalid_value", at, message).hint("write 5s or 500ms"));
            MAX_DELAY
        }
    }
}

/// `responseDelay`, of whose modes only `RECORDED` has been published.
fn incumbent(delay: Option<&Value>, found: &mut Vec<Diagnostic>) -> Timing {
    let Some(mode) = delay.and_then(|delay| delay.get("mode")).and_then(Value::as_str) else {
        return Timing::default();
    };
    Timing::parse(mode).unwrap_or_else(|| {
        let at = "responder.responseDelay.mode";
        let message = format!("`{mode}` is not known here; answers are not held back");
        let hint = did_you_mean(&mode.to_ascii_lowercase(), &WORDS);
        found.push(Diagnostic::warning("invalid_value", at, message).hint(hint));
        Timing::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn recorded_times_are_kept_scaled_or_left_out() {
        let second = Duration::from_secs(1);
        for (text, expected) in [
            ("none", Duration::ZERO),
            ("recorded", second),
            (" RECORDED ", second),
            ("1x", second),
            ("0.5x", second / 2),
            ("2X", 2 * second),
            ("1000x", MAX_DELAY),
            ("0x", Duration::ZERO),
        ] {
            assert_eq!(Timing::parse(text).unwrap().of(second), expected, "{text}");
        }
        for text in ["", "x", "2", "-1x", "1e3x", "1001x", "nanx", "infx", "1.2.3x", "fast"] {
            assert_eq!(Timing::parse(text), None, "{text}");
        }
        assert!(Timing::default().is_none() && !Timing::RECORDED.is_none());
        assert_eq!(Timing::RECORDED.of(Duration::MAX), MAX_DELAY);
        assert_eq!(Timing::parse("1000x").unwrap().of(Duration::MAX), MAX_DELAY);
    }

    #[test]
    fn a_test_config_says_it_in_several_ways() {
        let read = |responder: &Value| {
            let mut found = Vec::new();
            let timing = Timing::read(Some(responder), &mut found);
            (timing, found.iter().map(|d| (d.code, d.path.clone())).collect::<Vec<_>>())
        };
        let capped = Timing { factor: 2 * MILLION, cap: Duration::from_secs(5) };
        for (responder, expected) in [
            (json!({}), Timing::default()),
            (json!({"timing": null}), Timing::default()),
            (json!({"timing": "recorded"}), Timing::RECORDED),
            (json!({"timing": {"mode": "2x", "cap": "5s"}}), capped),
            (json!({"responseDelay": {"mode": "RECORDED"}}), Timing::RECORDED),
            (json!({"timing": "none", "responseDelay": {"mode": "RECORDED"}}), Timing::default()),
        ] {
            assert_eq!(read(&responder), (expected, vec![]), "{responder}");
        }
        for (responder, code, path) in [
            (json!({"timing": "fast"}), "invalid_value", "responder.timing"),
            (json!({"timing": 2}), "invalid_value", "responder.timing"),
            (json!({"timing": {"mode": 2}}), "invalid_value", "responder.timing.mode"),
            (json!({"timing": {"cap": "soon"}}), "invalid_value", "responder.timing.cap"),
            (json!({"timing": {"cap": "2m"}}), "delay_cut", "responder.timing.cap"),
            (json!({"timing": {"caps": "2s"}}), "unknown_field", "responder.timing.caps"),
            (
                json!({"responseDelay": {"mode": "X"}}),
                "invalid_value",
                "responder.responseDelay.mode",
            ),
        ] {
            assert_eq!(read(&responder).1, [(code, path.to_owned())], "{responder}");
        }
    }
}
