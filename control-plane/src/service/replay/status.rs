//! What the fleet makes of a replay: conditions and the responders' own statuses.

use countersign_engine::snapshot::wire::{encode_digest, timestamp};
use countersign_proto::{
    control::v1::{
        Replay, ReplayAtResponder, ReplayState, Responder, ResponderPhase, ResponderStatus,
        Rollout, RolloutStage,
    },
    r#type::v1::{Condition, ConditionStatus},
};
use dashmap::DashMap;

use crate::{
    fleet,
    publish::Assignment,
    rollout::{Announced, Node, Stage, Standing, Verdict},
    service::{Plane, wire},
    store::now,
};

/// When each condition of each replay changed last.
#[derive(Debug, Default)]
pub(super) struct Transitions {
    seen: DashMap<(String, &'static str), (ConditionStatus, i64)>,
}

impl Transitions {
    /// Drops what is known of a deleted replay.
    pub(super) fn forget(&self, replay: &str) {
        self.seen.retain(|(name, _), _| name != replay);
    }

    /// Adds conditions, the rollout and responders to a replay that was written at this revision.
    pub(super) fn with_status(&self, replay: Replay, revision: u64, plane: &Plane) -> Replay {
        if replay.state() != ReplayState::Running {
            let why = "the replay is not started".to_owned();
            let ready = self.condition(&replay.name, READY, false, "Stopped", why);
            return Replay { conditions: vec![ready], responders: Vec::new(), ..replay };
        }
        let table = plane.publisher.table();
        // Of what was written since the table was read it says nothing yet.
        let announced = table.get(&replay.name).filter(|_| table.revision >= revision);
        let Some((announced, newest)) = announced.and_then(|a| Some((a, a.newest()?))) else {
            let why = "it is about to be announced".to_owned();
            let ready = self.condition(&replay.name, READY, false, "Announcing", why);
            return Replay { conditions: vec![ready], responders: Vec::new(), ..replay };
        };
        let project = replay.name.split_once("/replays/").map_or("", |(project, _)| project);
        let mut responders = plane.fleet.list(project);
        responders.retain(|responder| responder.connected && responder.wants(&replay.name));
        let nodes: Vec<Node> = responders.iter().map(|r| r.node(&replay.name, &newest)).collect();
        let verdict = announced.verdict(&nodes);
        let rollout = rollout(announced, &newest, &nodes, &verdict);
        let Verdict { ready, reason, message, .. } = verdict;
        let mut conditions = vec![self.condition(&replay.name, READY, ready, &reason, message)];
        conditions.extend(self.secrets(&replay.name, &newest, &responders));
        let statuses = responders.iter().map(|responder| {
            let of_it = responder.replays.get(&replay.name).and_then(|at| at.of(&newest));
            // An answer about another bundle says nothing about this one, but what is served.
            let served = || responder.replays.get(&replay.name)?.serving.as_ref();
            let status = wire::encode_status(&responder.name, of_it.or_else(served));
            if of_it.is_some() {
                return status;
            }
            let phase = ResponderPhase::Unspecified.into();
            ResponderStatus { phase, diagnostics: Vec::new(), ..status }
        });
        Replay {
            responders: statuses.collect(),
            conditions,
            rollout: Some(rollout),
            active_bundle: announced.active.map(|active| encode_digest(&active.bundle)),
            previous_bundle: announced.before.as_ref().map(encode_digest),
            ..replay
        }
    }

    /// Tells of secrets that were looked for in vain, if there are any.
    fn secrets(
        &self,
        replay: &str,
        version: &Assignment,
        responders: &[fleet::Responder],
    ) -> Option<Condition> {
        let unresolved = responders.iter().flat_map(|responder| {
            let outcome = responder.replays.get(replay).and_then(|at| at.of(version));
            let secrets = outcome.into_iter().flat_map(|outcome| &outcome.unresolved);
            secrets.map(|secret| format!("{secret} at {}", responder.name))
        });
        let unresolved: Vec<String> = unresolved.collect();
        if unresolved.is_empty() {
            return None;
        }
        let message =
            format!("tokens signed with these are served as recorded: {}", unresolved.join("; "));
        Some(self.condition(replay, SECRETS, false, "SecretUnresolved", message))
    }

    fn condition(
        &self,
        replay: &str,
        kind: &'static str,
        holds: bool,
        reason: &str,
        message: String,
    ) -> Condition {
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let mut seen =
            self.seen.entry((replay.to_owned(), kind)).or_insert_with(|| (status, now()));
        if seen.0 != status {
            *seen = (status, now());
        }
        Condition {
            r#type: kind.to_owned(),
            status: status.into(),
            reason: reason.to_owned(),
            message,
            last_transition_time: Some(timestamp(seen.1)),
        }
    }
}

fn rollout(
    announced: &Announced,
    newest: &Assignment,
    nodes: &[Node],
    verdict: &Verdict,
) -> Rollout {
    let (stage, canary, since) = match announced.rollout.as_ref().map(|r| (&r.stage, r.since)) {
        Some((Stage::Canary(canary), since)) => (RolloutStage::Canary, canary.clone(), Some(since)),
        Some((Stage::Everybody, since)) => (RolloutStage::Preparing, String::new(), Some(since)),
        Some((Stage::Failed(_), since)) => (RolloutStage::Failed, String::new(), Some(since)),
        None => (RolloutStage::Activated, String::new(), None),
    };
    let count =
        |is: fn(&&Node) -> bool| u32::try_from(nodes.iter().filter(is).count()).unwrap_or(u32::MAX);
    Rollout {
        stage: stage.into(),
        generation: newest.generation,
        canary,
        expected: count(|_| true),
        prepared: count(|node| node.is_prepared()),
        active: count(|node| node.standing == Standing::Active),
        waiting_for: verdict.waiting_for.clone(),
        excluded: announced.excluded.clone(),
        start_time: Some(timestamp(since.unwrap_or(newest.start_time))),
    }
}

const READY: &str = "Ready";
const SECRETS: &str = "SecretsResolved";

/// A responder as the service shows it.
pub(super) fn responder(responder: &fleet::Responder) -> Responder {
    let replays = responder.replays.iter().map(|(replay, at)| ReplayAtResponder {
        replay: replay.clone(),
        // What it is at says what it serves as well.
        status: Some(wire::encode_status(
            &responder.name,
            at.next.as_ref().or(at.serving.as_ref()),
        )),
    });
    Responder {
        name: responder.name.clone(),
        connected: responder.connected,
        data_address: responder.data_address.clone(),
        version: responder.version.clone(),
        connect_time: Some(timestamp(responder.connect_time)),
        replays: replays.collect(),
        others: responder.others,
    }
}
