//! G1 to G10: calls of gRPC that are none, are too large, or break off.
//!
//! A mock compares the bytes of a call with recorded ones and does not have to understand them. So what is odd only to whoever decodes it is no error but
//! a call that nobody recorded: `NOT_FOUND` where the method was recorded, else `UNIMPLEMENTED`.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use h2::client::SendRequest;
use harness::DEADLINE;
use http::{HeaderValue, Request};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use super::{
    frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, opening, read},
    raw::status,
    *,
};

const UNARY: &str = "/g.S/Unary";
const TALK: &str = "/g.S/Talk";
const ODD: &str = "/g.S/Odd";

/// Codes of gRPC.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const NOT_FOUND: &str = "5";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

/// A message that nobody can decode strictly: a field that is not known, a group, and text that is no UTF-8.
const STRANGE: &[u8] = b"\xfa\x7f\x02hi\x0b\x10\x01\x0c\x1a\x02\xff\xfe";

/// A message in its frame.
fn framed(message: &[u8]) -> Vec<u8> {
    flagged(0, message)
}

fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

async fn world(flags: &str) -> World {
    let ok = json!({"grpc-status": ["0"]});
    let call = |path: &str, asked: &[&[u8]], answered: &[&[u8]]| {
        let all =
            |messages: &[&[u8]]| messages.iter().flat_map(|it| framed(it)).collect::<Vec<u8>>();
        recording::call(path, &all(asked), &all(answered), &json!({}), &ok)
    };
    let mut setup = Setup::flags(flags);
    setup.lines = vec![
        call(UNARY, &[b"\x08\x01"], &[b"\x08\x02"]),
        call(TALK, &[b"\x08\x01", b"\x08\x02"], &[b"\x08\x03", b"\x08\x04"]),
        call(ODD, &[STRANGE], &[STRANGE]),
    ];
    World::serve_with(Vec::new(), &setup).await
}

/// How a call has ended.
#[derive(Debug, Default)]
struct Ended {
    http: u16,
    /// Empty where there was none.
    code: String,
    body: Vec<u8>,
}

/// A connection of HTTP/2.
struct Line {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Line {
    async fn open(world: &World) -> Self {
        let stream = TcpStream::connect(world.data).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { sender, connection }
    }

