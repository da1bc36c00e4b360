//! JSON equality with allowances: order of elements, more members, and placeholders that stand for any value.
//!
//! Numbers are compared by value, so `1` equals `1.0`. The number of comparisons is bounded, because unordered arrays can cost the product
//! of their sizes; whoever exceeds it is not equal.

use std::cell::Cell;

use regex::Regex;
use serde_json::{Number, Value};

use super::pattern::{self, PatternError};

/// The most comparisons of two values.
const MAX_COMPARED: u32 = 2_000_000;

/// A document to compare with.
#[derive(Debug)]
pub(super) struct Expected {
    root: Node,
    ignore_array_order: bool,
    ignore_extra: bool,
}

#[derive(Debug)]
enum Node {
    /// Any value; `true` when it need not even be there.
    Any(bool),
    AnyString,
    AnyNumber,
    AnyBool,
    Matches(Regex),
    Number(Number),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// Null, a Boolean or a string.
    Plain(Value),
}

/// Why a document cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExpectedError {
    /// It is no JSON.
    #[error("not JSON")]
    NotJson(#[source] serde_json::Error),
    /// It holds a placeholder that is not known.
    #[error("the placeholder `{0}` is not supported")]
    Placeholder(String),
    /// The pattern of a placeholder is none.
    #[error(transparent)]
    Pattern(PatternError),
}

impl Expected {
    /// Reads a document.
    pub(super) fn parse(
        text: &str,
        ignore_array_order: bool,
        ignore_extra: bool,
    ) -> Result<Self, ExpectedError> {
        let value = serde_json::from_str(text).map_err(ExpectedError::NotJson)?;
        Ok(Self { root: Node::of(value)?, ignore_array_order, ignore_extra })
    }

    /// Whether a document is equal.
    pub(super) fn equals(&self, actual: &Value) -> bool {
        let comparison = Comparison { rules: self, left: Cell::new(MAX_COMPARED) };
        comparison.equal(&self.root, actual) && comparison.left.get() > 0
    }
}

impl Node {
    fn of(value: Value) -> Result<Self, ExpectedError> {
        Ok(match value {
            Value::String(text) => Self::of_text(text)?,
            Value::Number(number) => Self::Number(number),
            Value::Array(elements) => {
                Self::Array(elements.into_iter().map(Self::of).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(name, value)| Ok((name, Self::of(value)?)))
                    .collect::<Result<_, ExpectedError>>()?,
            ),
            plain @ (Value::Null | Value::Bool(_)) => Self::Plain(plain),
        })
    }

    /// Placeholders are written `${json-unit.…}` or `#{json-unit.…}`.
    fn of_text(text: String) -> Result<Self, ExpectedError> {
        let inner = ["${json-unit.", "#{json-unit."]
            .iter()
            .find_map(|opening| text.strip_prefix(opening))
            .and_then(|inner| inner.split_once('}'));
        Ok(match inner {
            None => Self::Plain(Value::String(text)),
            Some(("ignore", "")) => Self::Any(false),
            Some(("ignore-element", "")) => Self::Any(true),
            Some(("any-string", "")) => Self::AnyString,
            Some(("any-number", "")) => Self::AnyNumber,
            Some(("any-boolean", "")) => Self::AnyBool,
            Some(("regex", expression)) => {
                Self::Matches(pattern::whole(expression).map_err(ExpectedError::Pattern)?)
            }
            Some((other, _)) => return Err(ExpectedError::Placeholder(other.to_owned())),
        })
    }
}

struct Comparison<'e> {
    rules: &'e Expected,
    left: Cell<u32>,
}

