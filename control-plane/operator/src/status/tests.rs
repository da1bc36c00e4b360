//! Conditions, and what follows from them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    plan::tests::{facts, replay},
    settings::tests::settings,
};

fn plan(spec: &Value) -> Plan {
    Plan::new(&replay(spec), &facts(r#"{"id":"a","responder":{"numReplicas":2}}"#), &settings(&[]))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn served() -> Seen {
    Seen {
        standing: Some(Standing {
            ready: true,
            reason: "Served".into(),
            serving: 2,
            hosts: vec!["api.example.com".into()],
            resolved: vec!["from-chain/tls.key".into()],
            ..Standing::default()
        }),
        pods: Pods { ready: 2, updated: 2, is_observed: true },
        ..Seen::default()
    }
}

fn judge(
    plan: &Plan,
    seen: &Seen,
    before: &TrafficReplayStatus,
    now: i64,
) -> (TrafficReplayStatus, Next) {
    assess(plan, seen, before, &settings(&[]), at(now))
}

fn of<'a>(status: &'a TrafficReplayStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.as_str(), found.reason.as_str())
}

#[test]
fn mocks_are_ready_when_pods_are_and_the_fleet_says_so() {
    let plan = plan(&json!({}));
    let mut seen = served();
    assert!(mocks_ready(&plan, &seen).holds());
    seen.pods.ready = 1;
    assert_eq!(mocks_ready(&plan, &seen).message, "1 of 2 responders are ready");
    seen = served();
    seen.pods.is_observed = false;
    assert!(!mocks_ready(&plan, &seen).holds());
    seen = served();
    let standing = seen.standing.as_mut().unwrap();
    (standing.ready, standing.reason) = (false, "Preparing".into());
    assert_eq!(mocks_ready(&plan, &seen).reason, "Preparing");
    standing_of(&mut seen).ready = true;
    standing_of(&mut seen).serving = 1;
    assert_eq!(mocks_ready(&plan, &seen).reason, "NotServed");
    seen.standing = None;
    assert_eq!(mocks_ready(&plan, &seen).reason, "NotStarted");
}

fn standing_of(seen: &mut Seen) -> &mut Standing {
    seen.standing.as_mut().unwrap()
}

#[test]
fn a_missing_secret_is_named_and_stands_in_the_way() {
    let plan = plan(&json!({}));
    let mut seen = served();
    standing_of(&mut seen).resolved.clear();
    let (status, _) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
    assert_eq!(of(&status, SECRETS_MOUNTED), ("Unknown", "NotReported"));
    standing_of(&mut seen).unresolved =
        BTreeMap::from([("from-chain/tls.key".into(), "no such file".into())]);
    let (status, next) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
    assert_eq!(of(&status, SECRETS_MOUNTED), ("False", "SecretUnresolved"));
    assert_eq!(of(&status, READY), ("False", "SecretUnresolved"));
    assert_eq!(
        status.conditions.last().unwrap().message,
        "secret from-chain, key tls.key: no such file"
    );
    assert_eq!((of(&status, MOCKS_READY).0, next), ("True", Next::GoOn));
    seen.missing = vec!["secret from-chain is not there".into()];
    let (status, _) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
    assert_eq!(of(&status, SECRETS_MOUNTED), ("False", "SecretMissing"));
}

#[test]
fn the_last_condition_is_ready_and_keeps_its_time_while_it_says_the_same() {
    let plan = plan(&json!({}));
    let (first, _) = judge(&plan, &served(), &TrafficReplayStatus::default(), 0);
    assert_eq!(first.conditions.last().unwrap().type_, READY);
    assert_eq!((first.active, of(&first, READY)), (true, ("True", "MocksReady")));
    let (second, _) = judge(&plan, &served(), &first, 100);
    assert_eq!(second, first);
    let mut seen = served();
    seen.pods.ready = 0;
    let (third, _) = judge(&plan, &seen, &second, 200);
    assert_eq!(third.conditions.last().unwrap().last_transition_time, Time(at(200)));
    assert_eq!(third.initialized_time, first.initialized_time);
}

