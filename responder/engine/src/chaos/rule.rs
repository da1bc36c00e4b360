//! One rule: which answers it is for, what befalls them, and how often.

use std::time::Duration;

use regex::bytes::Regex;
use serde_json::Value;

use super::{
    effect::{self, Effect, Wrong, word},
    roll::Share,
};
use crate::{
    diagnostic::Diagnostics,
    request::Request,
    transform::{
        MAX_DELAY, did_you_mean,
        filter::{Filters, compile_regex},
        parse_duration,
    },
};

/// Longest latency when nothing else is said.
pub(super) const DEFAULT_CAP: Duration = Duration::from_secs(30);
/// A rule has so many effects at the most.
const MAX_EFFECTS: usize = 16;
const MAX_ID: usize = 64;
const MAX_CLAIMS: usize = 16;
const PICKS: [(&str, Pick); 2] = [("all", Pick::All), ("one", Pick::One)];

/// The names of what else can be said of a rule.
pub(super) const KNOBS: [&str; 12] = [
    "id",
    "percent",
    "toxicity",
    "seed",
    "sticky",
    "pick",
    "rate",
    "max-latency",
    "start-after",
    "duration",
    "claims",
    "filter",
];

/// One rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: String,
    /// Which requests; `None` for all.
    pub(super) filters: Option<Filters>,
    /// A path, or host and path, that it is for besides.
    pub(super) pattern: Option<Regex>,
    /// What the tokens of those say whom it is for.
    pub(super) claims: Vec<(String, Value)>,
    pub(super) effects: Vec<Dosed>,
    pub(super) pick: Pick,
    pub(super) percent: Share,
    /// How often an effect comes, unless it says so itself.
    pub(super) toxicity: Share,
    /// The first so many of so many.
    pub(super) rate: Option<(u64, u64)>,
    /// That of all rules when it has none of its own.
    pub(super) seed: Option<u64>,
    /// The same signature always meets the same.
    pub(super) sticky: bool,
    pub(super) max_latency: Option<Duration>,
    pub(super) start_after: Duration,
    pub(super) duration: Option<Duration>,
}

/// An effect and how often it comes.
#[derive(Debug, Clone)]
pub(super) struct Dosed {
    pub(super) effect: Effect,
    pub(super) toxicity: Option<Share>,
}

/// Which of several effects come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    All,
    One,
}

