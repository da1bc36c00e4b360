//! The page and its calls as a browser, and as a hostile page, sends them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    app::{self, Running},
    config::{Config, Ui},
    tests::config,
};

const CALL: &str = "/countersign.control.v1.SnapshotService/ListSnapshots";

struct Server {
    _dir: tempfile::TempDir,
    running: Running,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ui = Ui::At("127.0.0.1:0".parse().unwrap());
        let running = app::start(Config { ui, ..config(&dir) }).await.unwrap();
        Self { _dir: dir, running }
    }

    /// Sends a request as it is written, and returns the whole answer.
    async fn send(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.running.ui_addr().unwrap()).await.unwrap();
        let head = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A call with these fields.
    async fn call(&self, fields: &str) -> String {
        let message = b"\x0a\x10projects/default";
        let length = u8::try_from(message.len()).unwrap();
        let body = [&[0, 0, 0, 0, length][..], message].concat();
        self.send(&format!("POST {CALL} HTTP/1.1\r\n{fields}"), &body).await
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn the_page_comes_with_its_rules() {
    let server = Server::start().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/editor.js", "text/javascript; charset=utf-8"),
        ("/app.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/nothing", "text/plain; charset=utf-8"),
    ] {
        let answer = server.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), b"").await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert_eq!(status(&answer), if path == "/nothing" { "404" } else { "200" }, "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        for rule in [
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "default-src 'none'",
            "frame-ancestors 'none'",
            "script-src 'self'",
        ] {
            assert!(head.contains(rule), "{path}: {rule}: {head}");
        }
        assert!(!head.contains("unsafe") && !head.contains("access-control-"), "{head}");
    }
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let server = Server::start().await;
    let answer = server.send("HEAD /app.js HTTP/1.1\r\nHost: localhost", b"").await;
    let etag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = format!("GET /app.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}");
    assert_eq!(status(&server.send(&again, b"").await), "304");
}

#[tokio::test]
async fn the_page_may_call_and_its_answers_carry_the_rules() {
    let server = Server::start().await;
    let addr = server.running.ui_addr().unwrap();
    let answer = server
        .call(&format!("Host: {addr}\r\nOrigin: http://{addr}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/grpc-web+proto\r\nX-Grpc-Web: 1"))
        .await;
    assert_eq!(status(&answer), "200", "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("grpc-status:0") || lower.contains("grpc-status: 0"), "{answer}");
    assert!(lower.contains("nosniff") && lower.contains("cache-control: no-store"), "{answer}");
    assert!(!lower.contains("access-control-"), "{answer}");
}

#[tokio::test]
async fn what_other_pages_send_changes_nothing() {
    let server = Server::start().await;
    let own = "Host: localhost\r\nContent-Type: application/grpc-web+proto";
    for fields in [
        own.to_owned(),
        format!("{own}\r\nOrigin: null"),
        format!("{own}\r\nOrigin: http://evil.test"),
        format!("{own}\r\nOrigin: http://localhost\r\nSec-Fetch-Site: cross-site"),
        "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nOrigin: http://evil.test".to_owned(),
        "Host: localhost\r\nContent-Type: text/plain\r\nOrigin: http://evil.test".to_owned(),
    ] {
        let answer = server.call(&fields).await;
        assert_eq!(status(&answer), "403", "{fields}: {answer}");
        assert!(!answer.contains("grpc-status"), "{answer}");
    }
    for (kind, expected) in
        [("text/plain", "415"), ("application/json", "415"), ("application/grpc", "415")]
    {
        let answer = server
            .call(&format!("Host: localhost\r\nOrigin: http://localhost\r\nContent-Type: {kind}"))
            .await;
        assert_eq!(status(&answer), expected, "{kind}");
    }
    let preflight = format!(
        "OPTIONS {CALL} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\nAccess-Control-Request-Method: POST"
    );
    let answer = server.send(&preflight, b"").await;
    assert_eq!(status(&answer), "405");
    assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
}

#[tokio::test]
async fn foreign_names_lead_nowhere() {
    let server = Server::start().await;
    for host in ["evil.test", "evil.test:4181", "0.0.0.0", "[::1%25lo]", "localhost.evil.test"] {
        let page = server.send(&format!("GET / HTTP/1.1\r\nHost: {host}"), b"").await;
        assert_eq!(status(&page), "421", "{host}");
        let call = server
            .call(&format!(
                "Host: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/grpc-web+proto"
            ))
            .await;
        assert_eq!(status(&call), "421", "{host}");
    }
}

#[tokio::test]
async fn off_loopback_it_is_refused_as_the_grpc_port_is() {
    let dir = tempfile::tempdir().unwrap();
    let ui = Ui::At("0.0.0.0:0".parse().unwrap());
    let error = app::start(Config { ui, ..config(&dir) }).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("--allow-insecure"), "{error}");
    let allowed = Config { ui, allow_insecure: true, ..config(&dir) };
    app::start(allowed).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_port_that_was_asked_for_has_to_be_free_and_the_usual_one_need_not() {
    let dir = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let error = app::start(Config { ui: Ui::At(taken), ..config(&dir) }).await.unwrap_err();
    assert!(error.to_string().contains("--ui-listen"), "{error}");
    let running = app::start(Config { ui: Ui::IfFree(taken), ..config(&dir) }).await.unwrap();
    assert_eq!(running.ui_addr(), None);
    running.shutdown().await;
}
