//! `chaos` of a test config: rules as objects and as text, faults, and the older form of a few percentages.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    effect::{self, Effect, Wrong},
    roll::Share,
    rule::{self, DEFAULT_CAP, Dosed, KNOBS, Pick, Rule},
    text,
};
use crate::{
    diagnostic::Diagnostic,
    transform::{MAX_DELAY, PairFilter, did_you_mean},
};

/// So many rules there may be; a set of them is kept in the bits of a number.
const MAX_RULES: usize = 64;
const PATH: &str = "chaos";
const SETTINGS: [&str; 4] = ["rules", "faults", "seed", "maxLatency"];
/// The older form.
const CLASSIC: [&str; 6] = [
    "chaosPercent",
    "badStatusCodes",
    "intermittentResponses",
    "randomLatency",
    "randomHighLatencyFactor",
    "randomHighLatencyMs",
];

/// What a test config says of chaos.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(super) rules: Vec<Rule>,
    pub(super) seed: u64,
    /// The longest latency of rules that do not say it themselves.
    pub(super) cap: Duration,
}

/// Reads `chaos`; `None` when nothing is to befall any answer.
pub(crate) fn read(
    chaos: Option<&Value>,
    generator: Option<&Value>,
    found: &mut Vec<Diagnostic>,
) -> Option<Config> {
    let members = chaos?.as_object()?;
    let known = |name: &str| {
        SETTINGS.iter().chain(&CLASSIC).any(|known| effect::plain(known) == effect::plain(name))
    };
    for name in members.keys().filter(|name| !known(name)) {
        let names: Vec<&str> = SETTINGS.iter().chain(&CLASSIC).copied().collect();
        let message = format!("there is no setting `{name}`; it is ignored");
        found.push(
            Diagnostic::warning("unknown_field", format!("{PATH}.{name}"), message)
                .hint(did_you_mean(name, &names)),
        );
    }
    let mut config = Config { rules: Vec::new(), seed: 0, cap: request_timeout(generator) };
    if let Some(value) = get(members, "seed") {
        let read = scalar(value).ok_or_else(|| Wrong::value("`seed` is a whole number", ""));
        take(read.and_then(|text| rule::seed(&text)), "chaos.seed", found, |seed| {
            config.seed = seed;
        });
    }
    if let Some(value) = get(members, "maxLatency") {
        let read = scalar(value).ok_or_else(|| Wrong::value("`maxLatency` is a duration", ""));
        take(read.and_then(|text| rule::max_latency(&text)), "chaos.maxLatency", found, |cap| {
            config.cap = cap;
        });
    }
    list(members, "rules", found, |nth, value, found| {
        let path = format!("{PATH}.rules[{nth}]");
        let id = format!("chaos-{}", nth + 1);
        config.rules.extend(match value {
            Value::String(text) => text::rule(text, id, &path, found),
            Value::Object(members) => object(members, id, &path, found),
            _ => {
                let message = "a rule is an object or a text";
                found.push(Diagnostic::error("wrong_type", path, message));
                None
            }
        });
    });
    list(members, "faults", found, |nth, value, found| {
        let path = format!("{PATH}.faults[{nth}]");
        match value.as_str() {
            Some(text) => {
                let id = format!("fault-{}", nth + 1);
                config.rules.extend(text::fault(text, id, &path, found));
            }
            None => found.push(Diagnostic::error("wrong_type", path, "a fault is a text")),
        }
    });
    config.rules.extend(classic(members, found));
    judge(&config.rules, found);
    (!config.rules.is_empty()).then_some(config)
}

/// What is wrong with the rules as a whole, or with one that was read well.
fn judge(rules: &[Rule], found: &mut Vec<Diagnostic>) {
    if rules.len() > MAX_RULES {
        let message = format!("there are {MAX_RULES} rules at the most");
        found.push(Diagnostic::error("too_many", format!("{PATH}.rules"), message));
    }
    for (nth, rule) in rules.iter().enumerate() {
        if rules.iter().take(nth).any(|other| other.id == rule.id) {
            let message = format!("two rules have the id `{}`", rule.id);
            found.push(Diagnostic::error("duplicate_id", format!("{PATH}.rules"), message));
        }
        if rule.effects.is_empty() {
            let message = format!("the rule `{}` has no effect", rule.id);
            found.push(
                Diagnostic::error("missing_field", format!("{PATH}.rules"), message)
                    .hint("name one, as in status=503"),
            );
        }
    }
}

