//! Each part and each test: match, no match, nothing there, and what cannot be compiled.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::request::Request;

/// A request in which everything has a value.
struct Sent {
    headers: HeaderMap,
    body: &'static str,
}

impl Sent {
    fn new(headers: &[(&str, &str)], body: &'static str) -> Self {
        let fields = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        Self { headers, body }
    }

    fn usual() -> Self {
        Self::new(
            &[
                ("x-one", "first"),
                ("x-one", "second"),
                ("x-date", "2024-05-06T07:08:09Z"),
                ("cookie", "sid=abc; theme=\"dark\""),
                ("cookie", "sid=def"),
                ("authorization", "Basic YWxpY2U6c2VjcmV0"),
                ("content-type", "application/x-www-form-urlencoded"),
            ],
            "user=al%20ice&role=a&role=b",
        )
    }

    fn holds(&self, part: Part, test: Test) -> bool {
        let path = Condition {
            part: Part::Path,
            test: Test::Template("/users/{user}/files/{file}".into()),
        };
        let stub = Stub { conditions: vec![path, Condition { part, test }], ..Stub::default() };
        let template = template_of(&stub);
        let compiled = Compiled::new(&stub.conditions[1], template.as_ref()).unwrap();
        let request = Request {
            method: "POST",
            host: "Api.Test:8080",
            path: "/users/7/files/a%20b",
            query: "q=a+b&q=c&empty",
            headers: &self.headers,
            body: self.body.as_bytes(),
            ..Request::default()
        };
        compiled.holds(&View::new(&request))
    }
}

fn is(text: &str) -> Test {
    Test::equals(text)
}

fn not(test: Test) -> Test {
    Test::Not(Box::new(test))
}

#[test]
fn each_part_is_looked_at() {
    let sent = Sent::usual();
    for (part, yes, no) in [
        (Part::Method, is("POST"), is("post")),
        (Part::Url, is("/users/7/files/a%20b?q=a+b&q=c&empty"), is("/users/7/files/a%20b")),
        (Part::Path, is("/users/7/files/a b"), is("/users/7/files/a")),
        (Part::Path, Test::Template("/users/{x}/**".into()), Test::Template("/users/{x}".into())),
        (Part::PathVariable("user".into()), is("7"), is("8")),
        (Part::PathVariable("file".into()), Test::Matches("a.*b".into()), Test::Absent),
        (Part::Host, is("api.TEST"), is("api.test:8080")),
        (Part::Port, is("8080"), is("80")),
        (Part::Query("q".into()), is("c"), is("a+b")),
        (Part::Query("empty".into()), is(""), Test::Absent),
        (Part::Query("none".into()), Test::Absent, is("")),
        (Part::Header("X-One".into()), is("second"), is("first, second")),
        (Part::Header("x-two".into()), Test::Absent, Test::Matches(".*".into())),
        (Part::Cookie("sid".into()), is("def"), is("ghi")),
        (Part::Cookie("theme".into()), is("dark"), is("\"dark\"")),
        (Part::Cookie("none".into()), Test::Absent, not(is("x"))),
        (Part::Form("user".into()), is("al ice"), is("al%20ice")),
        (Part::Form("role".into()), is("b"), is("a,b")),
        (Part::Form("none".into()), not(is("x")), is("x")),
        (Part::Body, Test::Contains("role=b".into()), is("user=al%20ice")),
        (Part::BasicAuth, is("alice:secret"), is("alice:wrong")),
    ] {
        assert!(sent.holds(part.clone(), yes.clone()), "{part} {yes}");
        assert!(!sent.holds(part.clone(), no.clone()), "{part} {no}");
    }
}

