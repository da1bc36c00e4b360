//! Responders come, report, go and are forgotten.

use super::*;

const REPLAY: &str = "projects/p/replays/r";

fn responder(name: &str, time: i64) -> Responder {
    Responder {
        project: "projects/p".into(),
        name: name.into(),
        connected: true,
        data_address: String::new(),
        version: String::new(),
        connect_time: time,
        leave_time: 0,
        others: 0,
        selectors: Vec::new(),
        replays: BTreeMap::new(),
    }
}

fn outcome(bundle: &str, phase: Phase) -> Outcome {
    let refusal = if phase == Phase::Rejected { "too new".into() } else { String::new() };
    Outcome {
        bundle: Some(Digest::of(bundle.as_bytes())),
        generation: 0,
        phase,
        refusal,
        unresolved: Vec::new(),
        report: Bytes::new(),
    }
}

#[test]
fn selectors_are_names_or_ids_within_the_project() {
    assert!(wants("projects/p", &[], REPLAY));
    assert!(wants("projects/p", &["x".into(), "r".into()], REPLAY));
    assert!(wants("projects/p", &[REPLAY.into()], REPLAY));
    assert!(!wants("projects/p", &["x".into()], REPLAY));
    assert!(!wants("projects/q", &[], REPLAY));
    assert!(!wants("projects", &[], REPLAY));
}

#[test]
fn only_the_newest_session_writes() {
    let fleet = Fleet::default();
    let (old, shared) = fleet.connect(responder("a", 1), "one");
    assert!(!shared);
    let (new, shared) = fleet.connect(responder("a", 2), "one");
    assert!(!shared, "a process that comes back is no other one");
    fleet.disconnect(&old);
    fleet.report(&old, REPLAY, outcome("x", Phase::Active));
    assert!(
        fleet.list("projects/p")[0].connected && fleet.list("projects/p")[0].replays.is_empty()
    );
    fleet.disconnect(&new);
    assert!(!fleet.list("projects/p")[0].connected);
    assert!(fleet.list("projects/q").is_empty());
}

#[test]
fn processes_of_one_name_are_counted_and_the_newest_counts() {
    let fleet = Fleet::default();
    let others = || fleet.list("projects/p")[0].others;
    let (old, _) = fleet.connect(responder("a", 1), "one");
    let (new, shared) = fleet.connect(responder("a", 2), "two");
    assert_eq!((shared, others()), (true, 1));
    assert!(!fleet.is_left_over(&old) && !fleet.is_left_over(&new));
    fleet.disconnect(&new);
    assert!(fleet.is_left_over(&old), "nobody counts although one is connected");
    let (again, shared) = fleet.connect(responder("a", 3), "one");
    fleet.disconnect(&old);
    assert_eq!((shared, others()), (false, 0));
    assert!(!fleet.is_left_over(&again));
}

#[test]
fn the_departed_are_forgotten_past_the_bound() {
    let fleet = Fleet::default();
    let (gone, _) = fleet.connect(responder("gone", 5), "x");
    fleet.disconnect(&gone);
    for n in 0..KEPT {
        fleet.connect(responder(&format!("r{n}"), 10), "x");
    }
    let left = fleet.list("projects/p");
    assert_eq!(left.len(), KEPT);
    assert!(left.iter().all(|r| r.name != "gone"));
}

#[test]
fn a_project_forgets_its_own_departed_and_no_others() {
    let fleet = Fleet::default();
    let (gone, _) = fleet.connect(responder("gone", 5), "x");
    fleet.disconnect(&gone);
    for n in 0..KEPT + 10 {
        let other = Responder { project: "projects/q".into(), ..responder(&format!("r{n}"), 10) };
        let (gone, _) = fleet.connect(other, "x");
        fleet.disconnect(&gone);
    }
    assert_eq!(fleet.list("projects/p").len(), 1);
    assert_eq!(fleet.size(), KEPT);
}

#[test]
fn what_is_served_and_what_is_not_stand_beside() {
    let version = |generation| Assignment { bundle: Digest::of(b"x"), generation, start_time: 0 };
    let at = |generation, phase| Outcome { generation, ..outcome("x", phase) };
    let mut both = AtReplay::default();
    both.note(at(1, Phase::Active));
    both.note(at(2, Phase::Fetching));
    both.note(at(2, Phase::Prepared));
    both.note(at(1, Phase::Active));
    assert_eq!(both.standing(&version(1)), Standing::Active);
    assert_eq!(both.standing(&version(2)), Standing::Prepared, "a late report changes nothing");
    both.note(at(2, Phase::Active));
    assert_eq!(both.standing(&version(2)), Standing::Active);
    assert_eq!((both.standing(&version(1)), &both.next), (Standing::Silent, &None));
    let other = Assignment { bundle: Digest::of(b"y"), ..version(2) };
    assert_eq!(both.standing(&other), Standing::Silent);
}

#[test]
fn who_has_just_gone_counts_for_a_while_and_so_does_who_may_come_back() {
    let fleet = Fleet::default();
    let version = Assignment { bundle: Digest::of(b"x"), generation: 0, start_time: 0 };
    let (here, _) = fleet.connect(responder("here", 1), "x");
    fleet.report(&here, REPLAY, outcome("x", Phase::Prepared));
    let (gone, _) = fleet.connect(responder("gone", 1), "x");
    fleet.disconnect(&gone);
    let elsewhere = Responder { selectors: vec!["other".into()], ..responder("picky", 1) };
    fleet.connect(elsewhere, "x");
    let known = ["gone".to_owned(), "away".to_owned()];
    let at = |after: i64, began: i64| {
        let lease = Duration::from_secs(10);
        let now = now() + after * 1_000_000_000;
        let nodes = fleet.nodes(REPLAY, &version, &known, Absence { lease, began, now });
        nodes.into_iter().map(|node| (node.name, node.here, node.standing)).collect::<Vec<_>>()
    };
    let here = ("here".to_owned(), true, Standing::Prepared);
    let silent = |name: &str| (name.to_owned(), false, Standing::Silent);
    assert_eq!(at(0, 0), [silent("gone"), here.clone()]);
    assert_eq!(at(20, 0), std::slice::from_ref(&here));
    assert_eq!(at(-86_400, 0), std::slice::from_ref(&here), "the clock was put back by a day");
    let just_begun = now() + 20 * 1_000_000_000;
    assert_eq!(at(21, just_begun), [silent("away"), here]);
}
