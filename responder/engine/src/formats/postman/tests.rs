//! Collections as Postman exports them.

use serde_json::{Value, json};

use crate::{
    formats::tests::{Seen, read},
    snapshot::{RrPair, header},
};

fn collection(items: &Value) -> Seen {
    let text = json!({
        "info": {"name": "shop", "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
        "variable": [{"key": "baseUrl", "value": "https://{{host}}/v1"}, {"key": "host", "value": "api.test:8443"}],
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "T", "type": "string"}]},
        "item": items
    })
    .to_string();
    read("shop.postman_collection.json", &[text.as_bytes()])
}

fn item(request: &Value, response: &Value) -> Value {
    json!({"name": "x", "request": request, "response": [response]})
}

fn pair(request: &Value, response: &Value) -> RrPair {
    let mut seen = collection(&json!([item(request, response)]));
    assert!(
        seen.pairs.len() == 1 && seen.skipped.is_empty() && seen.refused.is_empty(),
        "{seen:?}"
    );
    seen.pairs.remove(0)
}

fn sent(request: &Value) -> (String, String, String) {
    let pair = pair(request, &json!({"code": 200}));
    let request = pair.request.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let content_type =
        header(&request.headers, "content-type").map(|value| text(value)).unwrap_or_default();
    (
        format!("{} {}{}?{}", request.method, request.host, request.path, request.query),
        text(&request.body),
        content_type,
    )
}

#[test]
fn a_saved_response_becomes_a_mock() {
    let pair = pair(
        &json!({"method": "POST", "header": [{"key": "X-A", "value": "{{host}}"}, {"key": "X-Off", "value": "1", "disabled": true}],
            "url": {"raw": "{{baseUrl}}/orders/:id?q=a b", "variable": [{"key": "id", "value": "7"}]},
            "body": {"mode": "raw", "raw": "{\"host\": \"{{host}}\"}", "options": {"raw": {"language": "json"}}}}),
        &json!({"name": "ok", "status": "Created", "code": 201, "header": [{"key": "Content-Encoding", "value": "br"}], "body": "{\"id\":7}",
            "_postman_previewlanguage": "json", "responseTime": 12}),
    );
    assert_eq!(
        (pair.network_address.as_str(), pair.l7protocol.as_str(), pair.duration),
        ("api.test:8443", "https", 12_000_000)
    );
    let request = pair.request.unwrap();
    assert_eq!((request.path.as_str(), request.query.as_str()), ("/v1/orders/7", "q=a%20b"));
    assert_eq!(request.body, "{\"host\": \"api.test:8443\"}");
    let fields: Vec<_> =
        request.headers.iter().map(|h| (h.name.as_str(), h.value.as_ref())).collect();
    assert_eq!(
        fields,
        [
            ("X-A", &b"api.test:8443"[..]),
            ("Authorization", b"Bearer T"),
            ("Content-Type", b"application/json")
        ]
    );
    assert_eq!(
        (pair.response.status, pair.response.status_message.as_str(), pair.response.body.as_ref()),
        (201, "201 Created", &b"{\"id\":7}"[..])
    );
    assert_eq!(header(&pair.response.headers, "content-type").unwrap(), "application/json");
}

