//! `countersign dev` and `demo` as somebody uses them for the first time: files are edited while they are served.

use std::{fs, os::unix::fs::symlink, path::Path};

use harness::{
    client::Client,
    process::{self, Process},
    python::{self, Ask},
    recording, wait_until,
};
use serde_json::json;

const OLD: &str = "the old secret, which is long enough to sign";
const NEW: &str = "the new secret, which is long enough as well";

fn token() -> String {
    recording::old_token("HS256", &json!({"sub": "a", "iat": 1_700_000_000, "exp": 1_700_000_600}))
}

/// A directory with a recording of one login, a template, and secrets as Kubernetes mounts them.
fn prepare(dir: &Path) {
    let body = json!({"access_token": token()});
    fs::write(dir.join("login.jsonl"), recording::line("GET", "/token", &body)).unwrap();
    fs::write(dir.join("t.json"), recording::seed_template("t", "signing")).unwrap();
    fs::create_dir_all(dir.join("secrets/jwt-demo")).unwrap();
    mount(dir, "..1", OLD);
    symlink("..data/signing", dir.join("secrets/jwt-demo/signing")).unwrap();
}

/// Writes a version of the secret, then switches to it in one step.
fn mount(dir: &Path, version: &str, key: &str) {
    let secret = dir.join("secrets/jwt-demo");
    fs::create_dir(secret.join(version)).unwrap();
    fs::write(secret.join(version).join("signing"), key).unwrap();
    symlink(version, secret.join("..data_tmp")).unwrap();
    fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
}

fn dev(dir: &Path) -> Process {
    dev_with(dir, &[])
}

fn dev_with(dir: &Path, more: &[&str]) -> Process {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (login, template, secrets) = (path("login.jsonl"), path("t.json"), path("secrets"));
    let arguments = [
        "dev",
        &login,
        "--transform",
        &template,
        "--secret-dir",
        &secrets,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    Process::start("countersign", arguments.iter().chain(more).copied())
}

/// The token that is served, if it verifies under the key.
async fn valid(client: &Client, key: &str) -> Option<serde_json::Value> {
    let token = client.get("/token").await.json()["access_token"].as_str()?.to_owned();
    let ask = Ask { token, key: key.to_owned(), alg: "HS256".to_owned() };
    python::verify(&[ask]).remove(0).ok()
}

#[tokio::test]
async fn files_may_be_edited_while_they_are_served() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let mut dev = dev(dir.path());
    let client = Client::new(dev.address("data").await);
    assert!(valid(&client, OLD).await.is_some());

    mount(dir.path(), "..2", NEW);
    wait_until("the switched secret signs", || valid(&client, NEW)).await;

    // A broken template is told, with the place of the mistake, and the one before it stays.
    let template = recording::seed_template("t", "signing");
    fs::write(dir.path().join("t.json"), template.replace("secretPath", "secretPfad")).unwrap();
    wait_until("the mistake is told", || {
        let told = dev.text().contains("responder[0].transforms[1].config.secretPath");
        async move { told.then_some(()) }
    })
    .await;
    assert!(valid(&client, NEW).await.is_some(), "{}", dev.text());

    let secret_path = "\"secretPath\"";
    let mended = template.replace(secret_path, &format!("\"sub\":\"bob\",{secret_path}"));
    fs::write(dir.path().join("t.json"), mended).unwrap();
    wait_until("the mended template is taken over", || async {
        valid(&client, NEW).await.filter(|claims| claims["sub"] == "bob")
    })
    .await;

    let more = recording::line("GET", "/more", &json!({"more": true}));
    let login = recording::line("GET", "/token", &json!({"access_token": token()}));
    fs::write(dir.path().join("login.jsonl"), format!("{login}\n{more}\n")).unwrap();
    wait_until("the longer recording is taken over", || async {
        (client.get("/more").await.status == 200).then_some(())
    })
    .await;
    assert!(valid(&client, NEW).await.is_some());
    assert!(dev.terminate().await.success(), "{}", dev.text());
}

#[tokio::test]
async fn templates_read_the_environment_as_far_as_they_are_allowed_to() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"path=${{env_var:PATH}}"}}]}]}"#;
    fs::write(dir.path().join("t.json"), template).unwrap();
    for (more, expected) in
        [(&[][..], String::new()), (&["--template-env", "PATH"], std::env::var("PATH").unwrap())]
    {
        let mut dev = dev_with(dir.path(), more);
        let client = Client::new(dev.address("data").await);
        let answer = client.get("/token").await;
        assert_eq!(answer.body, format!("path={expected}"), "{more:?}");
        assert!(dev.terminate().await.success(), "{}", dev.text());
    }
}

#[test]
fn the_demo_holds_what_it_promises() {
    let shown = process::run("countersign", ["demo", "--once"]).ok();
    for part in ["RS256", "verifies with the new key", "expired"] {
        assert!(shown.text().contains(part), "{}", shown.text());
    }
}
