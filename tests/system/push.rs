//! A snapshot goes from one control plane to another by digest: all of it once, after a break only the rest, of an edited one only what was edited.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    client::Client,
    link::{Fault, Link},
    process::{self, Finished, Process},
    wait_until,
};
use serde_json::json;

/// Two control planes, of which the first makes digests with SHA-256, and a link to the second.
struct World {
    dir: tempfile::TempDir,
    source: SocketAddr,
    target: SocketAddr,
    link: Link,
    _processes: [Process; 2],
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("source").to_string_lossy().into_owned();
        let source = ["--listen", "127.0.0.1:0", "--data-dir", &data, "--digest", "sha256"];
        let mut source = Process::start("countersign-control-plane", source);
        let mut target = process::control_plane(&dir.path().join("target"), "127.0.0.1:0");
        let at = [source.address("grpc").await, target.address("grpc").await];
        let link = Link::to(at[1]).await;
        Self { dir, source: at[0], target: at[1], link, _processes: [source, target] }
    }

    fn import(&self, id: &str, bodies: impl IntoIterator<Item = String>) {
        let file = self.dir.path().join(format!("{id}.jsonl"));
        let lines = bodies.into_iter().enumerate().map(|(n, body)| line(n, &body));
        fs::write(&file, lines.collect::<String>()).unwrap();
        drop(self.run(&["snapshot", "import", &file.to_string_lossy(), "--id", id]).ok());
    }

    /// Runs a command at the source.
    fn run(&self, arguments: &[&str]) -> Finished {
        let server = format!("http://{}", self.source);
        process::run("countersign", ["--server", &server].iter().chain(arguments))
    }

    /// The arguments of a push over the link.
    fn push(&self, id: &str, more: &[&str]) -> Vec<String> {
        let (server, to) =
            (format!("http://{}", self.source), format!("http://{}", self.link.addr()));
        let push = ["--server", &server, "snapshot", "push", id, "--to", &to];
        push.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    /// Bytes that were sent, chunks that were, and all.
    fn pushed(&self, id: &str, more: &[&str]) -> [u64; 3] {
        let text = process::run("countersign", self.push(id, more)).ok().text();
        let told = text.lines().find(|line| line.starts_with("sent ")).unwrap().to_owned();
        let numbers = told.replace('(', " ");
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|word| word.parse().ok()).collect();
        // The first and the last of a size for people may look like a number, too.
        let bytes = told.split_once('(').unwrap().1.split(' ').next().unwrap().parse().unwrap();
        [bytes, numbers[numbers.len() - 2], numbers[numbers.len() - 1]]
    }

    fn manifest(&self, server: SocketAddr, id: &str) -> String {
        let server = format!("http://{server}");
        let shown = ["--server", &server, "snapshot", "show", id, "--output", "json"];
        let shown = process::run("countersign", shown).ok().stdout();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown["manifest"].as_str().unwrap().to_owned()
    }
}

fn line(n: usize, body: &str) -> String {
    let path = format!("/things/{n}");
    let pair = json!({
        "msgType": "rrpair", "resource": "demo", "ts": "2024-01-01T00:00:00Z", "l7protocol": "http", "duration": 1, "tags": {},
        "uuid": "", "direction": "OUT", "command": "GET", "location": path, "status": "200",
        "http": {
            "req": {"url": format!("http://demo{path}"), "uri": path, "version": "1.1", "method": "GET", "host": "demo", "headers": {}},
            "res": {"contentType": "text/plain", "statusCode": 200, "statusMessage": "200 OK", "headers": {}, "bodyBase64": body}
        }
    });
    format!("{pair}\n")
}

/// Bodies in base64 that have nothing in common.
fn bodies(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("{n:04}").repeat(400))
}

/// The files of a directory of blobs.
fn files(blobs: &Path) -> Vec<PathBuf> {
    let Ok(shelves) = fs::read_dir(blobs) else { return Vec::new() };
    let shelves = shelves.map(|shelf| shelf.unwrap().path()).filter(|path| path.is_dir());
    let of = |shelf: PathBuf| fs::read_dir(shelf).unwrap().map(|file| file.unwrap().path());
    shelves.flat_map(of).collect()
}

