//! Whose turn it is among several answers of one signature.
//!
//! Answers are grouped by identity, and within an identity by *epoch*: the number of state-changing requests that the identity had made when
//! they were recorded. Each group has a cursor of its own, one atomic number, so that of many requests at once each takes another position.
//! An identity's progress says in which epoch it is; it moves when a state-changing pair is replayed, never with a read.

mod plan;
mod shared;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{
    identity::{IdentityId, Who},
    test_config::End,
};
pub(crate) use plan::{Recorded, plan, recorded};
pub use shared::ListId;
pub(crate) use shared::Shared;

/// How many answers were taken from a list.
#[derive(Debug, Default)]
pub(crate) struct Cursor(AtomicU64);

impl Cursor {
    /// Takes a position in a list of this length.
    pub(crate) fn take(&self, len: usize, end: End) -> usize {
        position(self.0.fetch_add(1, Ordering::Relaxed), len, end)
    }

    /// The position that is taken next.
    pub(crate) fn peek(&self, len: usize, end: End) -> usize {
        position(self.taken(), len, end)
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Stands where so many were taken, by whoever keeps the turns.
    pub(crate) fn stand(&self, taken: u64) {
        self.0.store(taken, Ordering::Relaxed);
    }

    /// Counts an answer whose place was found otherwise.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The place in a list of this length at a turn.
pub(crate) fn position(turn: u64, len: usize, end: End) -> usize {
    let turn = usize::try_from(turn).unwrap_or(usize::MAX);
    match end {
        End::Wrap => turn.checked_rem(len).unwrap_or_default(),
        End::Stop => turn.min(len.saturating_sub(1)),
    }
}

/// Answers that take turns.
#[derive(Debug, Default)]
struct Run {
    /// The first epoch that they belong to.
    epoch: u32,
    instances: Box<[usize]>,
    cursor: Cursor,
}

/// The answers of one identity, by epoch in ascending order; never empty.
#[derive(Debug)]
struct Group {
    identity: IdentityId,
    runs: Box<[Run]>,
}

/// The answers of one signature by identity, in the order of identities.
#[derive(Debug)]
pub(crate) struct Turns {
    groups: Box<[Group]>,
    /// Nodes share the turns of all answers; there are no groups then.
    shared: Option<Shared>,
}

/// A list of answers and its cursor, and why it is this one.
#[derive(Debug)]
pub(crate) struct Narrowed<'t> {
    /// The answers in recorded order.
    pub(crate) instances: &'t [usize],
    /// Who comes next among them.
    pub(crate) cursor: &'t Cursor,
    /// The epoch that they belong to, where epochs matter.
    pub(crate) epoch: Option<u32>,
    /// What nodes share of it.
    pub(crate) shared: Option<&'t Shared>,
}

impl Narrowed<'_> {
    /// The place that is taken next, as far as this node knows.
    pub(crate) fn peek(&self, end: End) -> usize {
        let len = self.instances.len();
        match self.shared {
            Some(shared) if shared.cycles.is_some() => shared.lease.peek(len),
            _ => self.cursor.peek(len, end),
        }
    }

    /// Begins it anew, as far as this node keeps it.
    pub(crate) fn reset(&self) {
        self.cursor.reset();
        self.shared.iter().for_each(|shared| shared.lease.reset());
    }
}

impl Turns {
    /// Turns of all answers, which nodes share.
    fn shared_by_nodes(shared: Shared) -> Self {
        Self { groups: Box::default(), shared: Some(shared) }
    }

    /// What nodes share of the turns of all answers.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Whether it matters who asks.
    pub(crate) fn tells_apart(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The answers that somebody may get; `None` when that is all of them.
    pub(crate) fn narrow(&self, who: Who, progress: &Progress) -> Option<Narrowed<'_>> {
        let Who::Known(identity) = who else { return None };
        let nth = self.groups.binary_search_by_key(&identity, |group| group.identity).ok()?;
        let runs = &self.groups.get(nth)?.runs;
        let run = match &**runs {
            [only] => only,
            several => {
                let epoch = progress.of(identity);
                // Before the first recorded answer, that one is the nearest.
                let behind = several.partition_point(|run| run.epoch <= epoch);
                several.get(behind.saturating_sub(1))?
            }
        };
        Some(Narrowed {
            instances: &run.instances,
            cursor: &run.cursor,
            epoch: (runs.len() > 1).then_some(run.epoch),
            shared: None,
        })
    }

    /// Every list of answers, and whose it is.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (IdentityId, Narrowed<'_>)> {
        self.groups.iter().flat_map(|group| {
            let several = group.runs.len() > 1;
            group.runs.iter().map(move |run| {
                let epoch = several.then_some(run.epoch);
                let (instances, cursor) = (&*run.instances, &run.cursor);
                let list = Narrowed { instances, cursor, epoch, shared: None };
                (group.identity, list)
            })
        })
    }
}

/// How far each identity is.
#[derive(Debug, Default)]
pub(crate) struct Progress(Box<[AtomicU32]>);

/// Where an identity is once a pair was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) identity: IdentityId,
    pub(crate) to: u32,
    /// The answer issues the identity's token, whoever asks for it.
    pub(crate) issues: bool,
}

impl Progress {
    fn new(identities: usize) -> Self {
        Self((0..identities).map(|_| AtomicU32::new(0)).collect())
    }

    fn of(&self, identity: IdentityId) -> u32 {
        self.0.get(identity.index()).map_or(0, |epoch| epoch.load(Ordering::Acquire))
    }

    /// Makes a move.
    pub(crate) fn make(&self, by: Move) {
        if let Some(epoch) = self.0.get(by.identity.index()) {
            epoch.store(by.to, Ordering::Release);
        }
    }

    /// Puts one identity back to the start.
    pub(crate) fn reset_of(&self, identity: IdentityId) {
        if let Some(epoch) = self.0.get(identity.index()) {
            epoch.store(0, Ordering::Release);
        }
    }

    /// Puts everybody back to the start.
    pub(crate) fn reset(&self) {
        for epoch in &self.0 {
            epoch.store(0, Ordering::Release);
        }
    }
}

/// What the cursors of a snapshot have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The identities that the recording tells apart; nobody is none.
    pub identities: usize,
    /// The lists in which several answers take turns.
    pub sequences: usize,
    /// Those of them from which an answer was taken since the start or the last reset.
    pub moved: usize,
    /// The answers taken from them.
    pub steps: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, cursor: &Cursor, len: usize) {
        if len < 2 {
            return;
        }
        let taken = cursor.taken();
        self.sequences += 1;
        self.moved += usize::from(taken > 0);
        self.steps = self.steps.saturating_add(taken);
    }
}

pub(crate) fn reset<'c>(cursors: impl Iterator<Item = &'c Cursor>) {
    cursors.for_each(Cursor::reset);
}

#[cfg(test)]
mod tests;
