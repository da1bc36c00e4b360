//! H14: clients of HTTP/2 that want our time or memory. Each is cut off, or costs no more than a bounded connection; others are served all the while.

use std::time::Duration;

use harness::{
    DEADLINE,
    floods::{Flood, floods},
    frames::{
        END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, fields, frame, opening, read,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{raw::Raw, *};

/// A connection may cost so much at its worst, in KiB.
const MOST: u64 = 16 * node::MIB;
/// So many pieces are sent, unless the connection is closed before.
const PIECES: u32 = 60_000;

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
