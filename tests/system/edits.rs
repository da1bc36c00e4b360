//! An edited recording costs a responder about what was edited: the rest lies in chunks that it has already.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path};

use harness::{
    client::Client,
    notice,
    process::{self, Process},
    recording, shared_data,
};
use serde_json::{Value, json};

/// A responder with a cache, and how much it has fetched.
struct World {
    dir: tempfile::TempDir,
    grpc: SocketAddr,
    admin: SocketAddr,
    _processes: [Process; 2],
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let (url, cache) = (format!("http://{grpc}"), dir.path().join("cache"));
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let (secrets, cache) = (dir.path().to_string_lossy(), cache.to_string_lossy());
        arguments.extend([
            "--control-plane",
            &url,
            "--secret-dir",
            &secrets,
            "--cache-dir",
            &cache,
        ]);
        // What is no longer served must not make an edit look cheaper than it is.
        arguments.extend(["--cache-size-mib", "0"]);
        let mut responder = Process::start("countersign-responder", arguments);
        let admin = responder.address("admin").await;
        Self { dir, grpc, admin, _processes: [plane, responder] }
    }

    fn cli(&self, arguments: &[&str]) {
        let server = format!("http://{}", self.grpc);
        drop(process::run("countersign", ["--server", &server].iter().chain(arguments)).ok());
    }

    /// The lines of a recording.
    fn lines(&self, folder: &Path) -> Vec<String> {
        let file = self.dir.path().join("whole.jsonl").to_string_lossy().into_owned();
        self.cli(&["snapshot", "import", &folder.to_string_lossy(), "--id", "whole"]);
        self.cli(&["snapshot", "export", "whole", "--out", &file]);
        fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
    }

    /// Serves lines of a recording, and returns how many bytes were fetched for it.
    async fn serve(&self, id: &str, lines: &[String]) -> u64 {
        let file = self.dir.path().join(format!("{id}.jsonl"));
        fs::write(&file, lines.join("\n")).unwrap();
        let before = self.fetched().await;
        self.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", id]);
        self.cli(&["replay", "start", "--snapshot", id, "--serve", "all", "--wait"]);
        // What the others hold is shared as long as they are served, which only the first one is.
        if id != "first" {
            self.cli(&["replay", "stop", id]);
        }
        self.fetched().await - before
    }

    async fn fetched(&self) -> u64 {
        let metrics = Client::new(self.admin).get("/metrics").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix("countersign_fetched_bytes_total "));
        line.unwrap().parse().unwrap()
    }
}

/// How many pairs each endpoint has.
fn endpoints(lines: &[String]) -> BTreeMap<String, usize> {
    let mut endpoints = BTreeMap::new();
    for line in lines {
        *endpoints.entry(endpoint(line)).or_default() += 1;
    }
    endpoints
}

fn endpoint(line: &str) -> String {
    let pair: Value = serde_json::from_str(line).unwrap();
    format!("{} {}", pair["command"], pair["location"])
}

/// The lines with another body for each response of one endpoint; and how many bytes the lines have that differ.
fn edit(lines: &[String], which: &str) -> (Vec<String>, usize) {
    let mut changed = 0;
    let edit = |line: &String| {
        if endpoint(line) != which {
            return line.clone();
        }
        let mut pair: Value = serde_json::from_str(line).unwrap();
        pair["http"]["res"]["bodyBase64"] = json!("eyJlZGl0ZWQiOnRydWV9");
        let line = pair.to_string();
        changed += line.len();
        line
    };
    let lines = lines.iter().map(edit).collect();
    (lines, changed)
}

/// An edit costs 1.2 times what it changes and 1 % of the recording, and the small blobs that name all others.
async fn assert_cheap(world: &World, name: &str, lines: &[String]) {
    let written: usize = lines.iter().map(String::len).sum();
    let whole = usize::try_from(world.serve("first", lines).await).unwrap();
    let endpoints = endpoints(lines);
    let mut by_count: Vec<(&String, &usize)> = endpoints.iter().collect();
    by_count.sort_by_key(|(_, count)| **count);
    let mut edits = Vec::new();
    for nth in [0, by_count.len() / 2, by_count.len() - 1] {
        let (which, count) = by_count[nth];
        let (edited, changed) = edit(lines, which);
        edits.push((format!("another body in {count} pairs of {which}"), edited, changed));
    }
    let middle = lines.len() / 2;
    let mut more = lines.to_vec();
    more.insert(middle, lines[middle].replace("2024-", "2023-").replace("2026-", "2025-"));
    edits.push(("a pair more".to_owned(), more, lines[middle].len()));
    let mut fewer = lines.to_vec();
    fewer.remove(middle);
    edits.push(("a pair fewer".to_owned(), fewer, 0));
    for (nth, (what, edited, changed)) in edits.into_iter().enumerate() {
        let fetched = usize::try_from(world.serve(&format!("edit-{nth}"), &edited).await).unwrap();
        // JSON takes more room than what is stored.
        let changed = changed * whole / written;
        let allowed = changed * 12 / 10 + whole / 100 + 1024;
        let told = format!(
            "{name}, {what}: {fetched} of {whole} bytes fetched, {changed} changed, {allowed} allowed"
        );
        notice(&told);
        assert!(fetched > 0 && fetched <= allowed, "{told}");
    }
}

/// A recording of 60 endpoints in turns.
fn generated(pairs: usize) -> Vec<String> {
    let line = |nth: usize| {
        let body = json!({"nth": nth, "text": format!("{nth:x}").repeat(150)});
        let line = recording::line("GET", &format!("/endpoint/{}?page={nth}", nth % 60), &body);
        let ts = format!("2024-01-02T{:02}:{:02}:{:02}", nth / 3600, nth / 60 % 60, nth % 60);
        line.replace("2024-01-02T03:04:05", &ts)
    };
    (0..pairs).map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_costs_what_it_changes() {
    assert_cheap(&World::new().await, "generated", &generated(6000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_real_recording_costs_what_it_changes() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let world = World::new().await;
    let lines = world.lines(&folder);
    assert_cheap(&world, "sessions-demo", &lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_transform_fetches_no_chunk() {
    let world = World::new().await;
    let whole = world.serve("first", &generated(1000)).await;
    let template = world.dir.path().join("transform.json");
    for key in ["one", "two"] {
        fs::write(&template, recording::seed_template("t", key)).unwrap();
        let before = world.fetched().await;
        world.cli(&["transform", "put", &template.to_string_lossy()]);
        let start =
            ["replay", "start", "--id", "second", "--snapshot", "first", "--transform", "t"];
        world.cli(&[&start[..], &["--serve", "all", "--wait"]].concat());
        let fetched = world.fetched().await - before;
        assert!(fetched > 0 && fetched < 2048, "{fetched} of {whole}");
    }
}
