//! The `request` of a mapping: conditions in WireMock's words.
//!
//! What WireMock has no words for is left out and told; such a mapping answers more than the stub did.

use std::collections::BTreeMap;

use crate::{
    formats::{
        fields::quoted,
        write::{
            loss::Loss,
            object::{Members, array, base64, object, raw},
        },
    },
    snapshot::stub::{Condition, DateOrder, Part, Test},
};

/// The order of the members.
const ORDER: &[&str] = &[
    "method",
    "url",
    "urlPattern",
    "urlPath",
    "urlPathPattern",
    "urlPathTemplate",
    "pathParameters",
    "host",
    "port",
    "queryParameters",
    "headers",
    "cookies",
    "basicAuthCredentials",
    "formParameters",
    "bodyPatterns",
];

/// A condition that cannot be written.
const NO_WORDS: Loss = Loss::warning(
    "stub.conditions",
    "WireMock has no matcher for this condition; the mapping answers without asking for it",
);

/// Conditions as the `request` of a mapping.
pub(super) fn write(conditions: &[Condition], lost: &mut Vec<Loss>) -> String {
    let mut out = Members::new();
    let mut named: BTreeMap<(&'static str, &str), Vec<&Test>> = BTreeMap::new();
    let mut bodies = Vec::new();
    for Condition { part, test } in conditions {
        let written = match part {
            Part::PathVariable(name) => named_test(&mut named, "pathParameters", name, test),
            Part::Query(name) => named_test(&mut named, "queryParameters", name, test),
            Part::Header(name) => named_test(&mut named, "headers", name, test),
            Part::Cookie(name) => named_test(&mut named, "cookies", name, test),
            Part::Form(name) => named_test(&mut named, "formParameters", name, test),
            Part::Body => matcher(test).map(|matcher| bodies.push(matcher)),
            Part::Method => method(test).map(|json| raw(&mut out, "method", json)),
            Part::Url | Part::Path => url(part, test, &mut out),
            Part::Host => matcher(test).map(|json| raw(&mut out, "host", json)),
            Part::Port => port(test).map(|json| raw(&mut out, "port", json)),
            Part::BasicAuth => {
                basic_auth(test).map(|json| raw(&mut out, "basicAuthCredentials", json))
            }
        };
        if written.is_none() {
            lost.push(NO_WORDS);
        }
    }
    let mut parts: BTreeMap<&str, Members<'_>> = BTreeMap::new();
    for ((part, name), tests) in named {
        match of_many(&tests) {
            Some(json) => raw(parts.entry(part).or_default(), name, json),
            None => lost.push(NO_WORDS),
        }
    }
    for (part, members) in parts {
        raw(&mut out, part, object(members, &[]));
    }
    if !bodies.is_empty() {
        raw(&mut out, "bodyPatterns", array(bodies));
    }
    if !out.contains_key("method") {
        raw(&mut out, "method", "\"ANY\"");
    }
    object(out, ORDER)
}

fn named_test<'a>(
    named: &mut BTreeMap<(&'static str, &'a str), Vec<&'a Test>>,
    part: &'static str,
    name: &'a str,
    test: &'a Test,
) -> Option<()> {
    named.entry((part, name)).or_default().push(test);
    Some(())
}

fn method(test: &Test) -> Option<String> {
    match test {
        Test::Equals { value, ignore_case: false } => Some(quoted(value)),
        Test::Any(tests) if *tests == [Test::equals("GET"), Test::equals("HEAD")] => {
            Some(quoted("GET_OR_HEAD"))
        }
        _ => None,
    }
}

