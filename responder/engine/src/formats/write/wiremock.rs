//! WireMock: `{"mappings":[…]}`.
//!
//! A stub goes back as it came. A recorded pair becomes a mapping that asks for what its signature holds. WireMock takes the mapping that
//! was added last, so that order alone would answer wrongly: several responses to one request become a scenario that takes turns in
//! recorded order, and a mapping that asks for more goes before one that asks for less. Both need to know the whole recording, which is
//! why it is surveyed first; a survey keeps a few bytes per different request.

mod recorded;
mod request;

use std::collections::HashMap;

use crate::{
    formats::{
        compact::indent,
        fields::quoted,
        write::{
            loss::Loss,
            object::{Members, array, base64, members, object, raw, text},
        },
    },
    snapshot::{
        Direction, Header, HttpResponse, RrPair,
        digest::Digest,
        stub::{Condition, Part, Scenario, Stub, Test},
    },
};
use recorded::Asked;

/// The order of the members of a mapping.
const MAPPING: &[&str] = &[
    "id",
    "name",
    "priority",
    "persistent",
    "scenarioName",
    "requiredScenarioState",
    "newScenarioState",
    "request",
    "response",
    "metadata",
];
const RESPONSE: &[&str] =
    &["status", "statusMessage", "headers", "body", "base64Body", "fixedDelayMilliseconds"];

const METADATA: Loss = Loss::info(
    "(metadata)",
    "a mapping has no place for times, tags, workloads, sessions and other notes of the recorder",
);
const REQUEST_HEADERS: Loss = Loss::info(
    "http.req.headers",
    "header fields of a recorded request are not asked for, as they are in no signature",
);
const DIRECTION: Loss =
    Loss::warning("direction", "mappings have no direction; read again, the pair is OUT");
const HEADER_TEXT: Loss = Loss::warning(
    "http.res.headers",
    "a header value that is not UTF-8 is written with replacement characters",
);
const SCENARIOS: Loss =
    Loss::warning("stub.scenarios", "a mapping can have one scenario; the others are left out");

/// An address of what is compared.
type Key = [u8; 32];

/// Writes mappings.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// How many pairs ask for the same from the same host, and how many of them are written.
    turns: HashMap<Key, (u64, u64)>,
    /// The host that asked first for the same.
    hosts: HashMap<Key, Key>,
    /// By method and path: the most that a pair asks for.
    most: HashMap<Key, usize>,
    written: bool,
}

/// A recorded pair among the others.
struct Placed {
    asked: Asked,
    request: String,
    turn: Key,
    endpoint: Key,
}

impl Mappings {
    /// Takes note of a pair. All pairs have to be surveyed before the first is written.
    pub(super) fn survey(&mut self, pair: &RrPair) {
        if pair.stub.is_some() {
            return;
        }
        let placed = self.place(pair, &mut Vec::new());
        self.turns.entry(placed.turn).or_default().0 += 1;
        let most = self.most.entry(placed.endpoint).or_default();
        *most = weight(&placed.asked.conditions).max(*most);
    }

    /// What stands before the first mapping.
    pub(super) fn mapping(&mut self, pair: &RrPair, lost: &mut Vec<Loss>) -> String {
        let json = match &pair.stub {
            Some(stub) => of_stub(pair, stub, lost),
            None => self.of_recorded(pair, lost),
        };
        let json = indent(&json, json.len().saturating_mul(16)).unwrap_or(json);
        let begin = if self.written { ",\n    " } else { "{\n  \"mappings\": [\n    " };
        self.written = true;
        format!("{begin}{}", json.replace('\n', "\n    "))
    }

    /// What stands behind the last mapping.
    pub(super) fn end(&self) -> &'static str {
        if self.written { "\n  ]\n}\n" } else { "{\n  \"mappings\": []\n}\n" }
    }

    /// What the pair asks for. The host is asked for only where another one asked for the same before: a mock is mostly reached under
    /// another name than the real service, and the first host's answers are then the right ones.
    fn place(&mut self, pair: &RrPair, lost: &mut Vec<Loss>) -> Placed {
        let mut asked = recorded::asked(pair, lost);
        let mut request = request::write(&asked.conditions, lost);
        let host = key(&[&asked.host]);
        if *self.hosts.entry(key(&[&request])).or_insert(host) != host {
            let test = Test::equals(asked.host.clone());
            asked.conditions.push(Condition { part: Part::Host, test });
            request = request::write(&asked.conditions, &mut Vec::new());
        }
        let endpoint = key(&[&asked.method, &asked.path]);
        Placed { turn: key(&[&request]), endpoint, request, asked }
    }

    fn of_recorded(&mut self, pair: &RrPair, lost: &mut Vec<Loss>) -> String {
        let placed = self.place(pair, lost);
        let most = self.most.get(&placed.endpoint).copied().unwrap_or_default();
        let fewer = most.saturating_sub(weight(&placed.asked.conditions));
        let mut out = Members::new();
        id(&mut out, pair);
        raw(&mut out, "persistent", "true");
        if fewer > 0 {
            let priority = i64::try_from(fewer).unwrap_or(i64::MAX);
            let priority = i64::from(Stub::DEFAULT_PRIORITY).saturating_add(priority);
            raw(&mut out, "priority", priority.to_string());
        }
        let (all, nth) = self.turns.entry(placed.turn).or_default();
        if *all > 1 {
            let state =
                |n: u64| if n == 0 { Stub::STARTED.to_owned() } else { (n + 1).to_string() };
            let short: String =
                placed.turn.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            let name = format!("{} {} {short}", placed.asked.method, placed.asked.path);
            let next = if *nth + 1 < *all { *nth + 1 } else { 0 };
            scenario(
                &mut out,
                &Scenario { name, required: Some(state(*nth)), next: Some(state(next)) },
            );
            *nth = next;
        }
        raw(&mut out, "request", placed.request);
        let answer = recorded::answer(pair, lost);
        raw(&mut out, "response", response(&answer, 0, Members::new(), lost));
        told(pair, lost);
        object(out, MAPPING)
    }
}

