//! Examples made from schemas, where that needs no guessing.

use super::reference::{Document, Why};
use crate::formats::node::Node;

/// How deep a made example may be.
const MAX_DEPTH: usize = 24;
/// How many values one example may have.
const MAX_VALUES: usize = 10_000;
/// How many items a list is given, at most.
const MAX_ITEMS: usize = 10;
/// The longest text that is made.
const MAX_TEXT: usize = 4096;

/// An example of a schema.
pub(super) fn example<'n>(document: &Document<'n>, schema: &'n Node) -> Result<Node, Why> {
    let mut maker = Maker { document, open: Vec::new(), left: MAX_VALUES };
    maker.make(schema)
}

struct Maker<'d, 'n> {
    document: &'d Document<'n>,
    /// The references that are being followed.
    open: Vec<&'n str>,
    left: usize,
}

impl<'n> Maker<'_, 'n> {
    fn make(&mut self, schema: &'n Node) -> Result<Node, Why> {
        self.left = self.left.checked_sub(1).ok_or(Why::TooLarge)?;
        let all = self.document.left.get().checked_sub(1).ok_or(Why::TooLarge)?;
        self.document.left.set(all);
        let Some(reference) = schema.get("$ref").text() else { return self.plain(schema) };
        if self.open.contains(&reference) || self.open.len() >= MAX_DEPTH {
            return Err(Why::Cycle);
        }
        let found = self.document.find(reference)?;
        self.open.push(reference);
        let made = self.make(found);
        self.open.pop();
        made
    }

    fn plain(&mut self, schema: &'n Node) -> Result<Node, Why> {
        if let Some(given) = given(schema) {
            return Ok(given.clone());
        }
        if !schema.get("allOf").items().is_empty() {
            return self.all_of(schema);
        }
        for name in ["oneOf", "anyOf"] {
            let choices = schema.get(name).items();
            if !choices.is_empty() {
                let chosen = choices.iter().filter(|choice| kind(choice) != Some("null"));
                return self.first(chosen);
            }
        }
        match kind(schema) {
            Some("object") => self.object(schema),
            Some("array") => self.list(schema),
            Some("string") => text(schema),
            Some("integer" | "number") => Ok(number(schema)),
            Some("boolean") => Ok(Node::Bool(true)),
            Some("null") => Ok(Node::Null),
            _ => Err(Why::Untyped),
        }
    }

    fn first(&mut self, choices: impl Iterator<Item = &'n Node>) -> Result<Node, Why> {
        let mut why = Why::Untyped;
        for choice in choices {
            match self.make(choice) {
                Ok(made) => return Ok(made),
                Err(other) => why = other,
            }
        }
        Err(why)
    }

    /// The members of every part together.
    fn all_of(&mut self, schema: &'n Node) -> Result<Node, Why> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut other = None;
        let parts = schema.get("allOf").items();
        for part in parts {
            match self.make(part) {
                Ok(Node::Map(made)) => merge(&mut members, made),
                Ok(made) => other = Some(made),
                // A part may only restrict the others.
                Err(Why::Untyped) => {}
                Err(why) => return Err(why),
            }
        }
        if schema.get("properties").is_map()
            && let Node::Map(made) = self.object(schema)?
        {
            merge(&mut members, made);
        }
        match other {
            Some(made) if members.is_empty() => Ok(made),
            None if members.is_empty() => Err(Why::Untyped),
            _ => Ok(Node::Map(members)),
        }
    }

    fn object(&mut self, schema: &'n Node) -> Result<Node, Why> {
        let required = |name: &str| {
            schema.get("required").items().iter().any(|item| item.text() == Some(name))
        };
        let mut members = Vec::new();
        for (name, property) in schema.get("properties").members() {
            if property.get("writeOnly").is_true() {
                continue;
            }
            match self.make(property) {
                Ok(made) => members.push((name.clone(), made)),
                Err(Why::TooLarge) => return Err(Why::TooLarge),
                Err(why) if required(name) => return Err(why),
                Err(_) => {}
            }
        }
        Ok(Node::Map(members))
    }

    fn list(&mut self, schema: &'n Node) -> Result<Node, Why> {
        let items = schema.get("items");
        let least = schema
            .get("minItems")
            .integer()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or_default();
        if !items.is_map() {
            return if least == 0 { Ok(Node::List(Vec::new())) } else { Err(Why::Untyped) };
        }
        match self.make(items) {
            Ok(made) => {
                let count = least.clamp(1, MAX_ITEMS);
                self.left = self.left.checked_sub(count).ok_or(Why::TooLarge)?;
                Ok(Node::List(vec![made; count]))
            }
            Err(Why::Cycle) if least == 0 => Ok(Node::List(Vec::new())),
            Err(why) => Err(why),
        }
    }
}

