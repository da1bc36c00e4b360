//! HAR files as browsers and proxies write them.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    formats::tests::{Seen, read},
    snapshot::{Direction, RrPair, header},
};

fn entry(request: &Value, response: &Value) -> Value {
    json!({"_priority": "High", "startedDateTime": "2024-05-06T07:08:09.123+02:00", "time": 12.5, "request": request, "response": response,
        "cache": {}, "timings": {"wait": 1}})
}

fn request(extra: &Value) -> Value {
    let mut request = json!({"method": "GET", "url": "https://api.test/a?x=1", "httpVersion": "h2", "cookies": [],
        "headers": [{"name": ":authority", "value": "api.test"}, {"name": ":path", "value": "/a"}, {"name": "Accept", "value": "*/*"}]});
    merge(&mut request, extra);
    request
}

fn response(extra: &Value) -> Value {
    let mut response = json!({"status": 200, "statusText": "OK", "httpVersion": "h2", "cookies": [], "redirectURL": "",
        "headers": [{"name": "content-encoding", "value": "br"}], "content": {"size": 2, "mimeType": "text/plain", "text": "ok"}, "bodySize": 1});
    merge(&mut response, extra);
    response
}

fn merge(into: &mut Value, extra: &Value) {
    for (name, value) in extra.as_object().unwrap() {
        into[name] = value.clone();
    }
}

fn har(entries: &[Value]) -> String {
    let entries = Value::from(entries.to_vec());
    format!(
        r#"{{"log":{{"version":"1.2","creator":{{"name":"x","entries":[1]}},"pages":[{{"id":"log","title":"\"entries\":[{{"}}],"entries":{entries},"comment":"entries"}}}}"#
    )
}

fn one(request: &Value, response: &Value) -> Seen {
    let text = json!({"log": {"entries": [entry(request, response)]}}).to_string();
    read("x.har", &[text.as_bytes()])
}

fn pair(request: &Value, response: &Value) -> RrPair {
    let mut seen = one(request, response);
    assert!(
        seen.pairs.len() == 1 && seen.skipped.is_empty() && seen.refused.is_empty(),
        "{seen:?}"
    );
    seen.pairs.remove(0)
}