#[test]
fn each_test_passes_and_fails_on_a_value_and_on_none() {
    let date = |order, at: &str| Test::Date { order, at: at.to_owned() };
    let folded = |value: &str| Test::Equals { value: value.to_owned(), ignore_case: true };
    let sent = Sent::usual();
    // What is asked, whether it passes on the header `x-date`, and whether on one that is not there.
    for (test, there, nowhere) in [
        (is("2024-05-06T07:08:09Z"), true, false),
        (is("2024-05-06t07:08:09z"), false, false),
        (folded("2024-05-06t07:08:09z"), true, false),
        (folded("2024"), false, false),
        (Test::EqualsBytes(Bytes::from_static(b"2024-05-06T07:08:09Z")), true, false),
        (Test::EqualsBytes(Bytes::from_static(b"2024")), false, false),
        (Test::Contains("05-06".into()), true, false),
        (Test::Contains("07-06".into()), false, false),
        (not(Test::Contains("05-06".into())), false, true),
        (Test::Matches("[0-9TZ:-]+".into()), true, false),
        (Test::Matches("[0-9]+".into()), false, false),
        (not(Test::Matches("[0-9]+".into())), true, true),
        (Test::Absent, false, true),
        (not(Test::Absent), true, false),
        (date(DateOrder::Before, "2024-05-06T09:08:10+02:00"), true, false),
        (date(DateOrder::Before, "2024-05-06T07:08:09Z"), false, false),
        (date(DateOrder::After, "2024-05-06T07:08:08Z"), true, false),
        (date(DateOrder::After, "2024-05-06T07:08:09Z"), false, false),
        (date(DateOrder::Same, "2024-05-06T09:08:09+02:00"), true, false),
        (date(DateOrder::Same, "2024-05-06T09:08:09Z"), false, false),
        (Test::All(vec![]), true, true),
        (Test::All(vec![Test::Contains("T".into()), Test::Contains("Z".into())]), true, false),
        (Test::All(vec![Test::Contains("T".into()), Test::Contains("x".into())]), false, false),
        (Test::Any(vec![Test::Absent, Test::Contains("Z".into())]), true, true),
        (Test::Any(vec![Test::Absent, Test::Contains("x".into())]), false, true),
        (Test::Any(vec![]), false, false),
        (Test::Exactly(vec![Test::Contains("Z".into())]), true, false),
        (Test::Exactly(vec![]), false, true),
        (not(Test::Any(vec![is("x"), is("y")])), true, true),
        (
            Test::EqualsJson {
                expected: "1".into(),
                ignore_array_order: false,
                ignore_extra: false,
            },
            false,
            false,
        ),
        (Test::MatchesJsonPath { expression: "$.a".into(), found: None }, false, false),
        (Test::Template("{date}".into()), true, false),
    ] {
        for (name, expected) in [("x-date", there), ("x-none", nowhere)] {
            assert_eq!(
                sent.holds(Part::Header(name.into()), test.clone()),
                expected,
                "{name} {test}"
            );
        }
    }
}

#[test]
fn several_values_can_be_asked_to_be_exactly_these() {
    let sent = Sent::usual();
    let role = |tests: &[&str]| {
        sent.holds(Part::Form("role".into()), Test::Exactly(tests.iter().map(|t| is(t)).collect()))
    };
    assert!(role(&["a", "b"]) && role(&["b", "a"]));
    assert!(!role(&["a"]) && !role(&["a", "c"]) && !role(&["a", "b", "b"]));
}

