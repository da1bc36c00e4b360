//! Entries of dialogues: begun with the request, made when both sides have ended.

use std::sync::Arc;

use countersign_engine::{answer::Origin, request::Request};

use super::{Journal, Messages, Note, Outcome};
use crate::serve_request::now;

/// An entry that is about to be made.
#[derive(Debug)]
pub(crate) struct Ending {
    journal: Arc<Journal>,
    lane: usize,
    at: i64,
}

/// How a dialogue ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    /// The serial number of the replay.
    pub(crate) replay: u64,
    pub(crate) origin: Option<Origin>,
    pub(crate) messages: Messages,
    /// How many bytes the client said.
    pub(crate) bytes: usize,
}

impl Ending {
    /// Begins one now, in nanoseconds since the epoch; `None` where nothing is noted.
    pub(crate) fn begin(journal: Option<&Arc<Journal>>, lane: usize, at: i64) -> Option<Self> {
        let journal = Arc::clone(journal?);
        Some(Self { journal, lane, at })
    }

    /// Makes it. What was said is counted and not kept.
    pub(crate) fn note(self, request: &Request<'_>, ended: &Ended) {
        let note = Note {
            at: self.at,
            done: now(),
            outcome: ended.outcome,
            status: ended.status,
            replay: Some(ended.replay),
            origin: ended.origin,
            nearest: None,
            answer: None,
            messages: Some(ended.messages),
        };
        self.journal.note_dialogue(self.lane, request, ended.bytes, note);
    }
}
