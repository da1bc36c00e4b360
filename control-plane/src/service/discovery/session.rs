//! What one responder was told and answered: which delta comes next. No clock, no socket.
//!
//! One delta is unacknowledged at a time; while it is, changes coalesce, because the next delta is computed from the newest table. Absence
//! never deletes: each name that the responder holds or was told of gets a tombstone when it applies no more.

use std::collections::{BTreeMap, btree_map};

use countersign_engine::snapshot::told::{self, Told as Entry, state_digest};
use countersign_proto::discovery::v1::{AssignmentPhase, Delta, Hello, Tombstone};

use crate::{
    fleet::{Outcome, Phase, wants},
    publish::{Assignment, Table},
    rollout::Announced,
    service::wire,
};

/// At most so many changes go into one delta, which keeps it under 64 KiB.
const CHANGES: usize = 200;

/// The state of one subscription.
#[derive(Debug)]
pub(super) struct Session {
    responder: String,
    project: String,
    selectors: Vec<String>,
    /// What it was told, by replay, and what it held when it came.
    told: BTreeMap<String, Told>,
    /// What it refused, by replay; the same bundle is not sent again on this session unless somebody asks for that.
    parked: BTreeMap<String, Parked>,
    in_flight: Option<u64>,
    nonce: u64,
    synced: bool,
}

/// What a responder was told of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    /// To serve it.
    active: Option<Assignment>,
    /// To prepare it.
    next: Option<Assignment>,
    /// It served some version when it came.
    held: bool,
    /// The generation of what it had prepared when it came.
    prepared: Option<u64>,
}

/// A bundle that was refused.
#[derive(Debug, Clone)]
struct Parked {
    outcome: Outcome,
    /// Whether it was to be served, and not only to be prepared.
    active: bool,
    /// How often the replay had been asked to be tried again by then.
    retries: u64,
}

/// A change of what a responder was told.
enum Change {
    Assign(Assignment, AssignmentPhase),
    Withdraw { prepared_generation: u64 },
}

impl Session {
    /// A subscription that begins with this message.
    pub(super) fn new(hello: &Hello) -> Self {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        for held in &hello.held {
            let entry = told.entry(held.name.clone()).or_default();
            if held.phase() == AssignmentPhase::Prepare {
                entry.prepared = Some(held.generation);
            } else {
                entry.held = true;
            }
        }
        Self {
            responder: hello.responder.clone(),
            project: hello.project.clone(),
            selectors: hello.selectors.clone(),
            told,
            parked: BTreeMap::new(),
            in_flight: None,
            nonce: 0,
            synced: false,
        }
    }

