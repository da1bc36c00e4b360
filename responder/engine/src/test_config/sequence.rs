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
}

/// Who shares a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everybody who asks this node; identities do not matter.
    Replica,
    /// Requests of one identity to this node.
    #[default]
    Identity,
    /// Everybody, whichever node they ask; identities do not matter. Nodes do not share cursors, so that each has an order of its own.
    Global,
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

/// So many claims may be named.
const MAX_CLAIMS: usize = 64;

/// Reads `responder.sequence`.
pub(super) fn sequence(responder: &Map<String, Value>, found: &mut Vec<Diagnostic>) -> Sequence {
    const PATH: &str = "responder.sequence";
    let mut sequence = Sequence::default();
    let Some(members) = object(responder, "sequence", PATH, found) else { return sequence };
    unknown(members, PATH, &["scope", "end", "state"], found);
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
    if sequence.scope == Scope::Global {
        found.push(
            Diagnostic::warning(
                "sequence_scope_local",
                format!("{PATH}.scope"),
                "nodes do not share cursors: each responder that serves the replay keeps an order of its own",
            )
            .hint("let one responder serve the replay, for example by the others' --replays"),
        );
    }
    sequence
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