/// Answers that come after the client has given up help nobody.
fn request_timeout(generator: Option<&Value>) -> Duration {
    let seconds = generator
        .and_then(|generator| generator.get("requestTimeoutSeconds"))
        .and_then(|seconds| seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok()))
        .filter(|seconds| *seconds > 0);
    seconds.map_or(DEFAULT_CAP, |seconds| Duration::from_secs(seconds).min(MAX_DELAY))
}

/// A member, however its name is written.
fn get<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let wanted = effect::plain(name);
    let found = members.iter().find(|member| effect::plain(member.0) == wanted)?.1;
    (!found.is_null()).then_some(found)
}

fn list(
    members: &Map<String, Value>,
    name: &str,
    found: &mut Vec<Diagnostic>,
    mut each: impl FnMut(usize, &Value, &mut Vec<Diagnostic>),
) {
    match get(members, name) {
        None => {}
        Some(Value::Array(values)) => {
            for (nth, value) in values.iter().take(MAX_RULES + 1).enumerate() {
                each(nth, value, found);
            }
        }
        Some(_) => {
            let message = format!("`{name}` is a list");
            found.push(Diagnostic::error("wrong_type", format!("{PATH}.{name}"), message));
        }
    }
}

fn take<T>(
    read: Result<T, Wrong>,
    path: &str,
    found: &mut Vec<Diagnostic>,
    then: impl FnOnce(T),
) -> bool {
    match read {
        Ok(value) => {
            then(value);
            true
        }
        Err(wrong) => {
            found.push(Diagnostic::error(wrong.code, path, wrong.message).hint(wrong.hint));
            false
        }
    }
}

/// A plain value, or a list of them, as the text form writes it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(values) => {
            let parts: Option<Vec<String>> =
                values.iter().filter(|value| !value.is_array()).map(scalar).collect();
            Some(parts?.join("|"))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// A rule as an object: `filter`, `claims`, `effects`, and settings; effects may stand among them.
fn object(
    members: &Map<String, Value>,
    id: String,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    let mut rule = Rule::new(id);
    let mut sound = true;
    for (name, value) in members.iter().filter(|member| !member.1.is_null()) {
        let at = format!("{path}.{name}");
        sound &= match effect::plain(name).as_str() {
            "filter" | "filters" | "scope" => filter(&mut rule, value, &at, found),
            "claims" => claims(&mut rule, value, &at, found),
            "effect" | "effects" => effects(&mut rule, value, &at, found),
            _ => member(&mut rule, name, value, &at, found),
        };
    }
    sound.then_some(rule)
}

fn filter(rule: &mut Rule, value: &Value, path: &str, found: &mut Vec<Diagnostic>) -> bool {
    let (read, wrong) = match value {
        Value::String(text) => PairFilter::parse(text),
        other => PairFilter::parse_json(other.to_string().as_bytes()),
    };
    found.extend(wrong.into_vec().into_iter().map(|d| Diagnostic {
        path: if d.path.is_empty() { path.to_owned() } else { format!("{path}.{}", d.path) },
        ..d
    }));
    let sound = read.is_some();
    rule.filters = read.filter(|filter| !filter.is_everything()).map(PairFilter::into_filters);
    sound
}

fn claims(rule: &mut Rule, value: &Value, path: &str, found: &mut Vec<Diagnostic>) -> bool {
    let Value::Object(claims) = value else {
        let message = "`claims` is an object of claims and their values";
        found.push(Diagnostic::error("wrong_type", path, message));
        return false;
    };
    claims.iter().fold(true, |sound, (name, value)| {
        let read = rule.claim(name, value.clone());
        take(read, &format!("{path}.{name}"), found, |()| {}) && sound
    })
}