    /// The next delta towards this table, if there is one and nothing is unacknowledged.
    ///
    /// What the responder holds already is announced too: it answers with its status, and learns generation and start time.
    pub(super) fn next(&mut self, table: &Table) -> Option<Delta> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut changes = self.changes(table);
        let complete = changes.len() <= CHANGES;
        changes.truncate(CHANGES);
        if changes.is_empty() && self.synced {
            return None;
        }
        self.nonce += 1;
        self.in_flight = Some(self.nonce);
        self.synced = self.synced || complete;
        let mut delta = Delta {
            nonce: self.nonce,
            revision: table.revision,
            initial_sync_complete: self.synced,
            ..Delta::default()
        };
        for (name, change) in changes {
            self.note(&name, &change);
            match change {
                Change::Assign(assignment, phase) => {
                    delta.upserted.push(wire::encode_assignment(&name, &assignment, phase));
                }
                Change::Withdraw { prepared_generation } => {
                    let revision = table.revision;
                    delta.removed.push(Tombstone { name, revision, prepared_generation });
                }
            }
        }
        Some(delta)
    }

    /// Everything that has to be told, tombstones first.
    fn changes(&self, table: &Table) -> Vec<(String, Change)> {
        let mut changes = Vec::new();
        for (name, told) in &self.told {
            let announced = table.get(name).filter(|_| self.wants(name));
            // What was stopped and started again may be not to be served yet.
            let serves =
                |wanted: &Told| wanted.active.is_some() || (told.active.is_none() && !told.held);
            match announced.map(|announced| self.wanted(announced)).filter(serves) {
                None => changes.push((name.clone(), Change::Withdraw { prepared_generation: 0 })),
                Some(wanted) => {
                    let prepared = told.next.map(|next| next.generation).or(told.prepared);
                    let kept = |generation| {
                        let mut wanted = wanted.active.iter().chain(&wanted.next);
                        wanted.any(|wanted| wanted.generation == generation)
                    };
                    let stale = prepared.filter(|generation| !kept(*generation));
                    changes.extend(stale.map(|prepared_generation| {
                        (name.clone(), Change::Withdraw { prepared_generation })
                    }));
                }
            }
            if changes.len() > CHANGES {
                return changes;
            }
        }
        for (name, entry) in &table.assignments {
            if !self.wants(name) {
                continue;
            }
            let wanted = self.wanted(&entry.announced);
            let told = self.told.get(name).copied().unwrap_or_default();
            let retries = entry.announced.retries;
            if let Some(active) = wanted.active
                && !self.is_parked(name, &active, true, retries)
                && (told.active != Some(active) || self.is_retried(name, &active, true, retries))
            {
                changes.push((name.clone(), Change::Assign(active, AssignmentPhase::Activate)));
            }
            if let Some(next) = wanted.next
                && !self.is_parked(name, &next, false, retries)
                && (told.next != Some(next) || self.is_retried(name, &next, false, retries))
            {
                changes.push((name.clone(), Change::Assign(next, AssignmentPhase::Prepare)));
            }
            if changes.len() > CHANGES {
                return changes;
            }
        }
        changes
    }

    fn note(&mut self, name: &str, change: &Change) {
        match change {
            Change::Assign(assignment, phase) => {
                let told = self.told.entry(name.to_owned()).or_default();
                if *phase == AssignmentPhase::Prepare {
                    told.next = Some(*assignment);
                    told.prepared = None;
                } else {
                    told.active = Some(*assignment);
                    let is_it = |generation: u64| generation == assignment.generation;
                    told.next.take_if(|next| is_it(next.generation));
                    told.prepared.take_if(|prepared| is_it(*prepared));
                }
                self.unpark(name, assignment);
            }
            Change::Withdraw { prepared_generation: 0 } => {
                self.told.remove(name);
                self.parked.remove(name);
            }
            Change::Withdraw { .. } => {
                if let Some(told) = self.told.get_mut(name) {
                    told.next = None;
                    told.prepared = None;
                }
            }
        }
    }

    /// Whether the responder was told of a replay.
    pub(super) fn knows(&self, replay: &str) -> bool {
        self.told.contains_key(replay)
    }

    /// An acknowledgement; one with an old nonce releases nothing.
    pub(super) fn acknowledge(&mut self, nonce: u64) {
        if self.in_flight == Some(nonce) {
            self.in_flight = None;
        }
    }

    /// What became of an assignment; tells whether it is one that this responder was told of.
    pub(super) fn heard(&mut self, replay: &str, outcome: &Outcome, retries: u64) -> bool {
        let Some(told) = self.told.get(replay) else { return false };
        if outcome.phase == Phase::Rejected {
            let is_it = |told: &Assignment| outcome.bundle == Some(told.bundle);
            let next = told.next.as_ref().is_some_and(is_it);
            if next || told.active.as_ref().is_some_and(is_it) {
                let outcome = outcome.clone();
                let parked = Parked { outcome, active: !next, retries };
                self.parked.insert(replay.to_owned(), parked);
            }
        }
        true
    }

    /// What is not sent because it was refused before: the refusals hold for the newest versions as well.
    pub(super) fn refused(&self, table: &Table) -> Vec<(String, Outcome)> {
        let again = |(name, parked): (&String, &Parked)| {
            let announced = table.get(name)?;
            let next = self.wanted(announced).next?;
            let generation = next.generation;
            let unheard = parked.outcome.generation != generation;
            let parked = self.is_parked(name, &next, false, announced.retries).then_some(parked);
            let outcome = parked.filter(|_| unheard)?.outcome.clone();
            Some((name.clone(), Outcome { generation, ..outcome }))
        };
        self.parked.iter().filter_map(again).collect()
    }

    /// Remembers that this refusal was told of the newest version.
    pub(super) fn told_of(&mut self, replay: &str, generation: u64) {
        if let Some(parked) = self.parked.get_mut(replay) {
            parked.outcome.generation = generation;
        }
    }

    /// A digest of what the responder knows; `None` while something is on its way.
    pub(super) fn state_digest(&self) -> Option<[u8; 32]> {
        if self.in_flight.is_some() || !self.synced {
            return None;
        }
        let mut all = Vec::new();
        for (name, told) in &self.told {
            let versions = [(told::ACTIVATE, &told.active), (told::PREPARE, &told.next)];
            for (phase, version) in versions {
                all.extend(version.as_ref().map(|version| Entry {
                    name,
                    phase,
                    bundle: version.bundle.hash(),
                    generation: version.generation,
                }));
            }
        }
        Some(state_digest(all))
    }

    fn wants(&self, name: &str) -> bool {
        wants(&self.project, &self.selectors, name)
    }

    /// What this responder is to know of a replay.
    fn wanted(&self, announced: &Announced) -> Told {
        let next = announced.prepares(&self.responder);
        Told { active: announced.active, next, ..Told::default() }
    }

    /// Whether it refused this bundle before. What it refused to prepare it is told once that it has to serve, and so that it lags behind.
    fn is_parked(&self, name: &str, assignment: &Assignment, active: bool, retries: u64) -> bool {
        self.parked.get(name).is_some_and(|parked| {
            parked.outcome.bundle == Some(assignment.bundle)
                && parked.retries == retries
                && (parked.active || !active)
        })
    }

    /// Whether it refused this, and somebody has asked since that it tries again.
    fn is_retried(&self, name: &str, assignment: &Assignment, active: bool, retries: u64) -> bool {
        self.parked.get(name).is_some_and(|parked| {
            parked.active == active
                && parked.outcome.bundle == Some(assignment.bundle)
                && parked.retries != retries
        })
    }

    /// What is sent is parked no more, nor is what another version has replaced.
    fn unpark(&mut self, name: &str, sent: &Assignment) {
        if let btree_map::Entry::Occupied(parked) = self.parked.entry(name.to_owned()) {
            let told = self.told.get(name).copied().unwrap_or_default();
            let refused = parked.get().outcome.bundle;
            let current = |told: Option<Assignment>| told.map(|told| told.bundle) == refused;
            if refused == Some(sent.bundle) || !(current(told.active) || current(told.next)) {
                parked.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
