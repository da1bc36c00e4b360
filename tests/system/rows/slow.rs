//! H1 to H6: clients that say nothing, or say and take it slowly. The limits are the flags; here they are short, so that nobody has to wait.

use std::time::Duration;

use super::{
    raw::{Raw, responses, status},
    *,
};

/// Far less than any limit of these tests.
const OFTEN: Duration = Duration::from_millis(50);

/// An answer of 10 MiB.
fn large() -> Value {
    json!("x".repeat(10 << 20))
}

#[tokio::test]
async fn h01_connections_that_say_nothing_are_closed() {
    let world = World::serve_with(Vec::new(), &Setup::flags("--detect-timeout 500ms")).await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(world.connect().await);
    }
    for mut raw in silent {
        assert_eq!(raw.rest().await, "");
    }
    world.quiet().await;
    drop(world.end().await);
}

#[tokio::test]
async fn h02_connections_that_begin_a_protocol_and_go_no_further_are_closed() {
    let setup = Setup::flags("--detect-timeout 500ms");
    let dir = tempfile::tempdir().unwrap();
    let ca = crate::tls::authority(dir.path());
    let setup = Setup { flags: [setup.flags, vec!["--tls-ca".to_owned(), ca]].concat(), ..setup };
    let world = World::serve_with(Vec::new(), &setup).await;
    for _ in 0..100 {
        let mut raw = world.connect().await;
        raw.send(&frames::PREFACE[..8]).await;
        assert_eq!(raw.rest().await, "");
    }
    // A hello of which a byte comes now and then, and one that stops behind its first.
    let hello = handshakes::hello("api.example", &[0x03, 0x03]);
    let told = world.connect().await.drip(&hello, 4 * OFTEN).await;
    assert!(!told.contains("HTTP"), "{told}");
    let mut raw = world.connect().await;
    raw.send([0x16]).await;
    drop(raw.rest().await);
    world.metric_is("countersign_tls_handshake_failures_total", |failed| failed == 2).await;
    world.quiet().await;
    drop(world.end().await);
}

#[tokio::test]
async fn h03_heads_and_bodies_that_come_too_slowly_are_given_up() {
    let world = World::serve_with(
        Vec::new(),
        &Setup::flags("--head-timeout 500ms --body-timeout 500ms --idle-timeout 500ms"),
    )
    .await;
    // Each byte comes in time, but the head does not.
    let head = format!("GET /probe HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2_000));
    assert_eq!(world.connect().await.drip(&head, OFTEN).await, "");
    // The same behind a request that was answered.
    let mut raw = world.connect().await;
    raw.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.until("}\n").await;
    assert_eq!(raw.drip(&head, OFTEN).await, "");
    // A body may take its time as long as something comes, and then there is an answer.
    let body = "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n";
    let mut raw = world.connect().await;
    raw.send(body).await;
    let told = raw.drip("x".repeat(30), OFTEN).await;
    assert!(status(&told) == "404" && responses(&told) == 1, "{told}");
    // One that pauses is given up, and said so.
    let told = world.exchange(format!("{body}abc")).await;
    assert!(status(&told) == "408" && told.contains("body_too_slow"), "{told}");
    assert!(told.contains("connection: close"), "{told}");
    world.quiet().await;
    drop(world.end().await);
}

#[tokio::test]
async fn h03_a_client_that_takes_no_bytes_costs_little_and_is_left() {
    let setup = Setup::flags("--write-timeout 8s").line("/large", &large());
    let world = World::serve_with(Vec::new(), &setup).await;
    let before = world.forget_peak();
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut raw = Raw::narrow(world.data).await;
        raw.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        slow.push(raw);
    }
    world.metric_is("countersign_connections", |open| open >= 30).await;
    // All of them wait for the same bytes: 64 KiB for each, and what the allocator wants.
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 30 * 64 + 16 * node::MIB, "{grown} KiB for 30 clients that read nothing");
    world.quiet().await;
    drop(slow);
    drop(world.end().await);
}

#[tokio::test]
async fn h05_a_body_that_nobody_needs_is_read_before_the_next_request_or_the_connection_is_closed()
{
    let setup = Setup::flags("--max-body 1048576").line("/next", &json!("NEXT"));
    let world = World::serve_with(Vec::new(), &setup).await;
    let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let marker = "GET /marker HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let post = |length: usize| {
        format!("POST /probe HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    };
    let told = world.exchange(format!("{}{marker}{next}", post(marker.len()))).await;
    assert!(responses(&told) == 2 && told.contains("NEXT"), "{told}");
    // Larger than the limit: told at once, closed, and nothing of it is a request.
    for large in [
        format!("{}{marker}", post(10 << 20)),
        format!(
            "POST /probe HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n{}",
            "x".repeat(1_048_000) + &marker.repeat(30),
        ),
    ] {
        let told = world.exchange(format!("{large}{next}")).await;
        assert!(status(&told) == "413" && responses(&told) == 1, "{told}");
        assert!(told.contains("body_too_large") && told.contains("connection: close"), "{told}");
    }
    assert_eq!(world.noted("/marker").await, Vec::<Value>::new());
    drop(world.end().await);
}

#[tokio::test]
async fn h06_a_body_that_is_announced_and_never_sent_ends_the_connection() {
    let world = World::serve_with(Vec::new(), &Setup::flags("--body-timeout 500ms")).await;
    let ask = |expected: &str, length: usize| {
        format!(
            "POST /probe HTTP/1.1\r\nHost: a\r\nExpect: {expected}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let told = world.exchange(ask("100-continue", 5)).await;
    let rest = told.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(status(rest) == "408" && rest.contains("connection: close"), "{told}");
    // Who asks first hears at once that it is too large, or that nobody knows what is expected.
    let told = world.exchange(ask("100-continue", 100 << 20)).await;
    assert!(status(&told) == "413" && told.contains("connection: close"), "{told}");
    let told = world.exchange(ask("a-miracle", 0)).await;
    assert!(status(&told) == "417" && told.contains("connection: close"), "{told}");
    drop(world.end().await);
}
