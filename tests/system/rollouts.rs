//! The fleet moves together: a new version is served by nobody before all have prepared it, and a refusal leaves all on the old one.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_proto::{
    control::v1::{ResponderPhase, ResponderStatus},
    discovery::v1::{
        Ack, AssignmentPhase, Hello, Outcome, SubscribeRequest,
        discovery_service_client::DiscoveryServiceClient, subscribe_request::Message as Say,
        subscribe_response::Message as Heard,
    },
    r#type::v1::{Diagnostic, Severity},
};
use harness::{
    client::Client,
    process::{self, Finished, Process},
    recording, wait_until,
};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::token_world::responder;

/// A template that puts a word into each answer.
const TEMPLATE: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
    {"type":"json_path","config":{"path":"value"}},{"type":"constant","config":{"new":"NEW"}}]}]}"#;
struct World {
    dir: tempfile::TempDir,
    plane: Process,
    grpc: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = recording::line("GET", "/value", &json!({"value": "recorded"}));
        fs::write(dir.path().join("r.jsonl"), line).unwrap();
        fs::create_dir(dir.path().join("secrets")).unwrap();
        let mut plane = process::control_plane(&dir.path().join("store"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let world = Self { dir, plane, grpc };
        drop(world.cli(&["snapshot", "import", &world.path("r.jsonl"), "--id", "r"]).ok());
        world.edit("one");
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn cli(&self, arguments: &[&str]) -> Finished {
        let server = format!("http://{}", self.grpc);
        let global = ["--server", &server, "--output", "json"];
        process::run("countersign", global.iter().chain(arguments))
    }

    /// Another version of the transform.
    fn edit(&self, value: &str) {
        fs::write(self.path("t.json"), TEMPLATE.replace("NEW", value)).unwrap();
        drop(self.cli(&["transform", "put", &self.path("t.json"), "--id", "t"]).ok());
    }

    fn start(&self, more: &[&str]) -> Finished {
        self.cli(&[&["replay", "start", "r", "--transform", "t"], more].concat())
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.cli(&["replay", "status", "r"]).ok().stdout()).unwrap()
    }

    async fn responder(&self, name: &str, more: &[&str]) -> (Process, Client) {
        let secrets = self.dir.path().join("secrets");
        let mut process = responder(name, self.grpc, Path::new(&secrets), more);
        let client = Client::new(process.address("data").await);
        (process, client)
    }

    /// Waits until so many responders are connected.
    async fn connected(&self, count: usize) {
        wait_until("all responders are connected", || async {
            let listed = self.cli(&["responder", "list"]).ok().stdout();
            let listed: Value = serde_json::from_str(&listed).unwrap();
            let connected = listed.as_array()?.iter().filter(|it| it["connected"] == true);
            (connected.count() == count).then_some(())
        })
        .await;
    }
}

async fn value(client: &Client) -> Option<String> {
    let answer = client.try_send(Method::GET, "/value", HeaderMap::new(), "".into()).await.ok()?;
    Some(answer.json()["value"].as_str()?.to_owned())
}

async fn becomes(client: &Client, wanted: &str) {
    wait_until(&format!("{wanted} is served"), || async {
        (value(client).await.as_deref() == Some(wanted)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_served_once_all_have_prepared_it_and_one_can_go_back() {
    let world = World::new().await;
    let (_a, a) = world.responder("a", &[]).await;
    let (_b, b) = world.responder("b", &[]).await;
    world.connected(2).await;
    let first: Value = serde_json::from_str(&world.start(&["--wait"]).ok().stdout()).unwrap();
    assert_eq!(first["rollout"]["stage"], "ACTIVATED");
    let first = first["bundle"].as_str().unwrap().to_owned();
    // As soon as one of them has answered with the new version, no request that is sent afterwards gets the old one for long.
    world.edit("two");
    let told = world.start(&["--wait"]).ok();
    for client in [&a, &b] {
        assert_eq!(value(client).await.as_deref(), Some("two"), "{}", told.text());
    }
    for client in [&a, &b] {
        let asked = |bundle: &str| {
            HeaderMap::from_iter([(
                "x-countersign-bundle".parse().unwrap(),
                bundle.parse().unwrap(),
            )])
        };
        let old = client.send(Method::GET, "/value", asked(&first), "".into()).await;
        assert_eq!(
            (old.json()["value"].as_str(), old.headers["x-countersign-bundle"].to_str().unwrap()),
            (Some("one"), first.as_str())
        );
        let now = client.send(Method::GET, "/value", asked("?"), "".into()).await;
        assert_ne!(now.headers["x-countersign-bundle"], *first);
        let none = client.send(Method::GET, "/value", asked(&"0".repeat(64)), "".into()).await;
        assert_eq!(
            (none.status.as_u16(), &none.json()["error"]),
            (412, &json!("bundle_not_served"))
        );
    }
    drop(world.cli(&["replay", "rollback", "r", "--wait"]).ok());
    for client in [&a, &b] {
        assert_eq!(value(client).await.as_deref(), Some("one"));
    }
    assert_eq!(world.status()["bundle"], *first);
}

/// A responder that refuses to prepare anything as long as it is told to; otherwise it says what is expected. It serves nothing.
pub(crate) async fn odd_one(
    grpc: SocketAddr,
    name: &str,
    refuses: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
    let (say, said) = mpsc::channel(16);
    let hello = Hello {
        responder: name.into(),
        project: "projects/default".into(),
        max_schema: 2,
        ..Hello::default()
    };
    say.send(SubscribeRequest { message: Some(Say::Hello(hello)) }).await.unwrap();
    let mut client = DiscoveryServiceClient::new(channel);
    let mut heard = client.subscribe(ReceiverStream::new(said)).await.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(message)) = heard.message().await {
            let Some(Heard::Delta(delta)) = message.message else { continue };
            let outcomes = delta.upserted.iter().map(|told| {
                let prepares = told.phase() == AssignmentPhase::Prepare;
                let phase = match (prepares, refuses.load(Ordering::Relaxed)) {
                    (true, true) => ResponderPhase::Rejected,
                    (true, false) => ResponderPhase::Prepared,
                    (false, _) => ResponderPhase::Active,
                };
                let found = Diagnostic {
                    severity: Severity::Error.into(),
                    code: "odd".into(),
                    field_path: "responder[0]".into(),
                    message: "it does not feel like it".into(),
                    ..Diagnostic::default()
                };
                let status = ResponderStatus {
                    phase: phase.into(),
                    generation: told.generation,
                    diagnostics: vec![found],
                    ..ResponderStatus::default()
                };
                let (name, bundle) = (told.name.clone(), told.bundle.clone());
                Outcome { name, bundle, status: Some(status) }
            });
            let ack = Ack { nonce: delta.nonce, outcomes: outcomes.collect() };
            say.send(SubscribeRequest { message: Some(Say::Ack(ack)) }).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_leaves_the_fleet_on_the_version_before() {
    let world = World::new().await;
    let (_a, a) = world.responder("a", &[]).await;
    let (_b, b) = world.responder("b", &[]).await;
    // The first by name tries what is new.
    let refuses = Arc::new(AtomicBool::new(false));
    let odd = odd_one(world.grpc, "0", Arc::clone(&refuses)).await;
    world.connected(3).await;
    drop(world.start(&["--wait"]).ok());
    refuses.store(true, Ordering::Relaxed);
    world.edit("two");
    let refused = world.start(&["--wait"]);
    assert_eq!(refused.code(), 1, "{}", refused.text());
    assert!(refused.text().contains("a responder refused the replay r"), "{}", refused.text());
    assert!(refused.text().contains("it does not feel like it"), "{}", refused.text());
    let status = world.status();
    assert_eq!((&status["rollout"]["stage"], &status["ready"]), (&json!("FAILED"), &json!(false)));
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message, "0: it does not feel like it; the version before goes on");
    for client in [&a, &b] {
        assert_eq!(value(client).await.as_deref(), Some("one"));
    }
    // Nobody else has seen it.
    for responder in status["responders"].as_array().unwrap() {
        let phase = if responder["responder"] == "0" { "REJECTED" } else { "ANNOUNCED" };
        assert_eq!(responder["phase"], phase, "{responder}");
    }
    // It changes its mind.
    refuses.store(false, Ordering::Relaxed);
    drop(world.cli(&["replay", "retry", "r", "--wait"]).ok());
    for client in [&a, &b] {
        assert_eq!(value(client).await.as_deref(), Some("two"));
    }
    odd.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_after_the_control_plane_was_killed() {
    let mut world = World::new().await;
    let (_a, a) = world.responder("a", &[]).await;
    world.connected(1).await;
    drop(world.start(&["--wait"]).ok());
    world.edit("two");
    // It waits for a second responder when the control plane dies.
    drop(world.start(&["--min-responders", "2"]).ok());
    wait_until("one has prepared it", || async {
        (world.status()["rollout"]["prepared"] == 1).then_some(())
    })
    .await;
    world.plane.kill();
    assert_eq!(value(&a).await.as_deref(), Some("one"), "the version before goes on");
    let (listen, store) = (world.grpc.to_string(), world.dir.path().join("store"));
    world.plane = process::control_plane(&store, &listen);
    world.plane.address("grpc").await;
    world.connected(1).await;
    assert_eq!(world.status()["rollout"]["stage"], "PREPARING");
    assert_eq!(value(&a).await.as_deref(), Some("one"));
    let (_b, b) = world.responder("b", &[]).await;
    for client in [&a, &b] {
        becomes(client, "two").await;
    }
    wait_until("it is ready", || async { (world.status()["ready"] == true).then_some(()) }).await;
}