fn field(pair: &RrPair, name: &str) -> String {
    let request = &pair.request.as_ref().unwrap().headers;
    let value = header(request, name).or_else(|| header(&pair.response.headers, name));
    value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

#[test]
fn an_entry_becomes_a_mock() {
    let pair = pair(&request(&json!({})), &response(&json!({})));
    assert_eq!(
        (pair.ts, pair.duration, pair.direction),
        (Some(1_714_972_089_123_000_000), 12_500_000, Direction::Out)
    );
    assert_eq!(
        (pair.service.as_str(), pair.network_address.as_str(), pair.l7protocol.as_str()),
        ("api.test", "api.test:443", "https")
    );
    let request = pair.request.as_ref().unwrap();
    assert_eq!(
        (
            request.path.as_str(),
            request.query.as_str(),
            request.version.as_str(),
            request.host.as_str()
        ),
        ("/a", "x=1", "2.0", "api.test")
    );
    assert_eq!(request.headers.len(), 1, "pseudo-header fields are left out");
    assert_eq!(
        (pair.response.status, pair.response.status_message.as_str(), pair.response.body.as_ref()),
        (200, "200 OK", &b"ok"[..])
    );
    assert_eq!(
        (pair.tags["decoded"].as_str(), field(&pair, "content-type").as_str()),
        ("true", "text/plain")
    );
}

#[test]
fn bodies_are_found_wherever_they_stand() {
    let post = |data: Value| {
        let pair =
            pair(&request(&json!({"method": "POST", "postData": data})), &response(&json!({})));
        (
            String::from_utf8(pair.request.as_ref().unwrap().body.to_vec()).unwrap(),
            field(&pair, "content-type"),
        )
    };
    let form = "application/x-www-form-urlencoded";
    for (data, body, content_type) in [
        (
            json!({"mimeType": "application/json", "text": "{\"a\": 1}"}),
            "{\"a\": 1}",
            "application/json",
        ),
        (
            json!({"mimeType": form, "text": "a=1&b=2", "params": [{"name": "a", "value": "1"}]}),
            "a=1&b=2",
            form,
        ),
        (
            json!({"mimeType": form, "params": [{"name": "a b", "value": "ü&"}, {"name": "c", "value": "d"}]}),
            "a+b=%C3%BC%26&c=d",
            form,
        ),
        (
            json!({"mimeType": form, "text": "", "params": [{"name": "a", "value": "1"}]}),
            "a=1",
            form,
        ),
        (json!({"mimeType": "x/y", "text": "aGk=", "encoding": "base64"}), "hi", "x/y"),
        (json!({"mimeType": "x/y", "text": ""}), "", "text/plain"),
        (
            json!({"mimeType": "multipart/form-data; boundary=B", "params": [{"name": "f", "fileName": "n", "contentType": "t/x", "value": "v"}]}),
            "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\"\r\nContent-Type: t/x\r\n\r\nv\r\n--B--\r\n",
            "multipart/form-data; boundary=B",
        ),
        (json!(null), "", "text/plain"),
    ] {
        assert_eq!(post(data.clone()), (body.to_owned(), content_type.to_owned()), "{data}");
    }
    let binary = json!({"content": {"size": 3, "mimeType": "image/png", "text": "/wD\n+", "encoding": "base64"}});
    assert_eq!(pair(&request(&json!({})), &response(&binary)).response.body, &b"\xff\0\xfe"[..]);
    let query =
        json!({"url": "https://api.test/a", "queryString": [{"name": "b", "value": "1 2"}]});
    assert_eq!(pair(&request(&query), &response(&json!({}))).request.unwrap().query, "b=1+2");
}

#[test]
fn fields_that_are_left_out_are_made_up_for() {
    let cookies = json!({"cookies": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]});
    assert_eq!(field(&pair(&request(&cookies), &response(&json!({}))), "cookie"), "a=1; b=2");
    let set = json!({"cookies": [{"name": "s", "value": "1", "path": "/", "httpOnly": true, "secure": true, "sameSite": "Lax"}]});
    assert_eq!(
        field(&pair(&request(&json!({})), &response(&set)), "set-cookie"),
        "s=1; Path=/; SameSite=Lax; HttpOnly; Secure"
    );
    let both = json!({"cookies": [{"name": "s", "value": "1"}], "headers": [{"name": "Set-Cookie", "value": "x=1\ny=2"}]});
    let pair_of_both = pair(&request(&json!({})), &response(&both));
    assert_eq!(pair_of_both.response.headers.iter().filter(|h| h.name == "Set-Cookie").count(), 2);
    let moved = json!({"status": 302, "redirectURL": "https://b.test/", "content": {"size": 0}, "bodySize": 0});
    assert_eq!(
        field(&pair(&request(&json!({})), &response(&moved)), "location"),
        "https://b.test/"
    );
}

#[test]
fn what_cannot_be_served_is_skipped_with_its_place() {
    let url = |url: &str| (json!({"url": url}), json!({}));
    for ((req, res), code) in [
        ((json!({}), json!({"status": 0})), "no_response"),
        ((json!({}), json!({"status": -1})), "no_response"),
        ((json!({}), json!({"status": null})), "no_response"),
        ((json!({}), json!({"content": {"size": 10}})), "body_missing"),
        ((json!({}), json!({"content": null})), "body_missing"),
        (url("wss://api.test/s"), "protocol_unsupported"),
        (url("data:text/plain,x"), "protocol_unsupported"),
        (url("chrome-extension://x/y"), "protocol_unsupported"),
    ] {
        let seen = one(&request(&req), &response(&res));
        let why = seen.skipped.first().unwrap_or_else(|| panic!("{seen:?}"));
        assert_eq!((why.code, why.line, seen.pairs.len()), (code, 1, 0), "{req} {res}");
        assert!(why.path.starts_with("log.entries[0]"), "{why}");
    }
    let head = json!({"method": "HEAD"});
    assert_eq!(one(&request(&head), &response(&json!({"content": {"size": 10}}))).pairs.len(), 1);
    assert_eq!(
        one(&request(&json!({})), &response(&json!({"status": 304, "content": {"size": 10}})))
            .pairs
            .len(),
        1
    );
    assert_eq!(one(&request(&json!({})), &json!(null)).skipped[0].code, "no_response");
    assert_eq!(one(&json!(null), &json!(null)).refused[0].path, "log.entries[0].request");
    let bad = json!({"headers": [{"name": "a b", "value": "x"}]});
    assert_eq!(
        one(&request(&bad), &response(&json!({}))).refused[0].path,
        "log.entries[0].request.headers"
    );
    let base64 = json!({"content": {"text": "*", "encoding": "base64"}});
    assert_eq!(one(&request(&json!({})), &response(&base64)).refused[0].code, "invalid_field");
}

