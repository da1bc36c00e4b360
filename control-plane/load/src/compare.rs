//! Holds live answers against recorded ones.
//!
//! What cannot be the same is no difference: a token with the same claims but for its times, a value that was carried over, a moment in
//! time. Whatever else differs is told by where it stands, never by what stands there.

mod paths;
mod shape;

use countersign_engine::sending;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

pub use paths::{Paths, PathsError};

use crate::{
    recording::{Expected, Place, Step},
    state::State,
};

/// Fields that belong to a moment or a connection.
const CHANGING: [&str; 21] = [
    "age",
    "alt-svc",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "server",
    "set-cookie",
    "strict-transport-security",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "vary",
    "via",
    "x-request-id",
    "x-response-time",
];
/// Claims that are as old as their token.
const OF_THE_MOMENT: [&str; 5] = ["iat", "exp", "nbf", "auth_time", "jti"];

/// What is asserted of answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// The status is the recorded one.
    pub status: bool,
    /// The recorded header fields are there with their values.
    pub headers: bool,
    /// The body is the recorded one.
    pub body: bool,
    /// The body has the shape of the recorded one: members and types.
    pub schema: bool,
    /// Header fields that are not compared besides those that always change.
    pub ignored_headers: Vec<String>,
    /// Parts of bodies that are compared or not.
    pub paths: Paths,
    /// Differences are told with what was expected and what came.
    pub show: bool,
}

impl Checks {
    /// Whether anything is asserted.
    #[must_use]
    pub fn any(&self) -> bool {
        self.status || self.headers || self.body || self.schema
    }

    /// Whether bodies have to be read.
    pub(crate) fn reads_bodies(&self) -> bool {
        self.body || self.schema
    }
}

/// What is wrong with an answer: which assertion, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// `status`, `headers`, `body` or `schema`.
    pub check: &'static str,
    /// Where, in words.
    pub at: String,
}

/// A live answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) trailers: Option<&'a HeaderMap>,
    pub(crate) body: &'a [u8],
}

/// Everything that is asserted and not so; the first difference of each kind.
pub(crate) fn differences(
    checks: &Checks,
    step: &Step,
    state: &State<'_>,
    answer: &Answer<'_>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    if checks.status {
        found.extend(status(&step.expected, answer));
    }
    if checks.headers {
        found.extend(headers(checks, &step.expected, answer.headers));
    }
    // Bodies of another status are others.
    if answer.status != step.expected.status {
        return found;
    }
    if checks.body {
        found.extend(body(checks, step, state, answer.body));
    }
    if checks.schema {
        let at = shape::difference(&step.expected.body, answer.body, &checks.paths);
        found.extend(at.map(|at| Difference { check: "schema", at }));
    }
    found
}

/// Whether an answer is the recorded one, but for what cannot be the same.
pub(crate) fn is_own(checks: &Checks, step: &Step, state: &State<'_>, answer: &Answer<'_>) -> bool {
    status(&step.expected, answer).is_none() && body(checks, step, state, answer.body).is_none()
}

fn status(expected: &Expected, answer: &Answer<'_>) -> Option<Difference> {
    let at = if answer.status != expected.status {
        format!("{} instead of {}", answer.status, expected.status)
    } else {
        let recorded = expected.grpc_status?;
        let live = grpc_status(answer)?;
        if live == recorded {
            return None;
        }
        format!("grpc-status {live} instead of {recorded}")
    };
    Some(Difference { check: "status", at })
}

fn grpc_status(answer: &Answer<'_>) -> Option<i32> {
    let fields = answer.trailers.into_iter().chain([answer.headers]);
    fields
        .filter_map(|fields| fields.get("grpc-status"))
        .find_map(|value| value.to_str().ok()?.trim().parse().ok())
}

fn headers(checks: &Checks, expected: &Expected, live: &HeaderMap) -> Option<Difference> {
    let ignored = |name: &HeaderName| {
        let name = name.as_str();
        CHANGING.contains(&name)
            || checks.ignored_headers.iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let differs = |(name, value): &&(HeaderName, HeaderValue)| {
        !ignored(name) && !live.get_all(name).iter().any(|found| same_field(found, value))
    };
    let (name, value) = expected.headers.iter().find(differs)?;
    let mut at = if live.contains_key(name) {
        format!("{name} has another value")
    } else {
        format!("{name} is missing")
    };
    if checks.show {
        at.push_str(&format!(": expected {value:?}, got {:?}", live.get(name)));
    }
    Some(Difference { check: "headers", at })
}

/// Whether a field's value is the same, but for spaces and tokens.
fn same_field(live: &HeaderValue, recorded: &HeaderValue) -> bool {
    let plain = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).replace(' ', "").to_ascii_lowercase()
    };
    live == recorded
        || plain(live) == plain(recorded)
        || same_text(recorded.as_bytes(), live.as_bytes())
}

fn body(checks: &Checks, step: &Step, state: &State<'_>, live: &[u8]) -> Option<Difference> {
    let recorded = &step.expected.body;
    if **recorded == *live
        || matches!(step.expected.status, 204 | 304)
        || step.method == http::Method::HEAD
    {
        return None;
    }
    let whole = step.gives.iter().any(|give| give.place == Place::Whole);
    let documents =
        (serde_json::from_slice::<Value>(recorded), serde_json::from_slice::<Value>(live));
    let at = match documents {
        (Ok(old), Ok(new)) => {
            let walk = Walk { checks, step, state };
            let mut path = Vec::new();
            match walk.differs(&old, &new, &mut path) {
                Differs::No => return None,
                Differs::At(at) => at,
            }
        }
        (Ok(_), Err(_)) => "it is no JSON".to_owned(),
        _ if whole || same_text(recorded, live) => return None,
        _ => "the text differs".to_owned(),
    };
    let at = if checks.show {
        let short = |bytes: &[u8]| -> String {
            String::from_utf8_lossy(bytes).chars().take(2000).collect()
        };
        format!("{at}: expected {}, got {}", short(recorded), short(live))
    } else {
        at
    };
    Some(Difference { check: "body", at })
}