#[test]
fn requests_come_in_many_forms() {
    let form = "application/x-www-form-urlencoded";
    for (request, line, body, content_type) in [
        (json!("http://a.test/x"), "GET a.test/x?", "", ""),
        (json!({"method": "get", "url": "a.test/x?y=1#z"}), "GET a.test/x?y=1", "", ""),
        (
            json!({"url": {"protocol": "http", "host": ["a", "test"], "port": "81", "path": ["x", {"type": "string", "value": "y"}, ":z"],
                "query": [{"key": "k", "value": "v"}, {"key": "off", "value": "1", "disabled": true}, {"key": "bare", "value": null}],
                "variable": [{"id": "z", "value": "ü"}]}}),
            "GET a.test:81/x/y/%C3%BC?k=v&bare",
            "",
            "",
        ),
        (
            json!({"method": "PUT", "url": "http://a.test", "body": {"mode": "urlencoded", "urlencoded": [{"key": "a b", "value": "{{host}}"}, {"key": "c", "value": "d", "disabled": true}]}}),
            "PUT a.test/?",
            "a+b=api.test%3A8443",
            form,
        ),
        (
            json!({"method": "POST", "url": "http://a.test", "body": {"mode": "graphql", "graphql": {"query": "{ a }", "variables": "{\"b\": 1}"}}}),
            "POST a.test/?",
            r#"{"query":"{ a }","variables":{"b":1}}"#,
            "application/json",
        ),
        (
            json!({"method": "POST", "url": "http://a.test", "body": {"mode": "raw", "raw": "x"}, "header": "Content-Type: a/b\nX: y"}),
            "POST a.test/?",
            "x",
            "a/b",
        ),
        (
            json!({"method": "POST", "url": "http://a.test", "body": {"mode": "raw", "raw": "x", "disabled": true}}),
            "POST a.test/?",
            "",
            "",
        ),
        (
            json!({"url": "http://a.test", "auth": {"type": "apikey", "apikey": [{"key": "key", "value": "k"}, {"key": "value", "value": "v"}, {"key": "in", "value": "query"}]}}),
            "GET a.test/?k=v",
            "",
            "",
        ),
    ] {
        assert_eq!(
            sent(&request),
            (line.to_owned(), body.to_owned(), content_type.to_owned()),
            "{request}"
        );
    }
    let multipart = json!({"method": "POST", "url": "http://a.test", "body": {"mode": "formdata", "formdata": [{"key": "a", "value": "1"}]}});
    let seen = collection(&json!([item(&multipart, &json!({"code": 200}))]));
    assert_eq!(
        (seen.pairs.len(), seen.noted[0].code, seen.noted[0].path.as_str()),
        (1, "boundary_unknown", "item[0].response[0]")
    );
}

#[test]
fn authorisation_becomes_a_header_field() {
    let authorization = |auth: Value| {
        let pair = pair(&json!({"url": "http://a.test", "auth": auth}), &json!({"code": 200}));
        let headers = pair.request.unwrap().headers;
        headers
            .first()
            .map(|h| format!("{}: {}", h.name, String::from_utf8_lossy(&h.value)))
            .unwrap_or_default()
    };
    for (auth, field) in [
        (json!(null), "Authorization: Bearer T"),
        (json!({"type": "noauth"}), ""),
        (
            json!({"type": "basic", "basic": [{"key": "username", "value": "u"}, {"key": "password", "value": "p"}]}),
            "Authorization: Basic dTpw",
        ),
        (
            json!({"type": "basic", "basic": {"username": "u", "password": "p"}}),
            "Authorization: Basic dTpw",
        ),
        (
            json!({"type": "oauth2", "oauth2": [{"key": "accessToken", "value": "A"}]}),
            "Authorization: Bearer A",
        ),
        (
            json!({"type": "oauth2", "oauth2": [{"key": "accessToken", "value": "A"}, {"key": "headerPrefix", "value": "JWT "}]}),
            "Authorization: JWT A",
        ),
        (
            json!({"type": "apikey", "apikey": [{"key": "key", "value": "X-Key"}, {"key": "value", "value": "v"}]}),
            "X-Key: v",
        ),
        (json!({"type": "awsv4"}), ""),
    ] {
        assert_eq!(authorization(auth.clone()), field, "{auth}");
    }
}