#[test]
fn bodies_are_compared_as_json() {
    let sent = Sent::new(
        &[],
        r#"{"n":1.0,"list":[{"id":1,"tag":"x"},{"id":2}],"none":null,"empty":[],"no":{},"text":"{\"in\":1}"}"#,
    );
    let json = |expected: &str, ignore_array_order, ignore_extra| {
        let expected = expected.to_owned();
        sent.holds(Part::Body, Test::EqualsJson { expected, ignore_array_order, ignore_extra })
    };
    assert!(json(r#"{"n":1}"#, false, true));
    assert!(!json(r#"{"n":1}"#, false, false));
    assert!(json(r#"{"list":[{"id":2},{"tag":"x","id":1}]}"#, true, true));
    assert!(!json(r#"{"list":[{"id":2},{"tag":"x","id":1}]}"#, false, true));

    let path = |expression: &str, found: Option<Test>| {
        let (expression, found) = (expression.to_owned(), found.map(Box::new));
        sent.holds(Part::Body, Test::MatchesJsonPath { expression, found })
    };
    let inner = |expected: &str| {
        let expected = expected.to_owned();
        Test::EqualsJson { expected, ignore_array_order: false, ignore_extra: false }
    };
    for (expression, found, expected) in [
        ("$.n", None, true),
        ("$.list[?(@.tag == 'x')]", None, true),
        ("$.list[?(@.tag == 'y')]", None, false),
        ("$.nowhere", None, false),
        ("$.none", None, false),
        ("$.empty", None, false),
        ("$.no", None, false),
        ("$.n", Some(is("1.0")), true),
        ("$.list[*].id", Some(is("2")), true),
        ("$.list[*].id", Some(is("3")), false),
        ("$.list[0].tag", Some(Test::Matches("[a-z]".into())), true),
        ("$.nowhere", Some(Test::Absent), true),
        ("$.none", Some(Test::Absent), true),
        ("$.n", Some(Test::Absent), false),
        ("$.nowhere", Some(not(is("x"))), false),
        ("$.list[0]", Some(inner(r#"{"tag":"x","id":1}"#)), true),
        ("$.list", Some(inner(r#"[{"id":1,"tag":"x"},{"id":2}]"#)), true),
        ("$..id", Some(inner("[1,2]")), true),
        ("$.list", Some(is(r#"{"id":2}"#)), true),
        ("$.text", Some(Test::MatchesJsonPath { expression: "$.in".into(), found: None }), true),
    ] {
        assert_eq!(path(expression, found.clone()), expected, "{expression} {found:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_named() {
    let conditions = [
        (Part::Body, Test::Matches("(?=x)".into()), "look-around"),
        (Part::Body, not(Test::Any(vec![Test::Matches("(".into())])), "unclosed group"),
        (
            Part::Body,
            Test::MatchesJsonPath { expression: "$.a =~ /x/".into(), found: None },
            "RFC 9535",
        ),
        (
            Part::Body,
            Test::EqualsJson {
                expected: "{".into(),
                ignore_array_order: false,
                ignore_extra: false,
            },
            "not JSON",
        ),
        (
            Part::Header("d".into()),
            Test::Date { order: DateOrder::Same, at: "now".into() },
            "RFC 3339",
        ),
        (Part::PathVariable("x".into()), is("1"), "no variable `x`"),
    ];
    let mut stub = Stub::default();
    stub.conditions.push(Condition { part: Part::Method, test: is("GET") });
    for (part, test, _) in &conditions {
        stub.conditions.push(Condition { part: part.clone(), test: test.clone() });
    }
    let found = check(&stub);
    assert_eq!(found.iter().map(|wrong| wrong.0).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>());
    for ((_, why), (_, _, says)) in found.iter().zip(&conditions) {
        assert!(why.to_string().contains(says), "{why} should say {says}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        method in "[A-Z]{1,4}",
        host in ".{0,9}",
        path in "/.{0,9}",
        query in ".{0,9}",
        cookie in "[ -~]{0,12}",
        body: Vec<u8>,
    ) {
        let headers = HeaderMap::from_iter([
            (http::header::COOKIE, HeaderValue::from_str(&cookie).unwrap()),
            (http::header::AUTHORIZATION, HeaderValue::from_str(&format!("Basic {cookie}")).unwrap()),
            (http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        ]);
        let request = Request { method: &method, host: &host, path: &path, query: &query, headers: &headers, body: &body, ..Request::default() };
        let view = View::new(&request);
        for part in [
            Part::Method, Part::Url, Part::Path, Part::Host, Part::Port, Part::Query("a".into()), Part::Header("cookie".into()),
            Part::Cookie("a".into()), Part::Form("a".into()), Part::Body, Part::BasicAuth,
        ] {
            for test in [is("x"), Test::MatchesJsonPath { expression: "$..a".into(), found: None }] {
                let condition = Condition { part: part.clone(), test };
                let compiled = Compiled::new(&condition, None).unwrap();
                let _held: bool = compiled.holds(&view);
                drop(compiled.presented(&view));
            }
        }
    }
}
