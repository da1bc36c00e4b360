//! What was taken out of a recording is nowhere: not in the control plane's store, not in a responder's cache; and it still answers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{client::Client, process, recording};
use serde_json::{Value, json};

const MAIL: &str = "ava.canary@example.com";
const PASSWORD: &str = "canary-password-93";
const CARD: &str = "4111 1111 1111 1111";
/// The JWS signature of [`recording::old_token`].
const SIGNATURE: &str = "YW4gb2xkIEpXUyBzaWduYXR1cmU";
const KEY: &[u8] = b"a secret that is long enough to sign";

/// Which files below a directory hold any of the texts, as they are or in base64 or gzip-free protobuf.
fn holding(root: &Path, texts: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, texts));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for text in texts {
            let encoded = STANDARD.encode(text);
            for form in [text.as_bytes(), encoded.trim_end_matches('=').as_bytes()] {
                if bytes.windows(form.len()).any(|window| window == form) {
                    found.push((path.clone(), (*text).to_owned()));
                }
            }
        }
    }
    found
}

fn line(path: &str, request: &Value, authorization: &str, response: &Value) -> String {
    let mut line: Value = serde_json::from_str(&recording::line("POST", path, response)).unwrap();
    let message = &mut line["http"]["req"];
    message["bodyBase64"] = STANDARD.encode(request.to_string()).into();
    message["headers"]["Content-Type"] = json!(["application/json"]);
    message["headers"]["Authorization"] = json!([authorization]);
    let mut signature = json!({
        "http:method": "POST", "http:host": "api.example", "http:url": path, "http:queryparams": "",
        "http:requestBodyJSON": request.to_string(),
    });
    line["mutableSignature"] = signature.clone();
    for value in signature.as_object_mut().unwrap().values_mut() {
        *value = STANDARD.encode(value.as_str().unwrap()).into();
    }
    line["signature"] = signature;
    line.to_string()
}

/// Imports, serves, asks, and looks into every file that was written.
async fn stored_and_served(arguments: &[&str]) -> (Vec<(PathBuf, String)>, Vec<Value>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let token = recording::old_token("HS256", &json!({"sub": "ava", "iat": 1, "exp": 3601}));
    let login = json!({"user": MAIL, "password": PASSWORD});
    let pay = json!({"card": CARD, "token": token});
    let lines = [
        // The token is used before the response that issues it is read.
        line("/pay", &pay, &format!("Bearer {token}"), &json!({"paid": true, "card": CARD})),
        line(
            "/login",
            &login,
            "Basic YXZhOmNhbmFyeQ==",
            &json!({"access_token": token, "user": MAIL}),
        ),
    ];
    fs::write(path("r.jsonl"), lines.join("\n")).unwrap();
    fs::write(path("t.json"), recording::seed_template("t", "signing")).unwrap();
    let secrets = recording::secret_dir(dir.path(), "signing", KEY);
    let (data, cache) = (dir.path().join("data"), dir.path().join("cache"));
    let mut plane = process::control_plane(&data, "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut responder = process::responder("r", grpc, &secrets, Some(&cache));
    let client = Client::new(responder.address("data").await);
    let server = format!("http://{grpc}");
    let cli = |arguments: &[&str]| {
        process::run("countersign", ["--server", &server].iter().chain(arguments)).ok()
    };
    cli(&["transform", "put", &path("t.json")]);
    let file = path("r.jsonl");
    let import = ["--output", "json", "snapshot", "import", &*file, "--id", "r"];
    let imported = cli(&[&import[..], arguments].concat());
    cli(&["replay", "start", "r", "--transform", "t", "--wait"]);
    let mut answers = Vec::new();
    for (target, body) in [("/login", login.to_string()), ("/pay", pay.to_string())] {
        let response = client.post_json(target, &body).await;
        assert!(!response.headers.contains_key("x-countersign-miss"), "{target} is a miss");
        answers.push(response.json());
    }
    let mut found = holding(&data, &[MAIL, PASSWORD, CARD, SIGNATURE]);
    found.extend(holding(&cache, &[MAIL, PASSWORD, CARD, SIGNATURE]));
    let report = serde_json::from_str::<Value>(&imported.stdout()).unwrap();
    (found, answers, report["report"].clone())
}

#[tokio::test]
async fn nothing_that_was_taken_out_is_kept_anywhere() {
    let arguments = ["--dlp", "standard", "--transform", "t"];
    let (found, answers, report) = stored_and_served(&arguments).await;
    assert_eq!(found, [], "is still there");
    let token = answers[0]["access_token"].as_str().unwrap();
    assert!(!token.ends_with(SIGNATURE) && !token.ends_with("AAAA"), "signed anew: {token}");
    assert!(answers[0]["user"].as_str().unwrap().starts_with("REDACTED-EMAIL-"), "{answers:?}");
    let redaction = &report["redaction"];
    assert_eq!(redaction["dlpConfig"], "standard");
    assert_eq!(redaction["changesRequests"], true);
    // In a header, two bodies and the signature.
    assert!(redaction["signaturesStripped"].as_u64().unwrap() >= 4, "{redaction}");
    for secret in [MAIL, PASSWORD, CARD, SIGNATURE] {
        assert!(!report.to_string().contains(secret), "the report tells {secret}");
    }
}

#[tokio::test]
async fn the_same_search_finds_all_of_it_in_an_import_without() {
    let (found, _, report) = stored_and_served(&[]).await;
    for text in [MAIL, PASSWORD, CARD, SIGNATURE] {
        let places = found.iter().filter(|found| found.1 == text).count();
        assert!(places >= 2, "{text} is in the store and the cache: {found:?}");
    }
    assert_eq!(report["redaction"], Value::Null);
    assert!(report["findings"].to_string().contains("signatures_kept"), "{report}");
}
