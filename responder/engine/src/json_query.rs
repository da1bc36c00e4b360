//! JSONPath queries of RFC 9535: read once, asked of many documents. This is the only module that knows the library.
//!
//! Many paths at hand were written for Jayway's dialect, so what it spells differently and means alike is translated: a path without `$`,
//! names with a dash, a dot before a bracket. What RFC 9535 does not have (`=~`, `in`, `.length()`) is refused, never approximated.

use jsonpath_rfc9535::{Element, Error, JsonPath, SingularSegment};
use serde_json::Value;

/// The longest path that is read.
const MAX_LEN: usize = 4096;
/// The most `..` in one path: each may visit the whole document again for everything that the one before it has found.
const MAX_DESCENTS: usize = 3;

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    path: JsonPath,
}

/// Why a path is no query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// It is not written as RFC 9535 wants it.
    #[error("no JSONPath of RFC 9535")]
    Syntax(#[source] Error),
    /// It is too long or costs too much.
    #[error("a JSONPath has at most {MAX_LEN} bytes and {MAX_DESCENTS} times `..`")]
    TooLarge,
}

impl Query {
    /// Reads a path of RFC 9535.
    pub(crate) fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > MAX_LEN || text.matches("..").count() > MAX_DESCENTS {
            return Err(QueryError::TooLarge);
        }
        Ok(Self { path: JsonPath::parse(text).map_err(QueryError::Syntax)? })
    }

    /// Reads a path of RFC 9535 or of Jayway's dialect.
    pub(crate) fn parse_either(text: &str) -> Result<Self, QueryError> {
        // What is proper already is taken as it is.
        match Self::parse(text) {
            Err(QueryError::Syntax(_)) => Self::parse(&translated(text)),
            outcome => outcome,
        }
    }

    /// Whether it leads to one value at the most: names and indexes only.
    pub(crate) fn is_single(&self) -> bool {
        self.path.singular_steps().is_some()
    }

    /// Where everything stands that it finds: the names and indexes that lead to each value, of the document's own order.
    pub(crate) fn ways(&self, document: &Value) -> Vec<Vec<String>> {
        let step = |element: Element<'_>| match element {
            Element::Name(name) => name.to_owned(),
            Element::Index(index) => index.to_string(),
        };
        let found = self.path.query(document);
        found.paths().map(|path| path.elements().into_iter().map(step).collect()).collect()
    }

    /// The names that it consists of, when there is nothing else in it.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let name = |step: &SingularSegment| match step {
            SingularSegment::Name(name) => Some(name.clone()),
            SingularSegment::Index(_) => None,
        };
        self.path.singular_steps()?.iter().map(name).collect()
    }

    /// Everything that it finds, in the order of the document.
    pub(crate) fn values<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        self.path.query_values(document)
    }
}

/// The same path in the spelling of RFC 9535, as far as this can be told from the text.
fn translated(text: &str) -> String {
    let text = text.trim();
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = match text.chars().next() {
        Some('$') => text,
        Some('[') => {
            out.push('$');
            text
        }
        _ => {
            out.push('$');
            let (name, rest) = split_name(text);
            push_name(&mut out, ".", name);
            rest
        }
    };
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\'' | '"' => quoted_len(rest),
            '0'..='9' => rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()),
            '.' => {
                let dots = if rest.starts_with("..") { ".." } else { "." };
                let after = rest.strip_prefix(dots).unwrap_or_default();
                let (name, left) = split_name(after);
                match after.chars().next() {
                    Some('[') if dots == "." => {}
                    _ => push_name(&mut out, dots, name),
                }
                rest = left;
                continue;
            }
            other => other.len_utf8(),
        };
        let (token, left) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        out.push_str(token);
        rest = left;
    }
    out
}

/// A member name that is written without quotes, and what follows.
fn split_name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_whitespace() || ".[]()=<>!&|,?'\"".contains(c))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn push_name(out: &mut String, dots: &str, name: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    let shorthand = name.chars().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if name == "*" || shorthand {
        out.push_str(dots);
        out.push_str(name);
    } else {
        out.push_str(
            dots.strip_prefix('.').map_or("", |more| if more.is_empty() { "" } else { dots }),
        );
        out.push_str("['");
        out.push_str(&name.replace('\\', "\\\\"));
        out.push_str("']");
    }
}

/// The length of a quoted string at the beginning of a text, quotes included.
fn quoted_len(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|first| first.1);
    let mut escaped = false;
    for (at, c) in chars {
        if !escaped && Some(c) == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

#[cfg(test)]
mod compliance;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(path: &str) -> Vec<Value> {
        let document = json!({
            "a": {"b": 1, "b-c": 2, "0": 3},
            "list": [{"id": 1, "name": "x.y"}, {"id": 2, "content-type": "t"}, {"id": 2.5}],
        });
        Query::parse_either(path).unwrap().values(&document).into_iter().cloned().collect()
    }

    #[test]
    fn finds_what_both_dialects_mean() {
        for (path, expected) in [
            ("$.a.b", json!([1])),
            ("a.b", json!([1])),
            ("['a'].b", json!([1])),
            ("$.a.['b']", json!([1])),
            ("$.a.b-c", json!([2])),
            ("$..b-c", json!([2])),
            ("$.a.0", json!([3])),
            ("$.list[0].id", json!([1])),
            ("$.list[-1].id", json!([2.5])),
            ("$.list[*].id", json!([1, 2, 2.5])),
            ("$..id", json!([1, 2, 2.5])),
            ("$.list[?(@.name == 'x.y')].id", json!([1])),
            ("$.list[?(@.content-type == 't')].id", json!([2])),
            ("$.list[?(@.id > 1 && @.id < 2.5)].id", json!([2])),
            ("$.list[?(@.content-type)].id", json!([2])),
            ("$.list[?match(@.name, 'x.*')].id", json!([1])),
            ("$.no.b", json!([])),
        ] {
            assert_eq!(Value::from(find(path)), expected, "{path}");
        }
    }

    #[test]
    fn single_paths_are_told_apart() {
        for (path, single) in [("$.a[0]['b']", true), ("$.a[*]", false), ("$..a", false)] {
            assert_eq!(Query::parse_either(path).unwrap().is_single(), single, "{path}");
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for path in [
            "",
            "$.a[?(@.b =~ /x/)]",
            "$.a.length()",
            "$.a[?(@.b in ['x'])]",
            "$.a[(@.length-1)]",
            "$.a[",
            "$.a[?(@.b == 'x]",
            "$..a..b..c..d",
        ] {
            assert!(Query::parse_either(path).is_err(), "{path}");
        }
        assert!(Query::parse_either(&format!("$.{}", "a".repeat(MAX_LEN))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", path in r#"[$@.\[\]?()'"*0-9a-b=<&-]{0,20}"#) {
            for text in [text, path] {
                if let Ok(query) = Query::parse_either(&text) {
                    query.values(&json!({"a": [{"b": 1}]}));
                }
            }
        }
    }
}
