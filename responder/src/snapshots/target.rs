//! What the control plane has said: which version of a replay to serve, and which to prepare.
//!
//! It is kept apart from what is held, so that work that was overtaken is dropped when it is done, and both planes can compare what they believe.

use countersign_engine::snapshot::told::{self, Told, state_digest};

use super::{Assignment, Rejected, Snapshots, Table};

/// What is to become of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is to be held beside what is served.
    Prepare,
    /// It is to be served.
    Activate,
}

/// What is wanted under a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// What is to be served.
    pub(crate) active: Option<Assignment>,
    /// What is to be prepared.
    pub(crate) next: Option<Assignment>,
}

impl Table {
    /// Whether this version is still to be served or prepared.
    pub(crate) fn wants(&self, assignment: &Assignment) -> bool {
        let target = self.targets.get(&assignment.name);
        let mut wanted = target.into_iter().flat_map(|t| t.active.iter().chain(&t.next));
        wanted.any(|wanted| wanted.is(assignment))
    }

    /// Whether this version is to be served.
    pub(crate) fn serves(&self, assignment: &Assignment) -> bool {
        let target = self.targets.get(&assignment.name);
        target.and_then(|t| t.active.as_ref()).is_some_and(|wanted| wanted.is(assignment))
    }

    /// The digest of what is held as it was told to be. What is refused, or `pending`, counts as it was told.
    pub(crate) fn state_digest(&self, pending: impl Fn(&Assignment) -> bool) -> [u8; 32] {
        let excused = |wanted: &Assignment| {
            let rejected = self.rejected.get(&wanted.name);
            pending(wanted)
                || rejected.is_some_and(|rejected| rejected.generation == wanted.generation)
        };
        let mut all = Vec::new();
        for target in self.targets.values() {
            if let Some(wanted) = &target.active {
                let held = self.active(&wanted.name).map(|replay| &replay.assignment);
                let is = if excused(wanted) { Some(wanted) } else { held };
                all.extend(is.map(|is| (told::ACTIVATE, is)));
            }
            if let Some(wanted) = &target.next {
                let prepared = self.prepared.get(&wanted.name);
                // What is served is more than prepared.
                let held = self.active(&wanted.name).filter(|replay| replay.assignment.is(wanted));
                let held = held.or(prepared).map(|replay| &replay.assignment);
                let is = if excused(wanted) { Some(wanted) } else { held };
                all.extend(is.map(|is| (told::PREPARE, is)));
            }
        }
        let told = all.iter().map(|(phase, is)| Told {
            name: &is.name,
            phase: *phase,
            bundle: is.bundle.hash(),
            generation: is.generation,
        });
        state_digest(told.collect())
    }
}

impl Snapshots {
    /// Forgets what was said: another session begins.
    pub(crate) fn hear_anew(&self) {
        self.change(|_, table| table.targets.clear());
    }

    /// Notes what was said.
    pub(crate) fn hear(&self, assignment: &Assignment, phase: Phase) {
        self.change(|_, table| {
            let name = assignment.name.clone();
            if !table.replays.iter().any(|replay| replay.assignment.name == name) {
                table.awaited.insert(name.clone());
            }
            let target = table.targets.entry(name.clone()).or_default();
            let told = Some(assignment.clone());
            match phase {
                Phase::Prepare => target.next = told,
                Phase::Activate => {
                    target.active = told;
                    target.next.take_if(|next| next.is(assignment));
                }
            }
            // One version is prepared at a time. What a newer session has not spoken of yet stays.
            let stale =
                |held: &Assignment| held.generation <= assignment.generation && !table.wants(held);
            if table.prepared.get(&name).is_some_and(|held| stale(&held.assignment)) {
                table.prepared.remove(&name);
            }
        });
    }

    /// Drops what was prepared at this generation, or was to be.
    pub(crate) fn unprepare(&self, name: &str, generation: u64) {
        self.change(|_, table| {
            if let Some(target) = table.targets.get_mut(name) {
                target.next.take_if(|next| next.generation == generation);
            }
            let prepared = table.prepared.get(name);
            if prepared.is_some_and(|held| held.assignment.generation == generation) {
                table.prepared.remove(name);
            }
            let nothing = table.targets.get(name).is_none_or(|target| target.active.is_none());
            if nothing && table.active(name).is_none() {
                table.awaited.remove(name);
            }
            let refused = table.rejected.get(name);
            if refused.is_some_and(|refused| refused.generation == generation) {
                table.rejected.remove(name);
            }
        });
    }

    /// Notes that what was refused when it was to be prepared is to be served now; tells whether that is so. It is not tried again for that.
    pub(crate) fn is_refused_already(&self, assignment: &Assignment) -> bool {
        let is_it = |refused: &Rejected| {
            refused.bundle == assignment.bundle
                && refused.generation == assignment.generation
                && !refused.activating
        };
        let refused = self.load().rejected.get(&assignment.name).is_some_and(is_it);
        if refused {
            self.change(|_, table| {
                if let Some(refused) = table.rejected.get_mut(&assignment.name) {
                    refused.activating = true;
                }
            });
        }
        refused
    }

    /// Forgets that this very version was refused, because it is tried again.
    pub(crate) fn try_again(&self, assignment: &Assignment) {
        let is_it = |refused: &Rejected| refused.generation == assignment.generation;
        if self.load().rejected.get(&assignment.name).is_some_and(is_it) {
            self.change(|_, table| drop(table.rejected.remove(&assignment.name)));
        }
    }
}
