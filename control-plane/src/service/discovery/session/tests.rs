//! What a session announces, and what it makes of answers.

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
    let entry = Entry { name: &name, phase: told::ACTIVATE, bundle: bundle.hash(), generation: 1 };
    assert_eq!(session.state_digest(), Some(state_digest(vec![entry])));
}
