//! The responder as a whole, through its sockets, against a control plane whose every message the test chooses.

mod admin;
mod api;
mod data_plane;
mod fake;
mod journal;
mod passthrough;
mod real_host;
mod record;
mod sequences;
mod steps;
mod subscription;
mod tls_host;
mod versions;

use std::{net::SocketAddr, path::Path, time::Duration};

use countersign_engine::snapshot::{Header, HttpRequest, HttpResponse, RrPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    app::{self, Running},
    config::{Config, RuntimeKind},
};
use fake::ControlPlane;

/// A token as somebody else signed it.
const RECORDED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjoxNzAwMDAzNjAwfQ.\
                        b2xkIHNpZ25hdHVyZSwgMzIgYnl0ZXMgb2YgdGhlbS4";
const RESIGN: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[
    {"type":"json_path","config":{"path":"access_token"}},
    {"type":"jwt_resign","config":{"secretPath":"${{secret:demo/key}}"}}]}]}"#;
const KEY: &str = "a secret of at least thirty-two bytes";
/// Nothing that a test waits for takes so long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair(method: &str, path: &str, response: &str) -> RrPair {
    RrPair {
        ts: Some(1_700_000_000_000_000_000),
        request: Some(HttpRequest {
            method: method.into(),
            path: path.into(),
            host: "api.example".into(),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            headers: vec![Header { name: "Content-Type".into(), value: "application/json".into() }],
            body: response.to_owned().into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

fn login() -> RrPair {
    pair("GET", "/login", &format!(r#"{{"access_token":"{RECORDED}"}}"#))
}

fn config(secrets: &Path, control_plane: Option<&ControlPlane>) -> Config {
    Config {
        name: "r1".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        control_plane: control_plane.map(ControlPlane::url),
        secret_dir: secrets.to_owned(),
        secret_poll: Duration::from_millis(5),
        runtime: RuntimeKind::Shared,
        ..Config::default()
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Starts a responder that serves these pairs and waits until it is ready.
async fn serving(
    pairs: Vec<RrPair>,
    change: impl FnOnce(&mut Config),
) -> (Running, ControlPlane, fake::Stream) {
    serving_with(pairs, None, change).await
}

/// The same with a test config.
async fn serving_with(
    pairs: Vec<RrPair>,
    test_config: Option<&str>,
    change: impl FnOnce(&mut Config),
) -> (Running, ControlPlane, fake::Stream) {
    let secrets = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start().await;
    let mut config = config(secrets.path(), Some(&plane));
    change(&mut config);
    let running = app::start(config).await.unwrap();
    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    let bundle = plane.put_with(pairs, None, test_config);
    stream.delta(1, 1, &[("r", bundle, 1)], &[], true).await;
    let ack = stream.ack().await;
    stream.alone(&ack).await;
    in_time(running.ready()).await;
    (running, plane, stream)
}

/// Sends bytes and reads until the peer closes.
async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

/// Reads to the end; a peer that has not read all that was sent ends with a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    if let Err(error) = in_time(stream.read_to_end(&mut response)).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(response).unwrap()
}

async fn get(addr: SocketAddr, path: &str) -> String {
    exchange(
        addr,
        &format!("GET {path} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n"),
    )
    .await
}

async fn get_admin(addr: SocketAddr, path: &str) -> String {
    exchange(addr, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
        .await
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or(response)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn json(response: &str) -> serde_json::Value {
    serde_json::from_str(body(response)).unwrap_or_else(|error| panic!("{error} in {response}"))
}

/// Asks until the answer is as wanted.
async fn until<F: Future<Output = String>>(
    ask: impl Fn() -> F,
    wanted: impl Fn(&str) -> bool,
) -> String {
    in_time(async {
        loop {
            let answer = ask().await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
