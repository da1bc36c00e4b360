//! Simulations as Hoverfly exports them.

use serde_json::{Value, json};

use crate::{
    formats::tests::{Seen, read},
    snapshot::stub::{Condition, Part, Scenario, Stub, Test},
};

fn simulation(pairs: &Value) -> Seen {
    let text = json!({"data": {"pairs": pairs, "globalActions": {"delays": []}}, "meta": {"schemaVersion": "v5.2", "hoverflyVersion": "v1.5.3"}});
    read("simulation.json", &[text.to_string().as_bytes()])
}

fn exact(value: &str) -> Value {
    json!([{"matcher": "exact", "value": value}])
}

fn one(request: &Value, response: &Value) -> Seen {
    simulation(&json!([{"request": request, "response": response}]))
}

fn stub(request: &Value, response: &Value) -> Stub {
    let seen = one(request, response);
    let [pair] = seen.pairs.as_slice() else { panic!("{seen:?}") };
    *pair.stub.clone().unwrap_or_else(|| panic!("{pair:?}"))
}

fn ok() -> Value {
    json!({"status": 200, "body": "ok"})
}

#[test]
fn an_exact_pair_is_a_recorded_pair() {
    let seen = one(
        &json!({"method": exact("POST"), "destination": exact("api.test:8080"), "scheme": exact("https"), "path": exact("/a b"),
            "query": {"q": exact("1 2"), "r": exact("")}, "body": exact("{\"a\":1}")}),
        &json!({"status": 201, "body": "b2s=", "encodedBody": true, "templated": false, "headers": {"X-A": ["1", "2"], "Hoverfly": ["Was-Here"]}, "fixedDelay": 7}),
    );
    let pair = &seen.pairs[0];
    assert_eq!(pair.stub, None);
    assert_eq!(
        (pair.network_address.as_str(), pair.l7protocol.as_str(), pair.duration),
        ("api.test:8080", "https", 7_000_000)
    );
    let request = pair.request.as_ref().unwrap();
    assert_eq!(
        (request.path.as_str(), request.query.as_str(), request.body.as_ref()),
        ("/a%20b", "q=1+2&r=", &b"{\"a\":1}"[..])
    );
    assert_eq!(
        (pair.response.status, pair.response.body.as_ref(), pair.response.headers.len()),
        (201, &b"ok"[..], 2)
    );
}

#[test]
fn whatever_is_not_exact_is_a_stub() {
    let plain = json!({"method": exact("GET"), "destination": exact("api.test"), "path": exact("/"), "query": {}});
    assert_eq!(one(&plain, &ok()).pairs[0].stub, None);
    for (field, value) in [
        ("method", json!([{"matcher": "glob", "value": "*"}])),
        ("destination", json!([{"matcher": "regex", "value": "x"}])),
        ("path", json!([{"matcher": "glob", "value": "/*"}])),
        ("query", json!(null)),
        ("query", json!({"a": [{"matcher": "glob", "value": "*"}]})),
        ("headers", json!({"A": exact("1")})),
        ("body", exact("a=1")),
        ("body", json!([{"matcher": "json", "value": "{}"}])),
        ("body", json!([{"matcher": "form", "value": {"a": exact("1")}}])),
        ("requiresState", json!({"a": "1"})),
        ("path", json!(null)),
    ] {
        let mut request = plain.clone();
        request[field] = value;
        stub(&request, &ok());
    }
}

#[test]
fn matchers_become_conditions() {
    let stub = stub(
        &json!({"method": exact("GET"), "destination": exact("API.test:80"), "query": {}, "headers": {"X": [{"matcher": "regex", "value": "^a"}]},
            "body": [{"matcher": "form", "value": {"f": exact("1")}}]}),
        &ok(),
    );
    let condition = |part, test| Condition { part, test };
    let hosts = vec![
        Test::All(vec![Test::equals("api.test")]),
        Test::equals("localhost"),
        Test::equals("127.0.0.1"),
        Test::equals("[::1]"),
    ];
    assert_eq!(
        stub.conditions,
        [
            condition(Part::Method, Test::equals("GET")),
            condition(Part::Host, Test::Any(hosts)),
            condition(Part::Url, Test::Matches(r"[^?]*\??".into())),
            condition(Part::Header("X".into()), Test::Matches(".*(?:^a).*".into())),
            condition(Part::Form("f".into()), Test::equals("1")),
        ]
    );
}

