//! WireMock mappings, as a directory and as an archive, are imported by the command and answered over HTTP as WireMock answers them.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use harness::{
    client::Client,
    process::{self, Process},
};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

/// The files of a WireMock root directory.
const FILES: [(&str, &str); 5] = [
    (
        "mappings/cart.json",
        r#"{"mappings":[
  {"scenarioName":"cart","requiredScenarioState":"Started","newScenarioState":"full",
   "request":{"method":"POST","urlPath":"/cart","bodyPatterns":[{"matchesJsonPath":"$.items[?(@.id == 'tea')]"}]},"response":{"status":201}},
  {"scenarioName":"cart","requiredScenarioState":"Started","request":{"method":"GET","url":"/cart"},"response":{"jsonBody":{"items": []}}},
  {"scenarioName":"cart","requiredScenarioState":"full","request":{"method":"GET","url":"/cart"},"response":{"jsonBody":{"items": ["tea"]}}}]}"#,
    ),
    (
        "mappings/else.json",
        r#"{"priority":10,"request":{"method":"ANY","urlPattern":"/.*"},"response":{"status":418,"body":"nothing here"}}"#,
    ),
    (
        "mappings/page.json",
        r#"{"priority":1,"request":{"method":"GET","urlPathTemplate":"/pages/{name}","pathParameters":{"name":{"matches":"[a-z]+"}},
  "headers":{"Accept":{"contains":"html"}}},"response":{"bodyFileName":"pages/page.html","headers":{"Content-Type":"text/html"}}}"#,
    ),
    (
        "mappings/fault.json",
        r#"{"name":"broken","request":{"urlPath":"/fault"},"response":{"fault":"EMPTY_RESPONSE"}}"#,
    ),
    (
        "__files/pages/page.html",
        r#"<h1>a page</h1>
"#,
    ),
];

/// The same files in a directory `shop`, as Python's `zipfile` packs them.
const ZIP: &str = "UEsDBBQAAAAIAIMYIliQIjD94wAAAAwCAAAXAAAAc2hvcC9tYXBwaW5ncy9jYXJ0Lmpzb26tkEFLw0AQhe/+imUQWiG02mOgVAQRPGghvYUc1uzUrCS76c4EkbD/vbM1eCietKdd5s3M+96M0Om+t+6dIC+vlBqBanQ6WP+iO4Qcah0YMgh4GGxAU0xqwZqTLG9gNNLh8PNc3A9tC5lsVad5JIZ8hA658Ubk7Wuxk8EhtFvNjRSWk9mbN19SYgwuYcmI5rpBeibvptbrhWXsqNzM7xfWqPVazRj17KaCWMWES713hMmPhGaQPavbuxizf2X8LcXT4xTiJ8CZ/4dQP0ii9D9BQ67KKv6N5fukFwQBORskmioeAVBLAwQUAAAACACDGCJYxu7DcGUAAABtAAAAFwAAAHNob3AvbWFwcGluZ3MvZWxzZS5qc29uFcwxCoQwEEbhqyx/uQRdwULSeQGx3dLFwQQ0ozOTYpHcXW0fH+/ELpEl2h+++TgIHZnU4E9sZIFnePTDFw5Z1nEyI0l3qqs3yqN156T0cLXJssK3Tefw4/keIrGFmJZXICGUcgFQSwMEFAAAAAgAgxgiWIjg3aeuAAAA+wAAABcAAABzaG9wL21hcHBpbmdzL3BhZ2UuanNvbk2OsQrCMBCGd5+i3Gpqce0mom7SoZs4nOlhCm0SkytYS97dJCq4HNz9H9/9C1jXG9fzDPVWgKPHRJ6hXmAkVqaDGk6HFgRMbmiQVUujHZAp3iuLd/LVonGkEAkb4wZd3JicT4qUZBWyVBRPcMHydV1DCGJVFKAIuy+6k5Js/iuNZux1ohWPQ2RD6uWt0T7bbqabj/1A52yHT4s0N5kX/9p9lJHmsp1tYpmeXP2sb1BLAwQUAAAACACDGCJYuMIQTE4AAABWAAAAGAAAAHNob3AvbWFwcGluZ3MvZmF1bHQuanNvbqtWykvMTVWyUkoqys9OzVPSUSpKLSxNLS5RsqpWKi3KCUgsyQDK6qclluaUKNWCpIsL8vOKU0HyEEErJVffgJDI+CDX4AB/v2BXpdpaAFBLAwQUAAAACACDGCJYQ7joPRAAAAAQAAAAHAAAAHNob3AvX19maWxlcy9wYWdlcy9wYWdlLmh0bWyzyTC0S1QoSExPtdEHMrkAUEsBAhQDFAAAAAgAgxgiWJAiMP3jAAAADAIAABcAAAAAAAAAAAAAAIABAAAAAHNob3AvbWFwcGluZ3MvY2FydC5qc29uUEsBAhQDFAAAAAgAgxgiWMbuw3BlAAAAbQAAABcAAAAAAAAAAAAAAIABGAEAAHNob3AvbWFwcGluZ3MvZWxzZS5qc29uUEsBAhQDFAAAAAgAgxgiWIjg3aeuAAAA+wAAABcAAAAAAAAAAAAAAIABsgEAAHNob3AvbWFwcGluZ3MvcGFnZS5qc29uUEsBAhQDFAAAAAgAgxgiWLjCEExOAAAAVgAAABgAAAAAAAAAAAAAAIABlQIAAHNob3AvbWFwcGluZ3MvZmF1bHQuanNvblBLAQIUAxQAAAAIAIMYIlhDuOg9EAAAABAAAAAcAAAAAAAAAAAAAACAARkDAABzaG9wL19fZmlsZXMvcGFnZXMvcGFnZS5odG1sUEsFBgAAAAAFAAUAXwEAAGMDAAAAAA==";

