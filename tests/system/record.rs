//! From no recording to a served one with the real binaries: record, import, serve, and what was missing from the real service.

use std::{path::Path, process::Command};

use bytes::Bytes;
use harness::{
    client::{Client, Response},
    notice,
    process::{self, Process},
    real::{RealService, token_of},
    recording,
};
use http::{HeaderMap, Method, StatusCode};

const ANY: &str = "127.0.0.1:0";

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        format!("Bearer {token}").parse().unwrap(),
    )])
}

/// What a user of the service does.
async fn visit(client: &Client, user: &str) -> Vec<Response> {
    let login = format!(r#"{{"username":"{user}","password":"hunter2"}}"#);
    let login = client.post_json("/login", &login).await;
    let token = login.json()["access_token"].as_str().unwrap().to_owned();
    let me = client.send(Method::GET, "/me", bearer(&token), Bytes::new()).await;
    let items = client.get("/items?page=1&size=20").await;
    vec![login, me, items]
}

fn dev(recordings: &[&Path], more: &[&str]) -> Process {
    let mut arguments: Vec<String> = vec!["dev".to_owned()];
    arguments.extend(recordings.iter().map(|path| path.to_string_lossy().into_owned()));
    arguments.extend(["--listen", ANY, "--admin-listen", ANY].map(str::to_owned));
    arguments.extend(more.iter().map(|text| (*text).to_owned()));
    Process::start("countersign", arguments)
}

/// Records a visit of each user, one over HTTP/1.1 and one over HTTP/2, and one of curl.
async fn record(real: &RealService, dir: &Path, more: &[&str]) -> (usize, String) {
    let upstream = format!("http://{}", real.addr);
    let out = dir.to_string_lossy().into_owned();
    let arguments = ["record", "--listen", ANY, "--upstream", &upstream, "--out", &out];
    let mut proxy = Process::start("countersign", arguments.iter().chain(more));
    let addr = proxy.address("proxy").await;
    visit(&Client::new(addr), "alice").await;
    visit(&Client::http2(addr), "bob").await;
    let mut pairs = 6;
    let url = format!("http://{addr}/curl?a=b%20c");
    match Command::new("curl").args(["-sS", "--max-time", "20", &url]).output() {
        Ok(done) => {
            assert!(String::from_utf8_lossy(&done.stdout).contains("/curl"), "{done:?}");
            pairs += 1;
        }
        Err(_) => notice("there is no curl, it is not recorded"),
    }
    assert!(proxy.terminate().await.success());
    (pairs, proxy.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_served() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealService::start().await);
    for (format, name) in [("jsonl", "lines"), ("markdown", "files")] {
        let recorded = dir.path().join(name);
        let (pairs, text) = record(&real, &recorded, &["--format", format]).await;
        assert!(text.contains(&format!("recorded {pairs} pairs")), "{text}");
        let read = recording::read(&recorded);
        assert_eq!((read.pairs.len(), read.refused.len()), (pairs, 0));

        let mut dev = dev(&[&recorded], &[]);
        let server = Client::new(dev.address("data").await);
        for user in ["bob", "alice", "bob"] {
            let expected = visit(&Client::new(real.addr), user).await;
            for (own, real) in visit(&server, user).await.iter().zip(&expected) {
                assert_eq!((own.status, own.json()), (real.status, real.json()));
                assert_eq!(own.headers.get("content-type"), real.headers.get("content-type"));
            }
        }
    }
    let mut plane = process::control_plane(&dir.path().join("data"), ANY);
    let server = format!("http://{}", plane.address("grpc").await);
    let recorded = dir.path().join("lines").to_string_lossy().into_owned();
    let import = ["--server", &server, "snapshot", "import", &recorded, "--id", "first"];
    let imported = process::run("countersign", import).ok().text();
    assert!(!imported.contains("refused") || imported.contains("refused 0"), "{imported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_reaches_no_disk() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealService::start().await);
    let recorded = dir.path().join("safe");
    let safe = ["--dlp", "standard", "--strip-signatures"];
    let (pairs, text) = record(&real, &recorded, &safe).await;
    let read = recording::read(&recorded);
    assert_eq!(read.pairs.len(), pairs);
    let all = format!("{:?}{text}", read.pairs);
    let signature = token_of("alice").rsplit('.').next().unwrap().to_owned();
    for hidden in ["hunter2", &signature] {
        assert!(!all.contains(hidden), "{hidden}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    for file in std::fs::read_dir(&recorded).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else may read it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_comes_from_the_real_service_and_is_recorded() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealService::start().await);
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    record(&real, &first, &[]).await;
    let new = second.to_string_lossy().into_owned();
    let allow = ["--passthrough-allow", "127.0.0.1", "--record", &new];
    let mut one = dev(&[&first], &allow);
    let (data, admin) = (one.address("data").await, one.address("admin").await);
    let client = Client::new(data);
    let of_real = |token: Option<String>| {
        let mut headers = token.map(|token| bearer(&token)).unwrap_or_default();
        headers.insert("host", real.addr.to_string().parse().unwrap());
        headers
    };
    let new = client.send(Method::GET, "/new?x=1", of_real(None), Bytes::new()).await;
    assert_eq!((new.status, new.json()["path"].as_str()), (StatusCode::OK, Some("/new")));
    assert_eq!(new.headers["x-countersign-passthrough"], "true");
    let secret = token_of("alice");
    let headers = of_real(Some(secret.clone()));
    let missed = client.send(Method::GET, "/other", headers, Bytes::new()).await;
    assert_eq!(missed.status, StatusCode::OK);
    let known =
        client.send(Method::GET, "/items?page=1&size=20", of_real(None), Bytes::new()).await;
    assert!(!known.headers.contains_key("x-countersign-passthrough"));
    for host in ["169.254.169.254", "[fe80::1]", "localhost", "metadata.google.internal"] {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        let refused = client.send(Method::GET, "/new", headers, Bytes::new()).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{host}");
        assert!(refused.json()["passthrough"]["refused"].is_string(), "{host}");
    }

    // Another one that is asked for itself by way of the first.
    let mut other = dev(&[&first], &["--passthrough-allow", "127.0.0.1"]);
    let mut headers = HeaderMap::new();
    headers.insert("host", other.address("data").await.to_string().parse().unwrap());
    let round = client.send(Method::GET, "/nowhere", headers, Bytes::new()).await;
    assert_eq!(round.status, StatusCode::LOOP_DETECTED, "{:?}", round.body);

    let journal = Client::new(admin).get("/journal?limit=100").await;
    let told = String::from_utf8_lossy(&journal.body).into_owned();
    for part in secret.split('.') {
        assert!(!told.contains(part), "{part} in {told}");
    }
    let outcomes = |outcome: &str| told.matches(&format!(r#""outcome":"{outcome}""#)).count();
    assert_eq!((outcomes("passthrough"), outcomes("hit"), outcomes("miss")), (3, 1, 4), "{told}");
    assert!(told.contains("sub alice"), "{told}");
    assert!(one.terminate().await.success());
    assert!(!one.text().contains(&secret), "nothing of it is logged");

    let read = recording::read(&second);
    let paths: Vec<_> = read.pairs.iter().map(|pair| pair.location.as_str()).collect();
    assert_eq!((paths, read.refused.len()), (vec!["/new", "/other"], 0));
    assert!(read.pairs.iter().all(|pair| pair.tags["match"] == "PASSTHROUGH"));
    let mut both = dev(&[&first, &second], &[]);
    let again = Client::new(both.address("data").await).get("/new?x=1").await;
    assert_eq!(again.json(), new.json());
}
