//! The recording proxy through its socket: what comes back is what the real host said, and what is written is what went through.

use bytes::Bytes;
use countersign_engine::{
    dlp::{DlpConfig, RedactionKey, Redactor},
    snapshot::{Direction, RrPair},
};
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    PATIENCE, RECORDED, exchange, in_time, json, passthrough::pairs_in, real_host::RealHost,
    status, tls_host::TlsHost,
};
use crate::{
    record::{self, Counts, Running, Settings},
    recorder::{self, Form},
};

fn settings(dir: &tempfile::TempDir, upstream: Option<String>) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: upstream.map(|url| url.parse().unwrap()),
        allow: Vec::new(),
        trust: None,
        head: PATIENCE,
        pause: PATIENCE,
        recording: recorder::Settings::new(dir.path().to_owned()),
    }
}

fn client(http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

async fn send(
    proxy: &Running,
    http2: bool,
    method: Method,
    target: &str,
    body: &'static str,
) -> http::Response<Bytes> {
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://{}{target}", proxy.addr()).parse().unwrap();
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let response = in_time(client(http2).request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let mut whole = http::Response::from_parts(head, Bytes::new());
    if let Some(trailers) = body.trailers() {
        whole.extensions_mut().insert(trailers.clone());
    }
    *whole.body_mut() = body.to_bytes();
    whole
}

fn request(pair: &RrPair) -> (&str, &str, &str) {
    let request = pair.request.as_ref().unwrap();
    (&request.method, &request.path, &request.version)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_through_is_written_as_it_was() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealHost::start().await);
    let proxy =
        record::start(settings(&dir, Some(format!("http://{}/base", real.addr)))).await.unwrap();
    let plain = send(&proxy, false, Method::POST, "/a?b=1", r#"{"x":1}"#).await;
    let told: serde_json::Value = serde_json::from_slice(plain.body()).unwrap();
    assert_eq!(
        (told["path"].as_str(), told["body"].as_str()),
        (Some("/base/a"), Some(r#"{"x":1}"#))
    );
    assert_eq!(
        (told["headers"]["host"].as_str(), told["headers"]["content-length"].as_str()),
        (Some(&*real.addr.to_string()), Some("7"))
    );
    let streamed = send(&proxy, true, Method::GET, "/trailers", "").await;
    assert_eq!(streamed.version(), Version::HTTP_2);
    assert_eq!(streamed.extensions().get::<http::HeaderMap>().unwrap()["grpc-status"], "0");
    let told: serde_json::Value = serde_json::from_slice(streamed.body()).unwrap();
    assert_eq!(told["version"], "HTTP/2.0", "HTTP/2 goes on as HTTP/2");
    assert_eq!(
        in_time(proxy.shutdown(PATIENCE)).await.unwrap(),
        Counts { pairs: 2, lost: 0, broken: 0 }
    );

    let pairs = pairs_in(dir.path());
    assert_eq!(request(&pairs[0]), ("POST", "/a", "1.1"));
    assert_eq!(request(&pairs[1]), ("GET", "/trailers", "2.0"));
    assert_eq!(pairs[0].request.as_ref().unwrap().body, r#"{"x":1}"#);
    assert_eq!(pairs[0].response.body, plain.body());
    assert_eq!(pairs[0].network_address, real.addr.to_string());
    assert_eq!((pairs[0].direction, pairs[0].service.as_str()), (Direction::Out, "127.0.0.1"));
    assert_eq!(pairs[0].signature["http:requestBodyJSON"], r#"{"x":1}"#);
    assert!(
        pairs[1].extra_json.contains(r#""trailers":{"Grpc-Status":["0"]}"#),
        "{}",
        pairs[1].extra_json
    );
    assert!(!pairs[1].tags.contains_key("match"));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_go_through_and_are_cut_in_the_recording() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealHost::start().await);
    let mut settings = settings(&dir, Some(format!("http://{}", real.addr)));
    settings.recording.body = 1000;
    settings.recording.rotate = 1;
    settings.recording.direction = Direction::In;
    settings.recording.service = "shop".to_owned();
    let proxy = record::start(settings).await.unwrap();
    assert_eq!(send(&proxy, false, Method::GET, "/long", "").await.body().len(), 64 * 1024);
    send(&proxy, false, Method::GET, "/short", "").await;
    proxy.shutdown(PATIENCE).await.unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "a file that is full is followed by another"
    );
    let pairs = pairs_in(dir.path());
    assert_eq!(pairs[0].response.body.len(), 1000);
    assert_eq!(pairs[0].tags["responseTruncated"], "true");
    assert!(!pairs[1].tags.contains_key("responseTruncated"));
    assert_eq!((pairs[1].direction, pairs[1].service.as_str()), (Direction::In, "shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_upstream_it_goes_where_the_client_says() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealHost::start().await);
    let mut settings = settings(&dir, None);
    settings.recording.form = Form::Markdown;
    let proxy = record::start(settings).await.unwrap();
    let through = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    let absolute = format!("http://{}/far", real.addr);
    let answer = exchange(proxy.addr(), &through(&absolute, "ignored.example")).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let own = exchange(proxy.addr(), &through("/x", &proxy.addr().to_string())).await;
    assert_eq!((status(&own), json(&own)["error"].as_str()), ("508", Some("loop")));
    let metadata = exchange(proxy.addr(), &through("http://169.254.169.254/latest", "x")).await;
    assert_eq!((status(&metadata), json(&metadata)["error"].as_str()), ("403", Some("refused")));
    let tunnel =
        exchange(proxy.addr(), "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n")
            .await;
    assert_eq!(status(&tunnel), "501");
    assert_eq!(proxy.shutdown(PATIENCE).await.unwrap(), Counts { pairs: 1, lost: 0, broken: 2 });
    let pairs = pairs_in(dir.path());
    assert_eq!(request(&pairs[0]), ("GET", "/far", "1.1"));
    assert_eq!(pairs[0].request.as_ref().unwrap().host, real.addr.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_is_never_written() {
    let (dir, real) = (tempfile::tempdir().unwrap(), RealHost::start().await);
    let mut settings = settings(&dir, Some(format!("http://{}", real.addr)));
    let config = DlpConfig::built_in("standard").unwrap();
    settings.recording.redactor = Some(Redactor::new(config, RedactionKey::from_seed(b"x")));
    settings.recording.strip = true;
    let proxy = record::start(settings).await.unwrap();
    let body: &'static str = format!(r#"{{"password":"hunter2","t":"{RECORDED}"}}"#).leak();
    send(&proxy, false, Method::POST, "/login?api_key=s3cr3t-key", body).await;
    proxy.shutdown(PATIENCE).await.unwrap();
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let pairs = pairs_in(dir.path());
    let text = format!("{pairs:?}{}", std::fs::read_to_string(file).unwrap());
    let signature = RECORDED.rsplit('.').next().unwrap();
    for hidden in ["hunter2", "s3cr3t-key", signature] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert!(text.contains("REDACTED-PASSWORD"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_with_tls_are_recorded_and_their_certificates_checked() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (alpn, version) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1")] {
        let Some(real) = TlsHost::start(files.path(), alpn).await else { return };
        let upstream = format!("https://localhost:{}", real.addr.port());
        let untrusting = record::start(settings(&dir, Some(upstream.clone()))).await.unwrap();
        let answer = send(&untrusting, false, Method::GET, "/a", "").await;
        assert_eq!(answer.status(), 502, "nobody vouches for it: {:?}", answer.body());
        assert_eq!(
            untrusting.shutdown(PATIENCE).await.unwrap(),
            Counts { pairs: 0, lost: 0, broken: 1 }
        );

        let new = tempfile::tempdir().unwrap();
        let trust = Some(real.certificate.clone());
        let proxy =
            record::start(Settings { trust, ..settings(&new, Some(upstream)) }).await.unwrap();
        let answer = send(&proxy, false, Method::GET, "/a", "").await;
        assert_eq!(answer.body(), &format!("{version} /a"));
        proxy.shutdown(PATIENCE).await.unwrap();
        let pair = pairs_in(new.path()).remove(0);
        assert_eq!((pair.l7protocol.as_str(), pair.status.as_str()), ("https", "200"));
        assert!(pair.extra_json.contains(r#""isTls":true"#), "{}", pair.extra_json);
        assert_eq!(pair.extra_json.contains(r#""alpn":"h2""#), version == "HTTP/2.0");
        assert_eq!(pair.network_address, format!("localhost:{}", real.addr.port()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_breaks_off_is_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (go, told) = tokio::sync::oneshot::channel::<()>();
    let breaks = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        told.await.unwrap();
    });
    let proxy = record::start(settings(&dir, Some(format!("http://{addr}")))).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It breaks off once the client has what came before.
    while !answer.ends_with(b"half") {
        assert_ne!(in_time(client.read_buf(&mut answer)).await.unwrap(), 0, "it ended");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    go.send(()).unwrap();
    breaks.await.unwrap();
    // How it ends is the system's: with an error, or without.
    let _ended = in_time(client.read_to_end(&mut answer)).await;
    assert!(answer.ends_with(b"half"), "nothing is made up");
    assert_eq!(proxy.shutdown(PATIENCE).await.unwrap(), Counts { pairs: 0, lost: 0, broken: 1 });
    assert_eq!(pairs_in(dir.path()).len(), 0);
}

#[tokio::test]
async fn a_proxy_for_everybody_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = settings(&dir, None);
    open.listen = "0.0.0.0:0".parse().unwrap();
    assert!(record::start(open).await.unwrap_err().is_usage());
    assert!(
        record::start(settings(&dir, Some("ftp://a".to_owned()))).await.unwrap_err().is_usage()
    );
}
