//! Effects: what may befall an answer, and how it is written.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::roll::below;
use crate::{
    timing,
    token_fault::{KeySetFault, TokenFault},
    transform::{did_you_mean, parse_duration},
};

/// What may befall an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is held back for longer.
    Latency(Latency),
    /// It has another status, one of these, and no body.
    Status(Vec<u16>),
    /// Something happens to the connection instead.
    Connection(Break),
    /// Bits of its body are flipped.
    Corrupt,
    /// The connection ends after so many bytes of its body; by default after half of them.
    Truncate(Option<usize>),
    /// It has this field, or has it no more.
    Header(HeaderName, Option<HeaderValue>),
    /// Its tokens are unsound, each in one of these ways.
    Tokens(Vec<TokenFault>),
    /// It is a key set, and unsound.
    KeySet(KeySetFault),
}

/// How long an answer is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Latency {
    Fixed(Duration),
    Between(Duration, Duration),
    /// So many millionths of the recorded time.
    Times(u64),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Refuse,
    Reset,
    Stall,
    Drop,
    NoResponse,
}

/// The names of effects.
pub(super) const NAMES: [&str; 8] =
    ["latency", "status", "connection", "body", "header", "no-response", "token", "jwks"];
const BREAKS: [(&str, Break); 4] = [
    ("refuse", Break::Refuse),
    ("reset", Break::Reset),
    ("stall", Break::Stall),
    ("drop", Break::Drop),
];
/// So many statuses may be named.
const MAX_STATUSES: usize = 64;

/// Why an effect cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Wrong {
    pub(super) fn value(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: "invalid_value", message: message.into(), hint: hint.into() }
    }
}

/// A name as it is compared: case, `-` and `_` do not matter.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether this is the name of an effect.
pub(super) fn is_name(name: &str) -> bool {
    let name = plain(name);
    name == "tokens" || NAMES.iter().any(|known| plain(known) == name)
}

impl Effect {
    /// Reads the effect of this name.
    pub(super) fn parse(name: &str, value: &str) -> Result<Self, Wrong> {
        let value = value.trim();
        match plain(name).as_str() {
            "latency" => Latency::parse(value).map(Self::Latency).ok_or_else(|| {
                Wrong::value(
                    format!("`{value}` is no latency"),
                    "write 2s, 3x for three times the recorded time, or 100ms-2s",
                )
            }),
            "status" => statuses(value).map(Self::Status),
            "connection" => word(value, "connection", &BREAKS).map(Self::Connection),
            "noresponse" => match value {
                "" | "true" => Ok(Self::Connection(Break::NoResponse)),
                _ => Err(Wrong::value("`no-response` takes no value", "")),
            },
            "body" => body(value),
            "header" => header(value),
            "token" | "tokens" => tokens(value),
            "jwks" => KeySetFault::parse(value).map(Self::KeySet).ok_or_else(|| {
                Wrong::value(
                    format!("there is no fault `{value}` of key sets"),
                    did_you_mean(value, &["error", "slow", "stale", "empty"]),
                )
            }),
            _ => Err(Wrong {
                code: "unknown_effect",
                message: format!("there is no effect `{name}`"),
                hint: did_you_mean(&name.to_ascii_lowercase(), &NAMES),
            }),
        }
    }
}

impl Latency {
    /// Reads `2s`, `3x` or `100ms-2s`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let time = |text: &str| {
            let nanos = parse_duration(text)?;
            u64::try_from(nanos).ok().map(Duration::from_nanos)
        };
        if let Some(factor) = timing::factor(text) {
            return Some(Self::Times(factor));
        }
        match text.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (time(from)?, time(to)?);
                (from <= to).then_some(Self::Between(from, to))
            }
            None => time(text).map(Self::Fixed),
        }
    }

    /// How long that is for an answer that took so long in the recording.
    pub(crate) fn by(self, roll: u64, recorded: Duration) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Between(from, to) => {
                let span = u64::try_from((to - from).as_nanos()).unwrap_or(u64::MAX);
                from + Duration::from_nanos(below(roll, span.saturating_add(1)))
            }
            Self::Times(factor) => timing::scaled(recorded, factor),
        }
    }
}

/// One of some words.
pub(super) fn word<T: Copy>(value: &str, what: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let found = words.iter().find(|known| known.0.eq_ignore_ascii_case(value));
    found.map(|known| known.1).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|word| word.0).collect();
        let message = format!("`{what}` is one of {}, not `{value}`", names.join(", "));
        Wrong::value(message, did_you_mean(value, &names))
    })
}

/// The texts of a list.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(['|', ',', ' ']).filter(|part| !part.is_empty())
}

fn statuses(value: &str) -> Result<Vec<u16>, Wrong> {
    let read: Option<Vec<u16>> = parts(value)
        .map(|part| part.parse().ok().filter(|status| (200..=599).contains(status)))
        .collect();
    read.filter(|all| !all.is_empty() && all.len() <= MAX_STATUSES).ok_or_else(|| {
        let message = format!("`{value}` is no list of statuses from 200 to 599");
        Wrong::value(message, "write 503, or 500|503 for one of them")
    })
}

