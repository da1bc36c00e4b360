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
mod tests {
    use bytes::Bytes;
    use countersign_engine::snapshot::digest::Digest;
    use countersign_proto::discovery::v1::HeldAssignment;

    use std::sync::Arc;

    use super::*;
    use crate::{
        publish,
        rollout::{Rollout, Stage},
    };

    const PROJECT: &str = "projects/p";

    fn table(revision: u64, replays: &[(&str, &str, u64)]) -> Table {
        let assignments = replays.iter().map(|(id, bundle, generation)| {
            let active = Some(version(bundle, *generation));
            entry(id, Announced { active, ..Announced::default() })
        });
        Table { revision, assignments: assignments.collect() }
    }

    fn version(bundle: &str, generation: u64) -> Assignment {
        Assignment { bundle: Digest::of(bundle.as_bytes()), generation, start_time: 1 }
    }

    fn entry(id: &str, announced: Announced) -> (String, Arc<publish::Entry>) {
        (name(id), Arc::new(publish::Entry { etag: String::new(), announced }))
    }

    /// Of one replay with something on its way.
    fn rolling(active: Option<Assignment>, next: Assignment, stage: Stage) -> Table {
        let rollout = Some(Rollout { next, stage, since: 0 });
        let announced = Announced { active, rollout, ..Announced::default() };
        Table { revision: next.generation, assignments: [entry("a", announced)].into() }
    }

    fn name(id: &str) -> String {
        format!("{PROJECT}/replays/{id}")
    }

    fn hello(held: &[&str], selectors: &[&str]) -> Hello {
        Hello {
            project: PROJECT.into(),
            responder: "me".into(),
            held: held
                .iter()
                .map(|id| HeldAssignment { name: name(id), ..HeldAssignment::default() })
                .collect(),
            selectors: selectors.iter().map(|s| (*s).to_owned()).collect(),
            ..Hello::default()
        }
    }

    fn shape(delta: &Delta) -> (Vec<&str>, Vec<&str>, bool) {
        (
            delta.upserted.iter().filter_map(|a| a.name.rsplit('/').next()).collect(),
            delta.removed.iter().filter_map(|t| t.name.rsplit('/').next()).collect(),
            delta.initial_sync_complete,
        )
    }

    fn outcome(bundle: &str, phase: Phase) -> Outcome {
        Outcome {
            bundle: Some(Digest::of(bundle.as_bytes())),
            generation: 0,
            phase,
            refusal: String::new(),
            unresolved: Vec::new(),
            report: Bytes::new(),
        }
    }

    #[test]
    fn an_empty_table_completes_the_sync_at_once_and_then_is_silent() {
        let mut session = Session::new(&hello(&[], &[]));
        let delta = session.next(&table(1, &[])).unwrap();
        assert_eq!(shape(&delta), (vec![], vec![], true));
        session.acknowledge(delta.nonce);
        assert_eq!(session.next(&table(2, &[])), None);
    }

    #[test]
    fn one_delta_is_in_flight_and_changes_coalesce() {
        let mut session = Session::new(&hello(&[], &[]));
        let first = session.next(&table(1, &[("a", "1", 1)])).unwrap();
        assert_eq!(shape(&first), (vec!["a"], vec![], true));
        assert_eq!(session.next(&table(2, &[("a", "2", 2)])), None);
        session.acknowledge(first.nonce + 7);
        assert_eq!(
            session.next(&table(2, &[("a", "2", 2)])),
            None,
            "an unknown nonce releases nothing"
        );
        session.acknowledge(first.nonce);
        let second = session.next(&table(4, &[("a", "3", 3), ("b", "1", 1)])).unwrap();
        assert_eq!((shape(&second), second.revision), ((vec!["a", "b"], vec![], true), 4));
        session.acknowledge(first.nonce);
        assert_eq!(session.next(&table(5, &[])), None, "an old nonce releases nothing");
    }

