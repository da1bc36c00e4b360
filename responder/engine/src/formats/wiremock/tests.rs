//! Mappings as users have them: every field and matcher, what is left out and what is noted, and what is answered in the end.

use std::sync::Arc;

use http::HeaderMap;
use proptest::prelude::*;

use crate::{
    answer::Answer,
    compile::compile,
    formats::{
        FileReader,
        tests::{Seen, read},
    },
    jwt::key::KeyRing,
    request::Request,
    serving::Serving,
    snapshot::{
        RrPair, Serve,
        stub::{Condition, DateOrder, Part, Scenario, Stub, Test},
    },
    test_config::TestConfig,
    transform::Template,
};

fn read_files(files: &[(&str, &[u8])]) -> Seen {
    let mut seen = Seen::default();
    for (path, content) in files {
        let mut reader = FileReader::new(path, &mut seen);
        reader.push(content);
        reader.finish();
    }
    seen.joined()
}

/// The one pair of a mapping.
fn pair_of(mapping: &str) -> RrPair {
    let seen = read("m.json", &[mapping.as_bytes()]);
    assert_eq!((seen.pairs.len(), &seen.refused), (1, &vec![]), "{mapping}");
    seen.pairs.into_iter().next().unwrap()
}

fn stub_of(request: &str) -> Stub {
    let mapping = format!(r#"{{"request":{{{request}}},"response":{{}}}}"#);
    *pair_of(&mapping).stub.unwrap()
}

fn serving(pairs: Vec<RrPair>) -> Serving {
    let pairs = (0..).zip(pairs).map(|(ordinal, pair)| RrPair { ordinal, ..pair }).collect();
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let (compiled, found) = compile(pairs, &Template::default(), &config, Serve::Out);
    assert!(found.as_slice().is_empty(), "{:?}", found.as_slice());
    Serving::new(Arc::new(compiled), &KeyRing::default())
}

fn ask(serving: &Serving, method: &str, target: &str, body: &str) -> Option<(u16, String)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = HeaderMap::new();
    let request = Request {
        method,
        host: "h",
        path,
        query,
        headers: &headers,
        body: body.as_bytes(),
        ..Request::default()
    };
    match serving.answer(&request, 0) {
        Answer::Hit(hit) => Some((hit.status, String::from_utf8(hit.body.to_vec()).unwrap())),
        Answer::Miss => None,
    }
}