/// A mapping as it came.
fn of_stub(pair: &RrPair, stub: &Stub, lost: &mut Vec<Loss>) -> String {
    let extra = members(Some(&pair.extra_json));
    let mut out = members(extra.get("wiremock").map(AsRef::as_ref));
    let rest = out.remove("response");
    id(&mut out, pair);
    if stub.priority != Stub::DEFAULT_PRIORITY {
        raw(&mut out, "priority", stub.priority.to_string());
    }
    if let [first, others @ ..] = stub.scenarios.as_slice() {
        scenario(&mut out, first);
        if !others.is_empty() {
            lost.push(SCENARIOS);
        }
    }
    raw(&mut out, "request", request::write(&stub.conditions, lost));
    let rest = members(rest.as_deref());
    raw(&mut out, "response", response(&pair.response, pair.duration, rest, lost));
    object(out, MAPPING)
}

fn id(out: &mut Members<'_>, pair: &RrPair) {
    if let Some(uuid) = pair.uuid {
        text(out, "id", &uuid::Uuid::from_bytes(uuid).to_string());
    }
}

fn scenario(out: &mut Members<'_>, scenario: &Scenario) {
    raw(out, "scenarioName", quoted(&scenario.name));
    for (name, state) in
        [("requiredScenarioState", &scenario.required), ("newScenarioState", &scenario.next)]
    {
        if let Some(state) = state {
            raw(out, name, quoted(state));
        }
    }
}

fn response(
    response: &HttpResponse,
    delay: u64,
    mut out: Members<'_>,
    lost: &mut Vec<Loss>,
) -> String {
    raw(&mut out, "status", response.status.to_string());
    let code = response.status.to_string();
    let reason = response.status_message.strip_prefix(&code).unwrap_or(&response.status_message);
    let usual = http::StatusCode::from_u16(response.status).ok();
    if usual.and_then(|status| status.canonical_reason()) != Some(reason.trim()) {
        text(&mut out, "statusMessage", reason.trim());
    }
    if !response.headers.is_empty() {
        raw(&mut out, "headers", headers(&response.headers, lost));
    }
    match std::str::from_utf8(&response.body) {
        Ok(body) => text(&mut out, "body", body),
        Err(_) => raw(&mut out, "base64Body", base64(&response.body)),
    }
    if delay >= 1_000_000 {
        raw(&mut out, "fixedDelayMilliseconds", (delay / 1_000_000).to_string());
    }
    object(out, RESPONSE)
}

/// Header fields: a text for each name, a list where it is repeated.
fn headers(headers: &[Header], lost: &mut Vec<Loss>) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut values: HashMap<&str, Vec<String>> = HashMap::new();
    for Header { name, value } in headers {
        if std::str::from_utf8(value).is_err() {
            lost.push(HEADER_TEXT);
        }
        let value = String::from_utf8_lossy(value);
        let of_name = values.entry(name).or_insert_with(|| {
            names.push(name);
            Vec::new()
        });
        of_name.push(quoted(&value));
    }
    let fields: Vec<String> = names
        .into_iter()
        .map(|name| {
            let mut values = values.remove(name).unwrap_or_default();
            let json = if values.len() == 1 { values.remove(0) } else { array(values) };
            format!("{}:{json}", quoted(name))
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Tells what the mapping of a recorded pair leaves behind.
fn told(pair: &RrPair, lost: &mut Vec<Loss>) {
    if pair.direction == Direction::In {
        lost.push(DIRECTION);
    }
    if pair.request.as_ref().is_some_and(|request| !request.headers.is_empty()) {
        lost.push(REQUEST_HEADERS);
    }
    let noted = pair.ts.is_some()
        || pair.duration > 0
        || !pair.tags.is_empty()
        || !pair.extra_json.is_empty()
        || !pair.session.is_empty();
    if noted {
        lost.push(METADATA);
    }
}

/// How much is asked for. A request with two values of a parameter also passes a mapping that asks for one of them, so values count; the
/// host counts less than anything else, as it only tells equal requests apart.
fn weight(conditions: &[Condition]) -> usize {
    let weight = |condition: &Condition| match condition {
        Condition { part: Part::Host, .. } => 1,
        Condition { test: Test::Exactly(tests), .. } => tests.len().saturating_mul(2),
        _ => 2,
    };
    conditions.iter().map(weight).sum()
}

fn key(parts: &[&str]) -> Key {
    *Digest::of(parts.join("\0").as_bytes()).hash()
}

#[cfg(test)]
pub(super) mod tests;
