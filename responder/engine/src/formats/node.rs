//! A whole document in memory: JSON or YAML of another tool, read leniently and within bounds.
//!
//! A [`Node`] keeps the order of members. Whoever asks for what is not there, or is of another type, gets nothing rather than an error:
//! the tools that write these documents do not follow their own schemas closely. Depth and number of nodes are bounded.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::formats::{
    MAX_ENTRY,
    fields::quoted,
    verdict::{self, Left},
};

/// The most nodes of one document. A node costs up to a hundred times its one or two bytes of text.
const MAX_NODES: usize = 1_000_000;
/// Documents nested deeper than this are refused; readers of nodes may recurse.
const MAX_DEPTH: usize = 100;

static NOTHING: Node = Node::Null;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Node {
    /// Nothing, or `null`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A number by its text.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object, its members in the order written.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// Reads JSON.
    pub(super) fn json(text: &[u8]) -> Result<Self, Left> {
        let left = Cell::new(MAX_NODES);
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let node = Seed { left: &left, depth: 0 }.deserialize(&mut deserializer);
        node.and_then(|node| deserializer.end().map(|()| node)).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            unreadable("JSON", &left, &format!("line {line}, column {column}"))
        })
    }

    /// Reads YAML. Anchors are bounded by the number of nodes that they unfold to.
    pub(super) fn yaml(text: &[u8]) -> Result<Self, Left> {
        let text = std::str::from_utf8(text)
            .map_err(|_| Left::refused("invalid_utf8", "", "the file is not UTF-8"))?;
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 2 * MAX_NODES,
                max_nodes: MAX_NODES,
                max_depth: MAX_DEPTH,
                max_documents: 1,
                max_total_scalar_bytes: MAX_ENTRY,
            },
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            strict_booleans: true,
            null_as_string: true,
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
        };
        let left = Cell::new(MAX_NODES);
        let seed = Seed { left: &left, depth: 0 };
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            seed.deserialize(deserializer)
        })
        .map_err(|error| {
            let line = error.location().map_or(0, |at| at.line());
            let place = if line == 0 { String::new() } else { format!("line {line}") };
            unreadable("YAML", &left, &place)
        })
    }

    /// A member; `Null` when there is none. A repeated member counts as its last.
    pub(super) fn get(&self, name: &str) -> &Self {
        let found = self.members().iter().rev().find(|member| member.0 == name);
        found.map_or(&NOTHING, |member| &member.1)
    }

    /// The members of an object.
    pub(super) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Map(members) => members,
            _ => &[],
        }
    }

    /// The items of an array.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// A string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A string, or the text of a number or boolean.
    pub(super) fn scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(Cow::Borrowed(text)),
            Self::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            _ => None,
        }
    }

    /// A string or scalar; empty when there is none.
    pub(super) fn word(&self) -> Cow<'_, str> {
        self.scalar().unwrap_or_default()
    }

    /// A whole number, which may be a string or have a fraction of zero.
    pub(super) fn integer(&self) -> Option<i64> {
        let text = self.scalar()?;
        let text = text.trim();
        text.strip_suffix(".0").unwrap_or(text).parse().ok()
    }

    /// Whether it is `true`, which may be a string.
    pub(super) fn is_true(&self) -> bool {
        self.scalar().is_some_and(|text| text == "true")
    }

    /// Whether it is nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is an object.
    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    /// Its JSON, without whitespace.
    pub(super) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(text) => out.push_str(text),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::List(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Map(members) => {
                out.push('{');
                for (nth, (name, value)) in members.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn unreadable(language: &str, left: &Cell<usize>, place: &str) -> Left {
    if left.get() == 0 {
        return verdict::limit(format!("the document has more than {MAX_NODES} values"));
    }
    let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
    Left::refused(
        "not_readable",
        "",
        format!("the document is no readable {language}{place}, or nested too deeply"),
    )
}

/// Reads a node within what is left.
#[derive(Clone, Copy)]
struct Seed<'c> {
    left: &'c Cell<usize>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.left.get();
        if left == 0 || self.depth > MAX_DEPTH {
            return Err(serde::de::Error::custom("a limit is exceeded"));
        }
        self.left.set(left.saturating_sub(1));
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // JSON has no infinities; whoever wrote one meant the word.
        Ok(serde_json::Number::from_f64(value).map_or_else(
            || Node::Text(value.to_string()),
            |number| Node::Number(number.to_string()),
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let below = Self { left: self.left, depth: self.depth.saturating_add(1) };
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let below = Self { left: self.left, depth: self.depth.saturating_add(1) };
        let mut map = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            map.push((name, members.next_value_seed(below)?));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_comes_back_as_written() {
        let text = r#"{"b":[1,-2,1.5,1e3,true,null],"a":{"x":"\" ü"},"b2":18446744073709551615}"#;
        let node = Node::json(text.as_bytes()).unwrap();
        assert_eq!(node.to_json(), text.replace("1e3", "1000.0"));
        assert_eq!(node.get("a").get("x").text(), Some("\" ü"));
        assert_eq!(node.get("no").get("such"), &Node::Null);
        assert_eq!(node.get("b").items()[0].integer(), Some(1));
        assert_eq!(Node::json(br#"{"a":1,"a":2}"#).unwrap().get("a").integer(), Some(2));
        assert_eq!(Node::json(br#"{"a":"7.0"}"#).unwrap().get("a").integer(), Some(7));
    }

    #[test]
    fn yaml_is_read_as_its_json() {
        let yaml = "a: 1\nb: [x, 'y', 2020-01-01]\n200:\n  on: yes\n  zip: 007\n  n: ~\nc: &c {k: v}\nd: *c\n";
        assert_eq!(
            Node::yaml(yaml.as_bytes()).unwrap().to_json(),
            r#"{"a":1,"b":["x","y","2020-01-01"],"200":{"on":"yes","zip":"007","n":null},"c":{"k":"v"},"d":{"k":"v"}}"#
        );
    }

    #[test]
    fn bounds_hold() {
        let wide = format!("[{}0]", "0,".repeat(MAX_NODES));
        assert_eq!(Node::json(wide.as_bytes()).unwrap_err().why.code, "limit_exceeded");
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Node::json(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(
            Node::json(deep(MAX_DEPTH + 2).as_bytes()).unwrap_err().why.code,
            "not_readable"
        );
        assert!(Node::yaml(deep(90).as_bytes()).is_ok());
        assert!(Node::yaml(deep(100_000).as_bytes()).is_err());
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..10 {
            let before = n - 1;
            laughs.push_str(&format!(
                "a{n}: &a{n} [{}*a{before}]\n",
                format!("*a{before},").repeat(9)
            ));
        }
        assert!(Node::yaml(laughs.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[\\[\\]{}:,\"'&*a1 \n-]{0,40}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = Node::json(bytes).is_ok();
                let _ = Node::yaml(bytes).is_ok();
            }
        }
    }
}
