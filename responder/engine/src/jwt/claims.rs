//! Claims: the recorded bytes with those values cut out that change.

use std::ops::Range;

use super::{
    config::{NUMERIC_DATES, ResignConfig, TimeClaims},
    members::{Kind, Member},
    token::Token,
};
use crate::json;

/// Two days, the lifetime that the incumbent gives every token.
const FIXED_LIFETIME: i64 = 2 * 86_400;
/// The incumbent's `nbf`: 2015-10-10T00:00:00Z.
const FIXED_NOT_BEFORE: i64 = 1_444_435_200;
/// The lifetime that is assumed when neither the token nor the recording tells when it was issued.
const ASSUMED_LIFETIME: i64 = 3_600;

/// The claims of a slot.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    recorded: Vec<u8>,
    /// In order and without overlap; an empty span inserts.
    edits: Vec<(Range<usize>, Value)>,
    pub(super) iat: Option<Moment>,
    pub(super) exp: Option<Moment>,
}

/// What stands at an edited place.
#[derive(Debug, Clone)]
enum Value {
    Text(Vec<u8>),
    Moment { moment: Moment, fraction: String, quoted: bool },
}

/// A point in time, recorded and current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) recorded: Option<i64>,
    pub(super) now: Rule,
}

/// How a point in time follows the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Seconds from now.
    FromNow(i64),
    /// A fixed point.
    At(i64),
}

impl Moment {
    /// The current value.
    pub(super) fn at(&self, now: i64) -> i64 {
        match self.now {
            Rule::FromNow(offset) => now.saturating_add(offset),
            Rule::At(time) => time,
        }
    }
}

/// A NumericDate as it was recorded: whole seconds, the fraction's text, and whether it was written as a string.
struct NumericDate {
    seconds: i64,
    fraction: String,
    quoted: bool,
}

impl Claims {
    pub(super) fn new(token: &Token, config: &ResignConfig, recorded_at: Option<i64>) -> Self {
        let recorded = token.claims.clone();
        let date = |name: &str| {
            token
                .claim_members
                .iter()
                .find(|member| member.name == name)
                .and_then(|member| numeric_date(&recorded, member))
        };
        let issued = date("iat").map(|date| date.seconds);
        // What stands for now in the recording. Without any hint the token gets an hour.
        let origin = issued
            .or(recorded_at)
            .or_else(|| date("exp").map(|exp| exp.seconds.saturating_sub(ASSUMED_LIFETIME)));
        let mut edits: Vec<(Range<usize>, Value)> = Vec::new();
        let mut moments = [None, None];
        let mut appended: Vec<(String, Value)> = Vec::new();
        for (name, slot) in ["iat", "exp"].into_iter().zip(&mut moments) {
            *slot = date(name)
                .map(|date| Moment { recorded: Some(date.seconds), now: Rule::At(date.seconds) });
        }
        for member in &token.claim_members {
            let name = member.name.as_str();
            let Some(date) =
                NUMERIC_DATES.contains(&name).then(|| numeric_date(&recorded, member)).flatten()
            else {
                continue;
            };
            let Some(rule) = rule(name, date.seconds, origin, config) else { continue };
            let moment = Moment { recorded: Some(date.seconds), now: rule };
            remember(&mut moments, name, moment);
            let fraction = if matches!(config.time, TimeClaims::Shift) {
                date.fraction
            } else {
                String::new()
            };
            edits.push((
                member.value.clone(),
                Value::Moment { moment, fraction, quoted: date.quoted },
            ));
        }
        if let Some(lifetime) = config.expires_in
            && !token.claim_members.iter().any(|member| member.name == "exp")
        {
            let moment = Moment { recorded: None, now: Rule::FromNow(lifetime) };
            remember(&mut moments, "exp", moment);
            appended.push((
                "exp".to_owned(),
                Value::Moment { moment, fraction: String::new(), quoted: false },
            ));
        }
        for (name, text) in &config.claims {
            let member = token.claim_members.iter().find(|member| member.name == *name);
            let value = claim_value(name, text, member);
            if let Ok(seconds) = text.trim().parse() {
                remember(
                    &mut moments,
                    name,
                    Moment {
                        recorded: date(name).map(|date| date.seconds),
                        now: Rule::At(seconds),
                    },
                );
            }
            match member {
                Some(member) => {
                    edits.retain(|edit| edit.0 != member.value);
                    edits.push((member.value.clone(), Value::Text(value)));
                }
                None => {
                    appended.retain(|claim| claim.0 != *name);
                    appended.push((name.clone(), Value::Text(value)));
                }
            }
        }
        append(&recorded, !token.claim_members.is_empty(), appended, &mut edits);
        edits.sort_by_key(|edit| edit.0.start);
        let [iat, exp] = moments;
        Self { recorded, edits, iat, exp }
    }

