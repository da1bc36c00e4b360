//! Whose turn it is among several answers of one signature.
//!
//! Answers are grouped by identity, and within an identity by *epoch*: the number of state-changing requests that the identity had made when
//! they were recorded. Each group has a cursor of its own, one atomic number, so that of many requests at once each takes another position.
//! An identity's progress says in which epoch it is; it moves when a state-changing pair is replayed, never with a read.

mod plan;
mod shared;

use crate::{
    identity::{IdentityId, Who},
    sync::{AtomicU32, AtomicU64, Ordering},
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
    /// What nodes share of them.
    shared: Option<Shared>,
}

/// The answers of one identity, by epoch in ascending order; never empty.
#[derive(Debug)]
struct Group {
    identity: IdentityId,
    runs: Box<[Run]>,
}

impl Group {
    fn narrowed<'g>(&self, run: &'g Run) -> Narrowed<'g> {
        Narrowed {
            instances: &run.instances,
            cursor: &run.cursor,
            epoch: (self.runs.len() > 1).then_some(run.epoch),
            shared: run.shared.as_ref(),
        }
    }

    /// The run of an epoch.
    fn run(&self, epoch: impl FnOnce() -> u32) -> Option<&Run> {
        match &*self.runs {
            [only] => Some(only),
            several => {
                let epoch = epoch();
                // Before the first recorded answer, that one is the nearest.
                let behind = several.partition_point(|run| run.epoch <= epoch);
                several.get(behind.saturating_sub(1))
            }
        }
    }
}

/// The answers of one signature by identity, in the order of identities.
#[derive(Debug)]
pub(crate) struct Turns {
    groups: Box<[Group]>,
    /// What nodes share of the turns of all answers.
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
    /// What nodes share of the turns of all answers.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Whether it matters who asks.
    pub(crate) fn tells_apart(&self) -> bool {
        !self.groups.is_empty()
    }

    fn group(&self, who: Who) -> Option<&Group> {
        let Who::Known(identity) = who else { return None };
        let nth = self.groups.binary_search_by_key(&identity, |group| group.identity).ok()?;
        self.groups.get(nth)
    }

    /// The answers that somebody may get; `None` when that is all of them.
    pub(crate) fn narrow(&self, who: Who, progress: &Progress) -> Option<Narrowed<'_>> {
        let group = self.group(who)?;
        group.run(|| progress.of(group.identity)).map(|run| group.narrowed(run))
    }

    /// The answers that an identity gets in an epoch.
    pub(crate) fn narrow_at(&self, identity: IdentityId, epoch: u32) -> Option<Narrowed<'_>> {
        let group = self.group(Who::Known(identity))?;
        group.run(|| epoch).map(|run| group.narrowed(run))
    }

    /// Who it is, if the answers depend on how far that is, and whose they are if they do not.
    pub(crate) fn whose(&self, who: Who) -> Option<(IdentityId, bool)> {
        self.group(who).map(|group| (group.identity, group.runs.len() > 1))
    }

    /// Every list of answers, and whose it is.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (IdentityId, Narrowed<'_>)> {
        self.groups.iter().flat_map(|group| {
            group.runs.iter().map(move |run| (group.identity, group.narrowed(run)))
        })
    }
}

/// How far each identity is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    epochs: Box<[AtomicU32]>,
    /// Nodes share it.
    shared: bool,
}

/// Where an identity is once a pair was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) identity: IdentityId,
    pub(crate) to: u32,
    /// The answer issues the identity's token, whoever asks for it.
    pub(crate) issues: bool,
}

/// How far an identity is from now on, where nodes share that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// What nodes call it.
    pub list: ListId,
    /// The epoch.
    pub to: u32,
}

impl Progress {
    fn new(identities: usize, shared: bool) -> Self {
        Self { epochs: (0..identities).map(|_| AtomicU32::new(0)).collect(), shared }
    }

    /// Whether nodes share it.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// What nodes call how far an identity is, if they share it.
    pub(crate) fn shared(&self, identity: IdentityId) -> Option<ListId> {
        (self.shared && self.epochs.get(identity.index()).is_some())
            .then(|| ListId::of_progress(identity))
    }

    /// The same for all identities.
    pub(crate) fn all_shared(&self) -> impl Iterator<Item = (IdentityId, ListId)> {
        let identities = (0..self.epochs.len()).filter_map(IdentityId::at);
        identities.filter_map(|identity| Some((identity, self.shared(identity)?)))
    }

    /// Stands where others have come to.
    pub(crate) fn stand(&self, identity: IdentityId, to: u32) {
        self.make(Move { identity, to, issues: false });
    }

    /// How far it is, as far as this node knows.
    pub(crate) fn of(&self, identity: IdentityId) -> u32 {
        self.epochs.get(identity.index()).map_or(0, |epoch| epoch.load(Ordering::Acquire))
    }

    /// Makes a move.
    pub(crate) fn make(&self, by: Move) {
        if let Some(epoch) = self.epochs.get(by.identity.index()) {
            epoch.store(by.to, Ordering::Release);
        }
    }

    /// Puts one identity back to the start.
    pub(crate) fn reset_of(&self, identity: IdentityId) {
        if let Some(epoch) = self.epochs.get(identity.index()) {
            epoch.store(0, Ordering::Release);
        }
    }

    /// Puts everybody back to the start.
    pub(crate) fn reset(&self) {
        for epoch in &self.epochs {
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
#[cfg(loom)]
mod model;
#[cfg(test)]
mod tests;
