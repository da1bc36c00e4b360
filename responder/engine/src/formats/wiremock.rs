//! WireMock stub mappings: one mapping or `{"mappings": […]}`, alone, in a directory beside `__files`, or in a zip archive.
//!
//! A mapping becomes a pair with a [`Stub`], which is matched as WireMock matches it. What a mapping asks for and we cannot do is named, each
//! part by its place; such a mapping is left out, because answering what it would not answer is worse than not answering. What only
//! differs in time or trace is noted. Members without meaning here are kept in the pair's `extra_json` under `wiremock`, where the writer
//! finds them.
//!
//! Later mappings are asked first, as in WireMock's directory of mappings. In a listing or import document of its API (they have `meta` or
//! `importOptions`) it is the other way round.

mod matcher;
mod request;
mod response;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Half, Sink,
        document::Report,
        draft::{Draft, Extra},
        fields::{Fields, object_json},
        node::Node,
        verdict::Left,
    },
    snapshot::{
        Direction, RrPair,
        stub::{Scenario, Stub},
    },
    stub,
};

use request::Asked;
pub(super) use response::BodyFile;

/// Members of a mapping that mean something to us.
const MODELLED: [&str; 8] = [
    "request",
    "response",
    "priority",
    "scenarioName",
    "requiredScenarioState",
    "newScenarioState",
    "id",
    "uuid",
];

/// What was found on the way to a pair.
#[derive(Debug, Default)]
struct Findings {
    /// Why the mapping is left out.
    problems: Vec<Left>,
    /// What is served otherwise than written.
    notes: Vec<Diagnostic>,
}

impl Findings {
    fn problem(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Left::refused(code, path, message));
    }

    fn note(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.notes.push(Diagnostic::warning(code, path, message));
    }
}

/// A mapping on its way into the sink.
struct Read {
    pair: RrPair,
    /// The file that its body lies in.
    body: Option<BodyFile>,
}

/// Reads a document.
pub(super) fn read<S: Sink>(mut report: Report<'_, S>, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let top = match Fields::parse(&text) {
        Ok(top) => top,
        Err(left) => return report.left(left),
    };
    let Some(list) = top.peek("mappings").filter(|raw| raw.starts_with('[')) else {
        return mapping(&mut report, &text, "");
    };
    let mappings: Vec<&RawValue> = match serde_json::from_str(list) {
        Ok(mappings) => mappings,
        Err(_) => return report.left(Left::refused("not_json", "mappings", "no list of mappings")),
    };
    if mappings.is_empty() {
        return report.left(Left::skipped("empty_file", "mappings", "the file holds no mappings"));
    }
    let first_line = report.line;
    let mut lines = Lines { text: &text, at: 0, line: first_line };
    let mut placed: Vec<_> = mappings
        .into_iter()
        .enumerate()
        .map(|(nth, raw)| (lines.of(raw.get()), format!("mappings[{nth}]"), raw.get()))
        .collect();
    if top.has("meta") || top.has("importOptions") {
        placed.reverse();
    }
    for (line, place, raw) in placed {
        report.line = line;
        mapping(&mut report, raw, &place);
    }
}

/// Counts lines forward through a text.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl Lines<'_> {
    /// The line on which a part of the text begins, which lies behind the part before.
    fn of(&mut self, part: &str) -> u32 {
        let to = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let between = self.text.as_bytes().get(self.at..to).unwrap_or_default();
        let breaks = between.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.at = self.at.max(to);
        self.line
    }
}

/// Reads one mapping. `place` names it within its file.
fn mapping<S: Sink>(report: &mut Report<'_, S>, text: &str, place: &str) {
    let node = match Node::json(text.as_bytes()) {
        Ok(node) => node,
        Err(left) => return report.left(left.within(place)),
    };
    let mut found = Findings::default();
    let read = pair(&node, text, &mut found);
    let name = name_of(&node);
    let located = |why: Diagnostic| {
        let why = *Left { skipped: false, why: Box::new(why) }.within(place).why;
        let message = format!("{}{}", why.message, name);
        Diagnostic { message, ..why }
    };
    let Some(read) = read.filter(|_| found.problems.is_empty()) else {
        // One mapping counts once, however much is wrong with it.
        let mut problems = found.problems.into_iter().map(|left| located(*left.why));
        if let Some(first) = problems.next() {
            report.left(Left { skipped: false, why: Box::new(first) });
        }
        return problems.for_each(|why| report.note(why));
    };
    for why in found.notes {
        report.note(located(why));
    }
    match read.body {
        None => report.sink.pair(read.pair),
        Some(file) => {
            let half = Half::for_body_file(read.pair, &file, report.path, report.line, place);
            match half {
                Some(half) => report.sink.half(half),
                None => report.left(
                    Left::refused(
                        "body_file_invalid",
                        "response.bodyFileName",
                        format!("the name leads out of `__files`{name}"),
                    )
                    .within(place),
                ),
            }
        }
    }
}

