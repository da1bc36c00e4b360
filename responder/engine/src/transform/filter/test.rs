//! Tests on a value: equal, contains, matches.

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::{Diagnostic, Diagnostics, Part, Wrong};

/// A regular expression may compile to this size at the most.
const REGEX_LIMIT: usize = 1024 * 1024;
/// A bounded repetition can blow up before the size limit is noticed, so the pattern's length is bounded too.
const PATTERN_LIMIT: usize = 4096;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Contains,
    Matches,
}

/// An operator with its operand.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Equal(String),
    Contains(Box<Finder<'static>>),
    Matches(Regex),
}

impl Operator {
    /// Reads the `operator` of a JSON filter.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        match text.to_ascii_uppercase().as_str() {
            "" | "EQUAL" | "EQUALS" | "IS" => Ok(Self::Equal),
            "CONTAINS" => Ok(Self::Contains),
            "REGEX" => Ok(Self::Matches),
            _ => Err(Wrong::new(
                "unknown_operator",
                Part::Operator,
                format!("there is no filter operator `{text}`"),
            )
            .hint("known are: EQUAL, CONTAINS, REGEX; `\"include\": false` inverts a filter")),
        }
    }
}

impl Test {
    pub(super) fn new(operator: Operator, value: &str) -> Result<Self, Wrong> {
        Ok(match operator {
            Operator::Equal => Self::Equal(value.to_owned()),
            Operator::Contains => Self::contains(value),
            Operator::Matches => Self::Matches(regex(value)?),
        })
    }

    /// Any value will do.
    pub(super) fn present() -> Self {
        Self::contains("")
    }

    fn contains(part: &str) -> Self {
        Self::Contains(Box::new(Finder::new(part).into_owned()))
    }

    pub(super) fn holds(&self, value: impl AsRef<[u8]>) -> bool {
        let value = value.as_ref();
        match self {
            Self::Equal(expected) => expected.as_bytes() == value,
            Self::Contains(part) => part.find(value).is_some(),
            Self::Matches(regex) => regex.is_match(value),
        }
    }
}

/// Compiles a user's regular expression within bounds.
pub(crate) fn compile_regex(pattern: &str, at: &str, found: &mut Diagnostics) -> Option<Regex> {
    regex(pattern)
        .map_err(|why| found.push(Diagnostic::error(why.code, at, why.message).hint(why.hint)))
        .ok()
}

fn regex(pattern: &str) -> Result<Regex, Wrong> {
    let wrong = |code, message: String| Wrong::new(code, Part::Value, message);
    if pattern.len() > PATTERN_LIMIT {
        return Err(wrong(
            "regex_too_large",
            "the regular expression is longer than 4096 bytes".to_owned(),
        ));
    }
    let built =
        regex::bytes::RegexBuilder::new(pattern).size_limit(REGEX_LIMIT).nest_limit(64).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            wrong("regex_too_large", "the regular expression is too large".to_owned())
                .hint("use smaller repetitions")
        }
        error => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or("it does not parse");
            let why = why.trim_start_matches("error: ");
            if why.contains("nested parentheses") {
                let message = "the regular expression is nested too deeply".to_owned();
                return wrong("regex_too_large", message).hint("use fewer parentheses");
            }
            wrong("bad_regex", format!("`{pattern}` is no regular expression: {why}"))
        }
    })
}
