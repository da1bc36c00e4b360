//! Subscriptions over a real connection.

use countersign_proto::{
    control::v1::{
        DeleteReplayRequest, ListRespondersRequest, Replay, ResponderPhase, ResponderStatus,
        SecretStatus, StopReplayRequest, WatchReplayRequest,
    },
    discovery::v1::{
        Ack, AssignmentPhase, Delta, HeldAssignment, Hello, Outcome, StatusReport,
        SubscribeRequest, SubscribeResponse, Welcome, subscribe_request::Message as Say,
        subscribe_response::Message as Heard,
    },
    r#type::v1::{ConditionStatus, Diagnostic, SecretRef, Severity},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{PROJECT, Server, assert_refused, server};

pub(super) struct Responder {
    say: mpsc::Sender<SubscribeRequest>,
    heard: Streaming<SubscribeResponse>,
}

pub(super) fn hello(name: &str) -> Hello {
    Hello {
        responder: name.into(),
        session_id: "1".into(),
        project: PROJECT.into(),
        max_schema: 2,
        ..Default::default()
    }
}

fn holding(name: &str) -> Hello {
    let own = HeldAssignment { name: format!("{PROJECT}/replays/a"), ..Default::default() };
    let held = HeldAssignment { name: name.into(), ..Default::default() };
    Hello { held: vec![own, held], ..hello("a") }
}

impl Responder {
    pub(super) async fn connect(server: &Server) -> Self {
        let (say, receiver) = mpsc::channel(16);
        let heard =
            server.discovery().subscribe(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { say, heard }
    }

    pub(super) async fn greet(server: &Server, hello: Hello) -> (Self, Welcome) {
        let mut responder = Self::connect(server).await;
        responder.say(Say::Hello(hello)).await;
        match responder.hear().await.unwrap() {
            Heard::Welcome(welcome) => (responder, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(super) async fn say(&self, message: Say) {
        self.say.send(SubscribeRequest { message: Some(message) }).await.unwrap();
    }

    pub(super) async fn hear(&mut self) -> Result<Heard, Status> {
        Ok(self.heard.message().await?.expect("the stream is open").message.unwrap())
    }

    pub(super) async fn delta(&mut self) -> Delta {
        match self.hear().await.unwrap() {
            Heard::Delta(delta) => delta,
            other => panic!("no delta: {other:?}"),
        }
    }

    pub(super) async fn ack(&self, nonce: u64, outcomes: Vec<Outcome>) {
        self.say(Say::Ack(Ack { nonce, outcomes })).await;
    }
}

/// What became of a replay as it was started last.
pub(super) fn outcome(replay: &Replay, phase: ResponderPhase) -> Outcome {
    let bundle = replay.bundle.clone();
    let status = ResponderStatus {
        phase: phase.into(),
        active_bundle: bundle.clone().filter(|_| phase == ResponderPhase::Active),
        generation: replay.generation,
        ..Default::default()
    };
    Outcome { name: replay.name.clone(), bundle, status: Some(status) }
}

pub(super) fn names(delta: &Delta) -> (Vec<&str>, Vec<&str>) {
    (
        delta.upserted.iter().filter_map(|a| a.name.rsplit('/').next()).collect(),
        delta.removed.iter().filter_map(|t| t.name.rsplit('/').next()).collect(),
    )
}

/// Watches a replay until a predicate holds.
pub(super) async fn until(
    server: &Server,
    replay: &str,
    holds: impl Fn(&Replay) -> bool,
) -> Replay {
    let watch = WatchReplayRequest { name: replay.into() };
    let mut states = server.replays().watch_replay(watch).await.unwrap().into_inner();
    loop {
        let state = states.message().await.unwrap().unwrap();
        if holds(&state) {
            return state;
        }
    }
}

#[tokio::test]
async fn the_first_message_has_to_be_a_hello_and_in_time() {
    let server = server().await;
    let mut silent = Responder::connect(&server).await;
    assert_refused(silent.hear().await, Code::DeadlineExceeded, "HELLO_LATE");
    let mut rude = Responder::connect(&server).await;
    rude.ack(1, vec![]).await;
    assert_refused(rude.hear().await, Code::InvalidArgument, "HELLO_MISSING");
    for (bad, code, reason) in [
        (Hello { project: "x".into(), ..hello("a") }, Code::InvalidArgument, "INVALID_NAME"),
        (hello(""), Code::InvalidArgument, "INVALID_RESPONDER"),
        (Hello { max_schema: 1, ..hello("a") }, Code::FailedPrecondition, "SCHEMA_TOO_OLD"),
        (holding("projects/other/replays/r"), Code::InvalidArgument, "WRONG_PROJECT"),
        (holding("projects/defaults/replays/r"), Code::InvalidArgument, "WRONG_PROJECT"),
        (holding(PROJECT), Code::InvalidArgument, "WRONG_PROJECT"),
    ] {
        let mut responder = Responder::connect(&server).await;
        responder.say(Say::Hello(bad)).await;
        assert_refused(responder.hear().await, code, reason);
    }
    let (mut twice, _) = Responder::greet(&server, hello("a")).await;
    assert!(twice.delta().await.initial_sync_complete);
    twice.say(Say::Hello(hello("a"))).await;
    assert_refused(twice.hear().await, Code::InvalidArgument, "HELLO_AGAIN");
}

#[tokio::test]
async fn announcements_acknowledgements_and_tombstones() {
    let server = server().await;
    let (mut responder, welcome) = Responder::greet(&server, hello("a")).await;
    assert!(!welcome.store_uid.is_empty() && welcome.heartbeat_interval.unwrap().seconds == 15);
    let empty = responder.delta().await;
    assert_eq!((names(&empty), empty.initial_sync_complete), ((vec![], vec![]), true));

    // Both starts happen while the first delta is unacknowledged, so that they come as one.
    let one = server.running_replay("one").await;
    let two = server.running_replay("two").await;
    let preparing = until(&server, &two.name, |r| r.conditions[0].reason == "Preparing").await;
    assert_eq!(
        (preparing.responders.len(), preparing.responders[0].phase()),
        (1, ResponderPhase::Unspecified)
    );
    responder.ack(empty.nonce, vec![]).await;
    let delta = responder.delta().await;
    assert_eq!(names(&delta), (vec!["one", "two"], vec![]));
    let of_two = delta.upserted.iter().find(|a| a.name == two.name).unwrap();
    assert_eq!((&of_two.bundle, of_two.generation), (&two.bundle, 1));
    assert!(of_two.start_time.is_some());
    assert_eq!(of_two.phase(), AssignmentPhase::Prepare);
    responder.ack(delta.nonce, vec![outcome(&two, ResponderPhase::Prepared)]).await;
    let delta = responder.delta().await;
    assert_eq!(
        (names(&delta), delta.upserted[0].phase()),
        ((vec!["two"], vec![]), AssignmentPhase::Activate)
    );
    let fetching = until(&server, &two.name, |r| r.conditions[0].reason == "Fetching").await;
    assert_eq!(fetching.responders[0].phase(), ResponderPhase::Prepared);
    responder.ack(delta.nonce, vec![outcome(&two, ResponderPhase::Active)]).await;
    let ready =
        until(&server, &two.name, |r| r.conditions[0].status() == ConditionStatus::True).await;
    assert_eq!(
        (ready.responders[0].responder.as_str(), ready.responders[0].phase()),
        ("a", ResponderPhase::Active)
    );

    server.replays().stop_replay(StopReplayRequest { name: one.name.clone() }).await.unwrap();
    let delta = responder.delta().await;
    assert_eq!(names(&delta), (vec![], vec!["one"]));
    responder.ack(delta.nonce, vec![]).await;
    server
        .replays()
        .delete_replay(DeleteReplayRequest { name: two.name, etag: String::new() })
        .await
        .unwrap();
    assert_eq!(names(&responder.delta().await), (vec![], vec!["two"]));
}

#[tokio::test]
async fn a_refusal_shows_at_the_replay_and_is_not_repeated() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let (mut responder, _) = Responder::greet(&server, hello("a")).await;
    let delta = responder.delta().await;
    let mut refusal = outcome(&replay, ResponderPhase::Rejected);
    let status = refusal.status.as_mut().unwrap();
    status.active_bundle = None;
    status.diagnostics = vec![Diagnostic {
        severity: Severity::Error.into(),
        code: "x".into(),
        message: "cannot be compiled".into(),
        ..Default::default()
    }];
    responder.ack(delta.nonce, vec![refusal]).await;
    let rejected =
        until(&server, &replay.name, |r| r.conditions[0].reason == "ResponderRejected").await;
    assert_eq!(rejected.conditions[0].message, "a: cannot be compiled");
    assert_eq!(rejected.responders[0].diagnostics[0].code, "x");

    // The same bundle is parked, so that the next start fails at once; another replay comes through.
    let again = server.start_replay(&replay.name).await.unwrap();
    let rejected = until(&server, &replay.name, |r| r.conditions[0].reason != "Preparing").await;
    let ready = &rejected.conditions[0];
    assert_eq!((ready.reason.as_str(), again.generation), ("ResponderRejected", 2));
    assert_eq!(ready.message, "a: cannot be compiled; the version before goes on");
    server.running_replay("other").await;
    assert_eq!(names(&responder.delta().await).0, ["other"]);
}

#[tokio::test]
async fn unresolved_secrets_show_as_a_condition() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let (mut responder, _) = Responder::greet(&server, hello("a")).await;
    let delta = responder.delta().await;
    let with = |resolved, error: &str| {
        let mut outcome = outcome(&replay, ResponderPhase::Active);
        let secret = SecretRef { secret: "jwt-demo".into(), key: "tls.key".into() };
        outcome.status.as_mut().unwrap().secrets = vec![SecretStatus {
            r#ref: Some(secret),
            resolved,
            error: error.into(),
            ..Default::default()
        }];
        outcome
    };
    responder.ack(delta.nonce, vec![with(false, "no such file")]).await;
    let missing = until(&server, &replay.name, |r| r.conditions.len() == 2).await;
    assert_eq!(missing.conditions[0].status(), ConditionStatus::True);
    let secrets = &missing.conditions[1];
    assert_eq!(
        (secrets.r#type.as_str(), secrets.status()),
        ("SecretsResolved", ConditionStatus::False)
    );
    assert!(
        secrets.message.contains("jwt-demo/tls.key (no such file) at a"),
        "{}",
        secrets.message
    );
    responder.say(Say::Status(StatusReport { outcomes: vec![with(true, "")] })).await;
    until(&server, &replay.name, |r| r.conditions.len() == 1).await;
}

#[tokio::test]
async fn selectors_and_held_names_decide_what_is_sent() {
    let server = server().await;
    server.running_replay("wanted").await;
    server.running_replay("unwanted").await;
    let held = ["gone", "unwanted"]
        .map(|id| HeldAssignment { name: format!("{PROJECT}/replays/{id}"), ..Default::default() });
    let picky = Hello { selectors: vec!["wanted".into()], held: held.into(), ..hello("a") };
    let (mut responder, _) = Responder::greet(&server, picky).await;
    let delta = responder.delta().await;
    assert_eq!(
        (names(&delta), delta.initial_sync_complete),
        ((vec!["wanted"], vec!["gone", "unwanted"]), true)
    );
    let other = Hello { project: "projects/other".into(), ..hello("b") };
    let (mut responder, _) = Responder::greet(&server, other).await;
    assert_eq!(names(&responder.delta().await), (vec![], vec![]));
}

#[tokio::test]
async fn a_responder_from_the_future_is_sent_away_and_one_from_another_store_is_not() {
    let server = server().await;
    let (_, welcome) = Responder::greet(&server, hello("a")).await;
    let mut ahead = Responder::connect(&server).await;
    ahead
        .say(Say::Hello(Hello {
            store_uid: welcome.store_uid,
            last_revision: welcome.revision + 1,
            ..hello("b")
        }))
        .await;
    assert_refused(ahead.hear().await, Code::Unavailable, "BEHIND");
    let foreign = Hello { store_uid: "another".into(), last_revision: u64::MAX, ..hello("c") };
    Responder::greet(&server, foreign).await;
}

#[tokio::test]
async fn the_fleet_is_listed_and_a_shutdown_says_go_away() {
    let server = server().await;
    let (mut b, _) = Responder::greet(
        &server,
        Hello { data_address: "127.0.0.1:9".into(), version: "v".into(), ..hello("b") },
    )
    .await;
    let (mut a, _) = Responder::greet(&server, hello("a")).await;
    assert!(a.delta().await.initial_sync_complete && b.delta().await.initial_sync_complete);
    let list = |page_size, page_token: String| {
        let request = ListRespondersRequest { parent: PROJECT.into(), page_size, page_token };
        let mut client = server.replays();
        async move { client.list_responders(request).await.unwrap().into_inner() }
    };
    let first = list(1, String::new()).await;
    assert_eq!((first.responders.len(), first.responders[0].name.as_str()), (1, "a"));
    let second = list(1, first.next_page_token).await;
    let found = &second.responders[0];
    assert_eq!(
        (found.name.as_str(), found.data_address.as_str(), found.version.as_str(), found.connected),
        ("b", "127.0.0.1:9", "v", true)
    );
    assert!(second.next_page_token.is_empty());
    drop(a);
    while list(0, String::new()).await.responders[0].connected {}
    let shutdown = tokio::spawn(server.running.shutdown());
    assert!(matches!(b.hear().await.unwrap(), Heard::GoAway(_)));
    shutdown.await.unwrap();
}
