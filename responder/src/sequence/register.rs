//! How far the lists of one replay are, as this node knows it, and whether it may give out their turns. No clock, no socket.
//!
//! A turn is given out only in the newest epoch, by the list's owner in it, and only after the turns were handed over. Whoever hands over takes
//! no more turns of older epochs before it tells how far it is; so no turn is taken twice. Where somebody who owned lists did not hand them
//! over, they are in *doubt*: the first turn taken from one of them afterwards is a break in its order, and is counted.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use countersign_engine::turns::ListId;

use super::view::{Owners, Peer, View, owners};

/// So many lists are known of a replay.
const LISTS: usize = 1_000_000;
/// So many doubts are kept apart.
const DOUBTS: usize = 16;

/// Why no turn is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// An epoch is over; this one is known.
    Stale(u64),
    /// This node does not own it, or does not know that it does.
    NotOwner,
    /// It was not handed over yet.
    NotSettled,
}

/// What is done to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Takes so many turns; none looks how far it is.
    Take(u64),
    /// Puts it there.
    Put(u64),
}

/// Turns that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) first: u64,
    pub(crate) term: u64,
    /// They are a break in the order.
    pub(crate) breaks: bool,
}

/// How far a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// Grows when the list begins anew.
    pub(crate) term: u64,
    pub(crate) taken: u64,
    /// The last epoch in which this node knew it for sure; 0 when it was only seen.
    sure: u64,
    /// How often its order broke here.
    pub(crate) breaks: u64,
}

impl Cursor {
    /// Takes a step; returns the first turn that was taken, or where it stands, and its term.
    fn step(&mut self, step: Step) -> (u64, u64) {
        let first = match step {
            Step::Take(count) => {
                let first = self.taken;
                self.taken = self.taken.saturating_add(count);
                first
            }
            Step::Put(to) => {
                // Newer than whatever was seen of it, also where it goes back.
                (self.term, self.taken) = (self.term.saturating_add(1), to);
                to
            }
        };
        (first, self.term)
    }
}

impl Step {
    /// How many turns it takes.
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Take(count) => count,
            Self::Put(_) => 0,
        }
    }

    /// Where it puts a list.
    pub(crate) fn put(self) -> Option<u64> {
        match self {
            Self::Take(_) => None,
            Self::Put(to) => Some(to),
        }
    }

    /// Where a list stands after this, if the first turn that was taken is this one.
    pub(crate) fn behind(self, first: u64) -> u64 {
        match self {
            Self::Take(count) => first.saturating_add(count),
            Self::Put(to) => to,
        }
    }
}

/// What is told of a list that is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) list: ListId,
    pub(crate) term: u64,
    pub(crate) taken: u64,
    pub(crate) sure: bool,
}

/// What somebody hands over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Export {
    /// The last epoch before in which it gave out turns; 0 when there was none.
    pub(crate) settled_epoch: u64,
    /// What it owned then and does not name has not moved.
    pub(crate) complete: bool,
    pub(crate) cursors: Vec<Told>,
}

/// Somebody did not hand over what it owned before an epoch.
#[derive(Debug)]
struct Doubt {
    epoch: u64,
    /// Who; `None` stands for everybody.
    whose: Option<(Arc<View>, HashSet<Arc<str>>)>,
}

/// The state of one replay.
#[derive(Debug)]
pub(crate) struct Register {
    /// This process.
    session: Arc<str>,
    view: Option<Arc<View>>,
    /// Nothing is given out in older epochs.
    fence: u64,
    /// Turns are given out in the view's epoch.
    settled: bool,
    /// The view in which they were given out last before.
    last: Option<Arc<View>>,
    doubts: Vec<Doubt>,
    cursors: HashMap<ListId, Cursor>,
    /// Who has taken over in the epoch of the fence, and of how many.
    taken_over: (BTreeSet<String>, usize),
}

impl Register {
    pub(crate) fn new(session: &Arc<str>) -> Self {
        Self {
            session: Arc::clone(session),
            view: None,
            fence: 0,
            settled: false,
            last: None,
            doubts: Vec::new(),
            cursors: HashMap::new(),
            taken_over: (BTreeSet::new(), 0),
        }
    }

    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// The greatest epoch that is known.
    pub(crate) fn epoch(&self) -> u64 {
        self.fence
    }