fn write(root: &Path) {
    for (name, content) in FILES {
        let path = root.join("shop").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(root.join("shop.zip"), STANDARD.decode(ZIP).unwrap()).unwrap();
}

async fn ask(client: &Client, method: Method, target: &str, body: &'static str) -> (u16, String) {
    let accept = HeaderValue::from_static("text/html, */*");
    let headers = HeaderMap::from_iter([(http::header::ACCEPT, accept)]);
    let response = client.send(method, target, headers, Bytes::from_static(body.as_bytes())).await;
    (response.status.as_u16(), String::from_utf8_lossy(&response.body).into_owned())
}

#[tokio::test]
async fn a_directory_and_an_archive_answer_alike() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for form in ["shop", "shop.zip"] {
        let path = dir.path().join(form).to_string_lossy().into_owned();
        let arguments = ["dev", &path, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut dev = Process::start("countersign", arguments);
        let client = Client::new(dev.address("data").await);
        let tea = r#"{"items":[{"id":"milk"},{"id":"tea"}]}"#;
        for (method, target, body, status, answer) in [
            (Method::GET, "/pages/home?x=1", "", 200, "<h1>a page</h1>\n"),
            (Method::GET, "/pages/1", "", 418, "nothing here"),
            (Method::GET, "/cart", "", 200, r#"{"items":[]}"#),
            (Method::POST, "/cart", r#"{"items":[]}"#, 418, "nothing here"),
            (Method::POST, "/cart", tea, 201, ""),
            (Method::GET, "/cart", "", 200, r#"{"items":["tea"]}"#),
            (Method::POST, "/cart", tea, 418, "nothing here"),
            (Method::DELETE, "/fault", "", 418, "nothing here"),
        ] {
            let told = format!("{form}: {method} {target} {body}");
            let seen = ask(&client, method, target, body).await;
            assert_eq!(seen, (status, answer.to_owned()), "{told}");
        }
        assert!(dev.terminate().await.success(), "{}", dev.text());
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let server = format!("http://{}", plane.address("grpc").await);
    for (form, id) in [("shop", "folder"), ("shop.zip", "archive")] {
        let path = dir.path().join(form).to_string_lossy().into_owned();
        let global = ["--server", &server, "--output", "json"];
        let arguments = global.into_iter().chain(["snapshot", "import", &path, "--id", id]);
        let out = process::run("countersign", arguments).ok();
        let shown: Value = serde_json::from_str(&out.stdout()).unwrap();
        let report = &shown["report"];
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{report}");
        assert_eq!(findings[0]["code"], "fault_unsupported");
        assert_eq!(findings[0]["fieldPath"], "response.fault");
        assert!(findings[0]["subject"].as_str().unwrap().ends_with("mappings/fault.json"));
        assert!(findings[0]["message"].as_str().unwrap().contains("`broken`"), "{report}");
    }
}
