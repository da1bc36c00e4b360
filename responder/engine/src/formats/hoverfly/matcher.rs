//! One matcher of Hoverfly as a test of a stub.

use crate::{
    formats::{
        node::Node,
        verdict::{self, Left},
    },
    snapshot::stub::Test,
};

/// How deep matchers may be chained.
const MAX_CHAIN: usize = 8;

/// The tests that a matcher stands for, all of which must pass, and its score.
pub(super) fn read(matcher: &Node, place: &str) -> Result<(Vec<Test>, usize), Left> {
    chain(matcher, place, 0)
}

fn chain(matcher: &Node, place: &str, depth: usize) -> Result<(Vec<Test>, usize), Left> {
    if depth > MAX_CHAIN {
        return Err(verdict::limit("matchers are chained too deeply".to_owned()).within(place));
    }
    let kind = matcher.get("matcher").word().to_ascii_lowercase();
    let next = matcher.get("doMatch");
    let next = if next.is_map() {
        chain(next, &format!("{place}.doMatch"), depth + 1)?.0
    } else {
        Vec::new()
    };
    let value = matcher.get("value");
    let text = || value.scalar().map(|text| text.into_owned()).unwrap_or_else(|| value.to_json());
    let test = match kind.as_str() {
        "" | "exact" => Test::equals(text()),
        "negate" => Test::Not(Box::new(Test::equals(text()))),
        "glob" => Test::Matches(glob(&text())),
        // Hoverfly's expressions may match anywhere.
        "regex" => Test::Matches(format!(".*(?:{}).*", text())),
        "json" => {
            Test::EqualsJson { expected: text(), ignore_array_order: false, ignore_extra: false }
        }
        "jsonpartial" => {
            Test::EqualsJson { expected: text(), ignore_array_order: true, ignore_extra: true }
        }
        "jsonpath" => {
            let found = match next.len() {
                0 => None,
                _ => Some(Box::new(Test::All(next))),
            };
            return Ok((vec![Test::MatchesJsonPath { expression: json_path(&text()), found }], 1));
        }
        "array" => return Ok((array(matcher, place)?, 1)),
        other => return Err(unsupported(other, place)),
    };
    let score = if matches!(kind.as_str(), "" | "exact") { 2 } else { 1 };
    Ok((std::iter::once(test).chain(next).collect(), score))
}

fn unsupported(kind: &str, place: &str) -> Left {
    let known = [
        "xml",
        "xmlpartial",
        "xmltemplated",
        "xpath",
        "jwt",
        "jwtjsonpath",
        "containsexactly",
        "contains",
        "containsonly",
    ];
    // A kind that nobody knows is not repeated.
    let kind = if known.contains(&kind) { format!("`{kind}`") } else { "this kind".to_owned() };
    Left::skipped("matcher_unsupported", place, format!("a matcher of {kind} is not supported"))
        .hint("use `exact`, `glob`, `regex`, `json`, `jsonPartial`, `jsonPath`, `array`, `form` or `negate`")
}

/// A list of values. Their order is no difference here.
fn array(matcher: &Node, place: &str) -> Result<Vec<Test>, Left> {
    let values = matcher.get("value");
    let lone = [Test::equals(values.word())];
    let tests: Vec<Test> = match values.items() {
        [] if values.scalar().is_some() => lone.to_vec(),
        [] => return Err(verdict::invalid("value", "a list").within(place)),
        items => items.iter().map(|item| Test::equals(item.word())).collect(),
    };
    let config = |name: &str| {
        let members = matcher.get("config").members();
        members.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && value.is_true())
    };
    Ok(match (config("ignoreUnknown"), config("ignoreOccurrences")) {
        (false, false) => vec![Test::Exactly(tests)],
        (true, _) => tests,
        (false, true) => {
            return Err(Left::skipped(
                "matcher_unsupported",
                place,
                "`ignoreOccurrences` is only supported beside `ignoreUnknown`",
            ));
        }
    })
}

/// `*` stands for anything.
fn glob(text: &str) -> String {
    let parts: Vec<String> = text.split('*').map(regex::escape).collect();
    parts.join(".*")
}

/// A path in the notation of RFC 9535: without the braces of Kubernetes, and from the root.
fn json_path(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    if inner.starts_with('$') {
        inner.to_owned()
    } else if inner.starts_with(['.', '[']) {
        format!("${inner}")
    } else {
        format!("$.{inner}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<Test>, &'static str> {
        read(&Node::json(json.as_bytes()).unwrap(), "p")
            .map(|read| read.0)
            .map_err(|left| left.why.code)
    }

    #[test]
    fn every_kind_is_a_test_or_refused() {
        let json = |ignore: bool| Test::EqualsJson {
            expected: "{}".into(),
            ignore_array_order: ignore,
            ignore_extra: ignore,
        };
        for (matcher, tests) in [
            (r#"{"matcher":"exact","value":"a"}"#, vec![Test::equals("a")]),
            (r#"{"value":7}"#, vec![Test::equals("7")]),
            (r#"{"matcher":"negate","value":"a"}"#, vec![Test::Not(Box::new(Test::equals("a")))]),
            (r#"{"matcher":"GLOB","value":"a.*b"}"#, vec![Test::Matches(r"a\..*b".into())]),
            (r#"{"matcher":"regex","value":"^a|b$"}"#, vec![Test::Matches(".*(?:^a|b$).*".into())]),
            (r#"{"matcher":"json","value":"{}"}"#, vec![json(false)]),
            (r#"{"matcher":"jsonPartial","value":{}}"#, vec![json(true)]),
            (
                r#"{"matcher":"jsonpath","value":"{.a}"}"#,
                vec![Test::MatchesJsonPath { expression: "$.a".into(), found: None }],
            ),
            (
                r#"{"matcher":"jsonpath","value":"a","doMatch":{"matcher":"exact","value":"1"}}"#,
                vec![Test::MatchesJsonPath {
                    expression: "$.a".into(),
                    found: Some(Box::new(Test::All(vec![Test::equals("1")]))),
                }],
            ),
            (
                r#"{"matcher":"array","value":["a","b"]}"#,
                vec![Test::Exactly(vec![Test::equals("a"), Test::equals("b")])],
            ),
            (
                r#"{"matcher":"array","value":["a","b"],"config":{"ignoreUnknown":true}}"#,
                vec![Test::equals("a"), Test::equals("b")],
            ),
        ] {
            assert_eq!(of(matcher), Ok(tests), "{matcher}");
        }
        for (matcher, code) in [
            (r#"{"matcher":"xpath","value":"/a"}"#, "matcher_unsupported"),
            (r#"{"matcher":"jwt","value":"{}"}"#, "matcher_unsupported"),
            (
                r#"{"matcher":"array","value":["a"],"config":{"ignoreOccurrences":true}}"#,
                "matcher_unsupported",
            ),
            (r#"{"matcher":"array","value":{}}"#, "invalid_field"),
        ] {
            assert_eq!(of(matcher), Err(code), "{matcher}");
        }
        let deep = format!("{}{{}}{}", r#"{"value":"x","doMatch":"#.repeat(20), "}".repeat(20));
        assert_eq!(of(&deep), Err("limit_exceeded"));
    }
}
