//! `responder.sequence` and `responder.identity`: who gets which of several answers, and in which order.

use serde_json::{Map, Value};

use crate::{diagnostic::Diagnostic, transform::did_you_mean};

/// How several answers of one signature take turns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Who shares a cursor.
    pub scope: Scope,
    /// What comes after the last answer.
    pub end: End,
    /// Whether reads follow what an identity has changed.
    pub state: State,
    /// What the order over several nodes is.
    pub order: Order,
    /// Which nodes share what is an identity's.
    pub across: Across,
}

/// Who shares a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everybody who asks this node; identities do not matter.
    Replica,
    /// Requests of one identity to this node.
    #[default]
    Identity,
    /// Everybody, whichever node they ask; identities do not matter.
    Global,
}

/// Which nodes share what is an identity's: its turns, and what it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Across {
    /// None: each node has its own.
    #[default]
    Node,
    /// All that serve the replay.
    Fleet,
}

/// What the order over several nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// One order: each answer waits for its turn.
    #[default]
    Strict,
    /// Each node takes whole cycles, so many at a time, and has them in order.
    Cycles(u32),
}

/// What comes after the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The first one.
    #[default]
    Wrap,
    /// The last one again.
    Stop,
}

/// Whether reads follow what an identity has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Where the recording shows it without doubt.
    #[default]
    Auto,
    /// Wherever something was changed between different answers.
    On,
    /// Never.
    Off,
}

/// So many cycles are taken at a time unless told otherwise.
const CYCLES: u32 = 16;
/// So many may be.
const MAX_CYCLES: u32 = 1_000_000;
/// So many claims may be named.
const MAX_CLAIMS: usize = 64;

/// Reads `responder.sequence`.
pub(super) fn sequence(responder: &Map<String, Value>, found: &mut Vec<Diagnostic>) -> Sequence {
    const PATH: &str = "responder.sequence";
    let mut sequence = Sequence::default();
    let Some(members) = object(responder, "sequence", PATH, found) else { return sequence };
    unknown(members, PATH, &["scope", "end", "state", "order", "lease", "across"], found);
    let scopes =
        [("replica", Scope::Replica), ("identity", Scope::Identity), ("global", Scope::Global)];
    if let Some(scope) = word(members, PATH, "scope", &scopes, found) {
        sequence.scope = scope;
    }
    let ends = [("wrap", End::Wrap), ("stop", End::Stop)];
    if let Some(end) = word(members, PATH, "end", &ends, found) {
        sequence.end = end;
    }
    let states = [("auto", State::Auto), ("on", State::On), ("off", State::Off)];
    if let Some(state) = word(members, PATH, "state", &states, found) {
        sequence.state = state;
    }
    sequence.order = order(members, PATH, &sequence, found);
    let across = [("node", Across::Node), ("fleet", Across::Fleet)];
    match word(members, PATH, "across", &across, found) {
        Some(Across::Fleet) if sequence.scope != Scope::Identity => found.push(
            Diagnostic::warning(
                "unused_setting",
                format!("{PATH}.across"),
                "identities do not matter in this scope",
            )
            .hint("nodes share turns in `scope: global` anyway"),
        ),
        Some(across) => sequence.across = across,
        None => {}
    }
    sequence
}

/// The order over several nodes, and how many cycles each takes at a time.
fn order(
    members: &Map<String, Value>,
    path: &str,
    sequence: &Sequence,
    found: &mut Vec<Diagnostic>,
) -> Order {
    let orders = [("strict", false), ("cycles", true)];
    let by_cycles = word(members, path, "order", &orders, found).unwrap_or_default();
    let cycles = match members.get("lease") {
        None | Some(Value::Null) => Some(CYCLES),
        Some(lease) => lease
            .as_u64()
            .and_then(|lease| u32::try_from(lease).ok())
            .filter(|lease| (1..=MAX_CYCLES).contains(lease)),
    };
    if cycles.is_none() {
        found.push(Diagnostic::error(
            "invalid_value",
            format!("{path}.lease"),
            format!("`lease` is a number of cycles from 1 to {MAX_CYCLES}"),
        ));
    }
    let mut unused = |name: &str, why: &str| {
        if members.get(name).is_some_and(|value| !value.is_null()) {
            found.push(
                Diagnostic::warning("unused_setting", format!("{path}.{name}"), why.to_owned())
                    .hint("it is for `scope: global`, and `lease` is for `order: cycles`"),
            );
        }
    };
    if sequence.scope != Scope::Global {
        unused("order", "nodes do not share turns in this scope");
        unused("lease", "nodes do not share turns in this scope");
        return Order::Strict;
    }
    if !by_cycles {
        unused("lease", "turns are taken one by one");
        return Order::Strict;
    }
    if sequence.end == End::Stop {
        // Whoever stops at the last answer has one cycle, which cannot be had by several nodes.
        unused("order", "answers that come to an end are taken one by one");
        return Order::Strict;
    }
    Order::Cycles(cycles.unwrap_or(CYCLES))
}

/// Reads `responder.identity`: the claims that may tell users apart.
pub(super) fn claims(
    responder: &Map<String, Value>,
    found: &mut Vec<Diagnostic>,
) -> Option<Vec<String>> {
    const PATH: &str = "responder.identity";
    let members = object(responder, "identity", PATH, found)?;
    unknown(members, PATH, &["claims"], found);
    let names = match members.get("claims") {
        None | Some(Value::Null) => return None,
        Some(Value::Array(names)) if names.len() <= MAX_CLAIMS => names
            .iter()
            .map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned))
            .collect::<Option<Vec<_>>>(),
        Some(_) => None,
    };
    if names.is_none() {
        found.push(Diagnostic::error(
            "wrong_type",
            format!("{PATH}.claims"),
            format!("`claims` is a list of at most {MAX_CLAIMS} names of claims"),
        ));
    }
    names
}

fn object<'v>(
    parent: &'v Map<String, Value>,
    name: &str,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<&'v Map<String, Value>> {
    match parent.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::Object(members)) => Some(members),
        Some(_) => {
            found.push(Diagnostic::error("wrong_type", path, format!("`{name}` is an object")));
            None
        }
    }
}

fn unknown(members: &Map<String, Value>, path: &str, known: &[&str], found: &mut Vec<Diagnostic>) {
    for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
        found.push(
            Diagnostic::warning(
                "unknown_field",
                format!("{path}.{name}"),
                format!("there is no setting `{name}`; it is ignored"),
            )
            .hint(did_you_mean(name, known)),
        );
    }
}

fn word<T: Copy>(
    members: &Map<String, Value>,
    path: &str,
    name: &str,
    words: &[(&str, T)],
    found: &mut Vec<Diagnostic>,
) -> Option<T> {
    let value = members.get(name).filter(|value| !value.is_null())?;
    let written = value.as_str();
    let meant = written.and_then(|written| words.iter().find(|word| word.0 == written));
    if meant.is_none() {
        let names: Vec<&str> = words.iter().map(|word| word.0).collect();
        found.push(
            Diagnostic::error(
                "invalid_value",
                format!("{path}.{name}"),
                format!("`{name}` is one of {}", names.join(", ")),
            )
            .hint(did_you_mean(written.unwrap_or_default(), &names)),
        );
    }
    meant.map(|word| word.1)
}