/// Whether texts are the same, but for tokens that say the same.
fn same_text(recorded: &[u8], live: &[u8]) -> bool {
    let (old, new) = (sending::tokens_in(recorded), sending::tokens_in(live));
    if old.len() != new.len() || old.is_empty() {
        return recorded == live;
    }
    let (mut from, mut live_from) = (0, 0);
    for (old, new) in old.into_iter().zip(new) {
        let between = recorded.get(from..old.start) == live.get(live_from..new.start);
        let token = |text: &'_ [u8], span: &std::ops::Range<usize>| {
            text.get(span.clone()).map(<[u8]>::to_vec)
        };
        let same = token(recorded, &old).zip(token(live, &new));
        if !between || !same.is_some_and(|(old, new)| same_token(&old, &new)) {
            return false;
        }
        (from, live_from) = (old.end, new.end);
    }
    recorded.get(from..) == live.get(live_from..)
}

/// Whether two texts are tokens of the same user: their claims are the same but for those of the moment.
fn same_token(recorded: &[u8], live: &[u8]) -> bool {
    let read = |token: &[u8]| -> Option<serde_json::Map<String, Value>> {
        let mut claims: serde_json::Map<String, Value> =
            serde_json::from_slice(&sending::claims(token)?).ok()?;
        OF_THE_MOMENT.iter().for_each(|name| drop(claims.remove(*name)));
        Some(claims)
    };
    read(recorded).zip(read(live)).is_some_and(|(old, new)| old == new)
}

struct Walk<'w> {
    checks: &'w Checks,
    step: &'w Step,
    state: &'w State<'w>,
}

enum Differs {
    No,
    At(String),
}

impl Walk<'_> {
    fn differs(&self, old: &Value, new: &Value, path: &mut Vec<String>) -> Differs {
        if old == new || !self.checks.paths.compares(path) {
            return Differs::No;
        }
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => {
                for (name, value) in old {
                    path.push(name.clone());
                    let Some(other) = new.get(name) else {
                        let compared = self.checks.paths.compares(path);
                        let at = format!("{} is missing", paths::shown(path));
                        path.pop();
                        if compared {
                            return Differs::At(at);
                        }
                        continue;
                    };
                    if let Differs::At(at) = self.differs(value, other, path) {
                        return Differs::At(at);
                    }
                    path.pop();
                }
                match new.keys().find(|name| !old.contains_key(*name)) {
                    Some(name) => {
                        path.push(name.clone());
                        let compared = self.checks.paths.compares(path);
                        let at = format!("{} is new", paths::shown(path));
                        path.pop();
                        if compared { Differs::At(at) } else { Differs::No }
                    }
                    None => Differs::No,
                }
            }
            // A mock publishes its own keys.
            (Value::Array(old), Value::Array(new))
                if are_keys(old, path) && are_keys(new, path) =>
            {
                Differs::No
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (nth, (old, new)) in old.iter().zip(new).enumerate() {
                    path.push(nth.to_string());
                    if let Differs::At(at) = self.differs(old, new, path) {
                        return Differs::At(at);
                    }
                    path.pop();
                }
                Differs::No
            }
            (Value::Array(_), Value::Array(_)) => {
                Differs::At(format!("{} has another length", paths::shown(path)))
            }
            _ if self.may_change(old, new, path) => Differs::No,
            _ => Differs::At(format!("{} differs", paths::shown(path))),
        }
    }

    fn may_change(&self, old: &Value, new: &Value, path: &[String]) -> bool {
        let given = || {
            let pointer = paths::pointer(path);
            self.step
                .gives
                .iter()
                .any(|give| matches!(&give.place, Place::Json(at) if **at == *pointer))
        };
        match (old, new) {
            (Value::String(old), Value::String(new)) => {
                same_text(old.as_bytes(), new.as_bytes())
                    || is_moment(old) && is_moment(new)
                    || self.state.live(old) == Some(new.as_str())
                    || given() && sending::claims(old.as_bytes()).is_none()
            }
            (Value::Number(old), Value::Number(_)) => {
                let name = path.last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
                let of_time = OF_THE_MOMENT.contains(&&*name)
                    || ["_at", "time", "timestamp", "expires"]
                        .iter()
                        .any(|end| name.ends_with(end));
                let epoch = old.as_f64().is_some_and(|at| at > 1e9);
                of_time && epoch || self.state.live(&old.to_string()).is_some() || given()
            }
            _ => false,
        }
    }
}

/// Whether a list is that of a key set (RFC 7517, section 5).
fn are_keys(list: &[Value], path: &[String]) -> bool {
    let is_key = |item: &Value| item.get("kty").is_some_and(Value::is_string);
    path.len() == 1 && path.first().is_some_and(|name| name == "keys") && list.iter().all(is_key)
}

/// Whether a text is a moment as RFC 3339 or HTTP write it.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        bytes.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let rfc3339 = digits(0, 4)
        && bytes.get(4) == Some(&b'-')
        && digits(5, 7)
        && digits(8, 10)
        && matches!(bytes.get(10), Some(b'T' | b't' | b' '))
        && digits(11, 13);
    rfc3339 || (text.ends_with(" GMT") && bytes.get(3) == Some(&b','))
}

#[cfg(test)]
mod tests;
