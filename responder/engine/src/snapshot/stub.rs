//! Stubs: pairs that say which requests they answer, instead of being matched by the signature of a recorded request.
//!
//! The types hold what the author wrote: patterns and expressions stay text, so that a stub can be exported as it came. Whoever makes a
//! [`Stub`] keeps within [`Stub::MAX_TESTS`] and [`Stub::MAX_DEPTH`]; the wire refuses what does not.

use std::fmt;

use bytes::Bytes;

/// Which requests a pair answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// What a request must be like; all of them must hold.
    pub conditions: Vec<Condition>,
    /// Lower is asked first; among equals the one with the higher ordinal is.
    pub priority: i32,
    /// The states that it asks for and leads to. The transitions of one stub are made together, when it answers.
    pub scenarios: Vec<Scenario>,
}

/// A named state machine and a stub's part in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scenario {
    /// The name that stubs of the same scenario share.
    pub name: String,
    /// The stub answers in this state only.
    pub required: Option<String>,
    /// The state after it has answered.
    pub next: Option<String>,
}

/// One thing that must be true of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub part: Part,
    /// What it must be like. Of several values (a repeated header, say) one has to pass.
    pub test: Test,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The method.
    Method,
    /// Path and query as they were on the wire.
    Url,
    /// The path without query.
    Path,
    /// What stands in the path for a variable of the stub's [`Test::Template`].
    PathVariable(String),
    /// The host without port, in lower case.
    Host,
    /// The port that the client named; 80 when it named none.
    Port,
    /// A decoded query parameter.
    Query(String),
    /// A header, by case-insensitive name.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A field of a form that is the body.
    Form(String),
    /// The body, decompressed.
    Body,
    /// `user:password` of basic authentication. Its value is never told in findings.
    BasicAuth,
}

/// What a value must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is this text.
    Equals {
        /// The text.
        value: String,
        /// Whether letter case is no difference.
        ignore_case: bool,
    },
    /// It is these bytes.
    EqualsBytes(Bytes),
    /// It has this text in it.
    Contains(String),
    /// The whole of it matches this regular expression, in the syntax that Java, Go and Rust share.
    Matches(String),
    /// It is a path with `{name}` for a segment or a part of one, and `**` for any tail.
    Template(String),
    /// It is not there.
    Absent,
    /// It is JSON that means the same.
    EqualsJson {
        /// The document, in which `${json-unit.ignore}` and its kin stand for any value.
        expected: String,
        /// Whether the order of elements is no difference.
        ignore_array_order: bool,
        /// Whether more members and elements are no difference.
        ignore_extra: bool,
    },
    /// It is JSON in which this JSONPath finds something.
    MatchesJsonPath {
        /// The expression.
        expression: String,
        /// What one of the found values must be like, as text.
        found: Option<Box<Self>>,
    },
    /// It is a date and time that stands so to another.
    Date {
        /// How.
        order: DateOrder,
        /// The other, in RFC 3339.
        at: String,
    },
    /// All of these pass.
    All(Vec<Self>),
    /// One of these passes.
    Any(Vec<Self>),
    /// This does not pass.
    Not(Box<Self>),
    /// There are as many values as tests, and each test is passed by one of them.
    Exactly(Vec<Self>),
}

/// How a date stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOrder {
    /// It is earlier.
    Before,
    /// It is later.
    After,
    /// It is the same moment.
    Same,
}

impl Stub {
    /// The priority of a stub whose author gave none.
    pub const DEFAULT_PRIORITY: i32 = 5;
    /// The state that every scenario begins in.
    pub const STARTED: &'static str = "Started";
    /// The most tests, nested ones included, and the most scenarios of one stub.
    pub const MAX_TESTS: usize = 1000;
    /// How deep tests may be nested.
    pub const MAX_DEPTH: usize = 16;

    /// Whether it keeps within the limits.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        let mut left = Self::MAX_TESTS;
        self.scenarios.len() <= Self::MAX_TESTS
            && self.conditions.iter().all(|condition| condition.test.count(0, &mut left))
    }
}

impl Default for Stub {
    fn default() -> Self {
        Self { conditions: Vec::new(), priority: Self::DEFAULT_PRIORITY, scenarios: Vec::new() }
    }
}

