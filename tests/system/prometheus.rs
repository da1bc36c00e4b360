//! A real Prometheus scrapes both planes: every query of the dashboards finds something, every alert rule can be evaluated and some fire.
//!
//! And what processes expose is what docs/metrics.md says, no more and no less.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use harness::{client::Client, notice, wait_until};
use serde_json::{Value, json};

use crate::reports::{Node, World, with_token};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// Some of everything: hits, misses, tokens.
async fn work(node: &Node) {
    let login = node.data.get("/login").await.json();
    with_token(&node.data, "/orders/1", login["access_token"].as_str().unwrap()).await;
    node.data.get("/items?page=9").await;
}

async fn exposed(admin: SocketAddr) -> String {
    let response = Client::new(admin).get("/metrics").await;
    assert_eq!(response.status, 200);
    String::from_utf8(response.body.to_vec()).unwrap()
}

/// The names of metrics in the first column of a section of the document.
fn documented(section: &str) -> BTreeSet<String> {
    let text = read("docs/metrics.md");
    let section = text.split("\n## ").find(|part| part.starts_with(section)).unwrap().to_owned();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(row).collect()
}

/// The names of metrics as they are scraped.
fn named(exposed: &str) -> BTreeSet<String> {
    let kind = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
    };
    exposed.lines().filter_map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_what_is_documented() {
    let world = World::new().await;
    let node = world.node("one", &[]).await;
    world.start();
    work(&node).await;
    for (section, admin) in [("Responders", node.admin), ("Control planes", world.admin)] {
        let text = exposed(admin).await;
        assert_eq!(named(&text), documented(section), "{section}:\n{text}");
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let units = ["_total", "_seconds", "_bucket", "_sum", "_count", "_info", "_bytes"];
            let is_gauge = text.contains(&format!("# TYPE {name} gauge"));
            assert!(is_gauge || units.iter().any(|unit| name.ends_with(unit)), "{line}");
        }
    }
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/x", 404)] {
        assert_eq!(Client::new(world.admin).get(path).await.status, status, "{path}");
    }
}

/// A server of its own, gone when the test ends.
struct Prometheus {
    dir: tempfile::TempDir,
    client: Client,
    process: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            notice(&format!("Prometheus said:\n{log}"));
        }
    }
}

impl Prometheus {
    /// Starts one; `None`, with a notice, where it is not installed. CI has it.
    async fn start(responders: &[SocketAddr], control_plane: SocketAddr) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI needs prometheus");
            notice("prometheus is not installed, a test with it is not run");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let targets = |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let job = |name: &str, all: &[SocketAddr]| json!({ "job_name": name, "static_configs": [{ "targets": targets(all) }] });
        let rules = dir.path().join("rules.yaml");
        fs::write(&rules, at_once(&read("deploy/alerts/countersign.yaml"))).unwrap();
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [
                job("countersign-responder", responders),
                job("countersign-control-plane", &[control_plane]),
            ],
        });
        // JSON is YAML.
        fs::write(dir.path().join("config.yaml"), config.to_string()).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("config.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { dir, client: Client::new(addr), process };
        wait_until("Prometheus is ready", || async {
            let request = server.client.try_send(
                http::Method::GET,
                "/-/ready",
                http::HeaderMap::new(),
                "".into(),
            );
            request.await.ok().filter(|response| response.status == 200)
        })
        .await;
        Some(server)
    }

    /// What an expression comes to now.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let target = format!("/api/v1/query?query={}", encoded(expression));
        let answer = self.client.get(&target).await.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let answer = self.client.get("/api/v1/alerts").await.json();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

/// The same rules, without waiting.
fn at_once(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((before, _)) => format!("{before}for: 0s\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Every expression of the dashboards, with its panel, as Grafana would ask it.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in ["fleet", "replay"] {
        let board: Value =
            serde_json::from_str(&read(&format!("deploy/grafana/{name}.json"))).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let expression = expression
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "5m")
                    .replace("$replay", ".+");
                assert!(!expression.contains('$'), "{expression}");
                all.push((format!("{name}: {}", panel["title"]), expression));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_data_and_alerts_fire() {
    let mut world = World::new().await;
    let nodes = [world.node("one", &[]).await, world.node("two", &[]).await];
    world.start();
    let responders = nodes.each_ref().map(|node| node.admin);
    let Some(server) = Prometheus::start(&responders, world.admin).await else { return };
    let expressions = expressions();
    assert!(expressions.len() > 30, "{}", expressions.len());
    for (panel, expression) in &expressions {
        wait_until(&format!("{panel} has data: {expression}"), || async {
            work(&nodes[0]).await;
            let found = server.query(expression).await;
            let number = |it: &Value| it["value"][1].as_str().is_some_and(|it| it != "NaN");
            found.iter().any(number).then_some(())
        })
        .await;
    }
    let answer = server.client.get("/api/v1/rules").await.json();
    let groups = answer["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 10, "{answer:#}");
    wait_until("every rule was evaluated", || async {
        let answer = server.client.get("/api/v1/rules").await.json();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.all(|rule| rule["health"] == "ok").then_some(())
    })
    .await;
    // A third of the requests above miss.
    wait_until("misses are noticed", || async {
        server.firing().await.contains("CountersignMisses").then_some(())
    })
    .await;
    assert!(!server.firing().await.contains("CountersignDown"));
    world.kill();
    wait_until("a lost control plane is noticed", || async {
        let firing = server.firing().await;
        let expected = ["CountersignDown", "CountersignResponderDisconnected"];
        expected.iter().all(|name| firing.contains(*name)).then_some(())
    })
    .await;
}

#[test]
fn rules_and_the_example_are_sound() {
    if Command::new("promtool").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs promtool");
        notice("promtool is not installed, rules are not checked");
        return;
    }
    let check = |arguments: &[&str]| {
        let mut promtool = Command::new("promtool");
        let out =
            promtool.args(arguments).current_dir(repository().join("deploy")).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    check(&["check", "rules", "alerts/countersign.yaml"]);
    check(&["check", "config", "prometheus.yaml"]);
}