#[test]
fn workloads_are_told_of() {
    let plan = plan(&json!({ "workloadRef": { "name": "user" } }));
    for (route, reason) in [
        (Route::Missing, "WorkloadMissing"),
        (Route::Taken("other".into()), "WorkloadTaken"),
        (Route::RollingOut, "RollingOut"),
    ] {
        let seen = Seen { routes: vec![("Deployment user".into(), route)], ..served() };
        let (status, _) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
        assert_eq!(of(&status, READY), ("False", reason));
    }
    let seen = Seen { routes: vec![("Deployment user".into(), Route::Done)], ..served() };
    let (status, _) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
    assert_eq!(of(&status, READY).0, "True");
    assert_eq!(of(&judge(&plan, &served(), &status, 0).0, WORKLOADS_ROUTED).1, "MocksNotReady");
}

#[test]
fn a_replay_that_generates_is_ready_with_its_result() {
    let plan = plan(&json!({ "mode": "full-replay", "customURL": "http://user", "timeout": "1m" }));
    let (running, next) = judge(&plan, &served(), &TrafficReplayStatus::default(), 0);
    assert_eq!((of(&running, READY), next), (("False", "Generating"), Next::GoOn));
    let seen = Seen { generated: Some(Generated::Succeeded), ..served() };
    let (done, next) = judge(&plan, &seen, &running, 10);
    assert_eq!((of(&done, READY), next), (("True", "TestSucceeded"), Next::Finish));
    assert_eq!((done.active, &done.finished_time), (false, &Some(Time(at(10)))));
    let seen = Seen { generated: Some(Generated::Failed("3 of 10".into())), ..served() };
    assert_eq!(of(&judge(&plan, &seen, &running, 10).0, READY), ("False", "TestFailed"));
    let (late, next) = judge(&plan, &served(), &running, 60);
    assert_eq!((of(&late, READY), next), (("False", "TimedOut"), Next::Finish));
}

#[test]
fn mocks_time_out_only_before_they_are_ready() {
    let plan = plan(&json!({ "timeout": "1m", "ttlAfterReady": "1h" }));
    let mut seen = served();
    seen.pods.ready = 0;
    let (waiting, next) = judge(&plan, &seen, &TrafficReplayStatus::default(), 0);
    assert_eq!(next, Next::GoOn);
    assert_eq!(judge(&plan, &seen, &waiting, 60).1, Next::Finish);
    let (ready, _) = judge(&plan, &served(), &waiting, 59);
    assert_eq!(judge(&plan, &seen, &ready, 60).1, Next::GoOn);
    assert_eq!(judge(&plan, &served(), &ready, 59 + 3599).1, Next::GoOn);
    assert_eq!(judge(&plan, &served(), &ready, 59 + 3600).1, Next::Delete);
}

#[test]
fn what_serves_goes_on_while_it_cannot_be_made_anew() {
    let plan = plan(&json!({}));
    let missing = Verdict::no("PartMissing", "the control plane has no snapshot login");
    let never = refused(&TrafficReplayStatus::default(), &missing, at(0));
    assert_eq!(of(&never, READY), ("False", "PartMissing"));
    let (ready, _) = judge(&plan, &served(), &never, 1);
    let later = refused(&ready, &missing, at(2));
    assert_eq!((of(&later, ACCEPTED).0, of(&later, READY).0), ("False", "True"));
    assert_eq!(later.conditions.last().unwrap().type_, READY);
}

#[test]
fn a_restart_begins_anew() {
    let before = plan(&json!({ "mode": "full-replay" }));
    let seen = Seen { generated: Some(Generated::Succeeded), ..served() };
    let (done, _) = judge(&before, &seen, &TrafficReplayStatus::default(), 0);
    let again = Plan { start: "again".into(), ..before };
    let (status, next) = judge(&again, &served(), &done, 50);
    assert_eq!((status.active, next), (true, Next::GoOn));
    assert_eq!((status.started_time, status.finished_time), (Some(Time(at(50))), None));
}

#[test]
fn no_message_is_longer_than_anybody_reads() {
    assert_eq!(shortened(&"ä".repeat(2000)).chars().count(), 1001);
    assert_eq!(word("no word", "Else"), "Else");
}
