//! What a replay's requests came to, as users are told: over responders, restarts of either side, and runs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use harness::{
    client::Client,
    process::{self, Finished, Process},
    recording, wait_until,
};
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};

use crate::token_world::responder;

/// A control plane with a replay `r` of a login, two orders and a list, whose tokens are signed anew.
pub(crate) struct World {
    dir: tempfile::TempDir,
    plane: Process,
    grpc: SocketAddr,
    secrets: PathBuf,
    /// Where the control plane tells metrics.
    pub(crate) admin: SocketAddr,
}

/// A responder and who talks to it.
pub(crate) struct Node {
    _process: Process,
    pub(crate) data: Client,
    pub(crate) admin: SocketAddr,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same with more arguments for the control plane.
    pub(crate) async fn with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = recording::old_token("HS256", &json!({"sub": "ann", "iat": 1000, "exp": 4600}));
        let lines = [
            recording::line("GET", "/login", &json!({"access_token": token})),
            recording::line("GET", "/orders/1", &json!({"order": 1})),
            recording::line("GET", "/orders/2", &json!({"order": 2})),
            recording::line("GET", "/items?page=1", &json!({"items": []})),
        ];
        fs::write(dir.path().join("r.jsonl"), lines.join("\n")).unwrap();
        fs::write(dir.path().join("t.json"), recording::seed_template("t", "key")).unwrap();
        let secret = b"a secret that is long enough to sign with";
        let secrets = recording::secret_dir(dir.path(), "key", secret);
        let (plane, grpc, admin) = plane(dir.path(), "127.0.0.1:0", more).await;
        let world = Self { dir, plane, grpc, admin, secrets };
        drop(world.cli(&["snapshot", "import", &world.path("r.jsonl"), "--id", "r"]).ok());
        drop(world.cli(&["transform", "put", &world.path("t.json"), "--id", "t"]).ok());
        world
    }

    /// Ends the control plane as a crash does, and starts it again where it was.
    async fn crash(&mut self) {
        self.plane.kill();
        let (plane, _, admin) = plane(self.dir.path(), &self.grpc.to_string(), &[]).await;
        (self.plane, self.admin) = (plane, admin);
    }

    pub(crate) fn kill(&mut self) {
        self.plane.kill();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> Finished {
        let server = format!("http://{}", self.grpc);
        process::run("countersign", ["--server", &server].iter().chain(arguments))
    }

    pub(crate) fn start(&self) {
        drop(self.cli(&["replay", "start", "r", "--transform", "t", "--wait"]).ok());
    }

    pub(crate) async fn node(&self, name: &str, more: &[&str]) -> Node {
        let mut process = responder(name, self.grpc, &self.secrets, more);
        let data = Client::new(process.address("data").await);
        let admin = process.address("admin").await;
        Node { _process: process, data, admin }
    }

    fn report(&self, more: &[&str]) -> Value {
        let arguments = [&["--output", "json", "replay", "report", "r"], more].concat();
        serde_json::from_str(&self.cli(&arguments).ok().stdout()).unwrap()
    }

    /// The report, once it has heard of so many requests.
    async fn report_of(&self, requests: u64) -> Value {
        wait_until(&format!("{requests} requests are reported"), || async {
            let report = self.report(&[]);
            let told = report["totals"]["requests"].as_u64().unwrap();
            assert!(told <= requests, "{report:#}");
            (told == requests).then_some(report)
        })
        .await
    }
}

async fn plane(dir: &Path, listen: &str, more: &[&str]) -> (Process, SocketAddr, SocketAddr) {
    let data = dir.join("store").to_string_lossy().into_owned();
    let arguments = ["--listen", listen, "--data-dir", &data, "--admin-listen", "127.0.0.1:0"];
    let mut plane = Process::start("countersign-control-plane", arguments.iter().chain(more));
    let (grpc, admin) = (plane.address("grpc").await, plane.address("admin").await);
    (plane, grpc, admin)
}

/// Presents a token.
pub(crate) async fn with_token(client: &Client, path: &str, token: &str) {
    let bearer = format!("Bearer {token}").parse().unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
    client.send(Method::GET, path, headers, "".into()).await;
}

async fn ask(client: &Client, path: &str, times: usize) {
    for _ in 0..times {
        client.get(path).await;
    }
}