#[test]
fn the_strongest_and_of_equals_the_first_comes_first() {
    let pair = |request: Value| json!({"request": request, "response": ok()});
    let seen = simulation(&json!([
        pair(json!({"path": [{"matcher": "glob", "value": "/*"}]})),
        pair(json!({"path": [{"matcher": "glob", "value": "/*"}]})),
        pair(json!({"path": exact("/a")})),
        pair(json!({"path": exact("/a"), "requiresState": {"s": "1"}})),
    ]));
    let priorities: Vec<i32> =
        seen.pairs.iter().map(|pair| pair.stub.as_ref().unwrap().priority).collect();
    let mut order: Vec<usize> = (0..4).collect();
    order.sort_by_key(|nth| priorities[*nth]);
    assert_eq!(order, [3, 2, 0, 1], "{priorities:?}");
}

#[test]
fn state_becomes_scenarios() {
    let stub = stub(
        &json!({"path": exact("/"), "requiresState": {"basket": "full", "sequence:1": "1"}}),
        &json!({"status": 200, "transitionsState": {"sequence:1": "2", "paid": "yes"}, "removesState": ["basket"]}),
    );
    let scenario = |name: &str, required: Option<&str>, next: Option<&str>| Scenario {
        name: name.into(),
        required: required.map(str::to_owned),
        next: next.map(str::to_owned),
    };
    assert_eq!(
        stub.scenarios,
        [
            scenario("basket", Some("full"), Some(Stub::STARTED)),
            scenario("sequence:1", Some(Stub::STARTED), Some("2")),
            scenario("paid", None, Some("yes")),
        ]
    );
}

#[test]
fn what_cannot_be_served_is_named_by_its_place() {
    let any = json!({"path": exact("/")});
    for (request, response, code, path) in [
        (
            json!({"body": [{"matcher": "xpath", "value": "/a"}]}),
            ok(),
            "matcher_unsupported",
            "data.pairs[0].request.body[0]",
        ),
        (
            json!({"path": [{"matcher": "regex", "value": "("}]}),
            ok(),
            "matcher_invalid",
            "data.pairs[0].request",
        ),
        (
            json!({"body": [{"matcher": "jsonpath", "value": "$["}]}),
            ok(),
            "matcher_invalid",
            "data.pairs[0].request",
        ),
        (
            json!({"deprecatedQuery": [{"matcher": "glob", "value": "*"}]}),
            ok(),
            "matcher_unsupported",
            "data.pairs[0].request.deprecatedQuery",
        ),
        (
            any.clone(),
            json!({"status": 200, "body": "{{ x }}", "templated": true}),
            "templating_unsupported",
            "data.pairs[0].response.templated",
        ),
        (
            any.clone(),
            json!({"status": 200, "bodyFile": "x.json"}),
            "body_missing",
            "data.pairs[0].response.bodyFile",
        ),
    ] {
        let seen = one(&request, &response);
        let why = seen.skipped.first().unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!(
            (seen.pairs.len(), why.code, why.path.as_str()),
            (0, code, path),
            "{request} {response}"
        );
    }
    for (request, response, path) in [
        (json!(null), ok(), "data.pairs[0].request"),
        (any.clone(), json!(null), "data.pairs[0].response"),
        (any.clone(), json!({"body": "*", "encodedBody": true}), "data.pairs[0].response.body"),
        (any.clone(), json!({"status": 20}), "data.pairs[0].response.statusCode"),
    ] {
        assert_eq!(one(&request, &response).refused[0].path, path, "{request} {response}");
    }
    assert_eq!(one(&any, &json!({"body": "{{x}}", "templated": false})).pairs.len(), 1);
    let noted = one(&any, &json!({"status": 200, "logNormalDelay": {"min": 1}}));
    assert_eq!(
        (noted.pairs.len(), noted.noted[0].code, noted.noted[0].path.as_str()),
        (1, "delay_not_kept", "data.pairs[0].response.logNormalDelay")
    );
    assert_eq!(simulation(&json!([])).skipped[0].code, "empty_file");
    let old = json!({"data": {"pairs": [1]}, "meta": {"schemaVersion": "v3"}}).to_string();
    assert_eq!(read("s.json", &[old.as_bytes()]).refused[0].code, "format_unsupported");
}