fn body(value: &str) -> Result<Effect, Wrong> {
    let (name, count) = match value.split_once(':') {
        Some((name, count)) => (name, Some(count.trim())),
        None => (value, None),
    };
    match (name.trim().to_ascii_lowercase().as_str(), count) {
        ("corrupt", None) => Ok(Effect::Corrupt),
        ("truncate", None) => Ok(Effect::Truncate(None)),
        ("truncate", Some(count)) => match count.parse() {
            Ok(count) => Ok(Effect::Truncate(Some(count))),
            Err(_) => Err(Wrong::value(format!("`{count}` is no number of bytes"), "")),
        },
        _ => {
            let message = format!("a body is corrupted or truncated, not `{value}`");
            Err(Wrong::value(message, "write corrupt, truncate, or truncate:100"))
        }
    }
}

fn header(value: &str) -> Result<Effect, Wrong> {
    let wrong = || {
        let message = "`header` is no field such as `Name: value`";
        Wrong::value(message, "an empty value takes the field away")
    };
    let (name, value) = value.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
    const OURS: [HeaderName; 4] = [
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::CONNECTION,
        http::header::UPGRADE,
    ];
    if OURS.contains(&name) || name == super::MARKER {
        return Err(Wrong::value(format!("`{name}` is made by the server itself"), ""));
    }
    let value = match value.trim() {
        "" => None,
        text => Some(HeaderValue::from_str(text).map_err(|_| wrong())?),
    };
    Ok(Effect::Header(name, value))
}

fn tokens(value: &str) -> Result<Effect, Wrong> {
    let mut faults = Vec::new();
    for part in parts(value) {
        let fault = TokenFault::parse(part).ok_or_else(|| {
            let names = TokenFault::ALL.map(TokenFault::as_str);
            let message = format!("there is no fault `{part}` of tokens");
            Wrong::value(message, did_you_mean(&part.to_ascii_lowercase(), &names))
        })?;
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    if faults.is_empty() {
        return Err(Wrong::value("no fault of tokens is named", "write token=expired"));
    }
    Ok(Effect::Tokens(faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn effects_are_read() {
        let field = |value: Option<&'static str>| {
            Effect::Header(HeaderName::from_static("x-a"), value.map(HeaderValue::from_static))
        };
        for (name, value, expected) in [
            ("latency", "2s", Effect::Latency(Latency::Fixed(ms(2000)))),
            ("Latency", "3x", Effect::Latency(Latency::Times(3_000_000))),
            ("latency", "100ms-2s", Effect::Latency(Latency::Between(ms(100), ms(2000)))),
            ("status", "503", Effect::Status(vec![503])),
            ("status", "500|503, 404", Effect::Status(vec![500, 503, 404])),
            ("connection", "reset", Effect::Connection(Break::Reset)),
            ("connection", "REFUSE", Effect::Connection(Break::Refuse)),
            ("no-response", "", Effect::Connection(Break::NoResponse)),
            ("noResponse", "true", Effect::Connection(Break::NoResponse)),
            ("body", "corrupt", Effect::Corrupt),
            ("body", "truncate", Effect::Truncate(None)),
            ("body", "truncate: 10", Effect::Truncate(Some(10))),
            ("header", "X-A: b: c", field(Some("b: c"))),
            ("header", "X-A:", field(None)),
            ("token", "expired", Effect::Tokens(vec![TokenFault::Expired])),
            (
                "tokens",
                "wrong-key|alg-none|wrong-key",
                Effect::Tokens(vec![TokenFault::WrongKey, TokenFault::AlgNone]),
            ),
            ("jwks", "stale", Effect::KeySet(KeySetFault::Stale)),
        ] {
            assert_eq!(Effect::parse(name, value), Ok(expected), "{name}={value}");
        }
    }

    #[test]
    fn mistakes_name_what_was_meant() {
        for (name, value, code, hint) in [
            ("latncy", "2s", "unknown_effect", "did you mean `latency`?"),
            ("latency", "soon", "invalid_value", "write 2s"),
            ("latency", "2s-1s", "invalid_value", "write 2s"),
            ("latency", "-1s", "invalid_value", "write 2s"),
            ("status", "teapot", "invalid_value", "write 503"),
            ("status", "99", "invalid_value", "write 503"),
            ("status", "", "invalid_value", "write 503"),
            ("connection", "rest", "invalid_value", "did you mean `reset`?"),
            ("body", "corupt", "invalid_value", "write corrupt"),
            ("body", "truncate:x", "invalid_value", ""),
            ("header", "X", "invalid_value", "an empty value"),
            ("header", "Content-Length: 5", "invalid_value", ""),
            ("header", "X: a\nb", "invalid_value", "an empty value"),
            ("no-response", "5", "invalid_value", ""),
            ("token", "expird", "invalid_value", "did you mean `expired`?"),
            ("token", "", "invalid_value", "write token=expired"),
            ("jwks", "stal", "invalid_value", "did you mean `stale`?"),
        ] {
            let wrong = Effect::parse(name, value).unwrap_err();
            assert_eq!(wrong.code, code, "{name}={value}");
            assert!(wrong.hint.starts_with(hint), "{name}={value}: {}", wrong.hint);
        }
    }

    #[test]
    fn latencies_are_what_they_say() {
        let between = Latency::Between(ms(100), ms(200));
        assert_eq!(between.by(0, ms(9)), ms(100));
        assert_eq!(between.by(u64::MAX, ms(9)), ms(200));
        assert_eq!(Latency::Times(2_500_000).by(0, ms(10)), ms(25));
        assert_eq!(Latency::Fixed(ms(7)).by(1, ms(10)), ms(7));
    }
}