#[test]
fn every_matcher_becomes_a_test() {
    let not = |test| Test::Not(Box::new(test));
    let json = |expected: &str, ignore_array_order, ignore_extra| Test::EqualsJson {
        expected: expected.into(),
        ignore_array_order,
        ignore_extra,
    };
    let path = |expression: &str, found: Option<Test>| Test::MatchesJsonPath {
        expression: expression.into(),
        found: found.map(Box::new),
    };
    let date = |order, at: &str| Test::Date { order, at: at.into() };
    for (matcher, expected) in [
        (r#"{"equalTo":"x"}"#, Test::equals("x")),
        (
            r#"{"equalTo":"x","caseInsensitive":true}"#,
            Test::Equals { value: "x".into(), ignore_case: true },
        ),
        (r#"{"binaryEqualTo":"AAEC"}"#, Test::EqualsBytes(vec![0, 1, 2].into())),
        (r#"{"contains":"x"}"#, Test::Contains("x".into())),
        (r#"{"doesNotContain":"x"}"#, not(Test::Contains("x".into()))),
        (r#"{"matches":"x.*"}"#, Test::Matches("x.*".into())),
        (r#"{"doesNotMatch":"x.*"}"#, not(Test::Matches("x.*".into()))),
        (r#"{"matchesPathTemplate":"/a/{b}"}"#, Test::Template("/a/{b}".into())),
        (r#"{"absent":true}"#, Test::Absent),
        (r#"{"anything":"anything"}"#, Test::All(vec![])),
        (r#"{"equalToJson":"{\"a\":1}"}"#, json(r#"{"a":1}"#, false, false)),
        (
            r#"{"equalToJson":{"a":[1]},"ignoreArrayOrder":true,"ignoreExtraElements":true}"#,
            json(r#"{"a":[1]}"#, true, true),
        ),
        (r#"{"matchesJsonPath":"$.a"}"#, path("$.a", None)),
        (
            r#"{"matchesJsonPath":{"expression":"$.a","contains":"x"}}"#,
            path("$.a", Some(Test::Contains("x".into()))),
        ),
        (
            r#"{"matchesJsonPath":{"expression":"$.a","equalToJson":{"b":1},"ignoreExtraElements":true}}"#,
            path("$.a", Some(json(r#"{"b":1}"#, false, true))),
        ),
        (r#"{"before":"2024-01-01T00:00:00Z"}"#, date(DateOrder::Before, "2024-01-01T00:00:00Z")),
        (r#"{"after":"2024-01-01T00:00:00Z"}"#, date(DateOrder::After, "2024-01-01T00:00:00Z")),
        (
            r#"{"equalToDateTime":"2024-01-01T00:00:00Z"}"#,
            date(DateOrder::Same, "2024-01-01T00:00:00Z"),
        ),
        (
            r#"{"and":[{"contains":"a"},{"not":{"contains":"b"}}]}"#,
            Test::All(vec![Test::Contains("a".into()), not(Test::Contains("b".into()))]),
        ),
        (
            r#"{"or":[{"absent":true},{"equalTo":"a"}]}"#,
            Test::Any(vec![Test::Absent, Test::equals("a")]),
        ),
        (
            r#"{"hasExactly":[{"equalTo":"a"},{"contains":"b"}]}"#,
            Test::Exactly(vec![Test::equals("a"), Test::Contains("b".into())]),
        ),
    ] {
        let stub = stub_of(&format!(r#""headers":{{"X":{matcher}}}"#));
        let expected = Condition { part: Part::Header("X".into()), test: expected };
        assert_eq!(stub.conditions, [expected], "{matcher}");
    }
    let stub = stub_of(r#""queryParameters":{"a":{"includes":[{"equalTo":"1"},{"equalTo":"2"}]}}"#);
    assert_eq!(stub.conditions.len(), 2, "each on its own");
}

#[test]
fn every_field_of_a_request_becomes_a_condition() {
    let is = Test::equals;
    for (field, part, test) in [
        (r#""method":"POST""#, Part::Method, is("POST")),
        (r#""method":"GET_OR_HEAD""#, Part::Method, Test::Any(vec![is("GET"), is("HEAD")])),
        (r#""url":"/a?b=c""#, Part::Url, is("/a?b=c")),
        (r#""urlPattern":"/a.*""#, Part::Url, Test::Matches("/a.*".into())),
        (r#""urlPath":"/a""#, Part::Path, is("/a")),
        (r#""urlPathPattern":"/a.*""#, Part::Path, Test::Matches("/a.*".into())),
        (r#""urlPathTemplate":"/a/{b}""#, Part::Path, Test::Template("/a/{b}".into())),
        (r#""host":{"equalTo":"api.test"}"#, Part::Host, is("api.test")),
        (r#""port":8080"#, Part::Port, is("8080")),
        (r#""queryParameters":{"q":{"equalTo":"1"}}"#, Part::Query("q".into()), is("1")),
        (r#""headers":{"H":{"equalTo":"1"}}"#, Part::Header("H".into()), is("1")),
        (r#""cookies":{"c":{"equalTo":"1"}}"#, Part::Cookie("c".into()), is("1")),
        (r#""formParameters":{"f":{"equalTo":"1"}}"#, Part::Form("f".into()), is("1")),
        (r#""bodyPatterns":[{"equalTo":"1"}]"#, Part::Body, is("1")),
        (r#""basicAuthCredentials":{"username":"u","password":"p"}"#, Part::BasicAuth, is("u:p")),
    ] {
        assert_eq!(stub_of(field).conditions, [Condition { part, test }], "{field}");
    }
    for nothing in ["", r#""method":"ANY""#, r#""scheme":"http""#, r#""url":null"#] {
        assert_eq!(stub_of(nothing).conditions, [], "{nothing}");
    }
    let stub = stub_of(r#""urlPathTemplate":"/a/{b}","pathParameters":{"b":{"equalTo":"1"}}"#);
    assert_eq!(stub.conditions[1].part, Part::PathVariable("b".into()));
}

#[test]
fn a_mapping_keeps_all_that_it_says() {
    let pair = pair_of(
        r#"{
            "id":"f25df318-1e38-4c69-9317-ba87fc17f1f3","name":"users","persistent":true,"metadata":{"team":"a"},"priority":1,
            "scenarioName":"s","requiredScenarioState":"Started","newScenarioState":"two",
            "request":{"method":"POST","url":"/users?x=1","host":{"equalTo":"api.test"},"headers":{"Accept":{"equalTo":"text/plain"}},
                "bodyPatterns":[{"equalToJson":{"a":1}}]},
            "response":{"status":201,"statusMessage":"Made","headers":{"Content-Type":"application/json","Set-Cookie":["a=1","b=2"]},
                "jsonBody":{"b": 1.50, "a": [ ]},"fixedDelayMilliseconds":250,"transformers":["response-template"]}
        }"#,
    );
    let request = pair.request.as_ref().unwrap();
    assert_eq!(
        [&request.method, &request.path, &request.query, &request.host],
        ["POST", "/users", "x=1", "api.test"]
    );
    assert_eq!((request.headers[0].name.as_str(), &*request.body), ("Accept", &b"{\"a\":1}"[..]));
    assert_eq!((pair.response.status, pair.response.status_message.as_str()), (201, "201 Made"));
    assert_eq!(pair.response.body, r#"{"b":1.50,"a":[]}"#);
    assert_eq!(pair.response.headers.len(), 3);
    assert_eq!((pair.duration, pair.service.as_str()), (250_000_000, "api.test"));
    assert_eq!(
        pair.uuid.map(uuid::Uuid::from_bytes).unwrap().to_string(),
        "f25df318-1e38-4c69-9317-ba87fc17f1f3"
    );
    assert_eq!(
        pair.extra_json,
        r#"{"wiremock":{"name":"users","persistent":true,"metadata":{"team":"a"},"response":{"transformers":["response-template"]}}}"#
    );
    let stub = pair.stub.unwrap();
    assert_eq!(stub.priority, 1);
    assert_eq!(
        stub.scenarios,
        [Scenario { name: "s".into(), required: Some("Started".into()), next: Some("two".into()) }]
    );
}

#[test]
fn bodies_are_found_in_the_order_of_wiremock() {
    for (response, expected) in [
        (r#"{"body":"a","jsonBody":1}"#, "a"),
        (r#"{"jsonBody":{"a":1},"base64Body":"eA=="}"#, r#"{"a":1}"#),
        (r#"{"base64Body":"eA==","bodyFileName":"x"}"#, "x"),
        ("{}", ""),
    ] {
        let pair = pair_of(&format!(r#"{{"request":{{}},"response":{response}}}"#));
        assert_eq!((&*pair.response.body, pair.response.status), (expected.as_bytes(), 200));
    }
}

/// A mapping and what is wrong with it, by place and code.
type Wrong = (&'static str, &'static [(&'static str, &'static str)]);

const WRONG: &[Wrong] = &[
    (
        r#"{"name":"n","request":{"headers":{"X":{"matchesXPath":"//a"},"Y":{"equalToXml":"<a/>"}}},"response":{"fault":"EMPTY_RESPONSE"}}"#,
        &[
            ("request.headers.X.matchesXPath", "matcher_unsupported"),
            ("request.headers.Y.equalToXml", "matcher_unsupported"),
            ("response.fault", "fault_unsupported"),
        ],
    ),
    (
        r#"{"request":{"customMatcher":{"name":"x"},"multipartPatterns":[],"scheme":"https","clientIp":{"equalTo":"x"}},"response":{}}"#,
        &[
            ("request.customMatcher", "matcher_unsupported"),
            ("request.multipartPatterns", "matcher_unsupported"),
            ("request.scheme", "matcher_unsupported"),
            ("request.clientIp", "matcher_unsupported"),
        ],
    ),
    (
        r#"{"request":{"url":"/a","urlPath":"/a"},"response":{"proxyBaseUrl":"http://x"}}"#,
        &[("request", "invalid_field"), ("response.proxyBaseUrl", "proxy_unsupported")],
    ),
    (
        r#"{"request":{"urlPattern":"(?=x)","bodyPatterns":[{"contains":"a"},{"matchesJsonPath":"$.a.length()"}]},"response":{}}"#,
        &[
            ("request.urlPattern", "matcher_invalid"),
            ("request.bodyPatterns[1]", "matcher_invalid"),
        ],
    ),
    (
        r#"{"request":{"bodyPatterns":[{},{"equalTo":null},"x",{"equalTo":"a","matches":"b"},{"binaryEqualTo":"%"}]},"response":{}}"#,
        &[
            ("request.bodyPatterns[0]", "matcher_invalid"),
            ("request.bodyPatterns[1].equalTo", "matcher_invalid"),
            ("request.bodyPatterns[2]", "matcher_invalid"),
            ("request.bodyPatterns[3].matches", "matcher_unsupported"),
            ("request.bodyPatterns[4].binaryEqualTo", "matcher_invalid"),
        ],
    ),
    (
        r#"{"request":{"headers":{"D":{"before":"now +1 days"},"E":{"after":"2024-01-01T00:00:00Z","truncateExpected":"first day of month"}}},"response":{}}"#,
        &[
            ("request.headers.E.truncateExpected", "matcher_unsupported"),
            ("request.headers.D", "matcher_invalid"),
        ],
    ),
    (
        r#"{"request":{"pathParameters":{"a":{"equalTo":"1"}}},"response":{"status":"x","transformers":["mine"]}}"#,
        &[
            ("response.transformers[0]", "transformer_unsupported"),
            ("request.pathParameters.a", "matcher_invalid"),
        ],
    ),
    (r#"{"request":{},"response":{"status":42}}"#, &[("response.statusCode", "invalid_field")]),
    (
        r#"{"request":{},"response":{"body":"{{request.path}}","transformers":["response-template"]}}"#,
        &[("response.transformers", "templating_unsupported")],
    ),
    (
        r#"{"request":{},"response":{"body":{"a":1},"base64Body":"x"},"priority":"high","newScenarioState":"x"}"#,
        &[
            ("response.body", "invalid_field"),
            ("priority", "invalid_field"),
            ("scenarioName", "missing_field"),
        ],
    ),
];

#[test]
fn what_cannot_be_done_is_named_each_part_by_its_place() {
    for (mapping, expected) in WRONG {
        let document = format!("{{\"mappings\":[\n{mapping}\n]}}");
        let seen = read("dir/m.json", &[document.as_bytes()]);
        assert_eq!((seen.pairs.len(), seen.refused.len()), (0, 1), "{mapping}");
        let all: Vec<_> = seen.refused.iter().chain(&seen.noted).collect();
        let found: Vec<_> = all.iter().map(|why| (why.path.as_str(), why.code)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(path, code)| (format!("mappings[0].{path}"), *code)).collect();
        let expected: Vec<_> = expected.iter().map(|(path, code)| (path.as_str(), *code)).collect();
        assert_eq!(found, expected, "{mapping}");
        assert!(all.iter().all(|why| why.line == 2 && why.subject == "dir/m.json"));
        assert!(
            !mapping.contains("\"name\":\"n\"")
                || all.iter().all(|why| why.message.ends_with("(mapping `n`)"))
        );
    }
}

#[test]
fn what_is_served_otherwise_is_noted() {
    for (response, code) in [
        (r#"{"body":"{{x}}"}"#, "templating_off"),
        (r#"{"delayDistribution":{"type":"uniform","lower":1,"upper":2}}"#, "delay_not_kept"),
        (r#"{"chunkedDribbleDelay":{"numberOfChunks":5,"totalDuration":1000}}"#, "delay_not_kept"),
        (r#"{"fixedDelayMilliseconds":-1}"#, "delay_not_kept"),
        (r#"{"additionalProxyRequestHeaders":{"a":"b"}}"#, "field_not_used"),
    ] {
        let mapping = format!(r#"{{"request":{{}},"response":{response}}}"#);
        let seen = read("m.json", &[mapping.as_bytes()]);
        assert_eq!((seen.pairs.len(), seen.refused.len()), (1, 0), "{response}");
        assert_eq!(seen.noted.iter().map(|why| why.code).collect::<Vec<_>>(), [code], "{response}");
    }
}

fn named(name: &str) -> String {
    format!(r#"{{"request":{{"urlPath":"/x"}},"response":{{"body":"{name}"}}}}"#)
}

#[test]
fn the_later_mapping_wins_and_in_listings_the_earlier_one() {
    let two = format!("{},\n{}", named("first"), named("second"));
    for (document, expected) in [
        (format!(r#"{{"mappings":[{two}]}}"#), "second"),
        (format!(r#"{{"mappings":[{two}],"meta":{{"total":2}}}}"#), "first"),
        (format!(r#"{{"mappings":[{two}],"importOptions":{{}}}}"#), "first"),
    ] {
        let serving = serving(read("m.json", &[document.as_bytes()]).pairs);
        assert_eq!(ask(&serving, "GET", "/x", ""), Some((200, expected.to_owned())), "{document}");
    }
}

#[test]
fn bodies_come_from_files_in_any_order() {
    let mapping = |name: &str, more: &str| {
        format!(
            r#"{{"request":{{"urlPath":"/{name}"}},"response":{{"bodyFileName":"{name}"{more}}}}}"#
        )
    };
    let template = mapping("t.html", r#","transformers":["response-template"]"#);
    let (page, again, none) =
        (mapping("sub/a.json", ""), mapping("sub/a.json", ""), mapping("no", ""));
    let out = mapping("../x", "");
    let files: [(&str, &[u8]); 8] = [
        ("w/mappings/a.json", page.as_bytes()),
        ("w/__files/sub/a.json", br#"{"mappings":[]}"#),
        ("w/mappings/deep/b.json", again.as_bytes()),
        ("w/__files/t.html", b"<p>{{request.path}}</p>"),
        ("w/mappings/t.json", template.as_bytes()),
        ("w/mappings/n.json", none.as_bytes()),
        ("w/mappings/o.json", out.as_bytes()),
        ("w/__files/unused.bin", b"\0"),
    ];
    for backwards in [false, true] {
        let mut files = files;
        if backwards {
            files.reverse();
        }
        let seen = read_files(&files);
        assert_eq!(seen.pairs.len(), 2);
        assert!(seen.pairs.iter().all(|pair| pair.response.body == r#"{"mappings":[]}"#));
        let mut refused: Vec<_> = seen
            .refused
            .iter()
            .map(|why| (why.subject.as_str(), why.code, why.path.as_str()))
            .collect();
        refused.sort_unstable();
        assert_eq!(
            refused,
            [
                ("w/mappings/n.json", "body_file_missing", "response.bodyFileName"),
                ("w/mappings/o.json", "body_file_invalid", "response.bodyFileName"),
                ("w/mappings/t.json", "templating_unsupported", "response.bodyFileName"),
            ]
        );
        assert_eq!(seen.noted.len(), 1);
        assert_eq!(seen.noted[0].subject, "w/__files/unused.bin");
    }
}

#[test]
fn a_directory_answers_as_wiremock_does() {
    let files: [(&str, &[u8]); 4] = [
        (
            "w/mappings/cart.json",
            br#"{"mappings":[
                {"scenarioName":"cart","requiredScenarioState":"Started","newScenarioState":"full",
                 "request":{"method":"POST","urlPath":"/cart"},"response":{"status":201}},
                {"scenarioName":"cart","requiredScenarioState":"Started","request":{"url":"/cart"},"response":{"body":"empty"}},
                {"scenarioName":"cart","requiredScenarioState":"full","request":{"url":"/cart"},"response":{"body":"full"}}]}"#,
        ),
        ("w/mappings/any.json", br#"{"priority":10,"request":{"method":"ANY","urlPattern":".*"},"response":{"status":404,"body":"no"}}"#),
        (
            "w/mappings/user.json",
            br#"{"request":{"method":"GET","urlPathTemplate":"/users/{id}","pathParameters":{"id":{"matches":"[0-9]+"}}},
                "response":{"jsonBody":{"id":1}}}"#,
        ),
        (
            "w/mappings/find.json",
            br#"{"request":{"method":"POST","urlPath":"/find","bodyPatterns":[{"matchesJsonPath":"$.list[?(@.id == 'x')]"}]},
                "response":{"body":"found"}}"#,
        ),
    ];
    let seen = read_files(&files);
    assert_eq!((seen.pairs.len(), seen.refused.len(), seen.noted.len()), (6, 0, 0), "{seen:?}");
    let serving = serving(seen.pairs);
    for (method, target, body, status, answer) in [
        ("GET", "/cart", "", 200, "empty"),
        ("POST", "/cart?more=1", "ignored", 201, ""),
        ("GET", "/cart", "", 200, "full"),
        ("GET", "/users/7?x", "", 200, r#"{"id":1}"#),
        ("GET", "/users/me", "", 404, "no"),
        ("POST", "/find", r#"{"list":[{"id":"x"}]}"#, 200, "found"),
        ("POST", "/find", r#"{"list":[{"id":"y"}]}"#, 404, "no"),
        ("PUT", "/", "", 404, "no"),
    ] {
        let expected = Some((status, answer.to_owned()));
        assert_eq!(ask(&serving, method, target, body), expected, "{method} {target} {body}");
    }
}

#[test]
fn other_keys_do_not_reset_a_scenario() {
    let document = br#"{"mappings":[
        {"scenarioName":"s","requiredScenarioState":"Started","newScenarioState":"2","request":{},"response":{"body":"1"}},
        {"scenarioName":"s","requiredScenarioState":"2","request":{},"response":{"body":"2"}}]}"#;
    let serving = serving(read("m.json", &[document]).pairs);
    assert_eq!(ask(&serving, "GET", "/", ""), Some((200, "1".into())));
    assert_eq!(ask(&serving.rebind(&KeyRing::default()), "GET", "/", ""), Some((200, "2".into())));
}

#[test]
fn a_miss_names_the_failing_conditions() {
    let mapping = br#"{"name":"n","request":{"method":"GET","urlPath":"/a","headers":{"Authorization":{"equalTo":"Bearer s3cret"},"X":{"equalTo":"1"}}},"response":{}}"#;
    let serving = serving(read("m.json", &[mapping]).pairs);
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer other".parse().unwrap())]);
    let request = Request {
        method: "GET",
        host: "h",
        path: "/a",
        query: "",
        headers: &headers,
        body: b"",
        ..Request::default()
    };
    let miss = serde_json::to_value(serving.near_miss(&request, 0)).unwrap();
    assert_eq!(
        miss["stubs"],
        serde_json::json!([{"stub": "GET /a", "failed": [
            {"part": "header Authorization", "expected": "(not told)", "presented": "(not told)"},
            {"part": "header X", "expected": "is `1`"},
        ]}])
    );
}

proptest! {
    #[test]
    fn no_text_panics(
        text in r#"\{"(mappings|request)":[\[\]{}":a-z0-9,./]{0,40}"#,
        matcher in r#"\{"(equalTo|matches|and|not|equalToJson|matchesJsonPath|absent)":("[a(\[$.*]{0,6}"|\[\{"equalTo":"x"\}\]|\{\}|1|null)\}"#,
        bytes: Vec<u8>,
    ) {
        let mapping = format!(r#"{{"request":{{"bodyPatterns":[{matcher}],"urlPath":"/"}},"response":{{}}}}"#);
        for content in [text.as_bytes(), mapping.as_bytes(), bytes.as_slice()] {
            read_files(&[("w/__files/a", content), ("w/mappings/m.json", content)]);
        }
    }
}
