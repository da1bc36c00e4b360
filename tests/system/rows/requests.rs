//! H7 to H12, H15: requests that are too large, strange, many, or for what is not there.

use std::time::Duration;

use tokio::net::TcpListener;

use super::{
    raw::{Raw, responses, status},
    *,
};

/// The rest of a head, of a connection that ends with its response.
const LAST: &str = "Host: api.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn h07_heads_that_are_too_large_are_refused_and_the_connection_closed() {
    let world = World::serve(Vec::new()).await;
    let fields = |count: usize| (0..count).map(|nth| format!("X-{nth}: y\r\n")).collect::<String>();
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\n{fields}{LAST}");
    for (name, head, expected) in [
        ("a hundred fields", get("/probe", &fields(98)), &["200"][..]),
        ("more", get("/probe", &fields(99)), &["431"]),
        ("1000 fields", get("/probe", &fields(1000)), &["431"]),
        ("a field of 60 KiB", get("/probe", &format!("X: {}\r\n", "x".repeat(60 << 10))), &["200"]),
        ("one of 65 KiB", get("/probe", &format!("X: {}\r\n", "x".repeat(65 << 10))), &["431"]),
        ("one of 1 MiB", get("/probe", &format!("X: {}\r\n", "x".repeat(1 << 20))), &["431"]),
        ("a target of 60 KiB", get(&format!("/{}", "x".repeat(60 << 10)), ""), &["404"]),
        // Which of both limits it meets first depends on how it is cut.
        ("one of 64 KiB", get(&format!("/{}", "x".repeat(64 << 10)), ""), &["414", "431"]),
        ("one of 1 MiB", get(&format!("/{}", "x".repeat(1 << 20)), ""), &["414", "431"]),
        ("10,000 parameters", get(&format!("/probe?{}", "a=1&".repeat(10_000)), ""), &["404"]),
        ("1,000,000", get(&format!("/probe?{}", "a=1&".repeat(1_000_000)), ""), &["414", "431"]),
    ] {
        let told = world.exchange(head).await;
        assert!(expected.contains(&status(&told)) && responses(&told) == 1, "{name}: {told}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn h08_targets_are_matched_as_they_are_but_for_escapes() {
    // What docs/matching.md says of paths: escapes are resolved, but for those of `/`, `%` and control characters, and nothing else is.
    let mut setup = Setup::default();
    for path in ["/a", "/a%2Fb", "/a/b", "/b"] {
        setup = setup.line(path, &json!(format!("<{path}>")));
    }
    let world = World::serve_with(Vec::new(), &setup).await;
    for (target, expected) in [
        ("/a", Some("/a")),
        ("/%61", Some("/a")),
        ("/a%2fb", Some("/a%2Fb")),
        ("/a/b", Some("/a/b")),
        ("http://api.example/a", Some("/a")),
        ("//a", None),
        ("/a/", None),
        ("/a/../b", None),
        ("/x/../b", None),
        ("/./b", None),
        ("/%2e%2e%2fb", None),
        ("/..%2fb", None),
        ("/b%00", None),
        ("/b%0d%0aX:%20y", None),
        ("/%ff", None),
        ("/%", None),
        ("/%zz", None),
        ("/b;x", None),
        ("/B", None),
    ] {
        let told = world.exchange(format!("GET {target} HTTP/1.1\r\n{LAST}")).await;
        match expected {
            Some(path) => {
                assert!(
                    status(&told) == "200" && told.ends_with(&format!("\"<{path}>\"")),
                    "{target}: {told}"
                );
            }
            None => {
                assert_eq!(status(&told), "404", "{target}: {told}");
                assert!(told.contains("x-countersign-miss: true"), "{target}: {told}");
                assert!(told.contains("\"nearest\""), "{target}: {told}");
            }
        }
    }
    // Bytes that no URI has, and hosts that are none or several.
    for head in [
        &b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..],
        b"GET /a\x7f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    ] {
        let told = world.exchange(head).await;
        let head = String::from_utf8_lossy(head).into_owned();
        assert!(status(&told) == "400" && responses(&told) == 1, "{head}: {told}");
    }
    for host in ["[::1]:80", "[::1]", "API.EXAMPLE:8080", "10.0.0.1", "a.b.c.d.e"] {
        let told = world
            .exchange(format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .await;
        assert_eq!(status(&told), "200", "{host}: {told}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn h09_methods_are_matched_as_they_are() {
    let mut setup = Setup::default().line("/a", &json!("A"));
    setup.lines.push(recording::line("PURGE", "/a", &json!("PURGED")));
    let world = World::serve_with(Vec::new(), &setup).await;
    let ask = async |method: &str| world.exchange(format!("{method} /a HTTP/1.1\r\n{LAST}")).await;
    assert!(ask("PURGE").await.ends_with("\"PURGED\""));
    let long = "M".repeat(10 << 10);
    for method in ["FOO", "get", "purge", "G-E_T", &long] {
        let told = ask(method).await;
        let missed = status(&told) == "404" && told.contains("x-countersign-miss: true");
        assert!(missed && responses(&told) == 1, "{method}: {told}");
    }
    for method in ["G(T", "G\u{e9}T", "\u{7f}"] {
        let told = ask(method).await;
        assert!(status(&told) == "400" && responses(&told) == 1, "{method}: {told}");
    }
    drop(world.end().await);
}

/// Sends this many requests for `/0` to `/9` in turn on one connection, without waiting, and reads the answers; how many came in order.
async fn pipelined(world: &World, count: usize) -> usize {
    let (mut read, mut write) = world.connect().await.0.into_split();
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let ten: String = (0..10)
            .map(|nth| format!("GET /{nth} HTTP/1.1\r\nHost: api.example\r\n\r\n"))
            .collect();
        for _ in 0..count / 10 {
            write.write_all(ten.as_bytes()).await.unwrap();
        }
        write
    });
    let (mut text, mut answered) = (Vec::new(), 0);
    let reading = async {
        use tokio::io::AsyncReadExt as _;
        while answered < count && read.read_buf(&mut text).await.unwrap() > 0 {
            // Each body ends with this and its number.
            while let Some(at) = text.windows(3).position(|three| three == b"<N:") {
                let Some(digit) = text.get(at + 3) else { break };
                assert_eq!(usize::from(digit - b'0'), answered % 10, "out of order");
                answered += 1;
                text.drain(..at + 4);
            }
        }
    };
    assert!(tokio::time::timeout(2 * harness::DEADLINE, reading).await.is_ok());
    drop(sending.await.unwrap());
    answered
}

#[tokio::test]
async fn h10_ten_thousand_requests_at_once_and_many_more_are_answered_in_order_with_the_same_memory()
 {
    let mut setup = Setup::default();
    for nth in 0..10 {
        setup = setup.line(&format!("/{nth}"), &json!(format!("<N:{nth}")));
    }
    let world = World::serve_with(Vec::new(), &setup).await;
    assert_eq!(pipelined(&world, 10_000).await, 10_000);
    let before = world.forget_peak();
    assert_eq!(pipelined(&world, 100_000).await, 100_000);
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 16 * node::MIB, "{grown} KiB more");
    drop(world.end().await);
}