    /// Appends the current claims.
    pub(super) fn render(&self, now: i64, out: &mut Vec<u8>) {
        let mut from = 0;
        for (span, value) in &self.edits {
            out.extend_from_slice(self.recorded.get(from..span.start).unwrap_or_default());
            match value {
                Value::Text(text) => out.extend_from_slice(text),
                Value::Moment { moment, fraction, quoted } => {
                    let quote: &[u8] = if *quoted { b"\"" } else { b"" };
                    out.extend_from_slice(quote);
                    write_number(moment.at(now), out);
                    out.extend_from_slice(fraction.as_bytes());
                    out.extend_from_slice(quote);
                }
            }
            from = span.end;
        }
        out.extend_from_slice(self.recorded.get(from..).unwrap_or_default());
    }

    pub(super) fn recorded(&self) -> &[u8] {
        &self.recorded
    }
}

fn remember(moments: &mut [Option<Moment>; 2], name: &str, moment: Moment) {
    let [iat, exp] = moments;
    match name {
        "iat" => *iat = Some(moment),
        "exp" => *exp = Some(moment),
        _ => {}
    }
}

/// How a time claim that is there changes; `None` when it stays.
fn rule(name: &str, recorded: i64, origin: Option<i64>, config: &ResignConfig) -> Option<Rule> {
    if name == "exp"
        && let Some(lifetime) = config.expires_in
    {
        return Some(Rule::FromNow(lifetime));
    }
    match (config.time, name) {
        (TimeClaims::Keep, _) | (TimeClaims::Fixed, "auth_time") => None,
        (TimeClaims::Fixed, "iat") => Some(Rule::FromNow(0)),
        (TimeClaims::Fixed, "exp") => Some(Rule::FromNow(FIXED_LIFETIME)),
        (TimeClaims::Fixed, _) => Some(Rule::At(FIXED_NOT_BEFORE)),
        (TimeClaims::Shift, _) => {
            origin.map(|origin| Rule::FromNow(recorded.saturating_sub(origin)))
        }
    }
}

/// Reads a NumericDate (RFC 7519, section 2), with a fraction or as a string if it was recorded so. Exponents and what does not fit are
/// not read, and so not touched.
fn numeric_date(claims: &[u8], member: &Member) -> Option<NumericDate> {
    let raw = std::str::from_utf8(claims.get(member.value.clone())?).ok()?;
    let (text, quoted) = match member.kind {
        Kind::Number => (raw, false),
        Kind::Text => (raw.strip_prefix('"')?.strip_suffix('"')?, true),
        Kind::Other => return None,
    };
    let (whole, fraction) = text.split_at_checked(text.find('.').unwrap_or(text.len()))?;
    if fraction.get(1..).is_some_and(|digits| {
        digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())
    }) {
        return None;
    }
    Some(NumericDate { seconds: whole.parse().ok()?, fraction: fraction.to_owned(), quoted })
}

/// A configured claim as JSON: a number where a point in time belongs, the recorded type where the text allows it, else a string.
fn claim_value(name: &str, text: &str, recorded: Option<&Member>) -> Vec<u8> {
    let is_json = || serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    let is_number = || serde_json::from_str::<serde_json::Number>(text).is_ok();
    let as_is = match recorded.map(|member| member.kind) {
        Some(Kind::Number) => is_number(),
        Some(Kind::Other) => is_json(),
        Some(Kind::Text) | None => NUMERIC_DATES.contains(&name) && is_number(),
    };
    if as_is { text.trim().as_bytes().to_vec() } else { json::quote(text) }
}

/// Puts new members before the closing brace.
fn append(
    recorded: &[u8],
    mut any: bool,
    claims: Vec<(String, Value)>,
    edits: &mut Vec<(Range<usize>, Value)>,
) {
    let Some(brace) = recorded.iter().rposition(|byte| *byte == b'}') else { return };
    for (name, value) in claims {
        let mut key = if std::mem::replace(&mut any, true) { b",".to_vec() } else { Vec::new() };
        key.extend(json::quote(&name));
        key.push(b':');
        edits.push((brace..brace, Value::Text(key)));
        edits.push((brace..brace, value));
    }
}

fn write_number(number: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    let _infallible = write!(out, "{number}");
}