impl Rule {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            filters: None,
            pattern: None,
            claims: Vec::new(),
            effects: Vec::new(),
            pick: Pick::All,
            percent: Share::ALL,
            toxicity: Share::ALL,
            rate: None,
            seed: None,
            sticky: false,
            max_latency: None,
            start_after: Duration::ZERO,
            duration: None,
        }
    }

    /// Takes an effect or a setting by its name.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        toxicity: Option<Share>,
    ) -> Result<(), Wrong> {
        if effect::is_name(name) {
            if self.effects.len() >= MAX_EFFECTS {
                let message = format!("a rule has {MAX_EFFECTS} effects at the most");
                return Err(Wrong::value(message, "write another rule"));
            }
            let effect = Effect::parse(name, value)?;
            self.effects.push(Dosed { effect, toxicity });
            return Ok(());
        }
        if toxicity.is_some() {
            return Err(Wrong::value(format!("`{name}` is no effect and has no toxicity"), ""));
        }
        self.knob(name, value.trim())
    }

    fn knob(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        match effect::plain(name).as_str() {
            "id" => self.id = id(value)?,
            "percent" => self.percent = share(name, value)?,
            "toxicity" => self.toxicity = share(name, value)?,
            "seed" => self.seed = Some(seed(value)?),
            "sticky" => self.sticky = flag(name, value)?,
            "pick" => self.pick = word(value, "pick", &PICKS)?,
            "rate" => self.rate = Some(rate(value)?),
            "maxlatency" => self.max_latency = Some(max_latency(value)?),
            "startafter" => self.start_after = time(name, value)?,
            "duration" => self.duration = Some(time(name, value)?),
            "claim" | "claims" => {
                let (claim, wanted) = value.split_once([':', '=']).ok_or_else(|| {
                    Wrong::value("a claim has a name and a value", "write claims=sub:alice")
                })?;
                self.claim(claim.trim(), Value::String(wanted.trim().to_owned()))?;
            }
            _ => {
                let names: Vec<&str> = effect::NAMES.iter().chain(&KNOBS).copied().collect();
                return Err(Wrong {
                    code: "unknown_field",
                    message: format!("there is no effect and no setting `{name}`"),
                    hint: did_you_mean(&name.to_ascii_lowercase(), &names),
                });
            }
        }
        Ok(())
    }

    /// Takes a claim that tokens must have.
    pub(super) fn claim(&mut self, name: &str, value: Value) -> Result<(), Wrong> {
        if name.is_empty() || self.claims.len() >= MAX_CLAIMS || value.is_object() {
            let message = format!("a rule names {MAX_CLAIMS} claims with plain values at the most");
            return Err(Wrong::value(message, ""));
        }
        self.claims.push((name.to_owned(), value));
        Ok(())
    }

    /// Takes the pattern of a path.
    pub(super) fn pattern(&mut self, pattern: &str, at: &str, found: &mut Diagnostics) -> bool {
        self.pattern = compile_regex(pattern, at, found);
        self.pattern.is_some()
    }

    /// Whether it acts at this time after the start, in nanoseconds.
    pub(super) fn is_active(&self, elapsed: i64) -> bool {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let begins = nanos(self.start_after);
        let ends = self.duration.map(|time| begins.saturating_add(nanos(time)));
        elapsed >= begins && ends.is_none_or(|ends| elapsed < ends)
    }

    /// Whether the path, or host and path, is one that it is for.
    pub(super) fn fits_pattern(&self, request: &Request<'_>) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| {
            pattern.is_match(request.path.as_bytes())
                || pattern.is_match(format!("{}{}", request.host, request.path).as_bytes())
        })
    }

    /// Whether a token's claims are those that it is for. A list fits when it holds the wanted value.
    pub(super) fn fits_claims(&self, claims: &[u8]) -> bool {
        let Ok(Value::Object(claims)) = serde_json::from_slice(claims) else { return false };
        self.claims.iter().all(|(name, wanted)| match claims.get(name) {
            Some(Value::Array(several)) if !wanted.is_array() => {
                several.iter().any(|value| same(value, wanted))
            }
            Some(value) => same(value, wanted),
            None => false,
        })
    }

    /// Whether all of its effects are about tokens and key sets.
    pub(super) fn is_about_tokens(&self) -> bool {
        self.effects
            .iter()
            .all(|dosed| matches!(dosed.effect, Effect::Tokens(_) | Effect::KeySet(_)))
    }

    /// Whether an effect of it is about tokens.
    pub(super) fn spoils_tokens(&self) -> bool {
        self.effects.iter().any(|dosed| matches!(dosed.effect, Effect::Tokens(_)))
    }

    /// Whether an effect of it is about key sets.
    pub(super) fn spoils_key_sets(&self) -> bool {
        self.effects.iter().any(|dosed| matches!(dosed.effect, Effect::KeySet(_)))
    }
}

/// Whether a value is the wanted one, which may have been written as text.
fn same(value: &Value, wanted: &Value) -> bool {
    value == wanted
        || match (value, wanted) {
            (Value::Number(number), Value::String(text)) => {
                text.parse::<serde_json::Number>().is_ok_and(|wanted| wanted == *number)
            }
            (Value::Bool(flag), Value::String(text)) => text.parse() == Ok(*flag),
            _ => false,
        }
}

fn id(value: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if value.is_empty() || value.len() > MAX_ID || !value.chars().all(fits) {
        let message = "an id is made of up to 64 letters, digits and -_./:";
        return Err(Wrong::value(message, ""));
    }
    Ok(value.to_owned())
}

fn share(name: &str, value: &str) -> Result<Share, Wrong> {
    Share::parse(value)
        .ok_or_else(|| Wrong::value(format!("`{name}` is a percentage from 0 to 100"), ""))
}

/// Reads a seed.
pub(super) fn seed(value: &str) -> Result<u64, Wrong> {
    value.parse().map_err(|_| Wrong::value("`seed` is a whole number, 0 or more", ""))
}

fn flag(name: &str, value: &str) -> Result<bool, Wrong> {
    match value {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Wrong::value(format!("`{name}` is true or false"), "")),
    }
}

fn rate(value: &str) -> Result<(u64, u64), Wrong> {
    value
        .split_once('/')
        .and_then(|(few, all)| Some((few.trim().parse().ok()?, all.trim().parse().ok()?)))
        .filter(|(few, all)| *all > 0 && few <= all)
        .ok_or_else(|| Wrong::value("`rate` is so many of so many", "write 1/3"))
}

fn time(name: &str, value: &str) -> Result<Duration, Wrong> {
    parse_duration(value)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| Wrong::value(format!("`{name}` is no duration"), "write 500ms, 10s or 2m"))
}

/// Reads a limit of latencies.
pub(super) fn max_latency(value: &str) -> Result<Duration, Wrong> {
    let time = time("max-latency", value)?;
    if time > MAX_DELAY {
        let message = "an answer is held back for 60 s at the most";
        return Err(Wrong::value(message, "write 60s or less"));
    }
    Ok(time)
}
