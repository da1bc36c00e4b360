//! Mappings of recorded pairs and of stubs.

use std::sync::Arc;

use http::HeaderMap;
use proptest::{collection, prelude::*, sample::select};
use serde_json::{Value, json};

use super::*;
use crate::{
    answer::Answer,
    compile::compile,
    diagnostic::{Diagnostic, Severity},
    formats::{
        tests::read,
        write::{Target, Writer},
    },
    jwt::key::KeyRing,
    request::Request,
    serving::Serving,
    snapshot::{HttpRequest, Serve, stub::DateOrder},
    test_config::TestConfig,
    transform::Template,
};

fn recorded(method: &str, host: &str, target: &str, body: &str, answer: &str) -> RrPair {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    RrPair {
        request: Some(HttpRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            version: "1.1".to_owned(),
            host: host.to_owned(),
            body: body.to_owned().into(),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            status_message: "200 OK".to_owned(),
            body: answer.to_owned().into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned().into() }
}

fn document(pairs: &[RrPair]) -> (Vec<u8>, Vec<Diagnostic>) {
    let mut writer = Writer::new(Target::WireMock);
    pairs.iter().for_each(|pair| writer.survey(pair));
    let mut text: Vec<u8> = pairs.iter().flat_map(|pair| writer.pair(pair).bytes).collect();
    let (end, found) = writer.finish();
    text.extend(end.bytes);
    (text, found)
}

/// The mappings of pairs, and the fields of the findings.
fn write(pairs: &[RrPair]) -> (Vec<Value>, Vec<(Severity, String)>) {
    let (text, found) = document(pairs);
    let mut document: Value = serde_json::from_slice(&text).unwrap();
    let Value::Array(mappings) = document["mappings"].take() else { panic!("no list") };
    (mappings, found.into_iter().map(|d| (d.severity, d.path)).collect())
}

#[test]
fn a_recorded_pair_asks_for_its_signature() {
    let mut pair =
        recorded("POST", "api.test:80", "/a?x=1&y=a%20b&x=2", r#"{"b":1,"a":[2.0]}"#, "hi");
    pair.uuid = Some([7; 16]);
    pair.request.as_mut().unwrap().headers = vec![header("Content-Type", "application/json")];
    pair.response.headers = vec![
        header("Content-Length", "2"),
        header("Connection", "close"),
        header("Set-Cookie", "a=1"),
        header("Content-Encoding", "gzip"),
        header("Set-Cookie", "b=2"),
    ];
    let (mappings, found) = write(&[pair]);
    assert_eq!(
        mappings,
        [json!({
            "id": "07070707-0707-0707-0707-070707070707",
            "persistent": true,
            "request": {
                "method": "POST",
                "urlPath": "/a",
                "queryParameters": {
                    "x": {"hasExactly": [{"equalTo": "1"}, {"equalTo": "2"}]},
                    "y": {"equalTo": "a b"},
                },
                "bodyPatterns": [{"equalToJson": r#"{"a":[2.0],"b":1}"#}],
            },
            "response": {"status": 200, "headers": {"Set-Cookie": ["a=1", "b=2"]}, "body": "hi"},
        })]
    );
    let info = |path: &str| (Severity::Info, path.to_owned());
    assert_eq!(found, [info("http.req.headers"), info("http.res.headers")]);
}

#[test]
fn bodies_are_asked_for_by_their_kind() {
    let mut form = recorded("POST", "h", "/form", "a=1&b=x+y&b=z", "");
    form.request.as_mut().unwrap().headers =
        vec![header("Content-Type", "application/x-www-form-urlencoded")];
    let mut binary = recorded("POST", "h", "/binary", "", "");
    binary.request.as_mut().unwrap().body = vec![0xff].into();
    binary.response.body = vec![0xfe].into();
    let text = recorded("POST", "h", "/text", "<a/>", "");
    let (mappings, found) = write(&[form, binary, text]);
    assert_eq!(
        mappings[0]["request"]["formParameters"],
        json!({"a": {"equalTo": "1"}, "b": {"hasExactly": [{"equalTo": "x y"}, {"equalTo": "z"}]}})
    );
    assert_eq!(mappings[1]["request"]["bodyPatterns"], json!([{"binaryEqualTo": "/w=="}]));
    assert_eq!(mappings[1]["response"]["base64Body"], "/g==");
    assert_eq!(mappings[2]["request"]["bodyPatterns"], json!([{"equalTo": "<a/>"}]));
    assert_eq!(found[0].1, "http.req.headers");
}

#[test]
fn several_answers_take_turns_in_recorded_order() {
    let pairs: Vec<_> =
        ["1", "2", "3"].iter().map(|answer| recorded("GET", "h", "/a", "", answer)).collect();
    let (mappings, found) = write(&pairs);
    let states: Vec<_> = mappings
        .iter()
        .map(|m| {
            let state = |name: &str| m[name].as_str().unwrap().to_owned();
            (
                state("requiredScenarioState"),
                state("newScenarioState"),
                m["response"]["body"].clone(),
            )
        })
        .collect();
    let expected = [("Started", "2", "1"), ("2", "3", "2"), ("3", "Started", "3")];
    let expected: Vec<_> =
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), Value::from(c))).into();
    assert_eq!(states, expected);
    assert!(mappings.iter().all(|m| m["scenarioName"] == mappings[0]["scenarioName"]));
    assert!(mappings[0]["scenarioName"].as_str().unwrap().starts_with("GET /a "));
    assert_eq!(found, []);
}

#[test]
fn who_asks_for_more_goes_first() {
    let (mappings, _) = write(&[
        recorded("GET", "h", "/a?x=1&y=2", "", ""),
        recorded("GET", "h", "/a?x=1", "", ""),
        recorded("GET", "h", "/a", "", ""),
        recorded("GET", "h", "/b", "", ""),
    ]);
    let priorities: Vec<_> = mappings.iter().map(|m| m["priority"].clone()).collect();
    assert_eq!(priorities, [Value::Null, json!(7), json!(9), Value::Null]);
}

#[test]
fn a_second_host_with_the_same_request_is_told_by_its_name() {
    let (mappings, _) = write(&[
        recorded("GET", "One.test:81", "/a", "", "1"),
        recorded("GET", "two.test", "/a", "", "2"),
        recorded("GET", "one.test", "/a", "", "3"),
        recorded("GET", "two.test", "/b", "", "4"),
    ]);
    let hosts: Vec<_> = mappings.iter().map(|m| m["request"]["host"]["equalTo"].clone()).collect();
    assert_eq!(hosts, [Value::Null, json!("two.test"), Value::Null, Value::Null]);
    let priorities: Vec<_> = mappings.iter().map(|m| m["priority"].clone()).collect();
    assert_eq!(priorities, [json!(6), Value::Null, json!(6), Value::Null]);
    let turns: Vec<_> = mappings.iter().map(|m| m["newScenarioState"].clone()).collect();
    assert_eq!(turns, [json!("2"), Value::Null, json!("Started"), Value::Null]);
}

#[test]
fn a_responder_only_pair_asks_for_what_it_was_signed_with() {
    let signature =
        [("http:method", "GET"), ("http:url", "/a"), ("http:queryparams", "x=1"), ("mine", "?")];
    let pair = RrPair {
        signature: signature.map(|(key, value)| (key.to_owned(), value.into())).into(),
        response: recorded("GET", "h", "/", "", "hi").response,
        direction: Direction::In,
        ..RrPair::default()
    };
    let (mappings, found) = write(&[pair]);
    assert_eq!(
        mappings[0]["request"],
        json!({"method": "GET", "urlPath": "/a", "queryParameters": {"x": {"equalTo": "1"}}})
    );
    assert_eq!(
        found.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(),
        ["direction", "signature"]
    );
}

#[test]
fn a_stub_goes_back_as_it_came() {
    let asks = |part, test| Condition { part, test };
    let all_words = vec![
        asks(Part::Method, Test::Any(vec![Test::equals("GET"), Test::equals("HEAD")])),
        asks(Part::Path, Test::Template("/a/{id}".to_owned())),
        asks(Part::PathVariable("id".to_owned()), Test::Matches("[0-9]+".to_owned())),
        asks(Part::Header("X".to_owned()), Test::Absent),
        asks(
            Part::Header("Y".to_owned()),
            Test::Equals { value: "v".to_owned(), ignore_case: true },
        ),
        asks(Part::Query("q".to_owned()), Test::Contains("1".to_owned())),
        asks(Part::Query("q".to_owned()), Test::Not(Box::new(Test::Contains("2".to_owned())))),
        asks(Part::Cookie("c".to_owned()), Test::Not(Box::new(Test::Absent))),
        asks(Part::Port, Test::equals("8080")),
        asks(Part::BasicAuth, Test::equals("u:p:q")),
        asks(
            Part::Body,
            Test::MatchesJsonPath {
                expression: "$.at".to_owned(),
                found: Some(Box::new(Test::Date {
                    order: DateOrder::Before,
                    at: "2026-01-01T00:00:00Z".to_owned(),
                })),
            },
        ),
        asks(Part::Body, Test::Any(vec![Test::All(Vec::new()), Test::All(vec![Test::Absent])])),
        asks(Part::Method, Test::Matches("G.*".to_owned())),
    ];
    let stub = Stub {
        conditions: all_words,
        priority: 1,
        scenarios: vec![Scenario {
            name: "s".to_owned(),
            required: None,
            next: Some("two".to_owned()),
        }],
    };
    let pair = RrPair {
        duration: 250_000_000,
        extra_json: r#"{"wiremock":{"name":"n","metadata":{"k":[1.50]},"response":{"fault":"X"}}}"#
            .to_owned(),
        stub: Some(Box::new(stub)),
        ..recorded("GET", "", "/", "", "b")
    };
    let (mappings, found) = write(&[pair]);
    assert_eq!(
        mappings[0],
        json!({
            "name": "n", "priority": 1, "scenarioName": "s", "newScenarioState": "two",
            "request": {
                "method": "GET_OR_HEAD", "urlPathTemplate": "/a/{id}", "pathParameters": {"id": {"matches": "[0-9]+"}},
                "port": 8080,
                "queryParameters": {"q": {"includes": [{"contains": "1"}, {"doesNotContain": "2"}]}},
                "headers": {"X": {"absent": true}, "Y": {"equalTo": "v", "caseInsensitive": true}},
                "cookies": {"c": {"not": {"absent": true}}},
                "basicAuthCredentials": {"username": "u", "password": "p:q"},
                "bodyPatterns": [
                    {"matchesJsonPath": {"expression": "$.at", "before": "2026-01-01T00:00:00Z"}},
                    {"or": [{"anything": "anything"}, {"and": [{"absent": true}]}]},
                ],
            },
            "response": {"status": 200, "body": "b", "fault": "X", "fixedDelayMilliseconds": 250},
            "metadata": {"k": [1.50]},
        })
    );
    assert_eq!(found, [(Severity::Warning, "stub.conditions".to_owned())]);
}

#[test]
fn an_empty_document_is_one_too() {
    assert_eq!(write(&[]), (Vec::new(), Vec::new()));
}

fn serving(pairs: &[RrPair]) -> Serving {
    let pairs =
        (0..).zip(pairs.to_vec()).map(|(ordinal, pair)| RrPair { ordinal, ..pair }).collect();
    // Mappings know of no users.
    let config =
        TestConfig::parse(br#"{"id":"c","responder":{"sequence":{"scope":"replica"}}}"#).unwrap();
    let (compiled, _) = compile(pairs, &Template::default(), &config, Serve::All);
    Serving::new(Arc::new(compiled), &KeyRing::default())
}

/// The answer to a recorded request, sent again.
fn ask(serving: &Serving, recorded: &HttpRequest) -> Option<(u16, Vec<u8>)> {
    let headers: HeaderMap = recorded
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("content-type"))
        .map(|header| {
            (http::header::CONTENT_TYPE, http::HeaderValue::from_bytes(&header.value).unwrap())
        })
        .collect();
    let request = Request {
        method: &recorded.method,
        host: &recorded.host,
        path: &recorded.path,
        query: &recorded.query,
        headers: &headers,
        body: &recorded.body,
        ..Request::default()
    };
    match serving.answer(&request, 0) {
        Answer::Hit(hit) => Some((hit.status, hit.body.to_vec())),
        Answer::Miss => None,
    }
}

/// Plays a recording twice against itself and against its mappings.
pub(crate) fn assert_alike(pairs: &[RrPair]) {
    let (text, _) = document(pairs);
    let seen = read("mappings.json", &[&text]);
    let told = String::from_utf8_lossy(&text);
    assert_eq!(
        (seen.pairs.len(), seen.refused.len()),
        (pairs.len(), 0),
        "{:?}\n{told}",
        seen.refused
    );
    let (recorded, mapped) = (serving(pairs), serving(&seen.pairs));
    for pair in pairs.iter().chain(pairs) {
        let request = pair.request.as_ref().unwrap();
        let answer = ask(&recorded, request);
        assert!(answer.is_some(), "{request:?}");
        assert_eq!(ask(&mapped, request), answer, "{request:?}\n{told}");
    }
}

prop_compose! {
    /// Few enough different ones, so that requests meet.
    fn exchange()(
        method in select(vec!["GET", "POST"]),
        host in select(vec!["h", "H:80", "other.test"]),
        target in select(vec!["/a", "/a?x=1", "/a?x=1&y=2", "/a?x=2&x=1", "/a?y", "/b", "/b%20c?q=%26"]),
        body in select(vec!["", r#"{"a":1,"b":[1,2]}"#, r#"{"b":[1,2],"a":1}"#, "[]", "a=1&b=2", "b=2&a=1", "text", "\u{1}"]),
        answer in "[a-z]{3}",
    ) -> RrPair {
        let mut pair = recorded(method, host, target, body, &answer);
        // The same bytes under two types are two signatures and one mapping; nobody sends that.
        let kind = if body.contains('=') { "application/x-www-form-urlencoded" } else { "text/plain" };
        pair.request.as_mut().unwrap().headers = vec![header("Content-Type", kind)];
        pair
    }
}

proptest! {
    #[test]
    fn mappings_answer_as_the_recording(pairs in collection::vec(exchange(), 1..12)) {
        assert_alike(&pairs);
    }
}
