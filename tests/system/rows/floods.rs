//! H14: clients of HTTP/2 that want our time or memory. Each is cut off, or costs no more than a bounded connection; others are served all the while.

use std::time::Duration;

use harness::DEADLINE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, fields, frame, get, opening, read, remembered,
    },
    raw::Raw,
    *,
};

/// A connection may cost so much at its worst, in KiB.
const MOST: u64 = 16 * node::MIB;
/// So many pieces are sent, unless the connection is closed before.
const PIECES: u32 = 60_000;

/// A way to flood: what comes first, and then the n-th piece, again and again.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    piece: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    /// How it has to end: cut off, or it may as well go on as long as it costs little.
    cut_off: bool,
}

fn flood(
    name: &'static str,
    cut_off: bool,
    first: Vec<u8>,
    piece: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> Flood {
    Flood { name, first, piece: Box::new(piece), cut_off }
}

/// The n-th stream of a client.
fn stream(nth: u32) -> u32 {
    2 * nth + 1
}

fn request(nth: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream(nth), &get("/nothing"))
}

/// A field that is told once and then meant thousands of times: 4 KiB that become 64 MiB in each request.
fn bomb(nth: u32) -> Vec<u8> {
    let told = if nth == 0 { remembered("x", &"x".repeat(4000)) } else { Vec::new() };
    let head = [get("/nothing"), told].concat();
    let meant = vec![0xbe; 16_384 - head.len()];
    let first = frame(HEADERS, END_STREAM, stream(nth), &[head, meant].concat());
    [first, frame(CONTINUATION, END_HEADERS, stream(nth), &[0xbe; 16_384])].concat()
}

fn floods() -> Vec<Flood> {
    let open = || request(0, 0);
    let credit = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let cancel = |nth| frame(RST_STREAM, 0, stream(nth), &8_u32.to_be_bytes());
    vec![
        flood("rapid reset", false, vec![], move |n| [request(n, END_STREAM), cancel(n)].concat()),
        flood("rapid reset of open requests", false, vec![], move |n| {
            [request(n, 0), cancel(n)].concat()
        }),
        flood("resets that we are made to send", true, vec![], move |n| {
            [request(n, 0), credit(stream(n), 0)].concat()
        }),
        flood("a head that goes on", true, frame(HEADERS, 0, 1, &get("/nothing")), |_| {
            frame(CONTINUATION, 0, 1, &fields(&[("x", "y")]))
        }),
        flood("a head that goes on with nothing", true, frame(HEADERS, 0, 1, &[]), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        flood("a body of nothing", true, open(), |_| frame(DATA, 0, 1, &[])),
        flood("settings", true, vec![], |_| frame(SETTINGS, 0, 0, &[])),
        flood("settings that change", true, vec![], |n| {
            frame(SETTINGS, 0, 0, &[&[0, 4][..], &(n % 65_536).to_be_bytes()].concat())
        }),
        flood("pings", true, vec![], |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())),
        flood("priorities", true, vec![], |n| {
            frame(PRIORITY, 0, stream(n % 1000), &[0, 0, 0, 2, 9])
        }),
        flood("a priority of itself", true, vec![], |n| {
            frame(PRIORITY, 0, stream(n), &[&stream(n).to_be_bytes()[..], &[9]].concat())
        }),
        flood("frames that nobody knows", true, vec![], |_| frame(0xbb, 0, 0, b"what is this")),
        flood("a window of 0", true, vec![], move |_| credit(0, 0)),
        flood("a window that overflows", true, vec![], move |_| credit(0, 0x7fff_ffff)),
        flood("a stream's window that overflows", false, open(), move |_| credit(1, 0x7fff_ffff)),
        flood("windows by one", false, open(), move |_| credit(1, 1)),
        flood("fields that grow", false, vec![], bomb),
        flood("requests that do not end", false, vec![], |n| request(n, 0)),
        flood("frames that are too large", true, vec![], |_| frame(PING, 0, 0, &[0; 20_000])),
    ]
}

/// Sends a flood; whether it was cut off.
async fn run(world: &World, flood: Flood) -> bool {
    let raw = world.connect().await;
    let (mut read, mut write) = raw.0.into_split();
    // Answers are taken, so that nobody waits for us.
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        while read.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    });
    let sent = async {
        write.write_all(&[opening(), flood.first].concat()).await?;
        for first in (0..PIECES).step_by(100) {
            let pieces: Vec<u8> = (first..first + 100).flat_map(&flood.piece).collect();
            write.write_all(&pieces).await?;
        }
        // Whoever has taken all of it may yet have something to say to it.
        Ok::<_, std::io::Error>(())
    };
    let sent = timeout(2 * DEADLINE, sent).await.unwrap();
    let closed = match sent {
        Err(_) => true,
        Ok(()) => {
            let mut reading = reading;
            let wait = if flood.cut_off { DEADLINE } else { Duration::from_millis(200) };
            let closed = timeout(wait, &mut reading).await.is_ok();
            reading.abort();
            closed
        }
    };
    drop(write);
    closed
}

