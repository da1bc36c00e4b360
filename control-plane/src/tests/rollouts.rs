//! Starts that reach the fleet step by step, with responders that say what the test wants.

use countersign_proto::{
    control::v1::{
        CreateReplayRequest, CreateTransformRequest, OnStraggler, Replay, ResponderPhase,
        RetryReplayRequest, RollbackReplayRequest, RolloutPolicy, RolloutStage, StartReplayRequest,
        UpdateTransformRequest,
    },
    discovery::v1::{
        AssignmentPhase, Delta, HeldAssignment, Hello, Outcome, StatusReport,
        subscribe_request::Message as Say,
    },
    transform::v1::Transform,
    r#type::v1::{Diagnostic, Severity},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    PROJECT, Server, assert_refused, pair, server,
    subscriptions::{Responder, hello, outcome, until},
};
use AssignmentPhase::{Activate, Prepare};

impl Responder {
    /// A responder whose first delta was acknowledged.
    pub(super) async fn synced(server: &Server, name: &str) -> Self {
        let (mut responder, _) = Self::greet(server, hello(name)).await;
        let delta = responder.delta().await;
        responder.ack(delta.nonce, vec![]).await;
        responder
    }

    /// Hears the newest version in this phase and says what became of it.
    pub(super) async fn answers(
        &mut self,
        replay: &Replay,
        phase: AssignmentPhase,
        with: ResponderPhase,
    ) {
        let delta = self.delta().await;
        assert_eq!(told(&delta), [(replay.generation, phase)]);
        self.ack(delta.nonce, vec![outcome(replay, with)]).await;
    }

    /// Reports without being asked.
    async fn says(&self, outcome: Outcome) {
        self.say(Say::Status(StatusReport { outcomes: vec![outcome] })).await;
    }

    /// Prepares and serves it.
    async fn follows(&mut self, replay: &Replay) {
        self.answers(replay, Prepare, ResponderPhase::Prepared).await;
        self.answers(replay, Activate, ResponderPhase::Active).await;
    }
}

fn told(delta: &Delta) -> Vec<(u64, AssignmentPhase)> {
    delta.upserted.iter().map(|a| (a.generation, a.phase())).collect()
}

fn stage(replay: &Replay) -> RolloutStage {
    replay.rollout.as_ref().unwrap().stage()
}

