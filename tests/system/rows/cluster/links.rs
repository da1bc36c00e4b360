//! Networks that break, and clocks and processes that stand still.

use std::process::Command;

use harness::{
    fleet::{Fleet, Node, Publisher},
    link::{Fault, Link},
};

use super::*;

/// Notes the versions that a node serves, until it is told to end; an error when one is older than that before.
fn watch(node: SocketAddr, ended: &Arc<AtomicBool>) -> JoinHandle<Result<u64, String>> {
    let (client, ended) = (Client::new(node), Arc::clone(ended));
    tokio::spawn(async move {
        let mut newest = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !ended.load(Ordering::Relaxed) {
            ticks.tick().await;
            let asked = client.try_send(
                http::Method::GET,
                "/version/0",
                Default::default(),
                Default::default(),
            );
            let version = versions::version(0, &asked.await?)?;
            if version < newest {
                return Err(format!("version {version} after {newest}"));
            }
            newest = version;
        }
        Ok(newest)
    })
}

/// A fleet of one node, and more behind a link each.
struct Linked {
    fleet: Fleet,
    links: Vec<Link>,
    ended: Arc<AtomicBool>,
    watched: Vec<JoinHandle<Result<u64, String>>>,
}

impl Linked {
    async fn start(linked: usize) -> Self {
        let mut fleet = Fleet::start(1).await;
        let mut links = Vec::new();
        for nth in 0..linked {
            let link = Link::to(fleet.grpc).await;
            let node = Node::start(&format!("l{nth}"), link.addr(), fleet.dir.path()).await;
            fleet.nodes.push(node);
            links.push(link);
        }
        fleet.serves(1).await;
        let ended = Arc::default();
        let watched = fleet.nodes.iter().map(|node| watch(node.data, &ended)).collect();
        Self { fleet, links, ended, watched }
    }

    async fn publish(&self, version: u64) -> Result<(), String> {
        let publisher: Publisher = self.fleet.publisher();
        let published = tokio::task::spawn_blocking(move || publisher.publish(version));
        published.await.map_err(|why| why.to_string())?
    }