#[tokio::test]
async fn h11_clients_that_leave_while_they_are_answered_leave_nothing_behind() {
    if !harness::has_openssl() {
        return;
    }
    let (key, _) = pair("genrsa 4096");
    let case = Case::new("slow", of_alg("RS256"), &key);
    let setup = Setup::default().line("/large", &json!("x".repeat(4 << 20)));
    let world = World::serve_with(vec![case], &setup).await;
    world.quiet().await;
    let (files, threads) = (world.files(), world.kernel("Threads"));
    for round in 0..300 {
        let path = ["/slow", "/large", "/nothing"][round % 3];
        let mut raw = world.connect().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n\r\n")).await;
        raw.reset();
    }
    world.quiet().await;
    wait_until("files are closed", || async { (world.files() <= files + 4).then_some(()) }).await;
    // Misses are explained, and slow tokens signed, on threads that are bounded and stay for a while.
    assert!(world.kernel("Threads") <= threads + 16, "{} threads", world.kernel("Threads"));
    drop(world.end().await);
}

#[tokio::test]
async fn h12_what_nothing_recorded_answers_is_said_so_is_not_passed_on_and_fills_no_log() {
    let world = World::serve(Vec::new()).await;
    let real = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = real.local_addr().unwrap();
    let lines = world.responder.text().lines().count();
    for _ in 0..100 {
        for head in [
            format!("GET http://{host}/nothing HTTP/1.1\r\n{LAST}"),
            format!("GET /nothing HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        ] {
            let told = world.exchange(head).await;
            assert!(status(&told) == "404" && told.contains("x-countersign-miss: true"), "{told}");
            assert!(told.contains("no_recorded_response"), "{told}");
        }
    }
    assert!(tokio::time::timeout(Duration::ZERO, real.accept()).await.is_err(), "it was asked");
    assert!(world.metric("countersign_requests_total{result=\"miss\"}").await >= 200);
    assert!(world.responder.text().lines().count() < lines + 5, "{}", world.responder.text());
    drop(world.end().await);
}

#[tokio::test]
async fn h15_there_is_no_socket_where_none_was_recorded() {
    let world = World::serve_with(Vec::new(), &Setup::default().line("/a", &json!("A"))).await;
    let shake = |path: &str, version: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    // What was recorded as a plain answer is answered plainly, as the real server did.
    for (path, version, expected) in
        [("/nothing", "13", "404"), ("/a", "13", "200"), ("/a", "8", "200")]
    {
        let mut raw = world.connect().await;
        raw.send(shake(path, version)).await;
        // The frames of a client that takes it for a tunnel are no request.
        raw.send([0x81, 0x85, 1, 2, 3, 4, 0x69, 0x67, 0x6f, 0x68, 0x6e]).await;
        let told = raw.rest().await;
        assert_eq!(status(&told), expected, "{told}");
        assert!(!told.contains(" 101 ") && responses(&told) == 2, "{told}");
        assert!(told.contains("HTTP/1.1 400"), "{told}");
    }
    assert_eq!(world.metric("countersign_tunnels_total").await, 0);
    drop::<Raw>(world.connect().await);
    drop(world.end().await);
}