/// Starts a replay with other pairs than before.
async fn edited(server: &Server, replay: &Replay, policy: Option<RolloutPolicy>) -> Replay {
    let id = replay.name.rsplit('/').next().unwrap();
    let transform = format!("{PROJECT}/transforms/{id}");
    let request = UpdateTransformRequest {
        transform: Some(Transform {
            name: transform,
            template_json: format!(r#"{{"id":"{}"}}"#, replay.generation),
            ..Default::default()
        }),
        ..Default::default()
    };
    server.transforms().update_transform(request).await.unwrap();
    let request = StartReplayRequest {
        name: replay.name.clone(),
        rollout_policy: policy,
        ..StartReplayRequest::default()
    };
    server.replays().start_replay(request).await.unwrap().into_inner()
}

/// A replay whose transform can be edited, started.
async fn replay(server: &Server, id: &str) -> Replay {
    server.import(id, &[("a.jsonl", pair("OUT", "/a"))]).await;
    let request = CreateTransformRequest {
        parent: PROJECT.into(),
        transform_id: id.into(),
        transform: Some(Transform { template_json: r#"{"id":"0"}"#.into(), ..Default::default() }),
        ..Default::default()
    };
    server.transforms().create_transform(request).await.unwrap();
    let request = CreateReplayRequest {
        parent: PROJECT.into(),
        replay_id: id.into(),
        replay: Some(Replay {
            snapshot: format!("{PROJECT}/snapshots/{id}"),
            transform: format!("{PROJECT}/transforms/{id}"),
            ..Replay::default()
        }),
        ..Default::default()
    };
    let replay = server.replays().create_replay(request).await.unwrap().into_inner();
    server.start_replay(&replay.name).await.unwrap()
}

async fn health(server: &Server, replay: &Replay) -> ServingStatus {
    let service = format!("replay:{}", replay.name);
    let checked = HealthClient::new(server.channel()).check(HealthCheckRequest { service }).await;
    checked.map_or(ServingStatus::ServiceUnknown, |checked| checked.into_inner().status())
}

async fn becomes(server: &Server, replay: &Replay, wanted: ServingStatus) {
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
    while health(server, replay).await != wanted {
        pause.tick().await;
    }
}

#[tokio::test]
async fn one_prepares_it_then_all_and_only_then_it_is_served() {
    let server = server().await;
    let mut a = Responder::synced(&server, "a").await;
    let mut b = Responder::synced(&server, "b").await;
    let first = replay(&server, "r").await;
    assert_eq!((stage(&first), &first.active_bundle), (RolloutStage::Canary, &None));
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    b.answers(&first, Prepare, ResponderPhase::Prepared).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    becomes(&server, &first, ServingStatus::NotServing).await;
    b.answers(&first, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
    becomes(&server, &first, ServingStatus::Serving).await;

    let second = edited(&server, &first, None).await;
    assert_ne!(second.bundle, first.bundle);
    assert_eq!(second.active_bundle, first.bundle, "the one before is served meanwhile");
    let rollout = second.rollout.as_ref().unwrap();
    assert_eq!(
        (rollout.canary.as_str(), rollout.waiting_for.as_slice()),
        ("a", &["a".to_owned()][..])
    );
    a.answers(&second, Prepare, ResponderPhase::Fetching).await;
    // What it says of the version that it serves does not count.
    a.says(outcome(&first, ResponderPhase::Active)).await;
    let fetching = until(&server, &first.name, |r| {
        r.responders.iter().any(|r| r.phase() == ResponderPhase::Fetching)
    })
    .await;
    assert_eq!(stage(&fetching), RolloutStage::Canary);
    a.says(outcome(&second, ResponderPhase::Prepared)).await;
    b.answers(&second, Prepare, ResponderPhase::Fetching).await;
    let waiting = until(&server, &first.name, |r| stage(r) == RolloutStage::Preparing).await;
    let rollout = waiting.rollout.as_ref().unwrap();
    assert_eq!((rollout.expected, rollout.prepared, rollout.active), (2, 1, 0));
    assert_eq!(
        waiting.conditions[0].message,
        "1 of 2 responders have prepared it; waiting for b; the version before goes on"
    );
    b.says(outcome(&second, ResponderPhase::Prepared)).await;
    a.answers(&second, Activate, ResponderPhase::Active).await;
    b.answers(&second, Activate, ResponderPhase::Active).await;
    let ready = until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
    assert_eq!((&ready.active_bundle, &ready.previous_bundle), (&second.bundle, &first.bundle));
}

#[tokio::test]
async fn a_refusal_of_the_first_stops_it_before_anybody_else_hears_of_it() {
    let server = server().await;
    let mut a = Responder::synced(&server, "a").await;
    let mut b = Responder::synced(&server, "b").await;
    let first = replay(&server, "r").await;
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    b.follows(&first).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;

    let second = edited(&server, &first, None).await;
    let mut refusal = outcome(&second, ResponderPhase::Rejected);
    refusal.status.as_mut().unwrap().diagnostics = vec![Diagnostic {
        severity: Severity::Error.into(),
        message: "no room".into(),
        ..Default::default()
    }];
    let delta = a.delta().await;
    a.ack(delta.nonce, vec![refusal]).await;
    let failed = until(&server, &first.name, |r| stage(r) == RolloutStage::Failed).await;
    assert_eq!(failed.conditions[0].reason, "ResponderRejected");
    assert_eq!(failed.conditions[0].message, "a: no room; the version before goes on");
    assert_eq!(failed.active_bundle, first.bundle);
    let delta = a.delta().await;
    assert_eq!(delta.removed[0].prepared_generation, second.generation);
    a.ack(delta.nonce, vec![]).await;

    // The same bundle is tried again when somebody says so, and this time it works.
    let retry = RetryReplayRequest { name: first.name.clone() };
    let third = server.replays().retry_replay(retry).await.unwrap().into_inner();
    assert_eq!((third.generation, &third.bundle), (3, &second.bundle));
    a.answers(&third, Prepare, ResponderPhase::Prepared).await;
    b.follows(&third).await;
    a.answers(&third, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
}

#[tokio::test]
async fn who_leaves_is_not_waited_for_and_who_joins_is() {
    let server = server().await;
    let mut a = Responder::synced(&server, "a").await;
    let gone = Responder::synced(&server, "gone").await;
    let first = replay(&server, "r").await;
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    until(&server, &first.name, |r| stage(r) == RolloutStage::Preparing).await;
    let (mut late, _) = Responder::greet(&server, hello("late")).await;
    late.answers(&first, Prepare, ResponderPhase::Fetching).await;
    drop(gone);
    let waiting = until(&server, &first.name, |r| r.responders.len() == 2).await;
    assert_eq!(waiting.rollout.unwrap().waiting_for, ["late"]);
    late.says(outcome(&first, ResponderPhase::Prepared)).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    late.answers(&first, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
}

#[tokio::test]
async fn stragglers_are_dealt_with_as_was_chosen() {
    let server = server().await;
    let mut a = Responder::synced(&server, "a").await;
    let mut slow = Responder::synced(&server, "slow").await;
    let first = replay(&server, "r").await;
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    slow.follows(&first).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    let policy = |on_straggler: OnStraggler| RolloutPolicy {
        timeout: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        on_straggler: on_straggler.into(),
        ..RolloutPolicy::default()
    };
    let second = edited(&server, &first, Some(policy(OnStraggler::Fail))).await;
    a.answers(&second, Prepare, ResponderPhase::Prepared).await;
    slow.answers(&second, Prepare, ResponderPhase::Fetching).await;
    let failed = until(&server, &first.name, |r| stage(r) == RolloutStage::Failed).await;
    assert_eq!(failed.conditions[0].reason, "RolloutTimedOut");
    for responder in [&mut a, &mut slow] {
        let delta = responder.delta().await;
        assert_eq!(delta.removed[0].prepared_generation, second.generation);
        responder.ack(delta.nonce, vec![]).await;
    }

    let third = edited(&server, &second, Some(policy(OnStraggler::Exclude))).await;
    a.answers(&third, Prepare, ResponderPhase::Prepared).await;
    slow.answers(&third, Prepare, ResponderPhase::Fetching).await;
    a.answers(&third, Activate, ResponderPhase::Active).await;
    let ready = until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
    assert_eq!(ready.rollout.unwrap().excluded, ["slow"]);
    assert_eq!(ready.conditions[0].message, "1 of 2 responders serve it; it went on without slow");
    // It hears that it lags behind, and catches up.
    slow.answers(&third, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].message == "2 of 2 responders serve it").await;
}

#[tokio::test]
async fn a_rollback_announces_what_was_served_before() {
    let server = server().await;
    let first = replay(&server, "r").await;
    let back = || RollbackReplayRequest { name: first.name.clone() };
    assert_refused(
        server.replays().rollback_replay(back()).await,
        Code::FailedPrecondition,
        "NOTHING_BEFORE",
    );
    let (mut a, _) = Responder::greet(&server, hello("a")).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    let second = edited(&server, &first, None).await;
    a.follows(&second).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
    let third = server.replays().rollback_replay(back()).await.unwrap().into_inner();
    assert_eq!((third.generation, &third.bundle), (3, &first.bundle));
    a.follows(&third).await;
    let ready = until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
    assert_eq!((&ready.active_bundle, &ready.previous_bundle), (&first.bundle, &second.bundle));

    // While something is on its way, that is given up.
    let fourth = edited(&server, &third, None).await;
    a.answers(&fourth, Prepare, ResponderPhase::Fetching).await;
    let kept = server.replays().rollback_replay(back()).await.unwrap().into_inner();
    assert_eq!((&kept.bundle, kept.conditions[0].reason.as_str()), (&first.bundle, "Serving"));
    assert_eq!(a.delta().await.removed[0].prepared_generation, fourth.generation);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_and_waits_for_those_it_knew() {
    let server = server().await;
    let mut a = Responder::synced(&server, "a").await;
    let b = Responder::synced(&server, "b").await;
    let first = replay(&server, "r").await;
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    until(&server, &first.name, |r| stage(r) == RolloutStage::Preparing).await;
    let server = server.restart().await;
    drop((a, b));
    let after = until(&server, &first.name, |_| true).await;
    assert_eq!((stage(&after), &after.active_bundle), (RolloutStage::Preparing, &None));

    // It comes back with what it has prepared, which is announced again; and the other one, which has nothing.
    let held = HeldAssignment {
        name: first.name.clone(),
        bundle: first.bundle.clone(),
        generation: first.generation,
        phase: Prepare.into(),
    };
    let (mut b, _) = Responder::greet(&server, hello("b")).await;
    let (mut a, _) = Responder::greet(&server, Hello { held: vec![held], ..hello("a") }).await;
    a.answers(&first, Prepare, ResponderPhase::Prepared).await;
    b.answers(&first, Prepare, ResponderPhase::Prepared).await;
    a.answers(&first, Activate, ResponderPhase::Active).await;
    b.answers(&first, Activate, ResponderPhase::Active).await;
    until(&server, &first.name, |r| r.conditions[0].reason == "Serving").await;
}

#[tokio::test]
async fn a_policy_that_is_none_is_refused() {
    let server = server().await;
    let first = replay(&server, "r").await;
    let policy = RolloutPolicy { quorum_percent: 101, ..RolloutPolicy::default() };
    let request = StartReplayRequest {
        name: first.name,
        rollout_policy: Some(policy),
        ..StartReplayRequest::default()
    };
    let refused = server.replays().start_replay(request).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_POLICY");
}