/// What findings call a mapping: its name or id.
fn name_of(mapping: &Node) -> String {
    let named = ["name", "id", "uuid"].iter().find_map(|key| mapping.get(key).text());
    let shown = |name: &str| name.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    named.map_or_else(String::new, |name| format!(" (mapping `{}`)", shown(name)))
}

fn pair(mapping: &Node, text: &str, found: &mut Findings) -> Option<Read> {
    let asked = request::read(mapping.get("request"), found);
    let answer = response::read(mapping.get("response"), text, found);
    let stub = Stub {
        conditions: asked.conditions.iter().map(|(_, condition)| condition.clone()).collect(),
        priority: priority(mapping.get("priority"), found),
        scenarios: scenario(mapping, found),
    };
    if !stub.is_within_limits() {
        found.problem("limit_exceeded", "request", "the mapping has too many matchers");
        return None;
    }
    for (nth, why) in stub::check(&stub) {
        let path = asked.conditions.get(nth).map_or("request", |(path, _)| path.as_str());
        found.problem("matcher_invalid", path, format!("the matcher cannot be used: {why}"));
    }
    if !found.problems.is_empty() {
        return None;
    }
    let Asked { example, host, .. } = asked;
    let pair = RrPair {
        uuid: ["id", "uuid"].iter().find_map(|key| {
            let id = mapping.get(key).text()?;
            uuid::Uuid::parse_str(id).ok().map(uuid::Uuid::into_bytes)
        }),
        direction: Direction::Out,
        duration: answer.delay,
        l7protocol: "http".to_owned(),
        service: host,
        command: example.method.clone(),
        location: example.path.clone(),
        status: answer.status.to_string(),
        tags: [("source".to_owned(), "wiremock".to_owned())].into(),
        ..RrPair::default()
    };
    let draft = Draft {
        pair,
        request: Some(example),
        response: Some(answer.response),
        status: Some(answer.status),
        extra: extra(mapping, &answer.rest),
        ..Draft::default()
    };
    match draft.finish() {
        Ok(pair) => {
            let pair = RrPair { stub: Some(Box::new(stub)), ..pair };
            Some(Read { pair, body: answer.body_file })
        }
        Err(left) => {
            found.problems.push(left);
            None
        }
    }
}

fn priority(node: &Node, found: &mut Findings) -> i32 {
    if node.is_null() {
        return Stub::DEFAULT_PRIORITY;
    }
    node.integer().and_then(|priority| i32::try_from(priority).ok()).unwrap_or_else(|| {
        found.problem("invalid_field", "priority", "`priority` is not a whole number");
        Stub::DEFAULT_PRIORITY
    })
}

fn scenario(mapping: &Node, found: &mut Findings) -> Vec<Scenario> {
    let text = |key: &str| mapping.get(key).text().map(str::to_owned);
    let (required, next) = (text("requiredScenarioState"), text("newScenarioState"));
    match text("scenarioName") {
        Some(name) => vec![Scenario { name, required, next }],
        None if required.is_some() || next.is_some() => {
            found.problem("missing_field", "scenarioName", "a state without `scenarioName`");
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// What is not modelled, for whoever writes the mapping again.
fn extra(mapping: &Node, response: &[(String, String)]) -> Extra {
    let is_uuid = |node: &Node| node.text().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok());
    let mut kept: Vec<(String, String)> = mapping
        .members()
        .iter()
        .filter(|(name, value)| {
            !MODELLED.contains(&name.as_str())
                || (matches!(name.as_str(), "id" | "uuid") && !is_uuid(value))
        })
        .map(|(name, value)| (name.clone(), value.to_json()))
        .collect();
    if !response.is_empty() {
        kept.push(("response".to_owned(), object_json(response)));
    }
    let top = if kept.is_empty() {
        Vec::new()
    } else {
        vec![("wiremock".to_owned(), object_json(&kept))]
    };
    Extra { top, ..Extra::default() }
}

/// Puts the content of a body file into the pair that waited for it; says why not.
pub(super) fn fill(mut pair: RrPair, content: Bytes, templated: bool) -> Result<RrPair, Left> {
    if templated && response::is_template(&content) {
        return Err(response::templated("response.bodyFileName"));
    }
    pair.response.body = content;
    Ok(pair)
}
#[cfg(test)]
mod tests;
