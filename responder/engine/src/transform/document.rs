//! A template's JSON as a tree whose member names are compared without regard to case: users' files spell them in several ways.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::fmt;

use super::join;
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A value of the document. Members keep their order and their spelling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Node {
    /// A member, by name in any case; an exact spelling wins.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members
            .iter()
            .find(|member| member.0 == name)
            .or_else(|| members.iter().find(|member| member.0.eq_ignore_ascii_case(name)))
            .map(|member| &member.1)
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A scalar as text; config values are strings by the book, but hand-written files hold numbers and booleans too.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Null => Some(String::new()),
            Self::List(_) | Self::Object(_) => None,
        }
    }
}

/// Reads a document.
pub(super) fn read(json: &[u8]) -> Result<Node, Box<Diagnostic>> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let node: Node = serde_json::from_slice(json).map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or_default();
        Box::new(
            Diagnostic::error("not_json", "", format!("the template is no JSON: {error}"))
                .line(line),
        )
    })?;
    if node.is_object() {
        Ok(node)
    } else {
        Err(Box::new(Diagnostic::error("wrong_type", "", "a transform template is a JSON object")))
    }
}

/// Tells of members that stand twice in an object: one of them would not count, and nobody could say which.
pub(super) fn find_twice(node: &Node, path: &str, found: &mut Diagnostics) {
    match node {
        Node::Object(members) => {
            let mut names: Vec<&str> = members.iter().map(|member| member.0.as_str()).collect();
            names.sort_unstable();
            for name in names.chunk_by(|a, b| a == b).filter_map(|same| same.get(1)) {
                let message = format!("the member `{name}` stands twice");
                let hint = "leave one of them; which one counts is not defined";
                let finding = Diagnostic::error("duplicate_member", join(path, name), message);
                found.push(finding.hint(hint));
            }
            for (name, member) in members {
                find_twice(member, &join(path, name), found);
            }
        }
        Node::List(items) => {
            for (nth, item) in items.iter().enumerate() {
                find_twice(item, &format!("{path}[{nth}]"), found);
            }
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}
