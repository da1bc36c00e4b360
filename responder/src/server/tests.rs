//! Accept loops and connections, without the rest of the node: bounds and deadlines.

mod chaos;

use std::{net::Ipv4Addr, time::Instant};

use bytes::Bytes;
use countersign_engine::{
    compile::{CompiledSnapshot, compile},
    snapshot::{HttpRequest, HttpResponse, RrPair, Serve, digest::Digest},
    test_config::TestConfig,
    transform::Template,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Handle,
};

mod calls;
mod streams;

use super::*;
use crate::{
    config::Limits,
    metrics::Metrics,
    sequence::Sequences,
    snapshots::{Assignment, Phase, Snapshots},
};

mod http1;
mod proxy;
mod tls;

const SHORT: Duration = Duration::from_millis(50);
const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

struct Node {
    addr: SocketAddr,
    drain: Drain,
    metrics: Arc<Metrics>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.kill();
    }
}

impl Node {
    /// Serves `/a`.
    fn new(limits: Limits) -> Self {
        Self::serving(limits, vec![pair("/a", "recorded")])
    }

    fn serving(limits: Limits, pairs: Vec<RrPair>) -> Self {
        Self::with(limits, &compiled(pairs))
    }

    fn with(limits: Limits, compiled: &Arc<CompiledSnapshot>) -> Self {
        Self::behind(plane(limits, compiled), Door::default())
    }

    /// Serves through this door.
    fn behind(plane: Plane, door: Door) -> Self {
        let metrics = Arc::clone(&plane.metrics);
        let drain = Drain::default();
        let mut listeners = listen(LOCAL.into(), RuntimeKind::Shared).unwrap();
        let addr = listeners.add(LOCAL.into(), door).unwrap();
        listeners.run(RuntimeKind::Shared, &Arc::new(plane), &drain).unwrap();
        Self { addr, drain, metrics }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends these bytes and reads until the node closes.
    async fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        rest(stream).await
    }
}

/// A plane that serves this.
fn plane(limits: Limits, compiled: &Arc<CompiledSnapshot>) -> Plane {
    let metrics = Arc::new(Metrics::new(1));
    let snapshots = Arc::new(Snapshots::new(Arc::clone(&metrics), true));
    snapshots.hear(&assignment(), Phase::Activate);
    snapshots.arrive(&assignment(), compiled, &Arc::default());
    let control = Handle::current();
    let sequences =
        Sequences::new("n", String::new(), Arc::clone(&metrics), (control.clone(), None));
    Plane::new(snapshots, metrics, limits, None, None, (Arc::new(sequences), control))
}

/// Everything until the node closes; a reset after the last byte is a close, too.
async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let read = async { while stream.read_buf(&mut text).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the node should close");
    String::from_utf8(text).unwrap()
}

/// Reads until these bytes have come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(end.as_bytes()) {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "closed before {end:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the node should answer");
    String::from_utf8(text).unwrap()
}

/// `GET http://api{path}`, answered with 200 and this body.
fn pair(path: &str, body: impl Into<Bytes>) -> RrPair {
    RrPair {
        request: Some(HttpRequest {
            method: "GET".to_owned(),
            path: path.to_owned(),
            version: "1.1".to_owned(),
            host: "api".to_owned(),
            ..HttpRequest::default()
        }),
        response: HttpResponse { status: 200, body: body.into(), ..HttpResponse::default() },
        ..RrPair::default()
    }
}

fn compiled(pairs: Vec<RrPair>) -> Arc<CompiledSnapshot> {
    compiled_by(pairs, TestConfig::STANDARD)
}

/// The same by a test config.
fn compiled_by(pairs: Vec<RrPair>, config: &str) -> Arc<CompiledSnapshot> {
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let (compiled, found) = compile(pairs, &Template::default(), &config, Serve::Out);
    assert!(!found.has_errors(), "{:?}", found.as_slice());
    Arc::new(compiled)
}

fn assignment() -> Assignment {
    Assignment {
        name: "projects/default/replays/first".to_owned(),
        bundle: Digest::of(b"bundle"),
        generation: 1,
        start_time: 1,
        revision: 1,
    }
}