#[tokio::test]
async fn h14_floods_are_cut_off_or_cost_little_and_others_are_served() {
    let world = World::serve(Vec::new()).await;
    for flood in floods() {
        let (name, has_to_end) = (flood.name, flood.cut_off);
        let before = world.forget_peak();
        let cut_off = run(&world, flood).await;
        assert!(cut_off || !has_to_end, "{name} goes on");
        let grown = world.peak().saturating_sub(before);
        assert!(grown < MOST, "{name} takes {grown} KiB");
        world.served(5).await;
        world.quiet().await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn h14_many_floods_at_once_leave_room_for_others() {
    let world = World::serve(Vec::new()).await;
    let before = world.forget_peak();
    let all = (0..20).map(|nth| {
        let flood = floods().into_iter().filter(|flood| flood.cut_off).nth(nth % 13).unwrap();
        run(&world, flood)
    });
    let cut_off = futures_util::future::join_all(all).await;
    assert!(cut_off.into_iter().all(|cut_off| cut_off));
    world.served(20).await;
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 20 * MOST, "{grown} KiB");
    world.quiet().await;
    drop(world.end().await);
}

#[tokio::test]
async fn h14_pings_at_the_pace_of_a_client_that_measures_are_answered() {
    let world = World::serve(Vec::new()).await;
    let mut raw = world.connect().await;
    raw.send(opening()).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for nth in 0..100_u64 {
        ticks.tick().await;
        let pings = frame(PING, 0, 0, &nth.to_be_bytes()).repeat(50);
        assert!(raw.send(&pings).await, "closed after {nth}");
    }
    // What was asked last is answered.
    let mut bytes = Vec::new();
    let answered = async {
        loop {
            let all = read(&bytes);
            assert!(all.iter().all(|(kind, ..)| *kind != GOAWAY), "{all:?}");
            if all.iter().filter(|(kind, flags, ..)| (*kind, *flags) == (PING, 1)).count() == 5000 {
                return;
            }
            assert!(raw.0.read_buf(&mut bytes).await.unwrap() > 0, "closed");
        }
    };
    timeout(DEADLINE, answered).await.unwrap();
    drop(world.end().await);
}

#[tokio::test]
async fn h14_fields_that_would_be_another_request_are_none() {
    let setup = Setup::default().line("/marker", &json!("MARKER"));
    let world = World::serve_with(Vec::new(), &setup).await;
    let base = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/f")];
    for (name, more) in [
        ("a line end in a value", vec![("x", "y\r\n\r\nGET /marker HTTP/1.1\r\nHost: a\r\n\r\n")]),
        ("a NUL in a value", vec![("x", "y\0z")]),
        ("a line end in a name", vec![("x: y\r\nz", "1")]),
        ("a capital in a name", vec![("Xy", "1")]),
        ("chunks", vec![("transfer-encoding", "chunked")]),
        ("a field of the connection", vec![("connection", "upgrade")]),
        ("a path behind fields", vec![("x", "y"), (":path", "/marker")]),
        ("a second path", vec![(":path", "/marker")]),
        ("a field of the protocol that nobody knows", vec![(":marker", "1")]),
        ("two lengths", vec![("content-length", "1"), ("content-length", "2")]),
    ] {
        let head = fields(&[&base[..], &more].concat());
        let mut raw: Raw = world.connect().await;
        raw.send(opening()).await;
        raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        let mut bytes = Vec::new();
        let refused = async {
            loop {
                let all = read(&bytes);
                let is_of_it = |kind: u8| all.iter().any(|(k, _, id, _)| (*k, *id) == (kind, 1));
                if is_of_it(RST_STREAM) || all.iter().any(|(kind, ..)| *kind == GOAWAY) {
                    return !is_of_it(HEADERS);
                }
                // An answer of 400 is as good as a reset; which one shows in the journal.
                if is_of_it(HEADERS) || raw.0.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    return true;
                }
            }
        };
        assert!(timeout(DEADLINE, refused).await.unwrap(), "{name}");
    }
    for path in ["/marker", "/f"] {
        let noted = world.noted(path).await;
        let answered = |entry: &Value| entry["outcome"] != "refused";
        assert!(!noted.iter().any(answered), "{noted:?}");
    }
    drop(world.end().await);
}
