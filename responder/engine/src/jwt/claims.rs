//! Claims: the recorded bytes with those values cut out that change.

use std::ops::Range;

use super::{
    config::{NUMERIC_DATES, ResignConfig, TimeClaims},
    members::{self, Member},
    moment::{Moment, Notation},
    token::Token,
};
use crate::json::{self, Kind};

/// Two days, the lifetime that the incumbent gives every token.
const FIXED_LIFETIME: i64 = 2 * 86_400;
/// The incumbent's `nbf`: 2015-10-10T00:00:00Z.
const FIXED_NOT_BEFORE: i64 = 1_444_435_200;
/// The lifetime that is assumed when neither the token nor the recording tells when it was issued.
const ASSUMED_LIFETIME: i64 = 3_600;

/// The claims of a slot.
#[derive(Clone)]
pub(super) struct Claims {
    recorded: Vec<u8>,
    /// In order and without overlap; an empty span inserts.
    edits: Vec<(Range<usize>, Value)>,
    pub(super) iat: Date,
    pub(super) exp: Date,
    lifetime_change: Option<i64>,
}

/// What stands at an edited place.
#[derive(Clone)]
enum Value {
    Text(Vec<u8>),
    Date(Rule, Notation),
}

/// A time claim, recorded and current; either is missing when the claim is, or cannot be read.
#[derive(Clone, Copy, Default)]
pub(super) struct Date {
    recorded: Option<Moment>,
    current: Option<Rule>,
}

/// How a point in time follows the clock.
#[derive(Clone, Copy)]
enum Rule {
    /// As far from now as this.
    FromNow(Moment),
    /// A fixed point.
    At(Moment),
}

impl Rule {
    fn at(self, now: i64) -> Moment {
        match self {
            Self::FromNow(distance) => Moment::from_seconds(now).plus(distance),
            Self::At(moment) => moment,
        }
    }
}

impl Date {
    /// Whole seconds of the recorded value.
    pub(super) fn recorded(self) -> Option<i64> {
        self.recorded.map(Moment::seconds)
    }

    /// Whole seconds of the current value.
    pub(super) fn at(self, now: i64) -> Option<i64> {
        self.current.map(|rule| rule.at(now).seconds())
    }
}

impl Claims {
    /// `recorded_at` is in nanoseconds since the epoch.
    pub(super) fn new(token: &Token, config: &ResignConfig, recorded_at: Option<i64>) -> Self {
        let recorded = token.claims.clone();
        let recorded_at = recorded_at.map(Moment::from_nanos);
        let member = |name: &str| token.claim_members.iter().find(|member| member.name == name);
        let date = |name: &str| member(name).and_then(|member| numeric_date(&recorded, member));
        let moment = |name: &str| date(name).map(|(moment, _)| moment);
        // What stands for now in the recording. Without any hint the token gets an hour.
        let assumed = || Some(moment("exp")?.minus(Moment::from_seconds(ASSUMED_LIFETIME)));
        let origin = moment("iat").or(recorded_at).or_else(assumed);
        let mut edits: Vec<(Range<usize>, Value)> = Vec::new();
        let mut appended: Vec<(&str, Value)> = Vec::new();
        let mut dates = [Date::default(); NUMERIC_DATES.len()];
        for (name, slot) in NUMERIC_DATES.into_iter().zip(&mut dates) {
            let configured = config.claims.iter().rev().find(|(claim, _)| claim == name);
            let recorded = moment(name);
            if let Some((_, text)) = configured {
                let current = Moment::read(text).map(|(moment, _)| Rule::At(moment));
                *slot = Date { recorded, current };
                continue;
            }
            *slot = Date { recorded, current: recorded.map(Rule::At) };
            let Some(rule) = rule(name, recorded, origin, config) else { continue };
            slot.current = Some(rule);
            match member(name) {
                Some(member) => {
                    let unread = Notation { digits: 0, quoted: member.kind == Kind::String };
                    let notation = date(name).map_or(unread, |(_, notation)| notation);
                    edits.push((member.value.clone(), Value::Date(rule, notation)));
                }
                None => appended.push((name, Value::Date(rule, Notation::default()))),
            }
        }
        for (name, text) in &config.claims {
            let value = Value::Text(claim_value(name, text, member(name)));
            match member(name) {
                Some(member) => {
                    edits.retain(|edit| edit.0 != member.value);
                    edits.push((member.value.clone(), value));
                }
                None => {
                    appended.retain(|claim| claim.0 != name);
                    appended.push((name, value));
                }
            }
        }
        append(&recorded, !token.claim_members.is_empty(), appended, &mut edits);
        edits.sort_by_key(|edit| edit.0.start);
        let [iat, exp, ..] = dates;
        let lifetime_change = lifetime_change(iat, exp, recorded_at);
        Self { recorded, edits, iat, exp, lifetime_change }
    }

    /// Appends the current claims.
    pub(super) fn render(&self, now: i64, out: &mut Vec<u8>) {
        let mut from = 0;
        for (span, value) in &self.edits {
            out.extend_from_slice(self.recorded.get(from..span.start).unwrap_or_default());
            match value {
                Value::Text(text) => out.extend_from_slice(text),
                Value::Date(rule, notation) => rule.at(now).write(*notation, out),
            }
            from = span.end;
        }
        out.extend_from_slice(self.recorded.get(from..).unwrap_or_default());
    }

