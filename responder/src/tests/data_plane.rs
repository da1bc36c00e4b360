//! The data listener through its socket.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{body, config, exchange, get, in_time, json, pair, rest, serving, status};
use crate::{
    app::{self, Running, StartError},
    config::{Config, RuntimeKind},
};

async fn idle(change: impl FnOnce(&mut Config)) -> Running {
    let secrets = tempfile::tempdir().unwrap();
    let mut config = config(secrets.path(), None);
    change(&mut config);
    app::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_shows_no_protocol_is_closed() {
    for runtime in [RuntimeKind::Shared, RuntimeKind::PerCore] {
        let running = idle(|config| {
            config.runtime = runtime;
            config.limits.detect = Duration::from_millis(20);
        })
        .await;
        assert_eq!(exchange(running.data_addr(), "").await, "");
        assert_eq!(exchange(running.data_addr(), "PRI * HT").await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_closed() {
    let running = idle(|config| config.limits.head = Duration::from_millis(20)).await;
    let answer = exchange(running.data_addr(), "GET / HTTP/1.1\r\nhost: a").await;
    assert!(answer.is_empty() || status(&answer) == "408", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_refused() {
    let running = idle(|config| config.limits.body_pause = Duration::from_millis(20)).await;
    let answer =
        exchange(running.data_addr(), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nxxx")
            .await;
    assert_eq!((status(&answer), json(&answer)["error"].as_str()), ("408", Some("body_too_slow")));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_and_the_connection_closed() {
    let running = idle(|config| config.limits.body = 4).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for request in [
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len()),
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(running.data_addr(), &request).await;
        assert_eq!((status(&answer), json(&answer)["error"].as_str()), ("413", Some("body_too_large")));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "the body is no request: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_anything_is_known_requests_are_told_to_come_back() {
    let running = idle(|_| {}).await;
    let answer = get(running.data_addr(), "/a").await;
    assert_eq!(
        (status(&answer), json(&answer)["error"].as_str()),
        ("503", Some("nothing_to_serve"))
    );
    assert!(answer.contains("retry-after: 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_names_what_comes_near() {
    let (running, _plane, _stream) = serving(vec![pair("GET", "/order/17", "order")], |_| {}).await;
    let answer = get(running.data_addr(), "/order/18").await;
    assert_eq!(status(&answer), "404");
    assert!(
        answer.contains("x-countersign-miss: true")
            && answer.contains("content-type: application/json"),
        "{answer}"
    );
    let told = json(&answer);
    assert_eq!(
        (told["error"].as_str(), told["replay"].as_str()),
        (Some("no_recorded_response"), Some("projects/default/replays/r"))
    );
    assert!(told["nearest"].to_string().contains("/order/17"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_accepted_in_every_form() {
    let (running, _plane, _stream) =
        serving(vec![pair("GET", "/a", "one")], |config| config.runtime = RuntimeKind::PerCore)
            .await;
    let addr = running.data_addr();
    let absolute =
        "GET http://api.example/a HTTP/1.1\r\nhost: proxy.example\r\nconnection: close\r\n\r\n";
    assert_eq!(body(&exchange(addr, absolute).await), "one");
    for (request, code) in [
        ("GET /a HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", "400"),
        ("CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET /a HTTP/1.1\r\nhost : a\r\n\r\n", "400"),
    ] {
        assert_eq!(status(&exchange(addr, request).await), code, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let (running, _plane, _stream) =
        serving(vec![pair("GET", "/a", "first"), pair("GET", "/b", "second")], |_| {}).await;
    let request = "GET /a HTTP/1.1\r\nhost: api.example\r\n\r\nGET /b HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n";
    let answer = exchange(running.data_addr(), request).await;
    assert!(answer.find("first").unwrap() < answer.find("second").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_on_the_same_port() {
    let (running, _plane, _stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let tcp = TcpStream::connect(running.data_addr()).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    for (path, code) in [("/a", 200), ("/b", 404)] {
        let request = http::Request::get(format!("http://api.example{path}"))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let response = in_time(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), code);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(code != 200 || body == "one");
    }
    // A graceful end closes the connection from our side.
    running.shutdown().await;
    in_time(connection).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_and_nothing_new_begins() {
    for runtime in [RuntimeKind::Shared, RuntimeKind::PerCore] {
        let (running, _plane, _stream) =
            serving(vec![pair("POST", "/a", "one")], |config| config.runtime = runtime).await;
        let addr = running.data_addr();
        let (mut waiting, mut busy) =
            (TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap());
        let head = "POST /a HTTP/1.1\r\nhost: api.example\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
        busy.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        in_time(busy.read_exact(&mut interim)).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

        let ending = tokio::spawn(running.shutdown());
        assert_eq!(rest(&mut waiting).await, "", "a connection that asked nothing is closed");
        assert!(TcpStream::connect(addr).await.is_err() || exchange_refused(addr).await);
        assert!(!ending.is_finished());
        busy.write_all(b"{}").await.unwrap();
        let answer = rest(&mut busy).await;
        assert!(["200", "404"].contains(&status(&answer)), "{answer}");
        in_time(ending).await.unwrap();
    }
}

/// Whether a connection that the kernel still took is never answered.
async fn exchange_refused(addr: std::net::SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return true };
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.is_err() || answer.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_dropped() {
    let running = idle(|config| config.drain_timeout = Duration::from_millis(20)).await;
    let mut busy = TcpStream::connect(running.data_addr()).await.unwrap();
    busy.write_all(
        b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
    )
    .await
    .unwrap();
    let mut interim = [0; 25];
    in_time(busy.read_exact(&mut interim)).await.unwrap();
    in_time(running.shutdown()).await;
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let secrets = tempfile::tempdir().unwrap();
    let good = config(secrets.path(), None);
    let running = app::start(good.clone()).await.unwrap();
    let file = secrets.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = [
        (Config { listen: running.data_addr(), ..good.clone() }, false, "cannot listen on"),
        (
            Config { listen: running.data_addr(), runtime: RuntimeKind::PerCore, ..good.clone() },
            false,
            "cannot listen on",
        ),
        (
            Config { admin_listen: running.admin_addr(), ..good.clone() },
            false,
            "for administration",
        ),
        (
            Config { admin_listen: "0.0.0.0:0".parse().unwrap(), ..good.clone() },
            true,
            "--allow-insecure",
        ),
        (
            Config { secret_dir: secrets.path().join("none"), ..good.clone() },
            true,
            "secret directory",
        ),
        (Config { secret_dir: file.clone(), ..good.clone() }, true, "secret directory"),
        (Config { cache_dir: Some(file.clone()), ..good.clone() }, true, "cache directory"),
        (
            Config { control_plane: Some("ftp://a".parse().unwrap()), ..good.clone() },
            true,
            "no URL of a control plane",
        ),
        (
            Config { control_plane: Some("/a".parse().unwrap()), ..good.clone() },
            true,
            "no URL of a control plane",
        ),
    ];
    for (config, usage, message) in refused {
        let error: StartError = app::start(config).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.is_usage(), usage, "{error}");
    }
    let per_core = Config { runtime: RuntimeKind::PerCore, ..good.clone() };
    let running = app::start(per_core.clone()).await.unwrap();
    let error = app::start(Config { listen: running.data_addr(), ..per_core }).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen on"), "two processes would share the port");
    let insecure =
        Config { admin_listen: "0.0.0.0:0".parse().unwrap(), allow_insecure: true, ..good };
    assert!(app::start(insecure).await.is_ok());
}
