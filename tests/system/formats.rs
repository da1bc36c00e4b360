//! A file of every format is imported by the command, and what it holds is answered over HTTP.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use harness::{
    client::{Client, Response},
    process::{self, Process},
};
use http::{HeaderMap, Method};
use serde_json::Value;

const HAR: &str = r#"{"log":{"version":"1.2","creator":{"name":"browser","version":"1"},"entries":[
  {"startedDateTime":"2024-05-06T07:08:09.123Z","time":12.5,
   "request":{"method":"POST","url":"https://har.test/orders?x=1","httpVersion":"http/2.0","headers":[{"name":":authority","value":"har.test"}],
     "postData":{"mimeType":"application/json","text":"{\"item\": 7}"}},
   "response":{"status":201,"statusText":"","headers":[{"name":"content-encoding","value":"br"}],"content":{"mimeType":"text/plain","text":"ZnJvbSBoYXI=","encoding":"base64"}}},
  {"startedDateTime":"2024-05-06T07:08:10Z","request":{"method":"GET","url":"https://har.test/blocked","headers":[]},"response":{"status":0}}]}}"#;

const POSTMAN: &str = r#"{"info":{"name":"shop","schema":"https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
  "variable":[{"key":"base","value":"https://postman.test"}],
  "item":[{"name":"folder","item":[{"name":"get","request":{"method":"GET","url":{"raw":"{{base}}/orders/:id","variable":[{"key":"id","value":"7"}]}},
    "response":[{"name":"ok","code":200,"status":"OK","header":[],"body":"from postman"}]}]}]}"#;

const HOVERFLY: &str = r#"{"data":{"pairs":[
  {"request":{"method":[{"matcher":"exact","value":"GET"}],"path":[{"matcher":"glob","value":"/hover/*"}]},
   "response":{"status":200,"body":"from hoverfly","encodedBody":false,"headers":{"Content-Type":["text/plain"]},"templated":false}},
  {"request":{"path":[{"matcher":"exact","value":"/xml"}],"body":[{"matcher":"xpath","value":"/a"}]},"response":{"status":200,"body":""}}],
  "globalActions":{"delays":[]}},"meta":{"schemaVersion":"v5.2"}}"#;

const GOREPLAY: &str = "1 aa 1700000000000000000 0\nGET /from-gor HTTP/1.1\r\nHost: gor.test\r\n\r\n\n🐵🙈🙉\n\
    2 aa 1700000000000500000 0\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfrom\r\n4\r\n gor\r\n0\r\n\r\n\n🐵🙈🙉\n";

const OPENAPI: &str = "openapi: 3.0.3
info: {title: pets, version: '1'}
servers: [{url: 'https://openapi.test/v1'}]
paths:
  /pets/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: string}, examples: {gone: {value: none}}}]
      responses:
        '200': {description: ok, content: {application/json: {schema: {$ref: '#/components/schemas/Pet'}}}}
        '404': {description: no, content: {application/json: {examples: {gone: {value: {error: gone}}}}}}
components: {schemas: {Pet: {type: object, properties: {name: {type: string, example: from openapi}}}}}
";

const REQUEST: &str = "GET /from-wire HTTP/1.1\nHost: wire.test\n\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\nContent-Type: text/plain\n\nfrom wire";

/// `wire/Req1.txt` and `wire/Res1.txt`, as Python's `zipfile` packs them.
const ZIP: &str = "UEsDBBQAAAAIAIMYIlhOJeqQNgAAADcAAAANAAAAd2lyZS9SZXExLnR4dHN3DVHQTyvKz9WtyixQ8AgJCdA31DPk5fLILy6xUgCK6ZWkFpfwcjkmJ6cWAEW09LV4uXi5AFBLAwQUAAAACACDGCJYWw9qM0IAAABIAAAADQAAAHdpcmUvUmVzMS50eHTzCAkJ0DfUM1QwMjBQ8Pfm5XLOzytJzSvRDaksSLVSKEmtKNEvyEnMzEPI+KTmpZdkWClY8HLxcqUV5ecqVGUWAABQSwECFAMUAAAACACDGCJYTiXqkDYAAAA3AAAADQAAAAAAAAAAAAAAgAEAAAAAd2lyZS9SZXExLnR4dFBLAQIUAxQAAAAIAIMYIlhbD2ozQgAAAEgAAAANAAAAAAAAAAAAAACAAWEAAAB3aXJlL1JlczEudHh0UEsFBgAAAAACAAIAdgAAAM4AAAAAAA==";