/// Waits until this holds; fails the test when it does not for long.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

fn with(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn a_body_is_read_whole_before_the_next_request() {
    let node = Node::new(Limits::default());
    let body = "GET /a HTTP/1.1\r\nHost: api\r\n\r\n";
    let text = node
        .exchange(&format!(
            "POST /b HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n{body}\
             GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n",
            body.len()
        ))
        .await;
    assert_eq!(text.matches("HTTP/1.1 404").count(), 1, "{text}");
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
}

#[tokio::test]
async fn requests_without_one_host_and_tunnels_are_refused() {
    let node = Node::new(Limits::default());
    for (request, status) in [
        ("GET /a HTTP/1.1\r\nHost: api\r\nHost: evil\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT api:80 HTTP/1.1\r\nHost: api:80\r\n\r\n", "501"),
    ] {
        let text = node.exchange(request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request:?} got {text}");
        assert!(text.contains("connection: close"), "{text}");
    }
}

#[tokio::test]
async fn trailers_are_sent_to_a_client_that_takes_them() {
    let trailing = RrPair {
        extra_json: r#"{"http":{"res":{"trailers":{"X-Sum":["7"]}}}}"#.to_owned(),
        ..pair("/a", "recorded")
    };
    let node = Node::serving(Limits::default(), vec![trailing]);
    let ask = async |fields: &str| {
        let head = format!("GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{fields}\r\n");
        node.exchange(&head).await
    };
    let text = ask("TE: trailers\r\n").await;
    assert!(text.contains("trailer: x-sum\r\n"), "{text}");
    assert!(text.ends_with("recorded\r\n0\r\nx-sum: 7\r\n\r\n"), "{text}");
    let text = ask("").await;
    assert!(text.contains("content-length: 8\r\n") && text.ends_with("\r\n\r\nrecorded"), "{text}");
}

#[tokio::test]
async fn a_head_has_to_come_in_time_also_after_other_requests() {
    let node = Node::new(with(|limits| limits.head = SHORT));
    assert_eq!(node.exchange("GET /a HTTP/1.1\r\nHost: ").await, "");

    let mut stream = node.connect().await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    read_until(&mut stream, "recorded").await;
    stream.write_all(b"GET /a HTT").await.unwrap();
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head() {
    let node = Node::new(with(|limits| {
        limits.head = SHORT;
        limits.idle = 4 * SHORT;
    }));
    let mut stream = node.connect().await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    read_until(&mut stream, "recorded").await;
    let idle_since = Instant::now();
    assert_eq!(rest(stream).await, "");
    assert!(idle_since.elapsed() >= 2 * SHORT, "{:?}", idle_since.elapsed());
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_left() {
    // More than both sockets' buffers hold.
    let large = vec![pair("/large", vec![b'x'; 16 * 1024 * 1024])];
    let node = Node::serving(with(|limits| limits.write_pause = SHORT), large);
    let mut stream = node.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    until("the request is answered", || {
        node.metrics.render().unwrap().contains("{result=\"hit\"} 1")
    })
    .await;
    until("the connection is closed", || node.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_waits() {
    let node = Node::new(with(|limits| limits.connections = 1));
    let first = node.connect().await;
    until("the first is accepted", || node.metrics.connections.get() == 1).await;
    let mut second = node.connect().await;
    second.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    assert_eq!(node.metrics.accepted.get(), 1);
    drop(first);
    read_until(&mut second, "recorded").await;
    assert_eq!(node.metrics.accepted.get(), 2);
}

#[tokio::test]
async fn every_core_listens_on_one_port_that_nobody_else_gets() {
    let listeners = listen(LOCAL.into(), RuntimeKind::PerCore).unwrap();
    assert_eq!(listeners.sockets.len(), workers(RuntimeKind::PerCore));
    for kind in [RuntimeKind::PerCore, RuntimeKind::Shared] {
        let error = listen(listeners.addr(), kind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{kind:?}");
    }
}
