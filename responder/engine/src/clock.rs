//! The clock of a replay: from the real time to the one that clients are told. Tokens, `Date` and everything tied to a token follow it.
//!
//! It is the same on all replicas, because it starts with the replay and not with a process.

use serde_json::Value;

use crate::diagnostic::Diagnostic;

const NANOS: i64 = 1_000_000_000;
/// The fastest clock: a day in a second.
const MAX_RATE: f64 = 86_400.0;
const MILLION: i64 = 1_000_000;

/// How a replay's time follows the real one. Moments are in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    offset: i64,
    freeze: Option<Freeze>,
    /// How many millionths of a second pass in one.
    rate: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freeze {
    /// At the moment at which the replay starts.
    Start,
    At(i64),
}

impl Default for Clock {
    fn default() -> Self {
        Self { offset: 0, freeze: None, rate: MILLION }
    }
}

impl Clock {
    /// Whether it shows the real time.
    #[must_use]
    pub fn is_real(&self) -> bool {
        *self == Self::default()
    }

    /// The time of a replay that was started at `start`.
    #[must_use]
    pub fn at(&self, now: i64, start: i64) -> i64 {
        let own = match self.freeze {
            Some(Freeze::At(moment)) => return moment,
            Some(Freeze::Start) => start,
            None => start.saturating_add(self.paced(now.saturating_sub(start))),
        };
        own.saturating_add(self.offset)
    }

    fn paced(&self, elapsed: i64) -> i64 {
        if self.rate == MILLION {
            return elapsed;
        }
        let paced = i128::from(elapsed) * i128::from(self.rate) / i128::from(MILLION);
        i64::try_from(paced).unwrap_or(if paced < 0 { i64::MIN } else { i64::MAX })
    }

    /// Reads `responder.clock` of a test config.
    pub(crate) fn parse(clock: Option<&Value>, found: &mut Vec<Diagnostic>) -> Self {
        let mut read = Self::default();
        let mut wrong = |field: &str, message: &str, hint: &str| {
            let path = format!("responder.clock{field}");
            found.push(Diagnostic::error("wrong_type", path, message).hint(hint));
        };
        let members = match clock {
            None | Some(Value::Null) => return read,
            Some(Value::Object(members)) => members,
            Some(_) => {
                wrong("", "`clock` is an object", "its members are offset, freeze and rate");
                return read;
            }
        };
        for (name, value) in members {
            match name.as_str() {
                "offset" => match offset(value) {
                    Some(offset) => read.offset = offset,
                    None => wrong(
                        ".offset",
                        "`offset` is no duration",
                        "write seconds, or a text such as -90m, 2h or 1d",
                    ),
                },
                "freeze" => match freeze(value) {
                    Some(freeze) => read.freeze = freeze,
                    None => wrong(
                        ".freeze",
                        "`freeze` is no moment",
                        "write true, or a moment such as 2024-01-02T03:04:05Z",
                    ),
                },
                "rate" => match rate(value) {
                    Some(rate) => read.rate = rate,
                    None => wrong(
                        ".rate",
                        "`rate` is no pace",
                        "write how many seconds pass in a real one, from 0 to 86400",
                    ),
                },
                other => wrong(
                    &format!(".{other}"),
                    "a clock has no such setting",
                    "known are: offset, freeze, rate",
                ),
            }
        }
        read
    }
}

/// A pace in millionths.
fn rate(value: &Value) -> Option<i64> {
    let rate = value.as_f64().filter(|rate| (0.0..=MAX_RATE).contains(rate))?;
    format!("{rate:.6}").replace('.', "").parse().ok()
}

/// A duration in nanoseconds: seconds, or a text with a sign and a unit.
fn offset(value: &Value) -> Option<i64> {
    if let Some(seconds) = value.as_i64() {
        return seconds.checked_mul(NANOS);
    }
    let text = value.as_str()?.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: i64 = digits.parse().ok().filter(|number| *number >= 0)?;
    number.checked_mul(unit)?.checked_mul(NANOS)?.checked_mul(sign)
}

/// `Some(None)` is a clock that goes.
fn freeze(value: &Value) -> Option<Option<Freeze>> {
    match value {
        Value::Null | Value::Bool(false) => Some(None),
        Value::Bool(true) => Some(Some(Freeze::Start)),
        Value::Number(seconds) => Some(Some(Freeze::At(seconds.as_i64()?.checked_mul(NANOS)?))),
        Value::String(text) => {
            let moment: jiff::Timestamp = text.parse().ok()?;
            Some(Some(Freeze::At(i64::try_from(moment.as_nanosecond()).ok()?)))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clock(value: &Value) -> Clock {
        let mut found = Vec::new();
        let clock = Clock::parse(Some(value), &mut found);
        assert_eq!(found, []);
        clock
    }

    #[test]
    fn time_passes_as_configured() {
        let start = 1_700_000_000 * NANOS;
        let at = |value: &Value, elapsed: i64| clock(value).at(start + elapsed, start) - start;
        let moment = json!({"freeze": "2023-11-14T22:13:30Z", "offset": "1h"});
        for (value, elapsed, expected) in [
            (json!({}), 5 * NANOS, 5 * NANOS),
            (json!({"offset": "-2h"}), NANOS, -7199 * NANOS),
            (json!({"offset": 90}), NANOS, 91 * NANOS),
            (json!({"offset": "1d"}), 0, 86_400 * NANOS),
            (json!({"freeze": true}), 5 * NANOS, 0),
            (json!({"freeze": true, "offset": "+1m"}), 5 * NANOS, 60 * NANOS),
            (json!({"freeze": false}), NANOS, NANOS),
            (moment, 5 * NANOS, 10 * NANOS),
            (json!({"rate": 60}), 5 * NANOS, 300 * NANOS),
            (json!({"rate": 0.5}), 5 * NANOS, 5 * NANOS / 2),
            (json!({"rate": 2, "offset": "10s"}), 3 * NANOS / 2, 13 * NANOS),
            (json!({"rate": 0}), 5 * NANOS, 0),
            (json!({"rate": 2}), -NANOS, -2 * NANOS),
        ] {
            assert_eq!(at(&value, elapsed), expected, "{value}");
        }
        assert!(clock(&json!({"offset": 0})).is_real() && !clock(&json!({"rate": 2})).is_real());
        assert_eq!(clock(&json!({"rate": 86_400, "offset": "1d"})).at(i64::MAX, 0), i64::MAX);
    }

    #[test]
    fn mistakes_are_named() {
        let mut found = Vec::new();
        for value in [
            json!(5),
            json!({"offset": "soon"}),
            json!({"offset": "--1s"}),
            json!({"offset": "9999999999d"}),
            json!({"freeze": "today"}),
            json!({"freeze": []}),
            json!({"rate": -1}),
            json!({"rate": 1e9}),
            json!({"speed": 2}),
        ] {
            let before = found.len();
            Clock::parse(Some(&value), &mut found);
            assert_eq!(found.len(), before + 1, "{value}");
        }
        assert_eq!(found[0].path, "responder.clock");
        assert_eq!(found[8].path, "responder.clock.speed");
    }
}