    #[test]
    fn held_and_told_names_that_no_longer_apply_get_tombstones() {
        let mut session =
            Session::new(&hello(&["gone", "kept", "unselected"], &["kept", "gone", "new"]));
        let now = table(3, &[("kept", "1", 1), ("unselected", "1", 1), ("new", "1", 1)]);
        let delta = session.next(&now).unwrap();
        assert_eq!(shape(&delta), (vec!["kept", "new"], vec!["gone", "unselected"], true));
        session.acknowledge(delta.nonce);
        let delta = session.next(&table(4, &[("new", "1", 1)])).unwrap();
        assert_eq!(shape(&delta), (vec![], vec!["kept"], true));
        assert_eq!(delta.removed[0].revision, 4);
    }

    #[test]
    fn a_refused_bundle_is_not_sent_again_but_another_one_is() {
        let mut session = Session::new(&hello(&[], &[]));
        let delta = session.next(&table(1, &[("a", "bad", 1)])).unwrap();
        assert!(session.heard(&name("a"), &outcome("bad", Phase::Rejected), 0));
        assert!(!session.heard(&name("never announced"), &outcome("bad", Phase::Rejected), 0));
        session.acknowledge(delta.nonce);
        assert_eq!(session.next(&table(2, &[("a", "bad", 2)])), None);
        let delta = session.next(&table(3, &[("a", "good", 3)])).unwrap();
        session.acknowledge(delta.nonce);
        assert_eq!(shape(&session.next(&table(4, &[])).unwrap()), (vec![], vec!["a"], true));
    }

    #[test]
    fn a_restart_with_the_same_bundle_is_news() {
        let mut session = Session::new(&hello(&[], &[]));
        let delta = session.next(&table(1, &[("a", "1", 1)])).unwrap();
        session.acknowledge(delta.nonce);
        assert_eq!(session.next(&table(2, &[("a", "1", 2)])).unwrap().upserted[0].generation, 2);
    }

    #[test]
    fn large_tables_come_in_parts_and_the_last_completes_the_sync() {
        for count in [CHANGES - 1, CHANGES, CHANGES + 1, 3 * CHANGES] {
            let ids: Vec<String> = (0..count).map(|n| format!("r{n:05}")).collect();
            let replays: Vec<_> = ids.iter().map(|id| (id.as_str(), "1", 1)).collect();
            let held: Vec<String> = (0..CHANGES + 5).map(|n| format!("old{n}")).collect();
            let held: Vec<&str> = held.iter().map(String::as_str).collect();
            let mut session = Session::new(&hello(&held, &[]));
            let (mut told, mut removed, mut complete) = (0, 0, false);
            while let Some(delta) = session.next(&table(1, &replays)) {
                assert!(!complete, "nothing comes behind the last");
                assert!(delta.upserted.len() + delta.removed.len() <= CHANGES);
                told += delta.upserted.len();
                removed += delta.removed.len();
                complete = delta.initial_sync_complete;
                session.acknowledge(delta.nonce);
            }
            assert_eq!((told, removed, complete), (count, CHANGES + 5, true));
        }
    }

    fn told(delta: &Delta) -> Vec<(u64, AssignmentPhase)> {
        delta.upserted.iter().map(|a| (a.generation, a.phase())).collect()
    }

    fn acknowledged(session: &mut Session, table: &Table) -> Delta {
        let delta = session.next(table).unwrap();
        session.acknowledge(delta.nonce);
        delta
    }

    #[test]
    fn only_who_is_to_prepare_it_hears_of_it_and_then_all_do() {
        use AssignmentPhase::{Activate, Prepare};
        let (one, two) = (version("1", 1), version("2", 2));
        let canary = |name: &str| rolling(Some(one), two, Stage::Canary(name.into()));
        let mut session = Session::new(&hello(&[], &[]));
        assert_eq!(told(&acknowledged(&mut session, &canary("other"))), [(1, Activate)]);
        assert_eq!(session.next(&canary("other")), None);
        assert_eq!(told(&acknowledged(&mut session, &canary("me"))), [(2, Prepare)]);
        assert_eq!(session.next(&rolling(Some(one), two, Stage::Everybody)), None);
        let delta = acknowledged(&mut session, &table(3, &[("a", "2", 2)]));
        assert_eq!((told(&delta), delta.removed), (vec![(2, Activate)], vec![]));

        // Who comes later hears of both.
        let mut late = Session::new(&hello(&[], &[]));
        let delta = acknowledged(&mut late, &rolling(Some(one), two, Stage::Everybody));
        assert_eq!(told(&delta), [(1, Activate), (2, Prepare)]);
    }

