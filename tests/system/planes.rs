//! Several control planes on one PostgreSQL and one S3 server: any of them serves any responder, and any of them may die.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use harness::{
    balancer::Balancer,
    client::Client,
    notice,
    process::{self, Process},
    recording,
    servers::{PASSWORD, Postgres, S3Server, SECRET_KEY},
    wait_until,
};
use serde_json::{Value, json};
use tokio::task;

struct World {
    dir: tempfile::TempDir,
    cluster: Postgres,
    s3: S3Server,
    bucket: String,
}

impl World {
    fn new() -> Option<Self> {
        let (cluster, s3) = (Postgres::start()?, S3Server::start()?);
        let bucket = s3.bucket("fleet") + "/store";
        let dir = tempfile::tempdir().unwrap();
        for (name, body) in [("one", 1), ("two", 2), ("three", 3)] {
            let line = recording::line("GET", "/value", &json!({"value": body}));
            fs::write(dir.path().join(format!("{name}.jsonl")), line).unwrap();
        }
        Some(Self { dir, cluster, s3, bucket })
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut variables = self.s3.environment();
        variables.push(("COUNTERSIGN_META".into(), self.cluster.url()));
        variables.push(("COUNTERSIGN_BLOBS".into(), self.bucket.clone()));
        variables
    }

    fn plane(&self, name: &str, listen: &str) -> Process {
        let data = self.path(name);
        let arguments = ["--listen", listen, "--data-dir", &data];
        Process::start_in("countersign-control-plane", arguments, &self.variables())
    }

    fn store(&self, arguments: &[&str]) -> process::Finished {
        let arguments = ["store"].iter().chain(arguments);
        process::run_in("countersign", arguments, &self.variables())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }
}

fn cli(server: SocketAddr, arguments: &[&str]) -> process::Finished {
    let server = format!("http://{server}");
    let global = ["--server", &server, "--output", "json"];
    process::run("countersign", global.iter().chain(arguments))
}

fn import(server: SocketAddr, world: &World, name: &str) {
    drop(
        cli(server, &["snapshot", "import", &world.path(&format!("{name}.jsonl")), "--id", name])
            .ok(),
    );
}

/// Serves this snapshot, instead of what was served before.
fn serve(server: SocketAddr, name: &str) {
    drop(cli(server, &["replay", "start", "--snapshot", name, "--wait"]).ok());
}

