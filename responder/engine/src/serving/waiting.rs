//! Answers that have to be waited for: a token that takes long to sign, and a turn that nodes share.
//!
//! A request that waits for its turn has found its answers already, and the chains have run on it; the turn only says which of them it gets.

use super::{Owed, Serving};
use crate::{
    answer::{Answer, Origin},
    identity::IdentityId,
    index::{Entry, Next},
    request::Request,
    transform::Scope,
    turns::{ListId, Moved, Narrowed, Shared, position},
};

/// What an answer waits for.
#[derive(Debug)]
pub enum Pending {
    /// A token that takes long to sign.
    Token(Owed),
    /// A turn in a list of answers whose turns nodes share.
    Turn(Box<Awaited>),
}

/// A request that waits for its turn, or to know how far whoever asks is.
#[derive(Debug)]
pub struct Awaited {
    /// The number of its signature's entry.
    entry: usize,
    list: ListId,
    wants: Wants,
    scope: Option<Scope>,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy)]
enum Wants {
    /// A turn in the list of an identity in an epoch, or of whoever has no own one.
    Turn { whose: Option<(IdentityId, u32)>, answers: usize, cycles: Option<u32> },
    /// How far this identity is.
    Progress(IdentityId),
}

/// What a request has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// How many turns were taken before it, by everybody; or how far whoever asks is.
    Shared(u64),
    /// The place in a cycle that was leased.
    Leased(usize),
}

impl Awaited {
    /// The list, or what stands for how far somebody is.
    #[must_use]
    pub fn list(&self) -> ListId {
        self.list
    }

    /// Whether it waits to know how far somebody is, which takes no turn.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        matches!(self.wants, Wants::Progress(_))
    }

    /// How many turns to lease at a time, which are whole cycles; `None` where turns are taken one by one.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        let Wants::Turn { answers, cycles, .. } = self.wants else { return None };
        let answers = u64::try_from(answers).unwrap_or(u64::MAX);
        cycles.map(|cycles| u64::from(cycles.max(1)).saturating_mul(answers))
    }
}

impl Serving {
    /// Answers a request by what this node alone knows. `now` is in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn answer(&self, request: &Request<'_>, now: i64) -> Answer {
        let mut answered = self.answer_or_owe(request, now);
        loop {
            answered = match answered {
                Ok(answer) => return answer,
                Err(Pending::Token(owed)) => {
                    return self.pay(&owed).map_or(Answer::Miss, Answer::Hit);
                }
                Err(Pending::Turn(awaited)) => self.answer_alone(request, *awaited, now),
            };
        }
    }

    fn number(&self, entry: &Entry) -> usize {
        self.snapshot.index.number(entry.signature()).unwrap_or(usize::MAX)
    }

    /// A request that waits for its turn among these answers.
    pub(super) fn awaited(
        &self,
        entry: &Entry,
        shared: &Shared,
        whose: Option<(IdentityId, u32)>,
        scope: Option<Scope>,
    ) -> Pending {
        let answers = entry.list(whose).instances.len();
        let wants = Wants::Turn { whose, answers, cycles: shared.cycles };
        Pending::Turn(Box::new(Awaited {
            entry: self.number(entry),
            list: shared.id,
            wants,
            scope,
        }))
    }

    /// A request that waits to know how far an identity is.
    pub(super) fn unsure(
        &self,
        entry: &Entry,
        (identity, list): (IdentityId, ListId),
        scope: Option<Scope>,
    ) -> Pending {
        let wants = Wants::Progress(identity);
        Pending::Turn(Box::new(Awaited { entry: self.number(entry), list, wants, scope }))
    }

    /// Adds turns to those that are leased to this node: as many as [`Awaited::lease`] says, or a multiple of that.
    pub fn lease(&self, awaited: &Awaited, turns: u64) {
        if let Some(shared) = self.leasing(awaited).and_then(|list| list.shared) {
            shared.lease.add(turns);
        }
    }

    /// Takes a turn of those that are leased to this node.
    #[must_use]
    pub fn leased(&self, awaited: &Awaited) -> Option<Turn> {
        let list = self.leasing(awaited)?;
        let taken = list.shared?.lease.take(list.instances.len())?;
        list.cursor.count();
        Some(Turn::Leased(taken))
    }

    fn leasing(&self, awaited: &Awaited) -> Option<Narrowed<'_>> {
        let Wants::Turn { whose, .. } = awaited.wants else { return None };
        Some(self.snapshot.index.entry(awaited.entry)?.list(whose))
    }

    /// How far an identity is after an answer that moves it on, where nodes share that.
    #[must_use]
    pub fn moved(&self, origin: &Origin) -> Option<Moved> {
        let moves = self.snapshot.instances.get(origin.instance)?.rare().moves?;
        let list = self.snapshot.progress.shared(moves.identity)?;
        Some(Moved { list, to: moves.to }).filter(|_| origin.moved)
    }

    /// Answers a request that has waited. `now` is in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// What else is waited for, as [`Serving::answer_or_owe`] says it.
    pub fn answer_in_turn(
        &self,
        request: &Request<'_>,
        awaited: Awaited,
        turn: Turn,
        now: i64,
    ) -> Result<Answer, Pending> {
        let Awaited { entry, wants, scope, .. } = awaited;
        let Some(entry) = self.snapshot.index.entry(entry) else { return Ok(Answer::Miss) };
        let (whose, at) = match (wants, turn) {
            (Wants::Turn { whose, .. }, Turn::Leased(at)) => (whose, at),
            (Wants::Turn { whose, answers, .. }, Turn::Shared(turn)) => {
                entry.list(whose).cursor.stand(turn.saturating_add(1));
                (whose, position(turn, answers, self.snapshot.end))
            }
            (Wants::Progress(identity), Turn::Shared(epoch)) => {
                let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
                self.snapshot.progress.stand(identity, epoch);
                let whose = Some((identity, epoch));
                match entry.next_of(self.snapshot.end, whose) {
                    Some(Next::Shared(shared, whose)) => {
                        return Err(self.awaited(entry, shared, whose, scope));
                    }
                    Some(Next::Instance { nth, .. }) => {
                        let all = entry.list(whose).instances;
                        (whose, all.iter().position(|known| *known == nth).unwrap_or_default())
                    }
                    Some(Next::Progress(..)) | None => return Ok(Answer::Miss),
                }
            }
            (Wants::Progress(_), Turn::Leased(_)) => return Ok(Answer::Miss),
        };
        let session = scope.as_ref().and_then(|scope| scope.session.as_deref());
        let Some(chosen) = self.in_turn(entry, (whose, at), request, session) else {
            return Ok(Answer::Miss);
        };
        self.answer_with(request, chosen, scope, (now, self.at(now))).map_err(Pending::Token)
    }

    /// Answers a request out of what this node alone knows.
    pub(super) fn answer_alone(
        &self,
        request: &Request<'_>,
        awaited: Awaited,
        now: i64,
    ) -> Result<Answer, Pending> {
        let Some(entry) = self.snapshot.index.entry(awaited.entry) else { return Ok(Answer::Miss) };
        let turn = match awaited.wants {
            Wants::Progress(identity) => {
                Turn::Shared(u64::from(self.snapshot.progress.of(identity)))
            }
            Wants::Turn { whose, answers, .. } => {
                Turn::Leased(entry.list(whose).cursor.take(answers, self.snapshot.end))
            }
        };
        self.answer_in_turn(request, awaited, turn, now)
    }
}