#[test]
fn folders_hand_down_and_the_original_request_counts() {
    let folder = json!([{"name": "f", "variable": [{"key": "host", "value": "folder.test"}], "auth": {"type": "noauth"}, "item": [
        {"name": "g", "item": [item(&json!({"url": "{{baseUrl}}/own"}),
            &json!({"code": 200, "originalRequest": {"method": "GET", "url": {"raw": "{{baseUrl}}/original"}}}))]}]}]);
    let seen = collection(&folder);
    let request = seen.pairs[0].request.as_ref().unwrap();
    assert_eq!(
        (request.host.as_str(), request.path.as_str(), request.headers.len()),
        ("folder.test", "/v1/original", 0)
    );
}

#[test]
fn what_cannot_be_served_is_named_by_its_place() {
    let body = |body: Value| json!({"method": "POST", "url": "http://a.test", "body": body});
    for (request, code) in [
        (json!({"url": "http://a.test/{{nobody}}"}), "variable_unknown"),
        (json!({"url": "http://a.test/:nobody"}), "variable_unknown"),
        (body(json!({"mode": "raw", "raw": "{{nobody}}"})), "variable_unknown"),
        (
            body(
                json!({"mode": "urlencoded", "urlencoded": [{"key": "a", "value": "{{nobody}}"}]}),
            ),
            "variable_unknown",
        ),
        (body(json!({"mode": "file", "file": {"src": "/tmp/x"}})), "body_missing"),
    ] {
        let seen = collection(&json!([item(&request, &json!({"code": 200}))]));
        assert_eq!((seen.pairs.len(), seen.skipped[0].code), (0, code), "{request}");
        assert!(
            seen.skipped[0].path.starts_with("item[0].response[0].request."),
            "{}",
            seen.skipped[0]
        );
    }
    let seen = collection(
        &json!([{"name": "n", "item": [{"name": "x", "request": {"url": "http://a.test"}, "response": []}]}]),
    );
    assert_eq!(
        (seen.skipped[0].code, seen.skipped[0].path.as_str()),
        ("no_response", "item[0].item[0]")
    );
    assert_eq!(
        collection(&json!([item(&json!({"method": "GET"}), &json!({"code": 200}))])).refused[0]
            .code,
        "missing_field"
    );
    assert_eq!(
        collection(&json!([item(&json!("http://a.test"), &json!({"code": 20}))])).refused[0].path,
        "item[0].response[0].response.statusCode"
    );
    let environment =
        br#"{"id":"1","name":"dev","values":[],"_postman_variable_scope":"environment"}"#;
    assert_eq!(
        read("dev.postman_environment.json", &[environment]).skipped[0].code,
        "postman_environment"
    );
}

#[test]
fn an_unknown_host_is_noted_and_answered() {
    let seen = collection(&json!([item(&json!({"url": "{{nobody}}/x"}), &json!({"code": 200}))]));
    assert_eq!(
        (seen.pairs[0].network_address.as_str(), seen.pairs[0].location.as_str()),
        ("localhost:80", "/x")
    );
    assert_eq!(seen.noted[0].code, "variable_unknown");
}

#[test]
fn of_several_examples_for_one_request_the_successful_ones_answer() {
    let request = json!({"url": "http://a.test/x"});
    let items = json!([
        {"request": request, "response": [{"code": 404}, {"code": 200, "body": "1"}, {"code": 200, "body": "2"}]},
        {"request": {"url": "http://a.test/y"}, "response": [{"code": 500}]}
    ]);
    let seen = collection(&items);
    let answers: Vec<_> =
        seen.pairs.iter().map(|pair| (pair.location.as_str(), pair.response.status)).collect();
    assert_eq!(answers, [("/x", 200), ("/x", 200), ("/y", 500)]);
    assert_eq!((seen.skipped.len(), seen.skipped[0].code), (1, "example_left_out"));
}

#[test]
fn the_answer_of_the_api_wraps_the_collection() {
    let text = json!({"collection": {"info": {"_postman_id": "1"}, "item": [item(&json!("http://a.test"), &json!({"code": 204}))]}}).to_string();
    assert_eq!(read("x.json", &[text.as_bytes()]).pairs.len(), 1);
}
