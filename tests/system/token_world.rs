//! Verifiers that take keys from a recorded key set accept every token, from every replica, through a rotation.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{
    client::Client,
    has_openssl,
    process::{self, Process},
    python::{self, AskWithKeys},
    rotation::{KEYS, login, mount, write_recording},
    wait_until,
};
use serde_json::{Value, json};

pub(crate) fn responder(name: &str, grpc: SocketAddr, secrets: &Path, more: &[&str]) -> Process {
    let mut arguments: Vec<String> =
        ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", name]
            .map(str::to_owned)
            .into();
    arguments.extend(["--control-plane".to_owned(), format!("http://{grpc}")]);
    arguments.extend(["--secret-dir".to_owned(), secrets.to_string_lossy().into_owned()]);
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    Process::start("countersign-responder", arguments)
}

pub(crate) async fn key_set(client: &Client) -> String {
    String::from_utf8(client.get("/jwks").await.body.to_vec()).unwrap()
}

/// What a token says.
pub(crate) fn claims_of(token: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

pub(crate) fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

pub(crate) fn with_keys(alg: &str, token: &str, keys: &str) -> AskWithKeys {
    AskWithKeys { token: token.into(), alg: alg.into(), uri: String::new(), keys: keys.into() }
}

pub(crate) fn assert_accepted(asks: &[AskWithKeys]) {
    for (ask, verdict) in asks.iter().zip(python::verify_with_keys(asks).into_iter().flatten()) {
        let subject = verdict.map(|claims| claims["sub"].clone());
        assert_eq!(subject, Ok(json!(ask.alg)));
    }
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    _plane: Process,
    pub(crate) grpc: SocketAddr,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount(&dir.path().join("secrets"), 1);
        write_recording(dir.path());
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        Self { dir, _plane: plane, grpc }
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.dir.path().join("secrets")
    }

    pub(crate) fn start(&self) {
        let server = format!("http://{}", self.grpc);
        let cli = |arguments: &[&str]| {
            drop(process::run("countersign", ["--server", &server].iter().chain(arguments)).ok());
        };
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        cli(&["snapshot", "import", &path("all.jsonl"), "--id", "all"]);
        cli(&["transform", "put", &path("t.json")]);
        cli(&["replay", "start", "--snapshot", "all", "--transform", "t", "--wait"]);
    }
}

#[tokio::test]
async fn a_key_set_client_accepts_tokens_of_all_replicas() {
    if !has_openssl() {
        return;
    }
    let world = World::new().await;
    let mut one = responder("one", world.grpc, &world.secrets(), &[]);
    let mut two = responder("two", world.grpc, &world.secrets(), &[]);
    let addresses = [one.address("data").await, two.address("data").await];
    let clients = addresses.map(Client::new);
    world.start();

    let sets = [key_set(&clients[0]).await, key_set(&clients[1]).await];
    assert_eq!(sets[0], sets[1], "replicas serve the same bytes");
    assert!(sets[0].contains("\"recorded\"") && !sets[0].contains("\"d\""), "{}", sets[0]);
    let mut asks = Vec::new();
    for (alg, _) in KEYS {
        for (issuer, verifier) in [(0, 1), (1, 0)] {
            let token = login(&clients[issuer], alg).await;
            let uri = format!("http://{}/jwks", addresses[verifier]);
            asks.push(AskWithKeys { token, alg: alg.into(), uri, keys: String::new() });
        }
    }
    assert_accepted(&asks);
    // An ECDSA signature has a random part; the others are the same wherever they are made within a second.
    for alg in ["HS256", "RS256", "EdDSA"] {
        wait_until("both sign within one second", || async {
            (login(&clients[0], alg).await == login(&clients[1], alg).await).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_key_set_that_a_verifier_keeps_lasts_through_a_rotation() {
    if !has_openssl() {
        return;
    }
    let world = World::new().await;
    let mut process = responder("slow", world.grpc, &world.secrets(), &["--key-overlap", "3s"]);
    let client = Client::new(process.address("data").await);
    world.start();

    let mut old = Vec::new();
    for (alg, _) in KEYS {
        old.push(login(&client, alg).await);
    }
    let before = key_set(&client).await;
    mount(&world.secrets(), 2);
    // A verifier fetches the key set while the new keys are published and do not sign yet, and keeps it.
    let kept = wait_until("the new keys are published", || async {
        let set = key_set(&client).await;
        let value: Value = serde_json::from_str(&set).unwrap();
        (value["keys"].as_array().unwrap().len() == 2 * KEYS.len() + 1).then_some(set)
    })
    .await;
    let mut asks = Vec::new();
    for ((alg, _), old) in KEYS.iter().zip(&old) {
        let still = login(&client, alg).await;
        if kid(&still) == kid(old) {
            // Whoever has not heard of the rotation has no trouble before the overlap has passed.
            asks.push(with_keys(alg, &still, &before));
        }
        let new = wait_until("the new key signs", || async {
            let token = login(&client, alg).await;
            (kid(&token) != kid(old)).then_some(token)
        })
        .await;
        asks.push(with_keys(alg, old, &kept));
        asks.push(with_keys(alg, &new, &kept));
        asks.push(with_keys(alg, old, &key_set(&client).await));
    }
    assert_accepted(&asks);
}