    /// Whether this node gives out the turns of what it owns.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled && self.view.as_ref().is_some_and(|view| view.epoch == self.fence)
    }

    /// Whether turns are taken elsewhere and everybody else has taken over.
    pub(crate) fn is_taken_over(&self) -> bool {
        let member = self.view.as_ref().is_some_and(|view| view.has(&self.session));
        !member && self.taken_over.0.len() >= self.taken_over.1
    }

    pub(crate) fn cursor(&self, list: ListId) -> Option<Cursor> {
        self.cursors.get(&list).copied()
    }

    /// How often the order of any list broke here.
    pub(crate) fn breaks(&self) -> u64 {
        self.cursors.values().map(|cursor| cursor.breaks).sum()
    }

    /// Takes over a newer epoch. Returns who has to be asked before turns are given out in it; `None` when nobody has to, or this node owns
    /// nothing.
    pub(crate) fn adopt(&mut self, view: Arc<View>) -> Option<Vec<Peer>> {
        if self.view.as_ref().is_some_and(|known| known.epoch >= view.epoch) {
            return None;
        }
        if let Some(before) = self.view.take().filter(|_| self.settled) {
            self.last = Some(before);
        }
        if view.epoch > self.fence {
            self.fence = view.epoch;
            self.taken_over = (BTreeSet::new(), owners(&view.members).count());
        }
        self.settled = false;
        let epoch = view.epoch;
        let may_own = owners(&view.members).any(|peer| peer.session == self.session);
        let others = view.previous.iter().filter(|peer| peer.session != self.session);
        let others: Vec<Peer> = others.cloned().collect();
        self.view = Some(view);
        if !may_own {
            return None;
        }
        if others.is_empty() {
            self.settle(epoch, Vec::new());
            return None;
        }
        Some(others)
    }

    /// Forgets all epochs, because another store counts them now.
    pub(crate) fn forget_epochs(&mut self) {
        self.view = None;
        self.fence = 0;
        self.settled = false;
        self.last = None;
        self.doubts = vec![Doubt { epoch: 0, whose: None }];
        self.cursors.values_mut().for_each(|cursor| cursor.sure = 0);
    }

    /// Gives out turns from now on. `answers` are by process; `None` where there was no answer. Tells whether it does.
    pub(crate) fn settle(&mut self, epoch: u64, answers: Vec<(Arc<str>, Option<Export>)>) -> bool {
        let Some(view) = self.view.clone().filter(|view| view.epoch == epoch) else { return false };
        if self.settled || self.fence > epoch {
            return false;
        }
        let was_settled = self.last.as_ref().map_or(0, |last| last.epoch) == view.previous_epoch;
        let mut lost: HashSet<Arc<str>> = HashSet::new();
        if view.had(&self.session) && !was_settled {
            lost.insert(Arc::clone(&self.session));
        }
        // What is sure counts, however much was seen: turns may have been taken out of order.
        let mut sure = Vec::new();
        for (session, answer) in answers {
            let answer = answer.unwrap_or_default();
            let in_time = answer.settled_epoch == view.previous_epoch;
            if !in_time || !answer.complete {
                lost.insert(Arc::clone(&session));
            }
            for told in answer.cursors {
                let owner = view.owner_before(told.list).map(|peer| &peer.session);
                if told.sure && in_time && owner == Some(&session) {
                    sure.push(told);
                } else if owner != Some(&self.session) || !was_settled {
                    self.merge(&told);
                }
            }
        }
        for Told { list, term, taken, .. } in sure {
            let cursor = self.cursors.entry(list).or_default();
            *cursor = Cursor { term, taken, sure: epoch, ..*cursor };
        }
        self.settled = true;
        if !lost.is_empty() {
            self.doubt(Doubt { epoch, whose: Some((view, lost)) });
        }
        true
    }

    fn doubt(&mut self, doubt: Doubt) {
        if self.doubts.len() >= DOUBTS {
            // The older half becomes a doubt in everybody, which is never too little.
            let older = self.doubts.drain(..DOUBTS / 2);
            let epoch = older.map(|doubt| doubt.epoch).max().unwrap_or_default();
            self.doubts.insert(0, Doubt { epoch, whose: None });
        }
        self.doubts.push(doubt);
    }

    fn merge(&mut self, told: &Told) {
        if self.cursors.len() >= LISTS && !self.cursors.contains_key(&told.list) {
            return;
        }
        let cursor = self.cursors.entry(told.list).or_default();
        if (told.term, told.taken) > (cursor.term, cursor.taken) {
            (cursor.term, cursor.taken) = (told.term, told.taken);
        }
    }

    /// Whether it is not known for sure how far a list is, by the doubts from before an epoch on.
    fn is_doubtful(&self, list: ListId, before: u64) -> bool {
        let sure = self.cursors.get(&list).map_or(0, |cursor| cursor.sure);
        let concerns = |doubt: &&Doubt| match &doubt.whose {
            None => true,
            Some((view, lost)) => {
                view.owner_before(list).is_some_and(|owner| lost.contains(&owner.session))
            }
        };
        let apply = |doubt: &&Doubt| doubt.epoch < before && (sure == 0 || doubt.epoch > sure);
        self.doubts.iter().filter(apply).any(|doubt| concerns(&doubt))
    }

    /// Takes turns from lists that this node owns in this epoch: from all of them, or from none.
    pub(crate) fn take(
        &mut self,
        epoch: u64,
        wanted: &[(ListId, Step)],
    ) -> Result<Vec<Taken>, Refused> {
        if epoch < self.fence {
            return Err(Refused::Stale(self.fence));
        }
        let view = self.view.clone().filter(|view| view.epoch == epoch);
        let view = view.ok_or(Refused::NotOwner)?;
        let owns = |list: ListId| view.owner(list).is_some_and(|o| o.session == self.session);
        if !wanted.iter().all(|(list, _)| owns(*list)) {
            return Err(Refused::NotOwner);
        }
        if !self.settled {
            return Err(Refused::NotSettled);
        }
        let new = wanted.iter().filter(|(list, _)| !self.cursors.contains_key(list)).count();
        if self.cursors.len() + new > LISTS {
            return Err(Refused::NotOwner);
        }
        Ok(wanted.iter().map(|(list, step)| self.take_own(epoch, *list, *step)).collect())
    }

    fn take_own(&mut self, epoch: u64, list: ListId, step: Step) -> Taken {
        // What is put somewhere does not depend on where it was.
        let breaks = matches!(step, Step::Take(_)) && self.is_doubtful(list, u64::MAX);
        let cursor = self.cursors.entry(list).or_default();
        let (first, term) = cursor.step(step);
        cursor.breaks += u64::from(breaks);
        cursor.sure = epoch;
        Taken { first, term, breaks }
    }

    /// Takes turns as if this node owned the list, because nobody who does can be asked. Each time is a break in the order.
    pub(crate) fn take_alone(&mut self, list: ListId, step: Step) -> Taken {
        if self.cursors.len() >= LISTS && !self.cursors.contains_key(&list) {
            return Taken { first: 0, term: 0, breaks: true };
        }
        let cursor = self.cursors.entry(list).or_default();
        let (first, term) = cursor.step(step);
        cursor.breaks += 1;
        Taken { first, term, breaks: true }
    }

    /// Notes where a list stands that is kept elsewhere than at a node.
    pub(crate) fn stand(&mut self, list: ListId, taken: u64) {
        if self.cursors.len() < LISTS || self.cursors.contains_key(&list) {
            self.cursors.entry(list).or_default().taken = taken;
        }
    }

    /// Notes what the owner of a list gave out, in case that it is lost.
    pub(crate) fn note(&mut self, list: ListId, term: u64, taken: u64) {
        let owner = self.view.as_ref().and_then(|view| view.owner(list));
        // An answer that comes late says nothing new to whoever owns the list meanwhile.
        if owner.is_some_and(|owner| owner.session == self.session) {
            return;
        }
        self.merge(&Told { list, term, taken, sure: false });
    }

    /// Notes that turns of a list may have been given out and not arrived.
    pub(crate) fn note_break(&mut self, list: ListId) {
        if let Some(cursor) = self.cursors.get_mut(&list) {
            cursor.breaks += 1;
        }
    }

    /// Hands over what somebody owns from an epoch on.
    pub(crate) fn export(
        &mut self,
        epoch: u64,
        owners: &Owners,
        name: &str,
    ) -> Result<Export, Refused> {
        if epoch < self.fence {
            return Err(Refused::Stale(self.fence));
        }
        if epoch > self.fence {
            self.fence = epoch;
            self.taken_over.0.clear();
        }
        self.taken_over.1 = owners.len();
        self.taken_over.0.insert(name.to_owned());
        let now = self.view.clone().filter(|view| self.settled && view.epoch < epoch);
        let settled = now.or_else(|| self.last.clone());
        let sure = |list: ListId| {
            let view = settled.as_ref();
            let owned = view.and_then(|view| view.owner(list));
            owned.is_some_and(|owner| owner.session == self.session)
                && self.cursors.get(&list).is_some_and(|cursor| cursor.sure > 0)
                && !self.is_doubtful(list, epoch)
        };
        let moved = self.cursors.iter().filter(|(_, cursor)| cursor.taken > 0 || cursor.term > 0);
        let cursors = moved.filter(|(list, _)| owners.owns(name, **list)).map(|(list, cursor)| {
            Told { list: *list, term: cursor.term, taken: cursor.taken, sure: sure(*list) }
        });
        Ok(Export {
            settled_epoch: settled.as_ref().map_or(0, |view| view.epoch),
            complete: self.doubts.iter().all(|doubt| doubt.epoch >= epoch),
            cursors: cursors.collect(),
        })
    }

    /// Begins lists anew that this node owns; all of them when none is named.
    pub(crate) fn reset(&mut self, lists: &[ListId]) {
        let owns = |view: &Arc<View>, list: ListId| {
            view.owner(list).is_some_and(|owner| owner.session == self.session)
        };
        let view = self.view.clone();
        let named: HashSet<ListId> = lists.iter().copied().collect();
        let mine = |list: ListId| view.as_ref().is_none_or(|view| owns(view, list));
        let wanted = |list: &ListId| mine(*list) && (named.is_empty() || named.contains(list));
        let epoch = view.as_ref().map_or(0, |view| view.epoch);
        for (_, cursor) in self.cursors.iter_mut().filter(|(list, _)| wanted(list)) {
            *cursor = Cursor { term: cursor.term + 1, taken: 0, sure: epoch, ..*cursor };
        }
        if lists.is_empty() {
            // What has begun anew is where it should be.
            self.doubts.clear();
        }
    }

    /// Forgets lists that are not in use any more.
    pub(crate) fn retain(&mut self, mut used: impl FnMut(ListId) -> bool) {
        self.cursors.retain(|list, _| used(*list));
    }
}

#[cfg(test)]
mod tests;
