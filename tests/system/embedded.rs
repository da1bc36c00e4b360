//! A recording brings its template along: it is served with it, unless the user names another.

use std::{fs, path::Path};

use harness::{
    client::Client,
    process,
    python::{self, Ask},
    recording,
};
use serde_json::{Value, json};

const KEY: &str = "a secret that is long enough to sign with";

/// A snapshot's folder with its metadata, and an active blueprint beside it.
fn prepare(dir: &Path) {
    let times = json!({"sub": "a", "iat": 1_700_000_000, "exp": 1_700_000_600});
    let body = json!({"access_token": recording::old_token("HS256", &times), "note": "recorded"});
    let template: Value = serde_json::from_str(&recording::seed_template("standard", "k")).unwrap();
    let note = json!({"id": "tuned", "responder": [{"extractor": {"type": "res_body"}, "transforms": [
        {"type": "json_path", "config": {"path": "note"}},
        {"type": "constant", "config": {"new": "tuned"}}
    ]}]});
    for (name, text) in [
        ("login/raw.jsonl", recording::line("GET", "/token", &body)),
        (
            "login.json",
            json!({"id": "login", "tokenConfigId": "standard", "tokenizerConfig": template})
                .to_string(),
        ),
        (
            "blueprints/tuned.json",
            json!({"id": "tuned", "active": true, "tokenizeConfig": note}).to_string(),
        ),
    ] {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Whether the served token verifies under the key, and the note beside it.
async fn served(client: &Client) -> (bool, String) {
    let body = client.get("/token").await.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    let ask = Ask { token: text("access_token"), key: KEY.to_owned(), alg: "HS256".to_owned() };
    (python::verify(&[ask]).remove(0).is_ok(), text("note"))
}

#[tokio::test]
async fn a_replay_uses_the_template_of_its_recording() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let secrets = recording::secret_dir(dir.path(), "k", KEY.as_bytes());
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let empty = json!({"id": "empty", "responder": []}).to_string();
    fs::write(dir.path().join("empty.json"), empty).unwrap();

    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut responder = process::responder("r", grpc, &secrets, None);
    let client = Client::new(responder.address("data").await);
    let server = format!("http://{grpc}");
    let cli = |arguments: &[&str]| {
        process::run("countersign", ["--server", &server].iter().chain(arguments)).ok().text()
    };
    let told = cli(&["snapshot", "import", &path("login")]);
    for part in ["login.json", "tuned.json", "login-embedded"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // The snapshot has a copy: what becomes of the files is nothing to it.
    fs::remove_file(dir.path().join("login.json")).unwrap();
    let told = cli(&["replay", "start", "login", "--wait"]);
    assert!(told.contains("login-embedded"), "{told}");
    assert_eq!(served(&client).await, (true, "tuned".to_owned()));

    cli(&["replay", "delete", "login"]);
    cli(&["transform", "put", &path("empty.json")]);
    cli(&["replay", "start", "login", "--transform", "empty", "--wait"]);
    assert_eq!(served(&client).await, (false, "recorded".to_owned()));
}
