//! WireMock's value matchers.

use base64::Engine as _;

use super::Findings;
use crate::{
    formats::node::Node,
    snapshot::stub::{DateOrder, Test},
};

/// The matchers that we have, and the options that each may have beside it.
const KNOWN: [(&str, &[&str]); 17] = [
    ("equalTo", &["caseInsensitive"]),
    ("binaryEqualTo", &[]),
    ("contains", &[]),
    ("doesNotContain", &[]),
    ("matches", &[]),
    ("doesNotMatch", &[]),
    ("matchesPathTemplate", &[]),
    ("absent", &[]),
    ("anything", &[]),
    ("equalToJson", &["ignoreArrayOrder", "ignoreExtraElements"]),
    ("matchesJsonPath", &[]),
    ("before", &[]),
    ("after", &[]),
    ("equalToDateTime", &[]),
    ("and", &[]),
    ("or", &[]),
    ("not", &[]),
];

/// Deeper than this matchers are not read; the stub's own limit is lower.
const MAX_DEPTH: usize = 32;

/// Reads the matcher of something that may have several values: one test for each that some value has to pass.
pub(super) fn of_many(node: &Node, path: &str, found: &mut Findings) -> Vec<Test> {
    let all = |key: &str, found: &mut Findings| {
        let list = node.get(key).items();
        list.iter()
            .enumerate()
            .filter_map(|(nth, item)| of_one(item, &format!("{path}.{key}[{nth}]"), found))
            .collect::<Vec<_>>()
    };
    match node.members() {
        [(key, Node::List(_))] if key == "hasExactly" => vec![Test::Exactly(all(key, found))],
        [(key, Node::List(_))] if key == "includes" => all(key, found),
        _ => of_one(node, path, found).into_iter().collect(),
    }
}

/// Reads the matcher of one value. What is wrong with it is found.
pub(super) fn of_one(node: &Node, path: &str, found: &mut Findings) -> Option<Test> {
    nested(node, path, 0, found)
}

fn nested(node: &Node, path: &str, depth: usize, found: &mut Findings) -> Option<Test> {
    if !node.is_map() || depth > MAX_DEPTH {
        found.problem("matcher_invalid", path, "a matcher is an object, nested at most 32 times");
        return None;
    }
    // Whatever stands beside it: WireMock looks for this one first.
    if node.members().iter().any(|(name, _)| name == "absent") {
        return Some(Test::Absent);
    }
    let known = |name: &str| KNOWN.iter().find(|(known, _)| *known == name);
    let mut operators = node.members().iter().filter(|(name, _)| known(name).is_some());
    let first = operators.next();
    let options = first.and_then(|(name, _)| known(name)).map_or(&[][..], |(_, options)| options);
    let mut sound = true;
    for (name, _) in node.members() {
        let is_first = first.is_some_and(|(first, _)| first == name);
        if !is_first && name != "expression" && !options.contains(&name.as_str()) {
            let message = format!("the matcher or option `{}` is not supported", shown(name));
            found.problem("matcher_unsupported", format!("{path}.{}", shown(name)), message);
            sound = false;
        }
    }
    match first {
        Some((name, operand)) if sound => {
            operator(name, operand, node, &format!("{path}.{name}"), depth, found)
        }
        Some(_) => None,
        None => {
            if sound {
                found.problem("matcher_invalid", path, "the matcher is empty");
            }
            None
        }
    }
}

fn operator(
    name: &str,
    operand: &Node,
    node: &Node,
    path: &str,
    depth: usize,
    found: &mut Findings,
) -> Option<Test> {
    let list = |found: &mut Findings| {
        let inner = |(nth, item)| nested(item, &format!("{path}[{nth}]"), depth + 1, found);
        operand.items().iter().enumerate().map(inner).collect::<Option<Vec<_>>>()
    };
    match name {
        "anything" => return Some(Test::All(Vec::new())),
        "and" => return list(found).map(Test::All),
        "or" => return list(found).map(Test::Any),
        "not" => {
            return nested(operand, path, depth + 1, found).map(|test| Test::Not(Box::new(test)));
        }
        "matchesJsonPath" => return json_path(operand, path, depth, found),
        "equalToJson" => {
            return Some(Test::EqualsJson {
                expected: operand.text().map_or_else(|| operand.to_json(), str::to_owned),
                ignore_array_order: node.get("ignoreArrayOrder").is_true(),
                ignore_extra: node.get("ignoreExtraElements").is_true(),
            });
        }
        _ => {}
    }
    let Some(text) = operand.scalar() else {
        found.problem("matcher_invalid", path, format!("`{name}` needs a text"));
        return None;
    };
    let text = text.into_owned();
    let not = |test| Test::Not(Box::new(test));
    Some(match name {
        "equalTo" => {
            Test::Equals { value: text, ignore_case: node.get("caseInsensitive").is_true() }
        }
        "contains" => Test::Contains(text),
        "doesNotContain" => not(Test::Contains(text)),
        "matches" => Test::Matches(text),
        "doesNotMatch" => not(Test::Matches(text)),
        "matchesPathTemplate" => Test::Template(text),
        "before" => Test::Date { order: DateOrder::Before, at: text },
        "after" => Test::Date { order: DateOrder::After, at: text },
        "equalToDateTime" => Test::Date { order: DateOrder::Same, at: text },
        _ => match base64::engine::general_purpose::STANDARD.decode(text.trim()) {
            Ok(bytes) => Test::EqualsBytes(bytes.into()),
            Err(_) => {
                found.problem("matcher_invalid", path, format!("`{name}` needs base64"));
                return None;
            }
        },
    })
}

/// An expression alone, or with a matcher for what it finds.
fn json_path(operand: &Node, path: &str, depth: usize, found: &mut Findings) -> Option<Test> {
    if let Some(expression) = operand.text() {
        return Some(Test::MatchesJsonPath { expression: expression.to_owned(), found: None });
    }
    let Some(expression) = operand.get("expression").text() else {
        found.problem("matcher_invalid", path, "`matchesJsonPath` needs an `expression`");
        return None;
    };
    let test = nested(operand, path, depth + 1, found)?;
    Some(Test::MatchesJsonPath { expression: expression.to_owned(), found: Some(Box::new(test)) })
}

/// A member's name as it may be told.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}