// The link goes on while a command is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_sends_what_is_missing_and_no_more() {
    let world = World::new().await;
    world.import("first", bodies(1500));
    for blob in files(&world.dir.path().join("source/blobs")) {
        let sum = Command::new("sha256sum").arg(&blob).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let name = blob.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(format!("sha256-{}", sum.split(' ').next().unwrap()), name);
    }

    // One that is killed on its way leaves what has come.
    world.link.set(Fault::Slow(Duration::from_millis(30)));
    let mut killed = Process::start("countersign", world.push("first", &[]));
    let blobs = world.dir.path().join("target/blobs");
    wait_until("some chunks have come", || async { (files(&blobs).len() > 60).then_some(()) })
        .await;
    killed.kill();
    world.link.set(Fault::None);
    let [bytes, sent, all] = world.pushed("first", &[]);
    assert!(sent < all && bytes > 0, "{sent} of {all}");
    let manifest = world.manifest(world.source, "first");
    assert!(manifest.starts_with("sha256:"), "{manifest}");
    assert_eq!(world.manifest(world.target, "first"), manifest);
    let again = process::run("countersign", world.push("first", &[])).ok().text();
    assert!(again.contains("is there already"), "{again}");

    // Of one that differs in a body little is sent, and a name that is taken is refused.
    let edited =
        bodies(1500).enumerate().map(|(n, body)| if n == 700 { "YWFh".repeat(400) } else { body });
    world.import("second", edited);
    let taken = process::run("countersign", world.push("second", &["--id", "first"]));
    assert!(taken.code() == 2 && taken.text().contains("with other content"), "{}", taken.text());
    let [few, sent, of] = world.pushed("second", &["--id", "copy"]);
    assert!(sent < of / 10 && few < 100_000, "{few} bytes, {sent} of {of}");
    // In another project nothing is there.
    let [many, sent, of] = world.pushed("second", &["--to-project", "other"]);
    assert!(sent == of && many > 20 * few, "{many} bytes, {sent} of {of}");

    // A responder verifies and serves what the other function has named.
    let cache = world.dir.path().join("cache");
    let mut responder = process::responder("r", world.target, world.dir.path(), Some(&cache));
    let data = responder.address("data").await;
    let server = format!("http://{}", world.target);
    let start = ["--server", &server, "replay", "start", "--snapshot", "copy", "--wait"];
    drop(process::run("countersign", start).ok());
    let answer = Client::new(data).get("/things/700").await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, "aaa".repeat(400).as_bytes()));
    let cached = fs::read_dir(cache.join("blobs")).unwrap().map(|file| file.unwrap().file_name());
    let (sha256, blake3): (Vec<_>, Vec<_>) =
        cached.partition(|name| name.to_string_lossy().starts_with("sha256-"));
    assert!(sha256.len() > 5 && !blake3.is_empty(), "the bundle is of the target's own function");
    // From the cache alone, when the control plane is away.
    drop(responder);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut responder = process::responder("r", nowhere, world.dir.path(), Some(&cache));
    let client = Client::new(responder.address("data").await);
    let served =
        || async { (client.get("/things/700").await.status.as_u16() == 200).then_some(()) };
    wait_until("the cache is served", served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_when_its_connection_is_cut() {
    let world = World::new().await;
    world.import("cut", bodies(1500));
    world.link.set(Fault::Slow(Duration::from_millis(20)));
    let push = Process::start("countersign", world.push("cut", &[]));
    let blobs = world.dir.path().join("target/blobs");
    for round in 1..4 {
        let some = || async { (files(&blobs).len() > round * 4).then_some(()) };
        wait_until("more chunks have come", some).await;
        world.link.set(Fault::Cut);
        let noticed = || async { (push.text().matches("going on").count() >= round).then_some(()) };
        wait_until("it is noticed", noticed).await;
        world.link.set(Fault::Slow(Duration::from_millis(20)));
    }
    world.link.set(Fault::None);
    let pushed = || async { push.text().contains("sent ").then_some(()) };
    wait_until("all is there", pushed).await;
    assert_eq!(world.manifest(world.target, "cut"), world.manifest(world.source, "cut"));
}
