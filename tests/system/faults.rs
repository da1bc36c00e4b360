//! What happens when something breaks: the control plane dies, a key is replaced, a key file is broken.

use std::{fs, net::SocketAddr, path::Path};

use harness::{
    client::Client,
    process::{self, Process},
    recording, wait_until,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

const FIRST: &[u8] = b"the first secret, which is long enough";
const SECOND: &[u8] = b"the second secret, also long enough";

/// A fleet that serves one login.
struct Fleet {
    dir: tempfile::TempDir,
    plane: Process,
    grpc: SocketAddr,
    responder: Process,
}

async fn fleet() -> Fleet {
    let dir = tempfile::tempdir().unwrap();
    let secrets = recording::secret_dir(dir.path(), "signing", FIRST);
    let token = recording::old_token(
        "HS256",
        &json!({"sub": "alice", "iat": 1_700_000_000, "exp": 1_700_000_600}),
    );
    let line = recording::line("GET", "/token", &json!({"access_token": token}));
    fs::write(dir.path().join("login.jsonl"), line).unwrap();
    fs::write(dir.path().join("transform.json"), recording::seed_template("t", "signing")).unwrap();
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let responder = process::responder("r1", grpc, &secrets, Some(&dir.path().join("cache")));
    let fleet = Fleet { dir, plane, grpc, responder };
    fleet.cli(&["snapshot", "import", &fleet.path("login.jsonl"), "--id", "login"]);
    fleet.cli(&["transform", "put", &fleet.path("transform.json")]);
    fleet.cli(&["replay", "start", "--snapshot", "login", "--transform", "t", "--wait"]);
    fleet
}

impl Fleet {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let server = format!("http://{}", self.grpc);
        process::run("countersign", ["--server", &server].iter().chain(arguments)).ok().stdout()
    }

    async fn client(&mut self) -> Client {
        Client::new(self.responder.address("data").await)
    }

    async fn admin(&mut self) -> Client {
        Client::new(self.responder.address("admin").await)
    }

    fn write_key(&self, key: &[u8]) {
        fs::write(self.dir.path().join("secrets/jwt-demo/signing"), key).unwrap();
    }
}

async fn token(client: &Client) -> String {
    let response = client.get("/token").await;
    assert_eq!(response.status, 200);
    response.json()["access_token"].as_str().unwrap().to_owned()
}

/// Whether the token is valid now under a secret.
fn valid(token: &str, secret: &[u8]) -> bool {
    jsonwebtoken::decode::<Value>(
        token,
        &DecodingKey::from_secret(secret),
        &Validation::new(Algorithm::HS256),
    )
    .is_ok()
}

#[tokio::test]
async fn responders_go_on_while_the_control_plane_is_dead_and_it_comes_back_with_everything() {
    let mut fleet = fleet().await;
    let client = fleet.client().await;
    fleet.plane.kill();
    for _ in 0..50 {
        assert!(valid(&token(&client).await, FIRST));
    }

    // A responder that starts now serves from its disk.
    let secrets = fleet.dir.path().join("secrets");
    let mut cold =
        process::responder("r1", fleet.grpc, &secrets, Some(&fleet.dir.path().join("cache")));
    let cold_client = Client::new(cold.address("data").await);
    wait_until("the cold responder serves from disk", || async {
        (cold_client.get("/token").await.status == 200).then_some(())
    })
    .await;
    drop(cold);

    fleet.plane = process::control_plane(&fleet.dir.path().join("data"), &fleet.grpc.to_string());
    assert_eq!(fleet.plane.address("grpc").await, fleet.grpc);
    assert!(fleet.cli(&["snapshot", "list"]).contains("login"));
    assert!(fleet.cli(&["transform", "get", "t"]).contains("jwt_resign"));
    fleet.cli(&["replay", "start", "login", "--wait"]);
    assert!(valid(&token(&client).await, FIRST));
}

#[tokio::test]
async fn a_replaced_key_signs_within_moments_and_a_broken_one_changes_nothing() {
    let mut fleet = fleet().await;
    let client = fleet.client().await;
    assert!(valid(&token(&client).await, FIRST));

    let admin = fleet.admin().await;
    let reported = |code: &'static str| {
        let admin = &admin;
        async move { admin.get("/status").await.json().to_string().contains(code) }
    };
    fleet.write_key(SECOND);
    wait_until("tokens verify under the new key", || async {
        valid(&token(&client).await, SECOND).then_some(())
    })
    .await;

    let cut = b"-----BEGIN PRIVATE KEY-----\ncut off";
    let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (broken, code) in [
        (&cut[..], "key_malformed"),
        (certificate, "key_is_certificate"),
        (b"", "key file is empty"),
    ] {
        fleet.write_key(broken);
        wait_until("the broken key is reported", || async { reported(code).await.then_some(()) })
            .await;
        assert!(valid(&token(&client).await, SECOND), "the good key before it stays in use");
        fleet.write_key(SECOND);
        wait_until("the report is taken back", || async { (!reported(code).await).then_some(()) })
            .await;
        assert!(valid(&token(&client).await, SECOND));
    }
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let mut fleet = fleet().await;
    let address = fleet.responder.address("data").await;
    for client in [Client::new(address), Client::http2(address)] {
        assert!(valid(&token(&client).await, FIRST));
        let miss = client.get("/tokens").await;
        assert_eq!(miss.status, 404);
        assert!(
            miss.json().to_string().contains("/token"),
            "the nearest recorded signature is named: {:?}",
            miss.json()
        );
        assert!(miss.json().to_string().contains("http:url"), "and the key that differs");
    }
    assert!(Path::new(&fleet.path("cache")).is_dir());
    assert!(fleet.responder.terminate().await.success(), "it drains and ends well");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let grpc = plane.address("grpc").await;
    let mut child = std::process::Command::new(harness::binaries::path("countersign-responder"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", "lonely"])
        .args(["--control-plane", &format!("http://{grpc}")])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let server = format!("http://{grpc}");
    wait_until("the responder subscribes", || async {
        let list = process::run("countersign", ["--server", &server, "responder", "list"]);
        list.stdout().contains("lonely").then_some(())
    })
    .await;
    assert!(child.try_wait().unwrap().is_none(), "it runs");
    child.kill().unwrap();
    child.wait().unwrap();
}
