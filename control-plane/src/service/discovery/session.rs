//! What one responder was told and answered: which delta comes next. No clock, no socket.
//!
//! One delta is unacknowledged at a time; while it is, changes coalesce, because the next delta is computed from the newest table. Absence
//! never deletes: each name that the responder holds or was told of gets a tombstone when it applies no more.

use std::collections::{BTreeMap, BTreeSet};

use countersign_engine::snapshot::digest::Digest;
use countersign_proto::discovery::v1::{Delta, Hello, Tombstone};

use crate::{
    fleet::{Outcome, Phase, wants},
    publish::{Assignment, Table},
    service::wire,
};

/// At most so many changes go into one delta, which keeps it under 64 KiB.
const CHANGES: usize = 200;

/// The state of one subscription.
#[derive(Debug)]
pub(super) struct Session {
    project: String,
    selectors: Vec<String>,
    /// What it was told, by replay; `None` for what it held when it came.
    told: BTreeMap<String, Option<Assignment>>,
    /// What it refused; not sent again on this session.
    parked: BTreeSet<(String, Digest)>,
    in_flight: Option<u64>,
    nonce: u64,
    synced: bool,
}

impl Session {
    /// A subscription that begins with this message.
    pub(super) fn new(hello: &Hello) -> Self {
        Self {
            project: hello.project.clone(),
            selectors: hello.selectors.clone(),
            told: hello.held.iter().map(|held| (held.name.clone(), None)).collect(),
            parked: BTreeSet::new(),
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
        let removed: Vec<String> = self
            .told
            .keys()
            .filter(|name| !self.applies(table, name))
            .take(CHANGES)
            .cloned()
            .collect();
        let upserted: Vec<(String, Assignment)> = table
            .assignments
            .iter()
            .filter(|(name, announced)| self.is_news(name, &announced.now))
            .map(|(name, announced)| (name.clone(), announced.now))
            .take(CHANGES + 1 - removed.len())
            .collect();
        let complete = removed.len() + upserted.len() <= CHANGES && removed.len() < CHANGES;
        let upserted: Vec<_> = upserted.into_iter().take(CHANGES - removed.len()).collect();
        if removed.is_empty() && upserted.is_empty() && self.synced {
            return None;
        }
        self.nonce += 1;
        self.in_flight = Some(self.nonce);
        self.synced = self.synced || complete;
        for name in &removed {
            self.told.remove(name);
        }
        for (name, assignment) in &upserted {
            self.told.insert(name.clone(), Some(*assignment));
        }
        Some(Delta {
            nonce: self.nonce,
            revision: table.revision,
            upserted: upserted
                .iter()
                .map(|(name, assignment)| wire::encode_assignment(name, assignment))
                .collect(),
            removed: removed
                .into_iter()
                .map(|name| Tombstone { name, revision: table.revision })
                .collect(),
            initial_sync_complete: self.synced,
        })
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
    pub(super) fn heard(&mut self, replay: &str, outcome: &Outcome) -> bool {
        let Some(told) = self.told.get(replay) else { return false };
        if outcome.phase == Phase::Rejected
            && let (Some(told), Some(bundle)) = (told, outcome.bundle)
            && told.bundle == bundle
        {
            self.parked.insert((replay.to_owned(), bundle));
        }
        true
    }

    fn applies(&self, table: &Table, name: &str) -> bool {
        table.assignments.contains_key(name) && wants(&self.project, &self.selectors, name)
    }

    fn is_news(&self, name: &str, assignment: &Assignment) -> bool {
        wants(&self.project, &self.selectors, name)
            && self.told.get(name).copied().flatten() != Some(*assignment)
            && !self.parked.contains(&(name.to_owned(), assignment.bundle))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use countersign_proto::discovery::v1::HeldAssignment;

    use super::*;
    use crate::publish::Announced;

    const PROJECT: &str = "projects/p";

    fn table(revision: u64, replays: &[(&str, &str, u64)]) -> Table {
        let assignments = replays.iter().map(|(id, bundle, generation)| {
            let now = Assignment {
                bundle: Digest::of(bundle.as_bytes()),
                generation: *generation,
                start_time: 1,
            };
            (name(id), Announced { now, before: None })
        });
        Table { revision, assignments: assignments.collect() }
    }

    fn name(id: &str) -> String {
        format!("{PROJECT}/replays/{id}")
    }

    fn hello(held: &[&str], selectors: &[&str]) -> Hello {
        Hello {
            project: PROJECT.into(),
            held: held.iter().map(|id| HeldAssignment { name: name(id), bundle: None }).collect(),
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
        assert!(session.heard(&name("a"), &outcome("bad", Phase::Rejected)));
        assert!(!session.heard(&name("never announced"), &outcome("bad", Phase::Rejected)));
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
}
