//! A real recording of many users who log in, served again: every request a hit, every login a token that is valid now.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::snapshot::RrPair;
use harness::{
    client::Client,
    now,
    process::{self, Process},
    python::{self, Ask},
    recording, shared_data,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

/// Longer than the one that the recorded tokens were signed with, which is shorter than its hash.
pub(crate) const KEY: &str = "sessions-demo-signing-key, made long enough";

/// Sends a recorded request as it was recorded.
async fn replay(client: &Client, pair: &RrPair) -> harness::client::Response {
    let recorded = pair.request.as_ref().unwrap();
    let mut headers = HeaderMap::new();
    for header in &recorded.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
        if !["connection", "content-length", "accept-encoding"].contains(&name.as_str()) {
            headers.append(name, HeaderValue::from_bytes(&header.value).unwrap());
        }
    }
    let target = if recorded.query.is_empty() {
        recorded.path.clone()
    } else {
        format!("{}?{}", recorded.path, recorded.query)
    };
    let method = Method::from_bytes(recorded.method.as_bytes()).unwrap();
    client.send(method, &target, headers, recorded.body.clone()).await
}

fn claims(token: &str) -> BTreeMap<String, Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Replays everything against one server and verifies what a user would notice.
pub(crate) async fn check(client: &Client, pairs: &[RrPair]) {
    let begin = now();
    let mut asks = Vec::new();
    let mut logins = 0;
    for pair in pairs {
        let request = pair.request.as_ref().unwrap();
        let response = replay(client, pair).await;
        let what = format!(
            "{} {}: {}",
            request.method,
            request.path,
            String::from_utf8_lossy(&response.body)
        );
        assert!(!response.headers.contains_key("x-countersign-miss"), "a miss: {what}");
        if request.method == "POST" && request.path == "/login" {
            logins += 1;
            let fresh = response.json()["access_token"].as_str().unwrap().to_owned();
            let recorded: Value = serde_json::from_slice(&pair.response.body).unwrap();
            let recorded = recorded["access_token"].as_str().unwrap();
            // Everything around the token is as recorded.
            let expected = String::from_utf8_lossy(&pair.response.body).replace(recorded, &fresh);
            assert_eq!(String::from_utf8_lossy(&response.body), expected, "{what}");
            let (mut new, mut old) = (claims(&fresh), claims(recorded));
            let times = ["iat", "exp"].map(|name| {
                (new.remove(name).unwrap().as_i64().unwrap(), old.remove(name).unwrap())
            });
            let [(iat, _), (exp, _)] = times;
            assert_eq!(new, old, "all other claims are equal");
            assert_eq!(exp - iat, 3600);
            assert!((begin..=now() + 1).contains(&iat), "issued now");
            asks.push(Ask { token: fresh, key: KEY.to_owned(), alg: "HS256".to_owned() });
        }
    }
    assert!(logins > 100, "{logins} logins");
    let verdicts = python::verify(&asks);
    let refused: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).collect();
    assert_eq!(refused, [""; 0], "every token is accepted");
    let wrong: Vec<Ask> = asks
        .iter()
        .take(3)
        .map(|ask| Ask { key: "another key of sufficient length".to_owned(), ..ask.clone() })
        .collect();
    for verdict in python::verify(&wrong) {
        assert_eq!(verdict.unwrap_err(), "InvalidSignatureError");
    }
}

pub(crate) fn prepare(root: &Path) -> (String, String) {
    let secrets = recording::secret_dir(root, "signing", KEY.as_bytes());
    let template = root.join("transform.json");
    std::fs::write(&template, recording::seed_template("sessions", "signing")).unwrap();
    (secrets.to_string_lossy().into_owned(), template.to_string_lossy().into_owned())
}

#[tokio::test]
async fn served_from_one_process() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (secrets, template) = prepare(dir.path());
    let mut dev = Process::start(
        "countersign",
        [
            "dev",
            &*folder.to_string_lossy(),
            "--transform",
            &template,
            "--secret-dir",
            &secrets,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ],
    );
    let server = dev.address("data").await;
    let pairs = recording::read(&folder).pairs;
    assert_eq!(pairs.len(), 1048);
    check(&Client::new(server), &pairs).await;
    let status = Client::new(dev.address("admin").await).get("/status").await.json();
    assert!(status.to_string().contains("1048"), "all are imported: {status}");
}

#[tokio::test]
async fn served_from_a_fleet() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (secrets, template) = prepare(dir.path());
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut responders =
        [1, 2].map(|nth| process::responder(&format!("r{nth}"), grpc, Path::new(&secrets), None));
    let server = format!("http://{grpc}");
    let cli = |arguments: &[&str]| {
        process::run("countersign", ["--server", &server].iter().chain(arguments)).ok()
    };

    let imported = cli(&[
        "snapshot",
        "import",
        &folder.to_string_lossy(),
        "--id",
        "sessions",
        "--output",
        "json",
    ]);
    assert!(imported.stdout().contains("1048"), "{}", imported.text());
    cli(&["transform", "put", &template]);
    cli(&[
        "replay",
        "start",
        "--snapshot",
        "sessions",
        "--transform",
        "sessions",
        "--serve",
        "in",
        "--wait",
    ]);
    let fleet = cli(&["responder", "list"]).stdout();
    assert!(fleet.contains("r1") && fleet.contains("r2"), "{fleet}");

    let pairs = recording::read(&folder).pairs;
    for responder in &mut responders {
        check(&Client::new(responder.address("data").await), &pairs).await;
    }
}