impl Comparison<'_> {
    fn equal(&self, expected: &Node, actual: &Value) -> bool {
        let Some(left) = self.left.get().checked_sub(1) else { return false };
        self.left.set(left);
        match (expected, actual) {
            (Node::Any(_), _)
            | (Node::AnyString, Value::String(_))
            | (Node::AnyNumber, Value::Number(_))
            | (Node::AnyBool, Value::Bool(_)) => true,
            (Node::Matches(pattern), Value::String(text)) => pattern.is_match(text),
            (Node::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Node::Array(expected), Value::Array(actual)) => self.arrays(expected, actual),
            (Node::Object(expected), Value::Object(actual)) => self.objects(expected, actual),
            (Node::Plain(expected), actual) => expected == actual,
            _ => false,
        }
    }

    fn arrays(&self, expected: &[Node], actual: &[Value]) -> bool {
        let more = actual.len() > expected.len();
        if actual.len() < expected.len() || (more && !self.rules.ignore_extra) {
            return false;
        }
        if !self.rules.ignore_array_order {
            return expected
                .iter()
                .zip(actual)
                .all(|(expected, actual)| self.equal(expected, actual));
        }
        let mut free: Vec<&Value> = actual.iter().collect();
        expected.iter().all(|expected| {
            let found = free.iter().position(|actual| self.equal(expected, actual));
            found.map(|at| free.swap_remove(at)).is_some()
        })
    }

    fn objects(
        &self,
        expected: &[(String, Node)],
        actual: &serde_json::Map<String, Value>,
    ) -> bool {
        let mut met = 0;
        let all = expected.iter().all(|(name, expected)| match actual.get(name) {
            Some(actual) => {
                met += 1;
                self.equal(expected, actual)
            }
            None => matches!(expected, Node::Any(true)),
        });
        all && (self.rules.ignore_extra || met == actual.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal(expected: &str, actual: &str, order: bool, extra: bool) -> bool {
        let actual = serde_json::from_str(actual).unwrap();
        Expected::parse(expected, order, extra).unwrap().equals(&actual)
    }

    #[test]
    fn equality_and_its_allowances() {
        // expected, actual, equal strictly, with any order, with more, with both
        for (expected, actual, results) in [
            (r#"{"a":1,"b":[1,2]}"#, r#"{"b":[1,2],"a":1.0}"#, [true, true, true, true]),
            ("[1,2]", "[2,1]", [false, true, false, true]),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, [false, false, true, true]),
            ("[1,2]", "[1,2,3]", [false, false, true, true]),
            ("[1,2]", "[3,2,1]", [false, false, false, true]),
            ("[1,2,3]", "[1,2]", [false, false, false, false]),
            ("[1,1]", "[1,2]", [false, false, false, false]),
            (r#"{"a":null}"#, "{}", [false, false, false, false]),
            (r#"{"a":"1"}"#, r#"{"a":1}"#, [false, false, false, false]),
            ("1e2", "100", [true, true, true, true]),
        ] {
            for (nth, (order, extra)) in
                [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate()
            {
                assert_eq!(
                    equal(expected, actual, order, extra),
                    results[nth],
                    "{expected} and {actual}, any order: {order}, more: {extra}"
                );
            }
        }
    }

    #[test]
    fn placeholders_stand_for_values() {
        for (placeholder, actual, expected) in [
            ("${json-unit.ignore}", r#"{"a":[1]}"#, true),
            ("#{json-unit.ignore}", r#"{"a":null}"#, true),
            ("${json-unit.ignore}", "{}", false),
            ("${json-unit.ignore-element}", "{}", true),
            ("${json-unit.any-string}", r#"{"a":"x"}"#, true),
            ("${json-unit.any-string}", r#"{"a":1}"#, false),
            ("${json-unit.any-number}", r#"{"a":1}"#, true),
            ("${json-unit.any-boolean}", r#"{"a":true}"#, true),
            ("${json-unit.any-boolean}", r#"{"a":0}"#, false),
            ("${json-unit.regex}[A-Z]+", r#"{"a":"ABC"}"#, true),
            ("${json-unit.regex}[A-Z]+", r#"{"a":"ABc"}"#, false),
        ] {
            let document = format!(r#"{{"a":"{placeholder}"}}"#);
            assert_eq!(equal(&document, actual, false, false), expected, "{placeholder}: {actual}");
        }
        for refused in ["{", r#""${json-unit.matches:custom}x""#, r#""${json-unit.regex}(""#] {
            assert!(Expected::parse(refused, false, false).is_err(), "{refused}");
        }
    }

    #[test]
    fn comparing_comes_to_an_end() {
        let ones = |last: &str| format!("[{}{last}]", "1,".repeat(3000));
        assert!(!equal(&ones("2").replace('1', "3"), &ones("2"), true, false));
        let many = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        let reversed = |n: usize| (0..n).rev().map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        assert!(equal(&format!("[{}]", many(500)), &format!("[{}]", reversed(500)), true, false));
        assert!(!equal(
            &format!("[{}]", many(5000)),
            &format!("[{}]", reversed(5000)),
            true,
            false
        ));
    }

    proptest! {
        #[test]
        fn every_document_equals_itself(text in r#"(\{"a":[1-9][0-9]?,"b":\["x",null,true\]\}|\[[0-9](,[0-9]){0,5}\]|"[a-z]*")"#, order: bool, extra: bool) {
            prop_assert!(equal(&text, &text, order, extra));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            drop(Expected::parse(&text, true, true));
        }
    }
}