impl Test {
    /// Exactly this text.
    pub fn equals(value: impl Into<String>) -> Self {
        Self::Equals { value: value.into(), ignore_case: false }
    }

    /// The tests right below this one.
    #[must_use]
    pub fn inner(&self) -> &[Self] {
        match self {
            Self::All(tests) | Self::Any(tests) | Self::Exactly(tests) => tests,
            Self::Not(test) => std::slice::from_ref(test),
            Self::MatchesJsonPath { found, .. } => {
                found.as_ref().map_or(&[], |found| std::slice::from_ref(found.as_ref()))
            }
            Self::Equals { .. }
            | Self::EqualsBytes(_)
            | Self::Contains(_)
            | Self::Matches(_)
            | Self::Template(_)
            | Self::Absent
            | Self::EqualsJson { .. }
            | Self::Date { .. } => &[],
        }
    }

    /// Takes the number of tests from what is left; `false` when it is not enough, or they are nested too deeply.
    fn count(&self, depth: usize, left: &mut usize) -> bool {
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        depth < Stub::MAX_DEPTH && self.inner().iter().all(|test| test.count(depth + 1, left))
    }
}

/// What findings say of a part.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Url => f.write_str("url"),
            Self::Path => f.write_str("path"),
            Self::PathVariable(name) => write!(f, "path variable {name}"),
            Self::Host => f.write_str("host"),
            Self::Port => f.write_str("port"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Form(name) => write!(f, "form field {name}"),
            Self::Body => f.write_str("body"),
            Self::BasicAuth => f.write_str("basic authentication"),
        }
    }
}

/// What findings say of a test: "is `x`", "matches `x`".
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, tests: &[Self], word: &str| {
            for (nth, test) in tests.iter().enumerate() {
                if nth > 0 {
                    write!(f, " {word} ")?;
                }
                write!(f, "{test}")?;
            }
            Ok(())
        };
        match self {
            Self::Equals { value, ignore_case: false } => write!(f, "is `{value}`"),
            Self::Equals { value, ignore_case: true } => write!(f, "is `{value}` in any case"),
            Self::EqualsBytes(bytes) => write!(f, "is {} given bytes", bytes.len()),
            Self::Contains(text) => write!(f, "contains `{text}`"),
            Self::Matches(pattern) => write!(f, "matches `{pattern}`"),
            Self::Template(template) => write!(f, "fits `{template}`"),
            Self::Absent => f.write_str("is absent"),
            Self::EqualsJson { expected, .. } => write!(f, "is the JSON `{expected}`"),
            Self::MatchesJsonPath { expression, found } => {
                write!(f, "has `{expression}`")?;
                found.as_ref().map_or(Ok(()), |found| write!(f, " that {found}"))
            }
            Self::Date { order, at } => {
                let order = match order {
                    DateOrder::Before => "before",
                    DateOrder::After => "after",
                    DateOrder::Same => "at",
                };
                write!(f, "is {order} {at}")
            }
            Self::All(tests) if tests.is_empty() => f.write_str("is anything"),
            Self::All(tests) => joined(f, tests, "and"),
            Self::Any(tests) => joined(f, tests, "or"),
            Self::Not(test) => write!(f, "not: {test}"),
            Self::Exactly(tests) => {
                f.write_str("has exactly these values: ")?;
                joined(f, tests, "and")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Stub {
        let test = (1..depth).fold(Test::Absent, |test, _| Test::Not(Box::new(test)));
        Stub { conditions: vec![Condition { part: Part::Body, test }], ..Stub::default() }
    }

    #[test]
    fn depth_and_number_are_limited() {
        assert!(nested(Stub::MAX_DEPTH).is_within_limits());
        assert!(!nested(Stub::MAX_DEPTH + 1).is_within_limits());
        let wide = |number| Stub {
            conditions: vec![Condition {
                part: Part::Method,
                test: Test::Any(vec![Test::equals("GET"); number]),
            }],
            ..Stub::default()
        };
        assert!(wide(Stub::MAX_TESTS - 1).is_within_limits());
        assert!(!wide(Stub::MAX_TESTS).is_within_limits());
    }
}
