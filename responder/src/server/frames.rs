//! Follows the frames of an HTTP/2 connection, for those that ask for nothing but have to be worked on: `SETTINGS`, `PING`, `PRIORITY`, and
//! what nobody knows.
//!
//! The library answers any number of them. A client that measures its connection sends one with each frame that it gets, at the most; one that
//! sends thousands of times as many wants our time. Streams, windows and headers are for the library to bound.

use std::time::{Duration, Instant};

/// What comes before the first frame.
const PREFACE: u64 = 24;
/// So many frames in so much time are no measuring any more.
const MOST: u32 = 20_000;
const WITHIN: Duration = Duration::from_secs(1);

/// Where in a connection's frames we are.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; 9],
    /// How much of a frame's head has come.
    come: usize,
    /// How much is left of what follows it.
    left: u64,
    /// The frames since then that ask for nothing.
    idle: u32,
    since: Instant,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { head: [0; 9], come: 0, left: PREFACE, idle: 0, since: Instant::now() }
    }

    /// Looks at bytes in the order in which they arrive; tells whether the peer is to be listened to any longer.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let skipped = usize::try_from(self.left).map_or(bytes.len(), |l| l.min(bytes.len()));
            self.left -= u64::try_from(skipped).unwrap_or_default();
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return true;
            }
            let room = self.head.get_mut(self.come..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            for (place, byte) in room.iter_mut().zip(bytes) {
                *place = *byte;
            }
            self.come += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.come == self.head.len() {
                self.come = 0;
                let [a, b, c, kind, ..] = self.head;
                self.left = u64::from(u32::from_be_bytes([0, a, b, c]));
                if asks_for_nothing(kind) && !self.note() {
                    return false;
                }
            }
        }
    }

    /// Counts such a frame. The clock is read once for many of them.
    fn note(&mut self) -> bool {
        self.idle += 1;
        if self.idle < MOST {
            return true;
        }
        let now = Instant::now();
        let good = now.duration_since(self.since) >= WITHIN;
        self.idle = 0;
        self.since = now;
        good
    }
}

/// Neither `DATA`, `HEADERS`, `RST_STREAM`, `WINDOW_UPDATE` nor `CONTINUATION`.
fn asks_for_nothing(kind: u8) -> bool {
    !matches!(kind, 0 | 1 | 3 | 8 | 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frames(kind: u8, payload: usize, count: usize) -> Vec<u8> {
        let length = u8::try_from(payload).unwrap();
        let head = [0, 0, length, kind, 0, 0, 0, 0, 0];
        [&head[..], &vec![0xff; payload]].concat().repeat(count)
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let bytes = [&[b'x'; 24][..], &frames(4, 0, 1), &frames(0, 40, 3), &frames(PING, 8, 2)];
        let bytes = bytes.concat();
        for piece in 1..bytes.len() {
            let mut seen = Frames::new();
            assert!(bytes.chunks(piece).all(|piece| seen.look(piece)));
            assert_eq!((seen.idle, seen.left, seen.come), (3, 0, 0), "{piece}");
        }
    }

    #[test]
    fn a_flood_is_told_from_much_that_comes_slowly_and_from_much_that_is_asked() {
        let most = usize::try_from(MOST).unwrap();
        let mut seen = Frames::new();
        assert!(seen.look(&[b'x'; 24]) && seen.look(&frames(1, 3, 3 * most)));
        assert!(seen.look(&frames(PING, 8, most - 1)));
        assert!(!seen.look(&frames(PING, 8, 1)));
        let mut seen = Frames::new();
        seen.since = seen.since.checked_sub(2 * WITHIN).unwrap();
        assert!(seen.look(&[b'x'; 24]) && seen.look(&frames(PING, 8, 2 * most - 1)));
        assert!(!seen.look(&frames(PING, 8, 1)));
    }
}
