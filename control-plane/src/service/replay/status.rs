//! What the fleet makes of a replay: conditions and the responders' own statuses.

use countersign_engine::snapshot::wire::{decode_digest, timestamp};
use countersign_proto::{
    control::v1::{
        Replay, ReplayAtResponder, ReplayState, Responder, ResponderPhase, ResponderStatus,
    },
    r#type::v1::{Condition, ConditionStatus},
};
use dashmap::DashMap;

use crate::{
    fleet::{self, Fleet},
    service::wire,
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

    /// Adds conditions and responders to a stored replay.
    pub(super) fn with_status(&self, replay: Replay, fleet: &Fleet) -> Replay {
        let project = replay.name.split_once("/replays/").map_or("", |(project, _)| project);
        let responders = fleet.list(project);
        let bundle = replay.bundle.as_ref().and_then(|digest| decode_digest(digest).ok());
        let (Some(bundle), ReplayState::Running) = (bundle, replay.state()) else {
            let ready = self.condition(
                &replay.name,
                READY,
                false,
                "Stopped",
                "the replay is not started".to_owned(),
            );
            return Replay { conditions: vec![ready], responders: Vec::new(), ..replay };
        };
        let judged = fleet::readiness(&replay.name, bundle, &responders);
        let mut conditions =
            vec![self.condition(&replay.name, READY, judged.ready, judged.reason, judged.message)];
        if !judged.unresolved.is_empty() {
            let message = format!(
                "tokens signed with these are served as recorded: {}",
                judged.unresolved.join("; ")
            );
            conditions.push(self.condition(
                &replay.name,
                SECRETS,
                false,
                "SecretUnresolved",
                message,
            ));
        }
        let wanting = responders
            .iter()
            .filter(|responder| responder.connected && responder.wants(&replay.name));
        let statuses = wanting.map(|responder| {
            let outcome = responder.replays.get(&replay.name);
            let status = wire::encode_status(&responder.name, outcome);
            // An answer about another bundle says nothing about this one.
            match outcome {
                Some(outcome) if outcome.bundle != Some(bundle) => {
                    let phase = ResponderPhase::Unspecified.into();
                    ResponderStatus { phase, diagnostics: Vec::new(), ..status }
                }
                _ => status,
            }
        });
        Replay { responders: statuses.collect(), conditions, ..replay }
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

const READY: &str = "Ready";
const SECRETS: &str = "SecretsResolved";

/// A responder as the service shows it.
pub(super) fn responder(responder: &fleet::Responder) -> Responder {
    let replays = responder.replays.iter().map(|(replay, outcome)| ReplayAtResponder {
        replay: replay.clone(),
        status: Some(wire::encode_status(&responder.name, Some(outcome))),
    });
    Responder {
        name: responder.name.clone(),
        connected: responder.connected,
        data_address: responder.data_address.clone(),
        version: responder.version.clone(),
        connect_time: Some(timestamp(responder.connect_time)),
        replays: replays.collect(),
    }
}