    /// Asserts that all serve this version in the end, that none has ever gone back, and that each has answered all the time.
    async fn converges(self, version: u64) {
        self.fleet.serves(version).await;
        pause(Duration::from_millis(200)).await;
        self.ended.store(true, Ordering::Relaxed);
        for watched in self.watched {
            assert_eq!(watched.await.unwrap(), Ok(version));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c03_nodes_that_were_cut_off_catch_up_and_no_node_ever_goes_back() {
    let linked = Linked::start(2).await;
    for link in &linked.links {
        link.set(Fault::Cut);
    }
    // Who is gone counts for ten seconds, since it may come back; then the others go on.
    for version in 2..5 {
        linked.publish(version).await.unwrap();
    }
    for node in &linked.fleet.nodes[1..] {
        assert_eq!(node.version().await, Some(1), "it goes on with what it has");
    }
    for link in &linked.links {
        link.set(Fault::None);
    }
    linked.converges(4).await;
}

// TCP neither loses nor exchanges anything within a connection; what can be lost, come twice or late is a connection with all that is under way. The order of
// messages is tried without a network beside the code: `session/tests.rs` of the control plane and `subscription.rs` among the responder's tests.
#[tokio::test(flavor = "multi_thread")]
async fn c15_whatever_is_lost_or_late_on_the_way_a_node_serves_a_prefix_of_what_was_published() {
    let linked = Linked::start(2).await;
    let mut random = fastrand::Rng::with_seed(15);
    let mut version = 1;
    for _ in 0..8 {
        for link in &linked.links {
            let slow = Fault::Slow(Duration::from_millis(random.u64(20..300)));
            link.set([Fault::Cut, Fault::Silent, slow, Fault::None][random.usize(0..4)]);
        }
        version += 1;
        let publishing = linked.publish(version);
        let healing = async {
            pause(Duration::from_millis(random.u64(100..1500))).await;
            for link in &linked.links {
                link.set(Fault::None);
            }
        };
        let (published, ()) = tokio::join!(publishing, healing);
        assert_eq!(published, Ok(()));
    }
    linked.converges(version).await;
}

// The server asks with pings, every 30 s, and the responder hears a heartbeat every 15 s: together that is as often as pings from both sides.
#[tokio::test(flavor = "multi_thread")]
async fn c06_a_peer_that_has_vanished_without_a_word_is_noticed_by_both_sides() {
    let world = World::serve(Vec::new()).await;
    let link = Link::to(world.grpc()).await;
    let secrets = world.dir.path().join("secrets");
    let mut far = process::responder("far", link.addr(), &secrets, None);
    let admin = Client::new(far.address("admin").await);
    let listed = |connected: bool| {
        let told = world.cli(&["--output", "json", "responder", "list"]).stdout();
        let told: Vec<Value> = serde_json::from_str(&told).unwrap();
        told.iter().any(|it| it["name"] == "far" && it["connected"] == connected)
    };
    wait_until("it is connected", || async { listed(true).then_some(()) }).await;
    link.set(Fault::Silent);
    let connected = "countersign_subscription_connected";
    wait_until("the responder has noticed", || async {
        (metric(&admin, connected).await == Some(0.0)).then_some(())
    })
    .await;
    wait_until("the control plane has noticed", || async { listed(false).then_some(()) }).await;
    link.set(Fault::None);
    wait_until("it is connected again", || async { listed(true).then_some(()) }).await;
    drop(world.end().await);
}

// A machine's clock cannot be moved for one process. What of a clock that jumps reaches the code is tried beside it: `fleet.rs` and `describe.rs`. What runs out
// does so by the system's monotonic clock (tokio's `Instant`), which no step of NTP moves. A pause of a minute is 45 s more than a stream may be silent;
// then responders come back at random moments.
#[tokio::test(flavor = "multi_thread")]
async fn c12_a_control_plane_that_stood_still_goes_on_with_all_its_responders() {
    let world = World::serve(Vec::new()).await;
    let signal = |name: &str| {
        let pid = world.plane.id().to_string();
        Command::new("kill").args([name, &pid]).status().unwrap().success()
    };
    assert!(signal("-STOP"));
    pause(Duration::from_secs(6)).await;
    assert!(signal("-CONT"));
    drop(world.import_as("after").ok());
    drop(world.cli(&["replay", "start", "after", "--wait"]).ok());
    assert_eq!(world.client.get("/after/1").await.status, 200);
    let printed = world.end().await;
    assert!(!printed.contains("subscription ended"), "{printed}");
}

// The address that was good last is the open connection's: that goes on whatever becomes of the name. Once it has ended, the system's resolver is asked each
// time, and none is remembered here, since who gave the name another address wants that one.
#[tokio::test(flavor = "multi_thread")]
async fn c16_a_name_that_leads_nowhere_is_told_and_what_is_on_disk_is_served_meanwhile() {
    let world = World::serve(Vec::new()).await;
    let (secrets, cache) = (world.dir.path().join("secrets"), left_by(&world, "lost").await);
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", "lost"];
    let (secrets, cache) = (secrets.to_string_lossy(), cache.to_string_lossy());
    let own = ["--secret-dir", &secrets, "--cache-dir", &cache];
    let url = "http://countersign.invalid:4180";
    let arguments = [&listen[..], &own, &["--control-plane", url]].concat();
    let mut lost = Process::start("countersign-responder", arguments);
    let client = Client::new(lost.address("data").await);
    let admin = Client::new(lost.address("admin").await);
    wait_until("it tells that the name leads nowhere", || async {
        let told = admin.get("/status").await.json()["control_plane"].clone();
        let problem = told["problem"].as_str()?.to_owned();
        (told["connected"] == false && problem.contains("dns error")).then_some(())
    })
    .await;
    let answer = client.get("/probe").await;
    assert!(verifies(answer.json()["access_token"].as_str().unwrap(), PROBE));
    assert_eq!(admin.get("/readyz").await.status, 200);
    drop(world.end().await);

    // A machine that has IPv6 only.
    let dir = tempfile::tempdir().unwrap();
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let mut plane = process::control_plane(&dir.path().join("data"), "[::1]:0");
        let grpc = plane.address("grpc").await;
        assert!(grpc.is_ipv6());
        let mut node = process::responder("six", grpc, dir.path(), None);
        let admin = Client::new(node.address("admin").await);
        wait_until("it is connected", || async {
            let connected = metric(&admin, "countersign_subscription_connected").await;
            (connected == Some(1.0)).then_some(())
        })
        .await;
    }
}