    #[test]
    fn what_is_given_up_is_dropped_and_what_is_served_goes_on() {
        let (one, two) = (version("1", 1), version("2", 2));
        let failed = crate::rollout::Failure { reason: "x".into(), message: String::new() };
        let failed = rolling(Some(one), two, Stage::Failed(failed));
        let mut session = Session::new(&hello(&[], &[]));
        acknowledged(&mut session, &rolling(Some(one), two, Stage::Everybody));
        let delta = acknowledged(&mut session, &failed);
        assert_eq!((delta.upserted.len(), delta.removed[0].prepared_generation), (0, 2));
        assert_eq!(session.next(&failed), None);

        // The same for what was prepared before the stream broke.
        let held = HeldAssignment {
            name: name("a"),
            generation: 2,
            phase: AssignmentPhase::Prepare.into(),
            ..HeldAssignment::default()
        };
        let mut again = Session::new(&Hello { held: vec![held], ..hello(&[], &[]) });
        let delta = acknowledged(&mut again, &failed);
        assert_eq!((delta.upserted.len(), delta.removed[0].prepared_generation), (1, 2));
        assert_eq!(again.next(&failed), None);
    }

    #[test]
    fn a_refusal_holds_for_the_next_start_until_it_is_to_be_tried_again() {
        let (one, bad) = (version("1", 1), |generation| version("bad", generation));
        let everybody = |generation| rolling(Some(one), bad(generation), Stage::Everybody);
        let mut session = Session::new(&hello(&[], &[]));
        acknowledged(&mut session, &everybody(2));
        let refusal = Outcome { generation: 2, ..outcome("bad", Phase::Rejected) };
        assert!(session.heard(&name("a"), &refusal, 0));
        assert!(session.refused(&everybody(2)).is_empty(), "it has said so itself");
        let delta = acknowledged(&mut session, &everybody(3));
        assert_eq!((told(&delta), delta.removed[0].prepared_generation), (vec![], 2));
        let again = session.refused(&everybody(3));
        assert_eq!((again.len(), again[0].1.generation), (1, 3));
        session.told_of(&name("a"), 3);
        assert!(session.refused(&everybody(3)).is_empty());

        // It is told to serve it all the same, so that it knows that it lags behind, but once only.
        let now = table(4, &[("a", "bad", 3)]);
        assert_eq!(told(&acknowledged(&mut session, &now)), [(3, AssignmentPhase::Activate)]);
        let refusal = Outcome { generation: 3, ..refusal };
        assert!(session.heard(&name("a"), &refusal, 0));
        assert_eq!(session.next(&now), None);
        let mut retried = now.clone();
        let announced = Announced { retries: 1, ..now.get(&name("a")).unwrap().clone() };
        retried.assignments.extend([entry("a", announced)]);
        assert_eq!(told(&acknowledged(&mut session, &retried)), [(3, AssignmentPhase::Activate)]);
        assert_eq!(session.next(&retried), None);
    }

    #[test]
    fn what_was_stopped_and_is_only_prepared_anew_is_withdrawn_first() {
        let mut session = Session::new(&hello(&[], &[]));
        acknowledged(&mut session, &table(1, &[("a", "1", 1)]));
        let anew = rolling(None, version("1", 2), Stage::Everybody);
        let delta = acknowledged(&mut session, &anew);
        assert_eq!(delta.removed[0].prepared_generation, 0);
        assert_eq!(told(&delta), [(2, AssignmentPhase::Prepare)]);
        assert_eq!(session.next(&anew), None);
    }

    #[test]
    fn the_digest_is_of_what_was_acknowledged() {
        let mut session = Session::new(&hello(&[], &[]));
        assert_eq!(session.state_digest(), None);
        let delta = session.next(&table(1, &[("a", "1", 1)])).unwrap();
        assert_eq!(session.state_digest(), None, "it is on its way");
        session.acknowledge(delta.nonce);
        let (name, bundle) = (name("a"), version("1", 1).bundle);
        let entry =
            Entry { name: &name, phase: told::ACTIVATE, bundle: bundle.hash(), generation: 1 };
        assert_eq!(session.state_digest(), Some(state_digest(vec![entry])));
    }
}