/// A mapping has one way of asking for the URL.
fn url(part: &Part, test: &Test, out: &mut Members<'_>) -> Option<()> {
    if out.keys().any(|name| name.starts_with("url")) {
        return None;
    }
    let whole = *part == Part::Url;
    let (name, text) = match test {
        Test::Equals { value, ignore_case: false } => {
            (if whole { "url" } else { "urlPath" }, quoted(value))
        }
        Test::Matches(pattern) => {
            (if whole { "urlPattern" } else { "urlPathPattern" }, quoted(pattern))
        }
        Test::Contains(part) => {
            let pattern = format!(".*{}.*", regex::escape(part));
            (if whole { "urlPattern" } else { "urlPathPattern" }, quoted(&pattern))
        }
        Test::Template(template) if !whole => ("urlPathTemplate", quoted(template)),
        _ => return None,
    };
    raw(out, name, text);
    Some(())
}

fn port(test: &Test) -> Option<String> {
    let Test::Equals { value, ignore_case: false } = test else { return None };
    value.parse::<u16>().ok().map(|port| port.to_string())
}

fn basic_auth(test: &Test) -> Option<String> {
    let Test::Equals { value, ignore_case: false } = test else { return None };
    let (user, password) = value.split_once(':')?;
    let members = [("username", quoted(user)), ("password", quoted(password))];
    let members = members.map(|(name, json)| (name.to_owned(), json.into()));
    Some(object(members.into(), &["username", "password"]))
}

/// The matcher of something that may have several values.
fn of_many(tests: &[&Test]) -> Option<String> {
    let list = |name: &str, tests: Vec<String>| format!("{{\"{name}\":{}}}", array(tests));
    match tests {
        [Test::Exactly(tests)] => {
            Some(list("hasExactly", tests.iter().map(matcher).collect::<Option<_>>()?))
        }
        [test] => matcher(test),
        tests => {
            Some(list("includes", tests.iter().map(|test| matcher(test)).collect::<Option<_>>()?))
        }
    }
}

/// The matcher of one value.
fn matcher(test: &Test) -> Option<String> {
    let one = |name: &str, json: String| Some(format!("{{\"{name}\":{json}}}"));
    let list = |tests: &[Test]| tests.iter().map(matcher).collect::<Option<Vec<_>>>().map(array);
    match test {
        Test::Equals { value, ignore_case: false } => one("equalTo", quoted(value)),
        Test::Equals { value, ignore_case: true } => {
            Some(format!("{{\"equalTo\":{},\"caseInsensitive\":true}}", quoted(value)))
        }
        Test::EqualsBytes(bytes) => one("binaryEqualTo", base64(bytes)),
        Test::Contains(text) => one("contains", quoted(text)),
        Test::Matches(pattern) => one("matches", quoted(pattern)),
        Test::Template(template) => one("matchesPathTemplate", quoted(template)),
        Test::Absent => one("absent", "true".to_owned()),
        Test::EqualsJson { expected, ignore_array_order, ignore_extra } => {
            let mut json = format!("{{\"equalToJson\":{}", quoted(expected));
            for (name, set) in
                [("ignoreArrayOrder", ignore_array_order), ("ignoreExtraElements", ignore_extra)]
            {
                if *set {
                    json.push_str(&format!(",\"{name}\":true"));
                }
            }
            Some(json + "}")
        }
        Test::MatchesJsonPath { expression, found: None } => {
            one("matchesJsonPath", quoted(expression))
        }
        Test::MatchesJsonPath { expression, found: Some(found) } => {
            let inner = matcher(found)?;
            let inner = inner.strip_prefix('{')?;
            one("matchesJsonPath", format!("{{\"expression\":{},{inner}", quoted(expression)))
        }
        Test::Date { order, at } => {
            let name = match order {
                DateOrder::Before => "before",
                DateOrder::After => "after",
                DateOrder::Same => "equalToDateTime",
            };
            one(name, quoted(at))
        }
        Test::All(tests) if tests.is_empty() => one("anything", quoted("anything")),
        Test::All(tests) => one("and", list(tests)?),
        Test::Any(tests) => one("or", list(tests)?),
        Test::Not(test) => match test.as_ref() {
            Test::Contains(text) => one("doesNotContain", quoted(text)),
            Test::Matches(pattern) => one("doesNotMatch", quoted(pattern)),
            test => one("not", matcher(test)?),
        },
        Test::Exactly(_) => None,
    }
}