/// A value that the schema itself names.
pub(super) fn given(schema: &Node) -> Option<&Node> {
    let first = |name: &str| schema.get(name).items().first();
    let single = |name: &str| Some(schema.get(name)).filter(|node| !node.is_null());
    single("const")
        .or_else(|| single("example"))
        .or_else(|| first("examples"))
        .or_else(|| single("default"))
        .or_else(|| first("enum"))
}

/// The type; of several the first that is not `null`, and without any the one that its members tell of.
fn kind(schema: &Node) -> Option<&str> {
    let types = schema.get("type");
    let several = types.items().iter().filter_map(Node::text).find(|kind| *kind != "null");
    types
        .text()
        .or(several)
        .or_else(|| types.items().first().and_then(Node::text))
        .or_else(|| schema.get("properties").is_map().then_some("object"))
        .or_else(|| schema.get("items").is_map().then_some("array"))
        .or_else(|| {
            (!schema.get("format").is_null() || !schema.get("pattern").is_null())
                .then_some("string")
        })
}

fn merge(members: &mut Vec<(String, Node)>, more: Vec<(String, Node)>) {
    for (name, value) in more {
        match members.iter_mut().find(|member| member.0 == name) {
            Some(member) => member.1 = value,
            None => members.push((name, value)),
        }
    }
}

fn text(schema: &Node) -> Result<Node, Why> {
    let known = match schema.get("format").word().as_ref() {
        "date" => "2024-01-01",
        "date-time" => "2024-01-01T00:00:00Z",
        "time" => "00:00:00Z",
        "duration" => "PT1S",
        "uuid" => "00000000-0000-4000-8000-000000000000",
        "email" | "idn-email" => "user@example.com",
        "uri" | "url" | "iri" => "https://example.com/",
        "uri-reference" => "/",
        "hostname" => "example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "byte" => "c3RyaW5n",
        "binary" => "",
        _ if !schema.get("pattern").is_null() => return Err(Why::Pattern),
        _ => return sized(schema),
    };
    Ok(Node::Text(known.to_owned()))
}

/// `string`, as long as it has to be.
fn sized(schema: &Node) -> Result<Node, Why> {
    let bound = |name: &str| schema.get(name).integer().and_then(|n| usize::try_from(n).ok());
    let least = bound("minLength").unwrap_or_default();
    if least > MAX_TEXT {
        return Err(Why::TooLarge);
    }
    let length = least.max("string".len()).min(bound("maxLength").unwrap_or(MAX_TEXT).max(least));
    Ok(Node::Text("string".chars().cycle().take(length).collect()))
}

fn number(schema: &Node) -> Node {
    let bound =
        |name: &str| schema.get(name).scalar()?.parse::<f64>().ok().filter(|n| n.is_finite());
    // 3.0 says `exclusiveMinimum: true`, 3.1 gives the bound itself.
    let above = bound("exclusiveMinimum")
        .or_else(|| bound("minimum").filter(|_| schema.get("exclusiveMinimum").is_true()))
        .map(|n| n + 1.0);
    let least = above.or_else(|| bound("minimum"));
    let most = bound("maximum").filter(|most| *most < 0.0);
    let value = least.or(most).unwrap_or_default();
    let value = if kind(schema) == Some("integer") { value.ceil() } else { value };
    Node::Number(value.to_string())
}