    /// A recorded claim that is a text.
    pub(super) fn recorded_text(&self, name: &str) -> Option<String> {
        let member = self.member(name).filter(|member| member.kind == Kind::String)?;
        serde_json::from_slice(self.recorded.get(member.value)?).ok()
    }

    /// Puts a JSON value in the place of a recorded claim.
    pub(super) fn put(&mut self, name: &str, value: Vec<u8>) {
        let Some(member) = self.member(name) else { return };
        self.edits.retain(|edit| edit.0 != member.value);
        self.edits.push((member.value, Value::Text(value)));
        self.edits.sort_by_key(|edit| edit.0.start);
    }

    fn member(&self, name: &str) -> Option<Member> {
        members::of(&self.recorded).ok()?.into_iter().find(|member| member.name == name)
    }

    pub(super) fn recorded(&self) -> &[u8] {
        &self.recorded
    }

    /// By how many seconds the token lives longer than the recorded one; `None` when that is not known.
    pub(super) fn lifetime_change(&self) -> Option<i64> {
        self.lifetime_change
    }
}

/// How a time claim changes; `None` when it stays. Only a configured lifetime adds a claim, or replaces one that cannot be read.
fn rule(
    name: &str,
    recorded: Option<Moment>,
    origin: Option<Moment>,
    config: &ResignConfig,
) -> Option<Rule> {
    if name == "exp"
        && let Some(lifetime) = config.expires_in
    {
        return Some(Rule::FromNow(Moment::from_seconds(lifetime)));
    }
    let recorded = recorded?;
    match (config.time, name) {
        (TimeClaims::Keep, _) | (TimeClaims::Fixed, "auth_time") => None,
        (TimeClaims::Fixed, "iat") => Some(Rule::FromNow(Moment::from_seconds(0))),
        (TimeClaims::Fixed, "exp") => Some(Rule::FromNow(Moment::from_seconds(FIXED_LIFETIME))),
        (TimeClaims::Fixed, _) => Some(Rule::At(Moment::from_seconds(FIXED_NOT_BEFORE))),
        (TimeClaims::Shift, _) => origin.map(|origin| Rule::FromNow(recorded.minus(origin))),
    }
}

/// By how many seconds the token lives longer, counted from its issue: from its recorded `iat` or the recording to its recorded `exp`,
/// and from now to its current one. `None` when an `exp` is missing, or does not follow the clock.
fn lifetime_change(iat: Date, exp: Date, recorded_at: Option<Moment>) -> Option<i64> {
    let Some(Rule::FromNow(lifetime)) = exp.current else { return None };
    let recorded = exp.recorded?.minus(iat.recorded.or(recorded_at)?);
    Some(lifetime.minus(recorded).seconds())
}

/// Reads a NumericDate (RFC 7519, section 2), also one that was recorded as a string. What does not fit is not read, and so not touched.
fn numeric_date(claims: &[u8], member: &Member) -> Option<(Moment, Notation)> {
    let raw = std::str::from_utf8(claims.get(member.value.clone())?).ok()?;
    match member.kind {
        Kind::Number => Moment::read(raw),
        Kind::String => {
            let (moment, notation) = Moment::read(raw.strip_prefix('"')?.strip_suffix('"')?)?;
            Some((moment, Notation { quoted: true, ..notation }))
        }
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => None,
    }
}

/// A configured claim as JSON: a number where a point in time belongs, the recorded type where the text is of that type, else a string.
fn claim_value(name: &str, text: &str, recorded: Option<&Member>) -> Vec<u8> {
    let is_date = NUMERIC_DATES.contains(&name);
    let as_is = match kind_of(text) {
        Some(Kind::Number) if is_date => true,
        Some(Kind::String | Kind::Null) | None => false,
        kind => kind == recorded.map(|member| member.kind),
    };
    if as_is { text.trim().as_bytes().to_vec() } else { json::quote(text) }
}

/// What a text is if it is JSON.
pub(super) fn kind_of(text: &str) -> Option<Kind> {
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    Some(match text.trim().bytes().next()? {
        b'"' => Kind::String,
        b'{' => Kind::Object,
        b'[' => Kind::Array,
        b't' | b'f' => Kind::Bool,
        b'n' => Kind::Null,
        _ => Kind::Number,
    })
}

/// Puts new members before the closing brace.
fn append(
    recorded: &[u8],
    mut any: bool,
    claims: Vec<(&str, Value)>,
    edits: &mut Vec<(Range<usize>, Value)>,
) {
    let Some(brace) = recorded.iter().rposition(|byte| *byte == b'}') else { return };
    for (name, value) in claims {
        let mut key = if std::mem::replace(&mut any, true) { b",".to_vec() } else { Vec::new() };
        key.extend(json::quote(name));
        key.push(b':');
        edits.push((brace..brace, Value::Text(key)));
        edits.push((brace..brace, value));
    }
}
