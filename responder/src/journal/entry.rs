//! Entries of requests as they are served.

use countersign_engine::{answer::Hit, near_miss::NearMiss};
use http::request::Parts;

use super::{Journal, Line, Note, Outcome};
use crate::{metrics::Lane, serve_request::now, server::read::Received};

/// An entry of the journal that is about to be made.
#[derive(Debug)]
pub(crate) struct Entry<'j> {
    journal: &'j Journal,
    lane: usize,
    at: i64,
}

impl<'j> Entry<'j> {
    /// Begins one for a request that came then; `None` when nothing is noted.
    pub(crate) fn begin(journal: Option<&'j Journal>, lane: &Lane, at: i64) -> Option<Self> {
        let journal = journal?;
        Some(Self { journal, lane: lane.number(), at })
    }

    fn note<'n>(&self, outcome: Outcome, status: u16) -> Note<'n> {
        self.note_done(outcome, status, now())
    }

    fn note_done<'n>(&self, outcome: Outcome, status: u16, done: i64) -> Note<'n> {
        Note {
            at: self.at,
            done,
            outcome,
            status,
            replay: None,
            origin: None,
            nearest: None,
            answer: None,
            messages: None,
        }
    }

    /// Notes an answer that was ready then, in nanoseconds since the epoch.
    pub(crate) fn hit(&self, received: &Received, hit: &Hit, replay: u64, done: i64) {
        let kind =
            hit.headers.get(http::header::CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
        let note = Note {
            replay: Some(replay),
            origin: hit.origin,
            answer: Some((kind, &hit.body)),
            ..self.note_done(Outcome::Hit, hit.status, done)
        };
        self.journal.note(self.lane, received, note);
    }

    pub(crate) fn miss(
        &self,
        received: &Received,
        status: u16,
        replay: u64,
        nearest: Option<NearMiss>,
    ) {
        let note = self.note(Outcome::Miss, status);
        self.journal.note(self.lane, received, Note { replay: Some(replay), nearest, ..note });
    }

    pub(crate) fn passed(&self, received: &Received, status: u16, replay: u64) {
        let note = self.note(Outcome::PassedThrough, status);
        self.journal.note(self.lane, received, Note { replay: Some(replay), ..note });
    }

    pub(crate) fn other(&self, received: &Received, outcome: Outcome, status: u16) {
        self.journal.note(self.lane, received, self.note(outcome, status));
    }

    pub(crate) fn refused(&self, parts: &Parts, status: u16) {
        let line = Line {
            method: parts.method.as_str(),
            host: parts.uri.authority().map_or("", |authority| authority.as_str()),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
        };
        self.journal.note_unread(self.lane, &line, self.note(Outcome::Refused, status));
    }
}