#[test]
fn the_same_file_under_another_name_is_the_same() {
    let entries: Vec<Value> = (0..3)
        .map(|n| {
            entry(&request(&json!({"url": format!("https://api.test/{n}")})), &response(&json!({})))
        })
        .collect();
    let first = har(&entries);
    // Whatever stands before `log`, the file is a HAR.
    let moved = first.replacen('{', "{\"comment\": \"x\", ", 1);
    let pretty = format!(
        "\u{feff}{}",
        serde_json::to_string_pretty(&json!({"log": {"entries": entries}})).unwrap()
    );
    for text in [&first, &moved, &pretty] {
        for path in ["x.har", "x.json", "x"] {
            let seen = read(path, &[text.as_bytes()]);
            let paths: Vec<_> = seen.pairs.iter().map(|pair| pair.location.as_str()).collect();
            assert_eq!(paths, ["/0", "/1", "/2"], "{path}: {text} {seen:?}");
            assert!(seen.skipped.is_empty() && seen.refused.is_empty(), "{path}: {seen:?}");
        }
    }
    let lines: Vec<u32> = {
        let broken = pretty.replace("\"status\": 200", "\"status\": 0");
        read("x.har", &[broken.as_bytes()]).skipped.iter().map(|why| why.line).collect()
    };
    assert!(lines.len() == 3 && lines.is_sorted() && lines[0] > 1, "{lines:?}");
}

#[test]
fn damage_keeps_what_came_before() {
    let text = har(&[
        entry(&request(&json!({})), &response(&json!({}))),
        entry(&request(&json!({})), &response(&json!({}))),
    ]);
    let cut = text.find("entries\":[{\"_").unwrap() + 900;
    let seen = read("x.har", &[&text.as_bytes()[..cut]]);
    assert_eq!((seen.pairs.len(), seen.refused[0].code), (1, "truncated"));
    let seen = read("x.har", &[b"{\"log\":{\"entries\":[]}}"]);
    assert_eq!(seen.skipped[0].code, "empty_file");
    let seen = read("x.har", &[b"{\"log\":{\"entries\":[]"]);
    assert_eq!(seen.refused[0].code, "truncated");
    let seen = read("x.har", &[b"{\"log\":{]"]);
    assert_eq!(seen.refused[0].code, "not_json");
    let deep = format!("{{\"log\":{{\"x\":{}", "[".repeat(500));
    assert_eq!(read("x.har", &[deep.as_bytes()]).refused[0].code, "not_json");
}

#[test]
fn a_har_larger_than_an_entry_may_be_is_read_through() {
    let large = "x".repeat(crate::formats::MAX_ENTRY * 3 / 8);
    let response = response(&json!({"content": {"mimeType": "text/plain", "text": large}}));
    let element = entry(&request(&json!({})), &response).to_string();
    let mut seen = Seen::default();
    let mut reader = crate::formats::FileReader::new("x.har", &mut seen);
    reader.push(b"{\"log\":{\"entries\":[");
    for n in 0..3 {
        reader.push(if n > 0 { b"," } else { b" " });
        reader.push(element.as_bytes());
    }
    reader.push(b"]}}");
    reader.finish();
    assert_eq!((seen.pairs.len(), seen.refused.len()), (3, 0));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(0_usize..1600, 0..6), damage in prop::option::of((0_usize..1600, any::<u8>()))) {
        let mut text = har(&[entry(&request(&json!({})), &response(&json!({}))), entry(&request(&json!({})), &response(&json!({})))]).into_bytes();
        if let Some((at, byte)) = damage && let Some(place) = text.get_mut(at) {
            *place = byte;
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read("x.har", &chunks), read("x.har", &[&text]));
    }
}
