//! Answers that have to be waited for: a token that takes long to sign, and a turn that nodes share.
//!
//! A request that waits for its turn has found its answers already, and the chains have run on it; the turn only says which of them it gets.

use super::{Owed, Serving};
use crate::{
    answer::Answer,
    index::Entry,
    request::Request,
    transform::Scope,
    turns::{ListId, Shared, position},
};

/// What an answer waits for.
#[derive(Debug)]
pub enum Pending {
    /// A token that takes long to sign.
    Token(Owed),
    /// A turn in a list of answers whose turns nodes share.
    Turn(Box<Awaited>),
}

/// A request that waits for its turn.
#[derive(Debug)]
pub struct Awaited {
    /// The number of its signature's entry.
    entry: usize,
    list: ListId,
    answers: usize,
    cycles: Option<u32>,
    scope: Option<Scope>,
}

/// A turn in a list of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// How many turns were taken before it, by everybody.
    Shared(u64),
    /// The place in a cycle that was leased.
    Leased(usize),
}

impl Awaited {
    /// The list.
    #[must_use]
    pub fn list(&self) -> ListId {
        self.list
    }

    /// How many turns to lease at a time, which are whole cycles; `None` where turns are taken one by one.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        let answers = u64::try_from(self.answers).unwrap_or(u64::MAX);
        self.cycles.map(|cycles| u64::from(cycles.max(1)).saturating_mul(answers))
    }
}

impl Serving {
    /// A request that waits for its turn among these answers.
    pub(super) fn awaited(&self, entry: &Entry, shared: &Shared, scope: Option<Scope>) -> Pending {
        Pending::Turn(Box::new(Awaited {
            entry: self.snapshot.index.number(entry.signature()).unwrap_or(usize::MAX),
            list: shared.id,
            answers: entry.instances().len(),
            cycles: shared.cycles,
            scope,
        }))
    }

    /// Adds turns to those that are leased to this node: as many as [`Awaited::lease`] says, or a multiple of that.
    pub fn lease(&self, awaited: &Awaited, turns: u64) {
        if let Some(shared) = self.shared(awaited) {
            shared.lease.add(turns);
        }
    }

    /// Takes a turn of those that are leased to this node.
    #[must_use]
    pub fn leased(&self, awaited: &Awaited) -> Option<Turn> {
        let taken = self.shared(awaited)?.lease.take(awaited.answers)?;
        if let Some(entry) = self.snapshot.index.entry(awaited.entry) {
            entry.whole().cursor.count();
        }
        Some(Turn::Leased(taken))
    }

    fn shared(&self, awaited: &Awaited) -> Option<&Shared> {
        self.snapshot.index.entry(awaited.entry)?.whole().shared
    }

    /// Answers a request that has waited for its turn. `now` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// What is owed, as [`Serving::answer_or_owe`] says it.
    pub fn answer_in_turn(
        &self,
        request: &Request<'_>,
        awaited: Awaited,
        turn: Turn,
        now: i64,
    ) -> Result<Answer, Owed> {
        let Some(entry) = self.snapshot.index.entry(awaited.entry) else { return Ok(Answer::Miss) };
        let at = match turn {
            Turn::Leased(at) => at,
            Turn::Shared(turn) => {
                entry.whole().cursor.stand(turn.saturating_add(1));
                position(turn, awaited.answers, self.snapshot.end)
            }
        };
        let Some(chosen) = self.in_turn(entry, at) else { return Ok(Answer::Miss) };
        self.answer_with(request, chosen, awaited.scope, (now, self.at(now)))
    }

    /// Answers a request out of this node's own order.
    pub(super) fn answer_alone(
        &self,
        request: &Request<'_>,
        awaited: Awaited,
        now: i64,
    ) -> Result<Answer, Owed> {
        let Some(entry) = self.snapshot.index.entry(awaited.entry) else { return Ok(Answer::Miss) };
        let at = entry.whole().cursor.take(awaited.answers, self.snapshot.end);
        self.answer_in_turn(request, awaited, Turn::Leased(at), now)
    }
}
