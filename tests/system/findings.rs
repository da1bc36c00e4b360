//! What cannot be re-signed is served as recorded, counted, and named with its reason wherever somebody may look.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{client::Client, process, recording};
use serde_json::{Value, json};

/// Path, recorded value of `access_token`, key of the secret `jwt-demo` that is to sign it, and the code of the finding, if it is one.
fn table() -> Vec<(&'static str, Option<String>, &'static str, Option<&'static str>)> {
    let times = json!({"iat": 1_700_000_000, "exp": 1_700_000_600});
    let token = |alg: &str| recording::old_token(alg, &times);
    vec![
        ("/without", None, "good", None),
        ("/opaque", Some("0123456789abcdef".to_owned()), "good", Some("not_a_jwt")),
        ("/none", Some(token("none")), "good", Some("alg_not_allowed")),
        (
            "/jwe",
            Some("eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d".to_owned()),
            "good",
            Some("jwt_form_unsupported"),
        ),
        ("/rsa", Some(token("RS256")), "good", Some("key_not_private_rsa")),
        ("/empty", Some(token("HS256")), "empty", Some("key_weak")),
        ("/unmounted", Some(token("HS256")), "unmounted", Some("secret_missing")),
    ]
}

#[tokio::test]
async fn tokens_that_cannot_be_signed_stay_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let secrets =
        recording::secret_dir(dir.path(), "good", b"a secret that is long enough to sign");
    fs::write(secrets.join("jwt-demo/empty"), b"").unwrap();
    let mut lines = String::new();
    let mut chains = Vec::new();
    let mut bodies = Vec::new();
    for (path, token, key, _) in table() {
        let mut body = json!({"token_type": "Bearer", "expires_in": 3600});
        if let Some(token) = token {
            body["access_token"] = json!(token);
        }
        lines.push_str(&recording::line("GET", path, &body));
        lines.push('\n');
        bodies.push(body.to_string());
        chains.push(json!({
        "filters": {"filters": [{"include": true, "detectedLocation": path}]},
        "extractor": {"type": "http_res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("/home/speedscale/secret/jwt-demo/{key}")}}
        ]}));
    }
    fs::write(dir.path().join("all.jsonl"), lines).unwrap();
    let template = json!({"id": "t", "responder": chains}).to_string();
    fs::write(dir.path().join("t.json"), template).unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();

    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut responder = process::responder("r", grpc, &secrets, None);
    let client = Client::new(responder.address("data").await);
    let admin = Client::new(responder.address("admin").await);
    let server = format!("http://{grpc}");
    let cli = |arguments: &[&str]| {
        process::run("countersign", ["--server", &server].iter().chain(arguments)).ok().stdout()
    };
    cli(&["snapshot", "import", &path("all.jsonl"), "--id", "all"]);
    cli(&["transform", "put", &path("t.json")]);
    cli(&["replay", "start", "all", "--transform", "t", "--wait"]);

    for ((path, ..), recorded) in table().iter().zip(&bodies) {
        let response = client.get(path).await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(String::from_utf8_lossy(&response.body), *recorded, "{path}");
    }
    let status = admin.get("/status").await.json();
    let replay = cli(&["--output", "json", "replay", "status", "all"]);
    let metrics = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    for (path, _, _, code) in table() {
        let Some(code) = code else { continue };
        assert!(status.to_string().contains(code), "{path}: no {code} in {status}");
        assert!(replay.contains(code), "{path}: no {code} in {replay}");
    }
    // The three tokens that are well-formed and have no key for them.
    let counted = |result: &str| {
        let name = format!("countersign_tokens_total{{result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default().to_owned()
    };
    assert_eq!((counted("signed").as_str(), counted("unsigned").as_str()), ("0", "3"), "{metrics}");
}

#[tokio::test]
async fn secrets_and_keys_are_told_to_nobody() {
    let secret = "a canary that nobody may ever see outside";
    let dir = tempfile::tempdir().unwrap();
    let secrets = recording::secret_dir(dir.path(), "good", secret.as_bytes());
    let token = recording::old_token("HS256", &json!({"iat": 1_700_000_000, "exp": 1_700_000_600}));
    let body = json!({"access_token": token});
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    fs::write(path("a.jsonl"), recording::line("GET", "/a", &body)).unwrap();
    fs::write(path("t.json"), recording::seed_template("t", "good")).unwrap();
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let cache = dir.path().join("cache");
    let mut responder = process::responder("r", grpc, &secrets, Some(&cache));
    let client = Client::new(responder.address("data").await);
    let admin = Client::new(responder.address("admin").await);
    let server = format!("http://{grpc}");
    let mut told = String::new();
    for arguments in [
        &["snapshot", "import", &path("a.jsonl"), "--id", "a"][..],
        &["transform", "put", &path("t.json")],
        &["replay", "start", "a", "--transform", "t", "--wait"],
        &["--output", "json", "replay", "status", "a"],
        &["--output", "json", "responder", "list"],
    ] {
        let out = process::run("countersign", ["--server", &server].iter().chain(arguments)).ok();
        told.push_str(&out.text());
    }
    let fresh: Value = client.get("/a").await.json();
    assert_ne!(fresh["access_token"], body["access_token"], "it is signed");
    for page in ["/status", "/metrics", "/readyz"] {
        told.push_str(&String::from_utf8_lossy(&admin.get(page).await.body));
    }
    told.push_str(&client.get("/miss").await.json().to_string());
    assert!(responder.terminate().await.success());
    told.push_str(&responder.text());
    told.push_str(&plane.text());
    for word in [secret, &*STANDARD.encode(secret)] {
        assert!(!told.contains(word), "{told}");
    }
    for place in ["data", "cache"] {
        let grep = std::process::Command::new("grep")
            .args(["-rlaF", secret, &path(place)])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "the secret is stored");
    }
}
