//! Several nodes and what is between them: control planes that are away, nodes that come, go and stall, versions that do not fit.
//!
//! What takes an hour or a thousand nodes runs briefly here and in full in `bench faults` and `bench swarm`.

mod links;
mod trust;

use std::time::Duration;

use countersign_proto::discovery::v1::{
    Ack, Hello, SubscribeRequest, SubscribeResponse,
    discovery_service_client::DiscoveryServiceClient, subscribe_request::Message as Say,
    subscribe_response::Message as Heard,
};
use harness::{
    faults::pause,
    fleet::Fleet,
    versions::{self, Floor, Manner, Traffic},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    store::{on_disk, word},
    *,
};
use crate::{rollouts::odd_one, token_world::responder};

/// The value of a metric without labels.
async fn metric(admin: &Client, name: &str) -> Option<f64> {
    let text = admin.get("/metrics").await.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A responder that only talks: what it says goes in, what it hears comes out.
struct Talker {
    say: mpsc::Sender<SubscribeRequest>,
    heard: Streaming<SubscribeResponse>,
}

impl Talker {
    async fn greet(grpc: SocketAddr, hello: Hello) -> Result<Self, Status> {
        let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
        let channel = channel.connect().await.map_err(|why| Status::unknown(why.to_string()))?;
        let (say, said) = mpsc::channel(16);
        let talker = say.clone();
        let hello = SubscribeRequest { message: Some(Say::Hello(hello)) };
        say.send(hello).await.map_err(|why| Status::unknown(why.to_string()))?;
        let mut client = DiscoveryServiceClient::new(channel);
        let heard = client.subscribe(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say: talker, heard })
    }

    async fn hear(&mut self) -> Result<Heard, Status> {
        let next = self.heard.message().await?;
        next.and_then(|next| next.message).ok_or_else(|| Status::unknown("it ended"))
    }
}

/// The disk cache that a responder of this name has left when it was killed.
async fn left_by(world: &World, name: &str) -> PathBuf {
    let cache = world.dir.path().join("left");
    let secrets = world.dir.path().join("secrets");
    let mut warm = process::responder(name, world.grpc(), &secrets, Some(&cache));
    on_disk(&cache, "all").await;
    warm.kill();
    cache
}

fn hello(name: &str) -> Hello {
    Hello {
        responder: name.into(),
        project: "projects/default".into(),
        max_schema: 2,
        session_id: format!("session of {name}"),
        ..Hello::default()
    }
}