fn endpoint<'r>(report: &'r Value, path: &str) -> &'r Value {
    let rows = report["endpoints"].as_array().unwrap();
    let row = rows.iter().find(|row| row["path"] == path);
    assert!(row.is_some(), "no {path}: {report:#}");
    row.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_adds_up_over_responders_and_survives_either_side() {
    let mut world = World::new().await;
    let (one, two) = (world.node("one", &[]).await, world.node("two", &[]).await);
    world.start();
    let login = one.data.get("/login").await.json();
    let token = login["access_token"].as_str().unwrap();
    with_token(&one.data, "/orders/1", token).await;
    ask(&one.data, "/orders/1", 2).await;
    ask(&two.data, "/orders/2", 3).await;
    ask(&two.data, "/items?page=1", 1).await;
    ask(&two.data, "/items?page=9", 2).await;
    let report = world.report_of(10).await;
    let totals = &report["totals"];
    assert_eq!((&totals["hits"], &totals["misses"]), (&json!(8), &json!(2)), "{report:#}");
    assert_eq!(totals["latency"]["count"], 8);
    assert!(totals["latency"]["p50Us"].as_u64() <= totals["latency"]["maxUs"].as_u64());
    let orders = endpoint(&report, "/orders/{id}");
    assert_eq!((&orders["hits"], &orders["statuses"]), (&json!(6), &json!({"200": 6})));
    assert_eq!(orders["recordedPairs"], 2);
    let items = endpoint(&report, "/items");
    assert_eq!((&items["hits"], &items["misses"]), (&json!(1), &json!(2)));
    assert_eq!(report["tokens"]["signed"], 1);
    assert_eq!(report["responders"].as_array().unwrap().len(), 2);
    let miss = &report["nearMisses"][0];
    assert_eq!((&miss["count"], &miss["path"]), (&json!(2), &json!("/items")), "{report:#}");
    assert_eq!(miss["differing"][0]["presented"], "page=9");
    let rule = &miss["suggestedRule"]["transforms"][0]["config"]["key"];
    assert_eq!(rule, "http:queryparams:page");
    let steps: u64 = report["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(steps, 10);
    let checked = wait_until("the token was looked at", || async {
        let tokens = world.report(&[])["tokens"].clone();
        (tokens["checked"] == 1).then_some(tokens)
    });
    assert_eq!(checked.await["accepted"], 1);
    let text = world.cli(&["replay", "report", "r"]).ok().stdout();
    for part in ["own answers 80.000 %", "/orders/{id}", "2× GET /items", "delete_sig"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }

    world.crash().await;
    assert_eq!(world.report(&[])["totals"], *totals, "what was acknowledged is stored");
    drop(two);
    let two = world.node("two", &[]).await;
    wait_until("it serves again", || async {
        let answer = two.data.try_send(Method::GET, "/orders/2", HeaderMap::new(), "".into()).await;
        answer.ok().filter(|answer| answer.status == 200)
    })
    .await;
    let report = world.report_of(11).await;
    let responders = report["responders"].as_array().unwrap();
    let processes: Vec<_> = responders.iter().map(|it| it["processes"].clone()).collect();
    assert_eq!(processes, [json!(1), json!(2)], "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_apart_and_can_be_compared_and_totals_alone_are_told_as_such() {
    let world = World::new().await;
    let (full, low) =
        (world.node("full", &[]).await, world.node("low", &["--report", "totals"]).await);
    world.start();
    ask(&full.data, "/orders/1", 2).await;
    ask(&low.data, "/orders/1", 1).await;
    ask(&low.data, "/nowhere", 1).await;
    let report = world.report_of(4).await;
    assert_eq!(report["bounds"]["totalsOnly"], json!(["low"]));
    assert_eq!(
        (&report["bounds"]["otherRequests"], &report["nearMisses"]),
        (&json!(2), &json!([]))
    );
    let first = report["run"].as_u64().unwrap();

    world.start();
    ask(&full.data, "/orders/1", 1).await;
    ask(&full.data, "/elsewhere", 3).await;
    let report = wait_until("the next run is reported", || async {
        let report = world.report(&[]);
        (report["totals"]["requests"] == 4 && report["run"] != first).then_some(report)
    })
    .await;
    assert_eq!(report["totals"]["hits"], 1, "{report:#}");
    let compared = world.report(&["--compare", &first.to_string()]);
    assert_eq!(compared["base"]["totals"]["requests"], 4);
    assert_eq!(compared["endpoints"][0]["run"]["path"], "/elsewhere", "{compared:#}");
    assert_eq!(compared["newNearMisses"][0]["count"], 3);
    let runs = world.report(&["--runs"]);
    let numbers: Vec<_> = runs.as_array().unwrap().iter().map(|it| it["run"].clone()).collect();
    assert_eq!(numbers, [report["run"].clone(), json!(first)]);
    let unknown = world.cli(&["replay", "report", "r", "--run", "77"]);
    assert!(unknown.code() != 0 && unknown.text().contains("run 77"), "{}", unknown.text());
    drop(world.cli(&["replay", "delete", "r"]).ok());
    assert_ne!(world.cli(&["replay", "report", "r"]).code(), 0);
}