async fn answers(clients: &[Client], value: u32) {
    for client in clients {
        wait_until(&format!("{value} is served"), || async {
            let answer = client
                .try_send(http::Method::GET, "/value", http::HeaderMap::new(), "".into())
                .await;
            (answer.ok()?.json() == json!({"value": value})).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_control_plane_serves_any_responder_and_any_may_die() {
    let Some(mut world) = World::new() else { return };
    let mut planes = ["a", "b", "c"].map(|name| world.plane(name, "127.0.0.1:0"));
    let [a, b, c] = &mut planes;
    let [a_at, b_at, c_at] =
        [a.address("grpc").await, b.address("grpc").await, c.address("grpc").await];
    // Each responder reaches its control plane, and another one when that is gone.
    let doors = [Balancer::start(&[a_at, c_at]).await, Balancer::start(&[b_at, c_at]).await];
    let secrets =
        recording::secret_dir(world.dir.path(), "unused", b"not used, but it is long enough");
    let mut responders = [0, 1].map(|n: usize| {
        process::responder(&format!("r{n}"), doors[n].addr(), Path::new(&secrets), None)
    });
    let mut clients = Vec::new();
    for responder in &mut responders {
        clients.push(Client::new(responder.address("data").await));
    }

    // What one imports another serves; what a third shows is what all responders say, wherever they are connected.
    import(a_at, &world, "one");
    serve(b_at, "one");
    answers(&clients, 1).await;
    wait_until("a third hears of both responders", || async {
        let listed = cli(c_at, &["responder", "list"]).ok().stdout();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        (listed.as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;

    // One dies; edits go on at another and reach all.
    planes[0].kill();
    import(b_at, &world, "two");
    serve(b_at, "two");
    answers(&clients, 2).await;

    // The database dies. Responders go on, and no write is acknowledged.
    world.cluster.crash();
    answers(&clients, 2).await;
    let refused = cli(b_at, &["snapshot", "import", &world.path("three.jsonl"), "--id", "never"]);
    assert_ne!(refused.code(), 0, "{}", refused.text());
    answers(&clients, 2).await;
    world.cluster.resume();
    wait_until("the control plane works again", || async {
        let listed = cli(b_at, &["snapshot", "list"]);
        (listed.code() == 0).then_some(())
    })
    .await;
    import(c_at, &world, "three");
    serve(c_at, "three");
    answers(&clients, 3).await;

    // The one that died comes back with everything that was acknowledged.
    planes[0] = world.plane("a", &a_at.to_string());
    planes[0].address("grpc").await;
    let listed: Value =
        serde_json::from_str(&cli(a_at, &["snapshot", "list"]).ok().stdout()).unwrap();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["name"].as_str()?.rsplit('/').next())
        .collect();
    for name in ["one", "two", "three"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for process in planes.iter().chain(&responders) {
        assert!(!process.text().contains(PASSWORD) && !process.text().contains(SECRET_KEY));
    }
}

/// Imports through a door until told to stop, and returns what was acknowledged.
fn import_until(door: SocketAddr, file: &str, writer: usize, ended: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut count = 0;
    while !ended.load(Ordering::Relaxed) {
        count += 1;
        let id = format!("w{writer}-{count}");
        if cli(door, &["snapshot", "import", file, "--id", &id]).code() == 0 {
            acknowledged.push(id);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_whatever_dies() {
    let Some(mut world) = World::new() else { return };
    let mut planes = ["a", "b"].map(|name| world.plane(name, "127.0.0.1:0"));
    let [a, b] = &mut planes;
    let at = [a.address("grpc").await, b.address("grpc").await];
    let door = Balancer::start(&at).await;
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (door, file) = (door.addr(), world.path("one.jsonl"));
            let ended = Arc::clone(&ended);
            task::spawn_blocking(move || import_until(door, &file, writer, &ended))
        })
        .collect();
    let mut seen = 0;
    for round in 0..6 {
        // Each fault comes while imports are under way.
        seen = wait_until("imports go on", || {
            let now: usize = world.cluster.sql("SELECT rev FROM meta").parse().unwrap();
            async move { (now > seen + 12).then_some(now) }
        })
        .await;
        if round % 3 == 2 {
            world.cluster.crash();
            world.cluster.resume();
        } else {
            let dies = round % 3;
            planes[dies].kill();
            planes[dies] = world.plane(["a", "b"][dies], &at[dies].to_string());
            planes[dies].address("grpc").await;
        }
    }
    ended.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    notice(&format!("{} imports were acknowledged while 6 processes died", acknowledged.len()));
    assert!(acknowledged.len() > 10);
    for server in at {
        for id in &acknowledged {
            let shown = cli(server, &["snapshot", "show", id]).ok().stdout();
            assert!(shown.contains("READY"), "{id} was acknowledged: {shown}");
        }
    }
    drop(world.store(&["gc", "--grace", "0"]).ok());
    let report: Value =
        serde_json::from_str(&world.store(&["scrub", "--output", "json"]).ok().stdout()).unwrap();
    assert_eq!((&report["damaged"], &report["missing"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn a_shared_store_is_checked_backed_up_and_restored() {
    let Some(world) = World::new() else { return };
    let mut plane = world.plane("a", "127.0.0.1:0");
    let at = plane.address("grpc").await;
    import(at, &world, "one");
    drop(cli(at, &["replay", "start", "--snapshot", "one"]).ok());
    let report = world.store(&["scrub"]).ok().stdout();
    assert!(report.contains("blobs"), "{report}");
    let backup = world.path("backup");
    drop(world.store(&["backup", &backup]).ok());
    assert_eq!(world.store(&["backup", &backup]).code(), 2, "it does not write over a backup");
    assert_eq!(world.store(&["restore", &backup]).code(), 1, "it does not write over a store");
    drop(world.store(&["gc", "--grace", "0"]).ok());
    assert_eq!(world.store(&["scrub"]).code(), 0);
    drop(plane);

    // A backup is a data directory, and fills another one.
    let embedded = world.path("embedded");
    drop(process::run("countersign", ["store", "restore", &backup, "--data-dir", &embedded]).ok());
    for dir in [&backup, &embedded] {
        let mut plane = process::control_plane(Path::new(dir), "127.0.0.1:0");
        let at = plane.address("grpc").await;
        assert!(cli(at, &["snapshot", "list"]).ok().stdout().contains("snapshots/one"));
        let held = process::run("countersign", ["store", "scrub", "--data-dir", dir]);
        assert!(held.code() == 1 && held.text().contains("in use"), "{}", held.text());
    }
    drop(process::run("countersign", ["store", "scrub", "--data-dir", &embedded]).ok());
}

#[test]
fn what_cannot_be_used_is_named_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/x");
    let start = |meta: &str, blobs: &str| {
        let variables = [("COUNTERSIGN_META", meta), ("COUNTERSIGN_BLOBS", blobs)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let arguments = ["--listen", "127.0.0.1:0", "--data-dir", &data];
        let out = process::run_in("countersign-control-plane", arguments, &variables);
        assert!(!out.text().contains(PASSWORD), "{}", out.text());
        let help = process::run_in("countersign-control-plane", ["--help"], &variables).text();
        assert!(!help.contains(PASSWORD), "{help}");
        (out.code(), out.text())
    };
    for (meta, blobs, code, part) in [
        (&*url, "s3://bucket", 1, "PostgreSQL at 127.0.0.1:1/x does not connect now"),
        (&*url, "a-directory", 2, "s3://BUCKET"),
        (&*url.replace("postgres", "mysql"), "s3://bucket", 2, "--meta"),
        (&*url.replace(":1/", ":port/"), "s3://bucket", 2, "the URL of PostgreSQL"),
    ] {
        let (ended, text) = start(meta, blobs);
        assert!(ended == code && text.contains(part), "{ended}: {text}");
    }
}