/// Effects as a text, a list of texts and objects, or an object.
fn effects(rule: &mut Rule, value: &Value, path: &str, found: &mut Vec<Diagnostic>) -> bool {
    match value {
        Value::String(text) => text::effects_of(rule, text, path, found),
        Value::Array(values) => values.iter().enumerate().fold(true, |sound, (nth, value)| {
            let flat = !value.is_array();
            flat && effects(rule, value, &format!("{path}[{nth}]"), found) && sound
        }),
        Value::Object(members) => {
            let toxicity = match get(members, "toxicity").map(scalar) {
                None => None,
                Some(text) => {
                    let share = text.as_deref().and_then(Share::parse);
                    if share.is_none() {
                        let at = format!("{path}.toxicity");
                        let message = "`toxicity` is a percentage from 0 to 100";
                        found.push(Diagnostic::error("invalid_value", at, message));
                    }
                    share
                }
            };
            let first = rule.effects.len();
            let sound = members.iter().fold(true, |sound, (name, value)| {
                effect::plain(name) == "toxicity"
                    || member(rule, name, value, &format!("{path}.{name}"), found) && sound
            });
            for dosed in rule.effects.iter_mut().skip(first) {
                dosed.toxicity = dosed.toxicity.or(toxicity);
            }
            sound
        }
        _ => {
            let message = "effects are a text, a list or an object";
            found.push(Diagnostic::error("wrong_type", path, message));
            false
        }
    }
}

/// An effect or a setting by its name.
fn member(
    rule: &mut Rule,
    name: &str,
    value: &Value,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> bool {
    if effect::plain(name) == "header" {
        let Some(fields) = fields(value) else {
            found.push(Diagnostic::error("wrong_type", path, "`header` is `Name: value`"));
            return false;
        };
        return fields.iter().all(|field| take(rule.set(name, field, None), path, found, |()| {}));
    }
    let Some(text) = scalar(value) else {
        let names: Vec<&str> = effect::NAMES.iter().chain(&KNOBS).copied().collect();
        let message = format!("`{name}` is a plain value or a list of them");
        let hint = did_you_mean(name, &names);
        found.push(Diagnostic::error("wrong_type", path, message).hint(hint));
        return false;
    };
    if effect::plain(name) == "noresponse" && text == "false" {
        return true;
    }
    take(rule.set(name, &text, None), path, found, |()| {})
}

/// Header fields: `Name: value`, a list of those, or an object.
fn fields(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(field) => Some(vec![field.clone()]),
        Value::Array(fields) => {
            fields.iter().map(|field| field.as_str().map(str::to_owned)).collect()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let value = if value.is_null() { String::new() } else { scalar(value)? };
                Some(format!("{name}: {value}"))
            })
            .collect(),
        _ => None,
    }
}

/// The older form: a share of all answers meets one of what is switched on.
fn classic(members: &Map<String, Value>, found: &mut Vec<Diagnostic>) -> Option<Rule> {
    let mut rule = Rule { pick: Pick::One, ..Rule::new("classic".to_owned()) };
    let text = |name: &str| get(members, name).and_then(scalar);
    let on = |name: &str| text(name).is_some_and(|text| !matches!(text.as_str(), "false" | "0"));
    if !CLASSIC.iter().any(|name| get(members, name).is_some()) {
        return None;
    }
    let mut add = |effect: Result<Effect, Wrong>, name: &str, found: &mut Vec<Diagnostic>| {
        take(effect, &format!("{PATH}.{name}"), found, |effect| {
            rule.effects.push(Dosed { effect, toxicity: None });
        });
    };
    match text("badStatusCodes").as_deref() {
        None | Some("" | "false") => {}
        Some("true") => add(Ok(Effect::Status(vec![404, 500])), "badStatusCodes", found),
        Some(codes) => add(Effect::parse("status", codes), "badStatusCodes", found),
    }
    if on("intermittentResponses") {
        add(Effect::parse("no-response", ""), "intermittentResponses", found);
    }
    let latency = match (text("randomHighLatencyMs"), text("randomHighLatencyFactor")) {
        (Some(ms), _) if !matches!(ms.as_str(), "" | "0") => {
            Some(("randomHighLatencyMs", format!("{ms}ms")))
        }
        (_, Some(factor)) if !matches!(factor.as_str(), "" | "0") => {
            Some(("randomHighLatencyFactor", format!("{factor}x")))
        }
        _ => on("randomLatency").then(|| ("randomLatency", "0s-5s".to_owned())),
    };
    if let Some((name, latency)) =
        latency.filter(|_| get(members, "randomLatency").is_none_or(|_| on("randomLatency")))
    {
        add(Effect::parse("latency", &latency), name, found);
    }
    let percent = text("chaosPercent").unwrap_or_else(|| "0".to_owned());
    let share = Share::parse(&percent)
        .ok_or_else(|| Wrong::value("`chaosPercent` is a percentage from 0 to 100", ""));
    take(share, "chaos.chaosPercent", found, |share| rule.percent = share);
    (!rule.effects.is_empty() && percent != "0").then_some(rule)
}

#[cfg(test)]
mod tests;