// Responders that keep what they serve on disk start without the control plane, too, in `bench faults away`, which takes an hour.
#[tokio::test(flavor = "multi_thread")]
async fn c01_responders_go_on_without_a_control_plane_tell_for_how_long_and_are_quiet_about_it() {
    let mut world = World::serve(Vec::new()).await;
    let heard = "countersign_control_plane_heard_timestamp_seconds";
    let before = metric(&world.admin, heard).await.unwrap();
    world.plane.kill();
    wait_until("the responder has noticed", || async {
        let connected = metric(&world.admin, "countersign_subscription_connected").await;
        (connected == Some(0.0)).then_some(())
    })
    .await;
    let lines = world.responder.text().lines().count();
    pause(Duration::from_secs(10)).await;
    let more = world.responder.text().lines().count() - lines;
    assert!(more <= 2, "{more} lines in ten seconds: {}", world.responder.text());
    let last = metric(&world.admin, heard).await.unwrap();
    let age = f64::from(u32::try_from(harness::now()).unwrap()) - last;
    assert!(last >= before && (9.0..600.0).contains(&age), "{age} s");
    world.revive().await;
    wait_until("it is heard again", || async {
        (metric(&world.admin, heard).await.unwrap() > last).then_some(())
    })
    .await;
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c02_a_cold_responder_serves_from_its_disk_or_is_not_ready_and_never_ready_and_empty() {
    let mut world = World::serve(Vec::new()).await;
    let (grpc, secrets) = (world.grpc(), world.dir.path().join("secrets"));
    let cache = left_by(&world, "cold").await;
    world.plane.kill();
    let mut cold = process::responder("cold", grpc, &secrets, Some(&cache));
    let client = Client::new(cold.address("data").await);
    let answer = client.get("/probe").await;
    assert!(verifies(answer.json()["access_token"].as_str().unwrap(), PROBE), "its first answer");
    let admin = Client::new(cold.address("admin").await);
    assert_eq!(admin.get("/readyz").await.status, 200);

    let mut empty = process::responder("empty", grpc, &secrets, None);
    let (client, admin) =
        (Client::new(empty.address("data").await), Client::new(empty.address("admin").await));
    for _ in 0..20 {
        let ready = admin.get("/readyz").await;
        assert_eq!(ready.status, 503, "{}", ready.json());
        pause(Duration::from_millis(100)).await;
    }
    assert_ne!(client.get("/probe").await.status, 200);
    world.revive().await;
    wait_until("it is ready once it serves", || async {
        let ready = admin.get("/readyz").await.status == 200;
        let served = client.get("/probe").await.status == 200;
        assert!(served || !ready, "it was ready and empty");
        ready.then_some(())
    })
    .await;
    drop(world.end().await);
}

// A thousand of them, and the memory and CPU that they take, are `bench swarm`'s.
#[test]
fn c04_a_crowd_that_comes_back_at_once_is_in_sync_and_fetches_nothing_again() {
    let told = process::run("bench", ["swarm", "--quick", "--plain"]).ok().stdout();
    assert!(told.contains("P9 restart with 50") && told.contains(", 0 fetched"), "{told}");
}

// One that reads and says nothing is not sent away: it costs one delta, and a rollout names it. `on_straggler` decides whether that goes on without it.
#[tokio::test(flavor = "multi_thread")]
async fn c05_a_stuck_subscriber_holds_up_nobody_and_hears_the_newest_version_only() {
    let world = World::serve(Vec::new()).await;
    let mut stuck = Talker::greet(world.grpc(), hello("stuck")).await.unwrap();
    assert!(matches!(stuck.hear().await.unwrap(), Heard::Welcome(_)));
    let Heard::Delta(first) = stuck.hear().await.unwrap() else { panic!("no delta") };
    drop(world.import_as("many").ok());
    let without = ["--on-straggler", "exclude", "--rollout-timeout", "1s"];
    let start = ["replay", "start", "many", "--transform", "words"];
    for nth in 0..6 {
        let wanted = format!("version {nth}");
        drop(world.edit(&wanted).ok());
        drop(world.cli(&[&start[..], &without].concat()).ok());
        wait_until("the others serve it", || async {
            (word(&world.client, "/many/1").await.as_ref() == Some(&wanted)).then_some(())
        })
        .await;
    }
    let ack = Ack { nonce: first.nonce, outcomes: Vec::new() };
    stuck.say.send(SubscribeRequest { message: Some(Say::Ack(ack)) }).await.unwrap();
    loop {
        let Heard::Delta(next) = stuck.hear().await.unwrap() else { continue };
        let many = next.upserted.iter().filter(|told| told.name.ends_with("/many"));
        let generations: Vec<u64> = many.map(|told| told.generation).collect();
        assert_eq!(generations, [6], "what has been in between is not sent");
        break;
    }
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c07_a_node_refuses_what_does_not_fit_into_its_memory_before_it_drops_anything() {
    let world = World::serve(Vec::new()).await;
    let secrets = world.dir.path().join("secrets");
    let more = ["--memory-limit-mib", "128", "--cache-dir"];
    let cache = world.dir.path().join("tight-cache").to_string_lossy().into_owned();
    let mut tight = responder("tight", world.grpc(), &secrets, &[&more[..], &[&cache]].concat());
    let client = Client::new(tight.address("data").await);
    drop(world.import_as("small").ok());
    wait_until("both are connected", || async {
        let listed = world.cli(&["responder", "list"]).stdout();
        (listed.contains("tight") && listed.contains("yes")).then_some(())
    })
    .await;
    drop(world.cli(&["replay", "start", "small", "--wait"]).ok());
    assert_eq!(client.get("/small/1").await.status, 200);

    let mut random = fastrand::Rng::with_seed(7);
    let lines = (0..72).map(|nth| {
        let text: String = (0..1024 * 1024).map(|_| random.alphanumeric()).collect();
        recording::line("GET", &format!("/large/{nth}"), &json!({"text": text}))
    });
    let file = world.dir.path().join("large.jsonl");
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let file = file.to_string_lossy().into_owned();
    drop(world.cli(&["snapshot", "import", &file, "--id", "large"]).ok());
    let refused = world.cli(&["replay", "start", "large", "--wait"]);
    let text = refused.text();
    assert_eq!(refused.code(), 1, "{text}");
    assert!(text.contains("insufficient_memory need=") && text.contains(" have="), "{text}");
    assert!(text.contains("tight"), "the node is named: {text}");
    for client in [&client, &world.client] {
        assert_eq!(client.get("/small/1").await.status, 200, "what was served goes on");
        assert_eq!(client.get("/large/1").await.status, 404);
    }
    let status = world.cli(&["replay", "status", "large"]).text();
    assert!(status.contains("insufficient_memory"), "{status}");
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c08_the_first_node_that_refuses_ends_the_rollout_and_no_node_loses_what_it_serves() {
    let world = World::serve(Vec::new()).await;
    let refuses = Arc::new(AtomicBool::new(false));
    // The first by name tries what is new.
    let odd = odd_one(world.grpc(), "0", Arc::clone(&refuses)).await;
    drop(world.import_as("bad").ok());
    drop(world.edit("one").ok());
    let start = ["replay", "start", "bad", "--transform", "words", "--wait"];
    drop(world.cli(&start).ok());
    refuses.store(true, Ordering::Relaxed);
    drop(world.edit("two").ok());
    let refused = world.cli(&start);
    assert_eq!(refused.code(), 1, "{}", refused.text());
    assert!(refused.text().contains("it does not feel like it"), "{}", refused.text());
    let status = world.cli(&["--output", "json", "replay", "status", "bad"]).ok().stdout();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["rollout"]["stage"], "FAILED", "{status:#}");
    assert_eq!(word(&world.client, "/bad/1").await.as_deref(), Some("one"));
    odd.abort();
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_no_request_fails_while_nodes_are_told_to_end_one_after_the_other() {
    let mut fleet = Fleet::start(2).await;
    let manner = Manner { patience: Duration::ZERO, pause: None };
    let traffic = Traffic::start(fleet.door.addr(), 4, manner, &Floor::default());
    // One connection for many requests, until it is told to go.
    let ended = Arc::new(AtomicBool::new(false));
    let multiplexed = {
        let (client, ended) = (Client::http2(fleet.door.addr()), Arc::clone(&ended));
        tokio::spawn(async move {
            let (mut answered, mut failed) = (0, Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let asked = client.try_send(
                    http::Method::GET,
                    "/version/0",
                    Default::default(),
                    Default::default(),
                );
                match asked.await.and_then(|answer| versions::version(0, &answer)) {
                    Ok(_) => answered += 1,
                    Err(why) => failed.push(why),
                }
                tokio::task::yield_now().await;
            }
            (answered, failed)
        })
    };
    for node in &mut fleet.nodes {
        assert!(node.process.terminate().await.success(), "it drained");
        node.restart().await;
        wait_until("it serves again", || async { node.version().await }).await;
    }
    ended.store(true, Ordering::Relaxed);
    let (answered, failed) = multiplexed.await.unwrap();
    assert!(failed.is_empty() && answered > 10, "{answered}: {:?}", failed.first());
    let tally = traffic.finish().await;
    assert!(tally.failed.is_empty() && tally.answered > 10, "{:?}", tally.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_when_one_of_three_is_killed_only_what_it_was_answering_fails() {
    let clients = 6_u8;
    let mut fleet = Fleet::start(3).await;
    let manner = Manner { patience: Duration::from_secs(20), pause: None };
    let traffic = Traffic::start(fleet.door.addr(), clients.into(), manner, &Floor::default());
    wait_until("requests go on", || async { (traffic.answered() > 300).then_some(()) }).await;
    fleet.nodes[1].process.kill();
    let before = traffic.answered();
    wait_until("requests go on", || async { (traffic.answered() > before + 600).then_some(()) })
        .await;
    let tally = traffic.finish().await;
    assert!(tally.failed.is_empty(), "{:?}", tally.failed.first());
    assert!(tally.retried <= u64::from(clients), "{} were asked again", tally.retried);
}
