//! Requests that nothing recorded answers, on their way to a real host and back.

use std::path::Path;

use countersign_engine::{
    formats::{FileReader, Sink},
    snapshot::RrPair,
};

use super::{body, exchange, get_admin, json, login, real_host::RealHost, serving, status};
use crate::{app::Running, config::Config, upstream::policy::Rule};

fn open(config: &mut Config) {
    config.passthrough.always = true;
    config.passthrough.allow =
        ["127.0.0.1", "api.allowed.example"].map(|rule| rule.parse::<Rule>().unwrap()).to_vec();
}

async fn ask(running: &Running, host: &str, path: &str, more: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
    exchange(running.data_addr(), &head).await
}

#[derive(Default)]
pub(super) struct Read(pub(super) Vec<RrPair>);

impl Sink for Read {
    fn pair(&mut self, pair: RrPair) {
        self.0.push(pair);
    }
    fn skipped(&mut self, why: countersign_engine::diagnostic::Diagnostic) {
        panic!("{why}");
    }
    fn refused(&mut self, why: countersign_engine::diagnostic::Diagnostic) {
        panic!("{why}");
    }
}

/// Every pair below a directory, in the order of the names of the files.
pub(super) fn pairs_in(dir: &Path) -> Vec<RrPair> {
    let mut read = Read::default();
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        if file.is_dir() {
            read.0.extend(pairs_in(&file));
            continue;
        }
        let mut reader = FileReader::new(&file.to_string_lossy(), &mut read);
        reader.push(&std::fs::read(&file).unwrap());
        reader.finish();
    }
    read.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_answered_by_the_real_host_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealHost::start().await;
    let (running, _plane, _stream) = serving(vec![login()], |config| {
        open(config);
        config.passthrough.record = Some(dir.path().join("new"));
    })
    .await;
    let host = real.addr.to_string();
    let answer =
        ask(&running, &host, "/real?a=1", "x-mine: 1\r\nkeep-alive: 3\r\nte: gzip\r\n").await;
    assert_eq!(status(&answer), "200");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("x-countersign-passthrough: true"), "{answer}");
    assert!(lower.contains("via: 1.1 countersign-") && !lower.contains("keep-alive"), "{answer}");
    let told = &serde_json::from_str::<serde_json::Value>(chunks(body(&answer)).as_str()).unwrap();
    assert_eq!(
        (told["path"].as_str(), told["headers"]["x-mine"].as_str()),
        (Some("/real"), Some("1"))
    );
    assert_eq!(told["headers"]["host"], host.as_str());
    for gone in ["keep-alive", "te", "connection"] {
        assert!(told["headers"].get(gone).is_none(), "{gone} in {told}");
    }
    // What is recorded is answered from the recording.
    let hit = ask(&running, &host, "/login", "").await;
    assert!(!hit.contains("x-countersign-passthrough"), "{hit}");
    // A request that has come through here is noticed.
    let own = told["headers"]["x-countersign-hop"].as_str().unwrap();
    let round = ask(&running, &host, "/real", &format!("x-countersign-hop: a, {own}\r\n")).await;
    assert_eq!((status(&round), json(&round)["error"].as_str()), ("508", Some("passthrough_loop")));

    let journal = json(&get_admin(running.admin_addr(), "/journal?outcome=passthrough").await);
    assert_eq!(journal["requests"][1]["path"], "/real", "{journal}");
    let metrics = get_admin(running.admin_addr(), "/metrics").await;
    assert!(metrics.contains(r#"countersign_requests_total{result="passthrough"} 2"#), "{metrics}");
    running.shutdown().await;
    let pairs = pairs_in(&dir.path().join("new"));
    let [pair] = pairs.as_slice() else { panic!("{} pairs", pairs.len()) };
    let request = pair.request.as_ref().unwrap();
    assert_eq!((request.path.as_str(), request.query.as_str()), ("/real", "a=1"));
    assert_eq!(pair.tags["match"], "PASSTHROUGH");
    assert!(pair.response.body.starts_with(b"{") && pair.duration > 0 && pair.ts.is_some());
    assert_eq!(pair.signature["http:url"], "/real");
}

/// The text of a chunked body.
fn chunks(body: &str) -> String {
    let mut rest = body;
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(after.get(..size).unwrap());
        rest = after.get(size + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_allowed_are_not_asked() {
    let real = RealHost::start().await;
    let (running, _plane, _stream) = serving(vec![login()], |config| {
        open(config);
        config.passthrough.allow.push("*.internal.example".parse().unwrap());
    })
    .await;
    let port = real.addr.port();
    for host in [
        format!("localhost:{port}"),
        "169.254.169.254".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "[fe80::1]".to_owned(),
        format!("[::ffff:7f00:2]:{port}"),
        format!("0.0.0.0:{port}"),
        format!("2130706433:{port}"),
        format!("127.0.0.2:{port}"),
        "other.example".to_owned(),
    ] {
        let answer = ask(&running, &host, "/x", "").await;
        assert_eq!(status(&answer), "404", "{host}: {answer}");
        assert!(answer.contains("x-countersign-miss: true"), "{host}");
        assert!(json(&answer)["passthrough"]["refused"].is_string(), "{host}: {answer}");
    }
    let own = ask(&running, &running.data_addr().to_string(), "/x", "").await;
    assert_eq!((status(&own), json(&own)["error"].as_str()), ("508", Some("passthrough_loop")));
    let admin = ask(&running, &running.admin_addr().to_string(), "/status", "").await;
    assert_eq!(status(&admin), "508", "{admin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_do_not_answer_are_told() {
    let (running, _plane, _stream) = serving(vec![login()], open).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = ask(&running, &nobody.to_string(), "/x", "").await;
    assert_eq!(
        (status(&answer), json(&answer)["error"].as_str()),
        ("502", Some("passthrough_failed"))
    );
    assert!(answer.contains("x-countersign-passthrough: failed"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_pass_through_to_each_other_notice() {
    let (one, _plane, _stream) = serving(vec![login()], open).await;
    let (other, _other_plane, _other_stream) = serving(vec![login()], open).await;
    // The other one is asked for itself, and would ask itself.
    let answer = ask(&one, &other.data_addr().to_string(), "/x", "").await;
    assert_eq!(status(&answer), "508", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_through_unless_it_is_wanted() {
    let real = RealHost::start().await;
    let (running, _plane, _stream) = serving(vec![login()], |config| {
        open(config);
        config.passthrough.always = false;
    })
    .await;
    let answer = ask(&running, &real.addr.to_string(), "/x", "").await;
    assert_eq!(status(&answer), "404");
    assert!(json(&answer).get("passthrough").is_none(), "{answer}");
}
