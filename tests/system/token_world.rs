//! Verifiers that take keys from a recorded key set accept every token, from every replica, through a rotation.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{
    client::Client,
    has_openssl,
    process::{self, Process},
    python::{self, AskWithKeys},
    recording, wait_until,
};
use serde_json::{Value, json};

/// Algorithms and how openssl makes their keys.
const KEYS: [(&str, &str); 3] = [
    ("RS256", "genrsa 2048"),
    ("ES256", "ecparam -name prime256v1 -genkey -noout"),
    ("EdDSA", "genpkey -algorithm ed25519"),
];

fn openssl(arguments: &str) -> Vec<u8> {
    let out = Command::new("openssl").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "openssl {arguments}");
    out.stdout
}

/// Writes a generation of keys as the kubelet does: a new directory, then the link replaced by renaming.
fn mount(secrets: &Path, generation: u32) {
    let dir = secrets.join("keys");
    let name = format!("..generation_{generation}");
    fs::create_dir_all(dir.join(&name)).unwrap();
    let hmac = b"a secret of at least thirty-two bytes".to_vec();
    let fresh = KEYS.map(|(alg, make)| (alg, openssl(make)));
    for (alg, key) in fresh.into_iter().chain([("HS256", hmac)]) {
        fs::write(dir.join(&name).join(alg), key).unwrap();
        if !dir.join(alg).is_symlink() {
            symlink(format!("..data/{alg}"), dir.join(alg)).unwrap();
        }
    }
    symlink(&name, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

/// A recording of a login for each algorithm, of the key set that verified them, and the template that re-signs them.
fn write_recording(dir: &Path) {
    let mut lines = Vec::new();
    let mut chains = Vec::new();
    for alg in KEYS.map(|(alg, _)| alg).into_iter().chain(["HS256"]) {
        let token = recording::old_token(
            alg,
            &json!({"iss": "https://api.example", "sub": alg, "iat": 1_700_000_000, "exp": 1_700_003_600}),
        );
        lines.push(recording::line("GET", &format!("/{alg}"), &json!({"access_token": token})));
        chains.push(json!({
        "filters": {"filters": [{"include": true, "detectedLocation": format!("/{alg}")}]},
        "extractor": {"type": "res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("${{{{secret:keys/{alg}}}}}")}}
        ]}));
    }
    let recorded = json!({"keys": [{"kty": "RSA", "kid": "recorded", "n": "AQAB", "e": "AQAB"}]});
    lines.push(recording::line("GET", "/jwks", &recorded));
    fs::write(dir.join("all.jsonl"), lines.join("\n")).unwrap();
    fs::write(dir.join("t.json"), json!({"id": "t", "responder": chains}).to_string()).unwrap();
}

fn responder(name: &str, grpc: SocketAddr, secrets: &Path, more: &[&str]) -> Process {
    let mut arguments: Vec<String> =
        ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", name]
            .map(str::to_owned)
            .into();
    arguments.extend(["--control-plane".to_owned(), format!("http://{grpc}")]);
    arguments.extend(["--secret-dir".to_owned(), secrets.to_string_lossy().into_owned()]);
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    Process::start("countersign-responder", arguments)
}

async fn login(client: &Client, alg: &str) -> String {
    let answer = client.get(&format!("/{alg}")).await.json();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn key_set(client: &Client) -> String {
    String::from_utf8(client.get("/jwks").await.body.to_vec()).unwrap()
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn with_keys(alg: &str, token: &str, keys: &str) -> AskWithKeys {
    AskWithKeys { token: token.into(), alg: alg.into(), uri: String::new(), keys: keys.into() }
}

fn assert_accepted(asks: &[AskWithKeys]) {
    for (ask, verdict) in asks.iter().zip(python::verify_with_keys(asks).into_iter().flatten()) {
        let subject = verdict.map(|claims| claims["sub"].clone());
        assert_eq!(subject, Ok(json!(ask.alg)));
    }
}

struct World {
    dir: tempfile::TempDir,
    _plane: Process,
    grpc: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount(&dir.path().join("secrets"), 1);
        write_recording(dir.path());
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        Self { dir, _plane: plane, grpc }
    }

    fn secrets(&self) -> PathBuf {
        self.dir.path().join("secrets")
    }

    fn start(&self) {
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