    /// Makes a call of these pieces, and of an end where there is one.
    async fn call(
        &self,
        path: &str,
        more: &[(&'static str, &[u8])],
        pieces: &[Vec<u8>],
        ends: bool,
    ) -> Result<Ended, h2::Error> {
        let mut request = Request::post(format!("http://api.example:50051{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        for (name, value) in more {
            request.headers_mut().insert(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let (response, mut stream) =
            self.sender.clone().ready().await?.send_request(request, false)?;
        for piece in pieces {
            // Who has refused the call takes no more of it.
            if stream.send_data(piece.clone().into(), false).is_err() {
                break;
            }
        }
        if ends {
            drop(stream.send_data(Bytes::new(), true));
        }
        let told = timeout(DEADLINE, heard(response)).await.unwrap();
        drop(stream);
        told
    }

    /// The code that a call ends with.
    async fn code(&self, path: &str, pieces: &[Vec<u8>], ends: bool) -> String {
        self.call(path, &[], pieces, ends).await.unwrap().code
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn heard(response: h2::client::ResponseFuture) -> Result<Ended, h2::Error> {
    let (head, mut incoming) = response.await?.into_parts();
    let code = |fields: &http::HeaderMap| {
        fields.get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
    };
    let mut ended = Ended { http: head.status.as_u16(), ..Ended::default() };
    ended.code = code(&head.headers).unwrap_or_default();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        ended.body.extend_from_slice(&data);
    }
    if let Some(code) = incoming.trailers().await?.as_ref().and_then(code) {
        ended.code = code;
    }
    Ok(ended)
}

#[tokio::test]
async fn g01_a_length_is_believed_as_far_as_bytes_have_come() {
    let world = world("").await;
    let line = Line::open(&world).await;
    let before = world.forget_peak();
    let with_length = |length: u32| [&[0][..], &length.to_be_bytes(), b"\x08\x01"].concat();
    for path in [UNARY, TALK] {
        for length in [u32::MAX, (10 << 20) + 1] {
            // It is told before the client has sent, or ended, any of it.
            let code = line.code(path, &[with_length(length)], false).await;
            assert_eq!(code, RESOURCE_EXHAUSTED, "{path}, {length}");
        }
        // Nothing of a message that is cut off is compared.
        for cut in [&b"\0"[..], b"\0\0\0", &with_length(3), &with_length(1 << 20)] {
            assert_eq!(line.code(path, &[cut.to_vec()], true).await, INTERNAL, "{path}, {cut:?}");
        }
        // A message of no bytes is one.
        assert_eq!(line.code(path, &[framed(b"")], true).await, NOT_FOUND, "{path}");
    }
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 16 * node::MIB, "{grown} KiB for some lengths");
    assert_eq!(line.code(UNARY, &[framed(b"\x08\x01")], true).await, OK);
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g02_what_is_compressed_is_unfolded_within_bounds_or_compared_as_it_is() {
    let world = world("").await;
    let line = Line::open(&world).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    // Gzip shows by itself, whatever the fields say.
    let good = flagged(1, &gzip(b"\x08\x01"));
    let ended = line
        .call(UNARY, &[("grpc-encoding", b"gzip")], std::slice::from_ref(&good), true)
        .await
        .unwrap();
    assert_eq!(ended.code, OK);
    assert_eq!(line.code(UNARY, &[good], true).await, OK);
    let before = world.forget_peak();
    let bomb = gzip(&vec![0; 300 << 20]);
    assert!(bomb.len() < 1 << 20, "{} bytes are no bomb", bomb.len());
    for (encoding, message) in [
        (&b"gzip"[..], flagged(1, b"no gzip")),
        (b"snappy", flagged(1, b"anything")),
        (b"identity", flagged(1, b"\x08\x01")),
        (b"gzip", flagged(7, b"\x08\x01")),
        (b"gzip", flagged(1, &bomb)),
    ] {
        let ended =
            line.call(UNARY, &[("grpc-encoding", encoding)], &[message], true).await.unwrap();
        assert_eq!((ended.http, &*ended.code), (200, NOT_FOUND), "{ended:?}");
    }
    // Nothing is unfolded to more than 200 times its size, nor to more than 64 MiB.
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 200 * node::MIB, "{grown} KiB for a bomb of 300 MiB");
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g03_messages_that_nobody_can_decode_are_compared_and_replayed_byte_for_byte() {
    let world = world("").await;
    let line = Line::open(&world).await;
    let ended = line.call(ODD, &[], &[framed(STRANGE)], true).await.unwrap();
    assert_eq!((&*ended.code, ended.body), (OK, framed(STRANGE)));
    let mut deep = vec![8, 1];
    for _ in 0..20_000 {
        let length = u32::try_from(deep.len()).unwrap();
        let mut bytes = vec![0x0a];
        let mut left = length;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128 + 128).unwrap());
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap());
        bytes.append(&mut deep);
        deep = bytes;
        if deep.len() > 60_000 {
            break;
        }
    }
    let before = world.forget_peak();
    for (name, message) in [
        ("many levels", deep),
        ("groups that do not end", vec![0x0b; 100_000]),
        ("groups that were not begun", vec![0x0c; 1000]),
        ("many values", b"\x08\x01".repeat(4_000_000)),
        ("text that is no UTF-8", b"\x0a\x02\xff\xfe".to_vec()),
        ("a number that does not end", vec![0xff; 64]),
    ] {
        assert_eq!(line.code(ODD, &[framed(&message)], true).await, NOT_FOUND, "{name}");
    }
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 300 * node::MIB, "{grown} KiB");
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g04_paths_that_name_no_method_lead_nowhere() {
    let world = world("").await;
    let line = Line::open(&world).await;
    let long = format!("/{}", "x".repeat(8 << 10));
    for path in [
        "/g.S/Unary/",
        "//g.S/Unary",
        "/g.S//Unary",
        "/g.s/unary",
        "/g.S",
        "/",
        "/g.S/Unary%00",
        &long,
    ] {
        let ended = line.call(path, &[], &[framed(b"\x08\x01")], true).await.unwrap();
        assert_eq!((ended.http, &*ended.code), (200, UNIMPLEMENTED), "{path}");
    }
    // No library sends a path without a slash.
    for path in ["g.S/Unary", "*", "", "http://a/g.S/Unary"] {
        let head = frames::fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]);
        let mut raw = world.connect().await;
        raw.send(opening()).await;
        raw.send(frame(HEADERS, END_HEADERS, 1, &head)).await;
        raw.send(frame(frames::DATA, END_STREAM, 1, &framed(b"\x08\x01"))).await;
        let mut bytes = Vec::new();
        let refused = async {
            use tokio::io::AsyncReadExt as _;
            loop {
                let all = read(&bytes);
                if all.iter().any(|(kind, ..)| [RST_STREAM, GOAWAY].contains(kind)) {
                    return true;
                }
                // Two frames of headers would be an answer with its trailers.
                if all.iter().filter(|(kind, ..)| *kind == HEADERS).count() > 1 {
                    return false;
                }
                let ended =
                    all.iter().any(|(kind, flags, ..)| *kind == HEADERS && flags & END_STREAM > 0);
                if ended || raw.0.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    return true;
                }
            }
        };
        assert!(timeout(DEADLINE, refused).await.unwrap(), "{path:?} is answered");
    }
    let hits = world.noted(UNARY).await;
    assert!(hits.iter().all(|entry| entry["outcome"] != "hit"), "{hits:?}");
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g05_deadlines_are_kept_or_refused() {
    let world = world("").await;
    let line = Line::open(&world).await;
    for path in [UNARY, TALK] {
        let ask = async |timeout: &[u8], ends: bool| {
            let message = [framed(b"\x08\x01")];
            line.call(path, &[("grpc-timeout", timeout)], &message, ends).await.unwrap().code
        };
        // Who does not end the call is waited for, longer than this.
        assert_eq!(ask(b"1n", false).await, DEADLINE_EXCEEDED, "{path}");
        for text in [&b""[..], b"1", b"S", b"-1S", b"1x", b"100000000S", b"1 S", b"1.5S", b"\xff"] {
            assert_eq!(ask(text, true).await, INVALID_ARGUMENT, "{path}, {text:?}");
        }
        assert_eq!(ask(b"99999999H", true).await, OK, "{path}");
    }
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g06_each_kind_of_client_is_told_in_its_own_way() {
    let world = world("").await;
    let line = Line::open(&world).await;
    // An end without an answer stands in the head, under 200.
    let ended = line.call("/g.S/Never", &[], &[framed(b"")], true).await.unwrap();
    assert_eq!((ended.http, &*ended.code, ended.body.len()), (200, UNIMPLEMENTED, 0));
    // `te` is for proxies that strip trailers; a mock has no need of it.
    let ended = line.call(UNARY, &[("te", b"")], &[framed(b"\x08\x01")], true).await;
    assert!(ended.is_err() || ended.unwrap().code == OK);
    let ended = line
        .call(UNARY, &[("content-type", b"text/plain")], &[framed(b"\x09\x01")], true)
        .await
        .unwrap();
    assert_eq!((ended.http, &*ended.code), (404, ""));
    let web = async |path: &str, kind: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: api.example:50051\r\nConnection: close\r\n\
             Content-Type: application/{kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        world.exchange([head.as_bytes(), body].concat()).await
    };
    let told = web(UNARY, "grpc-web+proto", &framed(b"\x08\x01")).await;
    assert!(status(&told) == "200" && told.contains("\u{8}\u{2}"), "{told}");
    assert!(told.contains("grpc-status: 0"), "{told}");
    let told = web("/g.S/Never", "grpc-web+proto", &framed(b"\x08\x01")).await;
    assert!(status(&told) == "200" && told.contains("grpc-status: 12"), "{told}");
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g07_a_talk_comes_to_its_end_however_the_client_goes_on() {
    let world = world("--max-body 1048576").await;
    let line = Line::open(&world).await;
    let (first, second) = (framed(b"\x08\x01"), framed(b"\x08\x02"));
    let answers = [framed(b"\x08\x03"), framed(b"\x08\x04")].concat();
    // Both are said, and then nothing more comes, not even an end.
    let ended = line.call(TALK, &[], &[first.clone(), second.clone()], false).await.unwrap();
    assert_eq!((&*ended.code, &ended.body), (OK, &answers));
    let ended = line.call(TALK, &[], &[first.clone(), second], true).await.unwrap();
    assert_eq!((&*ended.code, &ended.body), (OK, &answers));
    // Ended early: as much as was recorded by then, and the recorded end.
    let ended = line.call(TALK, &[], std::slice::from_ref(&first), true).await.unwrap();
    assert_eq!(ended.code, OK);
    assert!(answers.starts_with(&ended.body), "{ended:?}");
    // Many more than were recorded are no recorded call, and are not kept.
    let before = world.forget_peak();
    let many = vec![first.repeat(10_000); 100];
    let ended = line.call(TALK, &[], &many, false).await;
    let code = ended.map(|ended| ended.code);
    assert!(!matches!(code.as_deref(), Ok(OK)), "{code:?}");
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 32 * node::MIB, "{grown} KiB for a million messages");
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g08_metadata_takes_no_part_and_is_bounded() {
    let world = world("").await;
    let line = Line::open(&world).await;
    let message = [framed(b"\x08\x01")];
    for value in [&b"!!! no base64"[..], b"", b"q6ur, ====", b"\xff\xfe"] {
        let ended = line.call(UNARY, &[("x-bin", value)], &message, true).await.unwrap();
        assert_eq!(ended.code, OK, "{value:?}");
    }
    let large = vec![b'x'; 1 << 20];
    match line.call(UNARY, &[("x-large", &large)], &message, true).await {
        Ok(ended) => assert_eq!(ended.http, 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{error}"),
    }
    let line = Line::open(&world).await;
    assert_eq!(line.code(UNARY, &message, true).await, OK);
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g09_services_of_ours_cannot_be_reached_where_mocks_are_served() {
    let world = world("").await;
    let line = Line::open(&world).await;
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/countersign.responder.v1.AdminService/Shutdown",
        "/countersign.responder.v1.ResponderService/Respond",
        "/countersign.control.v1.SubscriptionService/Subscribe",
    ] {
        assert_eq!(line.code(path, &[framed(b"")], true).await, UNIMPLEMENTED, "{path}");
    }
    for path in ["/metrics", "/status", "/journal", "/healthz", "/readyz", "/reset"] {
        for method in ["GET", "POST", "DELETE"] {
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let told = world.exchange(head).await;
            assert!(
                status(&told) == "404" && told.contains("x-countersign-miss"),
                "{path}: {told}"
            );
        }
    }
    drop(line);
    drop(world.end().await);
}

#[tokio::test]
async fn g10_a_call_ends_with_its_client() {
    let world = world("").await;
    for round in 0..60 {
        let line = Line::open(&world).await;
        let request = Request::post(format!("http://api.example:50051{TALK}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut sender = line.sender.clone().ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        stream.send_data(framed(b"\x08\x01").into(), false).unwrap();
        // The call is under way.
        let (head, mut incoming) = timeout(DEADLINE, response).await.unwrap().unwrap().into_parts();
        assert_eq!(head.status, 200);
        drop(timeout(DEADLINE, incoming.data()).await.unwrap().unwrap().unwrap());
        match round % 3 {
            0 => stream.send_reset(h2::Reason::CANCEL),
            // A part of a message.
            1 => drop(stream.send_data(Bytes::from_static(b"\0\0\0\0\x09part"), true)),
            // Gone without a word.
            _ => {}
        }
        tokio::task::yield_now().await;
        drop(line);
    }
    wait_until("each call has ended", || async {
        (world.noted(TALK).await.len() == 60).then_some(())
    })
    .await;
    world.quiet().await;
    drop(world.end().await);
}
