//! The journal: the last requests of this node, for whoever looks into what happened.
//!
//! Serving a request copies its head into a ring of its worker's, whose memory is used again and again; a ring that somebody holds is passed
//! over, and when all are held the request is counted as dropped rather than waited for. What is told of a request is worked out when
//! somebody asks, and holds no credential.

mod ending;
mod entry;
mod pack;
mod ring;
mod tell;

use std::sync::{
    Mutex, TryLockError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use countersign_engine::{
    answer::Origin,
    dlp::{RedactionKey, Veil},
    near_miss::NearMiss,
    request::Request,
};

use crate::server::{self, read::Received};
pub(crate) use ending::{Ended, Ending};
pub(crate) use entry::Entry;
pub(crate) use pack::Line;
use pack::{Packed, pack};
use ring::Ring;
pub(crate) use tell::Filter;

/// What all entries together may take.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// What is kept of one body.
const MAX_BODY: usize = 64 * 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The most requests that are kept; 0 keeps none.
    pub entries: usize,
    /// Keeps bodies, too.
    pub bodies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { entries: 1000, bodies: false }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Hit,
    Miss,
    /// The real host answered.
    PassedThrough,
    /// It could not be read, or asked for what is not served here.
    Refused,
    /// Nothing was served yet.
    Unavailable,
    /// The engine has a defect.
    Defect,
}

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Note<'n> {
    /// When it came, in nanoseconds since the epoch.
    pub(crate) at: i64,
    /// When it was answered.
    pub(crate) done: i64,
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    /// The serial number of the replay that answered, or that it is a miss of.
    pub(crate) replay: Option<u64>,
    pub(crate) origin: Option<Origin>,
    /// What came near, on a miss.
    pub(crate) nearest: Option<NearMiss>,
    /// The type and text of the answer's body.
    pub(crate) answer: Option<(&'n [u8], &'n Bytes)>,
    /// What was said, where both sides spoke in turn.
    pub(crate) messages: Option<Messages>,
}

/// How much was said in a dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Messages {
    /// Messages of the client.
    pub(crate) heard: usize,
    /// Those among them that were not recorded.
    pub(crate) missed: usize,
    /// Messages of the recorded server.
    pub(crate) said: usize,
}

/// The requests of a node.
#[derive(Debug)]
pub(crate) struct Journal {
    rings: Box<[Mutex<Ring>]>,
    settings: Settings,
    dropped: AtomicU64,
    veil: Veil,
}

impl Journal {
    /// A journal; `None` when nothing is to be kept.
    pub(crate) fn new(settings: Settings) -> Option<Self> {
        if settings.entries == 0 {
            return None;
        }
        let rings = server::cores();
        let bytes = MAX_BYTES / rings;
        let ring = || Mutex::new(Ring::new(settings.entries, bytes));
        // Marks are equal within a run of the node and tell nothing to whoever has seen another.
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let seed = [a.as_bytes().as_slice(), b.as_bytes()].concat();
        Some(Self {
            rings: (0..rings).map(|_| ring()).collect(),
            settings,
            dropped: AtomicU64::new(0),
            veil: Veil::new(RedactionKey::from_seed(&seed)),
        })
    }

    /// Notes a request that was read.
    pub(crate) fn note(&self, lane: usize, received: &Received, note: Note<'_>) {
        let (request, bodies) = (received.request(), self.settings.bodies);
        let line = Line::of(&request);
        self.put(lane, note, |packed, note| {
            let body = if bodies { request.body } else { &[] };
            packed.request_bytes = request.body.len();
            let answer = note.answer.filter(|_| bodies);
            pack(
                packed,
                &line,
                Some(request.headers),
                clipped(body),
                answer.map(|(kind, body)| (kind, clipped(body))),
            );
        });
    }

    /// Notes a dialogue that has ended, which has `bytes` of the client in it; none of them are kept.
    pub(crate) fn note_dialogue(
        &self,
        lane: usize,
        request: &Request<'_>,
        bytes: usize,
        note: Note<'_>,
    ) {
        self.put(lane, note, |packed, _| {
            packed.request_bytes = bytes;
            pack(packed, &Line::of(request), Some(request.headers), &[], None);
        });
    }

    /// Notes a request that was not read whole.
    pub(crate) fn note_unread(&self, lane: usize, line: &Line<'_>, note: Note<'_>) {
        self.put(lane, note, |packed, _| pack(packed, line, None, &[], None));
    }

    fn put(&self, lane: usize, mut note: Note<'_>, fill: impl FnOnce(&mut Packed, &Note<'_>)) {
        let micros = micros(note.at, note.done);
        for nth in 0..self.rings.len() {
            let ring = lane.wrapping_add(nth).checked_rem(self.rings.len());
            let Some(ring) = ring.and_then(|nth| self.rings.get(nth)) else { continue };
            let mut ring = match ring.try_lock() {
                Ok(ring) => ring,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            ring.push(|packed| {
                packed.at = note.at;
                packed.micros = micros;
                packed.outcome = note.outcome;
                packed.status = note.status;
                packed.replay = note.replay;
                packed.origin = note.origin;
                packed.nearest = note.nearest.take().map(Box::new);
                packed.messages = note.messages;
                packed.request_bytes = 0;
                fill(packed, &note);
            });
            return;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were not noted because others were being noted or read.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Forgets everything; returns how many requests that were.
    pub(crate) fn clear(&self) -> usize {
        self.each(|ring| ring.clear()).into_iter().sum()
    }

    /// The last entries since then of each worker, so many at the most.
    fn newest(&self, since: i64, most: usize) -> Vec<Packed> {
        let mut all: Vec<Packed> =
            self.each(|ring| ring.newest(most)).into_iter().flatten().collect();
        all.retain(|packed| packed.at > since);
        all.sort_by_key(|packed| std::cmp::Reverse(packed.at));
        all.truncate(most);
        all
    }

    /// All entries, the last first.
    fn entries(&self) -> Vec<Packed> {
        let mut all: Vec<Packed> = self.each(|ring| ring.copy()).into_iter().flatten().collect();
        all.sort_by_key(|packed| std::cmp::Reverse(packed.at));
        all.truncate(self.settings.entries);
        all
    }

    fn each<T>(&self, mut what: impl FnMut(&mut Ring) -> T) -> Vec<T> {
        let lock = |ring: &Mutex<Ring>| {
            what(&mut ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        self.rings.iter().map(lock).collect()
    }
}

/// The microseconds between two moments of the wall clock, in nanoseconds; 0 when it was put back.
pub(crate) fn micros(from: i64, to: i64) -> u64 {
    u64::try_from(to.saturating_sub(from) / 1000).unwrap_or_default()
}

fn clipped(body: &[u8]) -> &[u8] {
    body.get(..MAX_BODY).unwrap_or(body)
}

impl Outcome {
    /// Its name in entries and filters.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::PassedThrough => "passthrough",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Defect => "defect",
        }
    }
}

#[cfg(test)]
mod tests;
