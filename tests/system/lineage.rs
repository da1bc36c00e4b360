//! From a recording alone to valid tokens: what issues them is found, and the suggested template, unedited, re-signs them.

use std::path::{Path, PathBuf};

use harness::{
    client::Client,
    process::{self, Finished, Process},
    python::{self, Ask},
    recording, shared_data,
};
use serde_json::{Value, json};

use crate::sessions;

const SECRET: &str = "a secret that is long enough to sign with";

/// A control plane, and a command that talks to it.
struct Plane {
    grpc: std::net::SocketAddr,
    _process: Process,
}

impl Plane {
    async fn start(dir: &Path) -> Self {
        let mut process = process::control_plane(&dir.join("data"), "127.0.0.1:0");
        Self { grpc: process.address("grpc").await, _process: process }
    }

    fn cli(&self, arguments: &[&str]) -> Finished {
        let server = format!("http://{}", self.grpc);
        process::run("countersign", ["--server", &server].iter().chain(arguments))
    }

    /// A command that has to succeed, whatever it says.
    fn done(&self, arguments: &[&str]) {
        drop(self.cli(arguments).ok());
    }

    fn import(&self, recording: &Path, id: &str) {
        self.done(&["snapshot", "import", &recording.to_string_lossy(), "--id", id]);
    }

    async fn serve(&self, id: &str, secrets: &Path) -> (Client, Process) {
        let mut responder = process::responder("r1", self.grpc, secrets, None);
        self.done(&[
            "replay",
            "start",
            "--snapshot",
            id,
            "--transform",
            id,
            "--serve",
            "all",
            "--wait",
        ]);
        (Client::new(responder.address("data").await), responder)
    }
}

fn login(user: &str) -> Value {
    let claims = json!({"sub": user, "iat": 1_700_000_000, "exp": 1_700_000_600});
    json!({"user": user, "session": {"token": recording::old_token("HS256", &claims)}})
}

#[tokio::test]
async fn a_login_is_valid_again_without_a_template_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let lines = [
        recording::line("GET", "/login/a", &login("a")),
        recording::line("GET", "/version", &json!({"version": "1.2.3", "at": "api.nasa.gov"})),
    ];
    let file = dir.path().join("recording.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    plane.import(&file, "shop");

    let told = plane.cli(&["snapshot", "tokens", "shop"]).ok().stdout();
    for part in ["HS256", "GET api.example/login/a body session.token", "10m", "never used"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.contains("1.2.3 is a version number"), "{told}");
    let report = plane.cli(&["snapshot", "tokens", "shop", "--output", "json"]).ok().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["families"][0]["members"][0]["sub"], "a");
    assert!(!report.to_string().contains("eyJ"), "no token is shown: {report}");

    // Printed, it is a template and nothing else; what is to be known stands on stderr.
    let printed = plane.cli(&["transform", "suggest", "shop", "--secret", "jwt-demo"]).ok();
    let template: Value = serde_json::from_str(&printed.stdout()).unwrap();
    assert_eq!(template["id"], "shop");
    assert!(printed.text().contains("mount the secret jwt-demo/hmac.key"), "{}", printed.text());
    let suggest = ["transform", "suggest", "shop", "--secret", "jwt-demo/signing", "--create"];
    plane.done(&suggest);
    let again = plane.cli(&suggest);
    assert_eq!(again.code(), 2, "what is stored is not replaced: {}", again.text());

    let secrets = recording::secret_dir(dir.path(), "signing", SECRET.as_bytes());
    let (client, _responder) = plane.serve("shop", &secrets).await;
    let token =
        client.get("/login/a").await.json()["session"]["token"].as_str().unwrap().to_owned();
    let ask = Ask { token, key: SECRET.to_owned(), alg: "HS256".to_owned() };
    assert_eq!(python::verify(&[ask]).remove(0).unwrap()["sub"], "a");
}

#[tokio::test]
async fn the_example_is_traced_to_its_key_set() {
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/example/recording");
    plane.import(&example, "example");
    let report = plane.cli(&["snapshot", "tokens", "example", "--output", "json"]).ok().stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let family = &report["families"][0];
    assert_eq!(
        (&family["alg"], &family["tokenCount"], &family["issued"][0]["endpoint"]),
        (&json!("RS256"), &json!(2), &json!("POST auth.example.com/oauth/token"))
    );
    assert_eq!(family["jwks"], "GET auth.example.com/.well-known/jwks.json", "{report}");
    assert_eq!(family["useCount"], 3);
    let suggested = plane.cli(&["transform", "suggest", "example"]).ok();
    assert!(suggested.text().contains("jwks_recorded"), "{}", suggested.text());
    assert!(suggested.text().contains("2 recorded tokens are re-signed"), "{}", suggested.text());
    let missing = plane.cli(&["transform", "suggest", "nothing"]);
    assert_eq!(missing.code(), 3, "{}", missing.text());
}

#[tokio::test]
async fn every_recorded_login_is_valid_again() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let dir = tempfile::tempdir().unwrap();
    let plane = Plane::start(dir.path()).await;
    plane.import(&folder, "sessions");
    let told = plane.cli(&["snapshot", "tokens", "sessions"]).ok().stdout();
    assert!(told.contains("orphan"), "{told}");
    plane.done(&["transform", "suggest", "sessions", "--secret", "jwt-demo/signing", "--create"]);
    let secrets: PathBuf = recording::secret_dir(dir.path(), "signing", sessions::KEY.as_bytes());
    let (client, _responder) = plane.serve("sessions", &secrets).await;
    sessions::check(&client, &recording::read(&folder).pairs).await;
}