/// A directory with a file of every format.
fn write(dir: &Path) {
    for (name, text) in [
        ("shop.har", HAR),
        // The kind is told by the content: the same under another name is the same.
        ("shop.postman_collection.json", POSTMAN),
        ("simulation.json", HOVERFLY),
        ("traffic.gor", GOREPLAY),
        ("pets.yaml", OPENAPI),
        ("Req1.txt", REQUEST),
        ("Res1.txt", RESPONSE),
        ("notes.txt", "nothing to import"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    fs::write(dir.join("wire.zip"), STANDARD.decode(ZIP).unwrap()).unwrap();
}

fn text(response: &Response) -> (u16, String) {
    (response.status.as_u16(), String::from_utf8_lossy(&response.body).into_owned())
}

#[tokio::test]
async fn a_file_of_every_format_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let folder = dir.path().to_string_lossy().into_owned();
    let mut dev = Process::start(
        "countersign",
        ["dev", &folder, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
    );
    let client = Client::new(dev.address("data").await);
    for (target, status, body) in [
        ("/orders/7", 200, "from postman"),
        ("/hover/any", 200, "from hoverfly"),
        ("/from-gor", 200, "from gor"),
        ("/from-wire", 200, "from wire"),
        ("/from-zip", 200, "from zip"),
        ("/v1/pets/any", 200, r#"{"name":"from openapi"}"#),
        ("/v1/pets/none", 404, r#"{"error":"gone"}"#),
    ] {
        assert_eq!(text(&client.get(target).await), (status, body.to_owned()), "{target}");
    }
    let order = Bytes::from_static(b"{\"item\":7}");
    let ordered = client.send(Method::POST, "/orders?x=1", HeaderMap::new(), order).await;
    assert_eq!(text(&ordered), (201, "from har".to_owned()));
    assert!(!ordered.headers.contains_key("content-encoding"), "the body is plain");
    assert!(dev.terminate().await.success(), "{}", dev.text());
}

#[tokio::test]
async fn what_is_left_out_is_reported_with_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let server = format!("http://{}", plane.address("grpc").await);
    for (file, imported, skipped, place) in [
        ("shop.har", 1, 1, "log.entries[1].response"),
        ("shop.postman_collection.json", 1, 0, ""),
        ("simulation.json", 1, 1, "data.pairs[1].request.body[0]"),
        ("traffic.gor", 1, 0, ""),
        ("pets.yaml", 2, 0, ""),
        ("wire.zip", 1, 0, ""),
    ] {
        let path = dir.path().join(file).to_string_lossy().into_owned();
        let id = file.replace(['.', '_'], "-");
        let global = ["--server", &server, "--output", "json"];
        let arguments = global.into_iter().chain(["snapshot", "import", &path, "--id", &id]);
        let out = process::run("countersign", arguments).ok();
        let shown: Value = serde_json::from_str(&out.stdout()).unwrap();
        let report = &shown["report"];
        assert_eq!(counts(report), (imported, skipped, 0), "{file}: {report}");
        let found = report["findings"].as_array().into_iter().flatten().any(|finding| {
            finding["fieldPath"] == place
                && finding["subject"].as_str().is_some_and(|s| s.ends_with(file))
        });
        assert!(found || place.is_empty(), "{file}: {report}");
    }
}

fn counts(report: &Value) -> (u64, u64, u64) {
    let count = |name: &str| {
        let value = &report[name];
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
    };
    (count("imported"), count("skipped"), count("refused"))
}
