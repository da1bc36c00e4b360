//! Waiting until a replay is served everywhere.

use std::time::Duration;

use countersign_proto::{
    control::v1::{Replay, WatchReplayRequest},
    r#type::v1::ConditionStatus,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;

use crate::{
    connect::{Client, id},
    failure::Failure,
    upload::{Patience, is_drop},
    view,
};

/// Waits until the replay's `Ready` condition holds for what was started, or a responder refuses it.
pub(crate) async fn wait_until_ready(
    client: &Client,
    started: &Replay,
    timeout: Duration,
) -> Result<Replay, Failure> {
    Box::pin(wait_and_tell(client, started, timeout, |_| {})).await
}

/// The same, telling how far it is.
pub(super) async fn wait_and_tell(
    client: &Client,
    started: &Replay,
    timeout: Duration,
    mut progress: impl FnMut(&str),
) -> Result<Replay, Failure> {
    let deadline = Instant::now() + timeout;
    let mut last = started.clone();
    let mut drops = 0;
    loop {
        let watched = timeout_at(deadline, watch(client, started, &mut last, &mut progress)).await;
        let status = match watched {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(status)) => status,
            Err(_) => {
                return Err(Failure::NotReady {
                    replay: id(&started.name).to_owned(),
                    seconds: timeout.as_secs(),
                    why: why(&last),
                });
            }
        };
        if !is_drop(&status) {
            return Err(Failure::rpc(format!("watch the replay {}", id(&started.name)))(status));
        }
        drops += 1;
        sleep(Patience::default().pause(drops)).await;
    }
}

async fn watch(
    client: &Client,
    started: &Replay,
    last: &mut Replay,
    progress: &mut impl FnMut(&str),
) -> Result<Result<Replay, Failure>, Status> {
    let request = WatchReplayRequest { name: started.name.clone() };
    let mut states = client.replays().watch_replay(request).await?.into_inner();
    while let Some(state) = states.message().await? {
        last.clone_from(&state);
        if let Some(verdict) = judge(started, state) {
            return Ok(verdict);
        }
        progress(&why(last));
    }
    Err(Status::unavailable("the watch ended early"))
}

/// The end of the wait, if this state is one.
fn judge(started: &Replay, state: Replay) -> Option<Result<Replay, Failure>> {
    let replay = id(&state.name);
    if state.generation < started.generation {
        return None;
    }
    let ready = view::ready(&state)?;
    if ready.status() == ConditionStatus::True {
        return Some(Ok(state));
    }
    match ready.reason.as_str() {
        "Stopped" => {
            Some(Err(Failure::failed(format!("the replay {replay} was stopped meanwhile"))))
        }
        // A responder does not try the same bundle again.
        "ResponderRejected" => {
            let findings = state.responders.iter().flat_map(|responder| &responder.diagnostics);
            let lines: Vec<String> = findings.map(view::finding).collect();
            let lines = if lines.is_empty() { vec![ready.message.clone()] } else { lines };
            Some(Err(Failure::failed(format!(
                "a responder refused the replay {replay}\n  {}",
                lines.join("\n  ")
            ))))
        }
        "RolloutTimedOut" => Some(Err(Failure::failed(format!(
            "the replay {replay} was given up: {}",
            ready.message
        )))),
        _ => None,
    }
}

fn why(replay: &Replay) -> String {
    match view::ready(replay) {
        Some(ready) if !ready.message.is_empty() => ready.message.clone(),
        Some(ready) => ready.reason.clone(),
        None => "the control plane says nothing about it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::r#type::v1::Condition;

    use super::*;

    fn state(generation: u64, status: ConditionStatus, reason: &str) -> Replay {
        let condition = Condition {
            r#type: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: format!("{reason} it is"),
            ..Condition::default()
        };
        Replay {
            name: "projects/p/replays/r".into(),
            generation,
            conditions: vec![condition],
            ..Replay::default()
        }
    }

    #[test]
    fn only_what_was_started_ends_the_wait() {
        let started = state(2, ConditionStatus::False, "Fetching");
        let judge = |now| judge(&started, now);
        assert!(judge(state(1, ConditionStatus::True, "Serving")).is_none(), "an older start");
        assert!(judge(state(2, ConditionStatus::False, "NoResponders")).is_none());
        assert!(judge(state(2, ConditionStatus::True, "Serving")).unwrap().is_ok());
        let late = judge(state(2, ConditionStatus::False, "RolloutTimedOut")).unwrap();
        assert!(late.unwrap_err().render().contains("given up: RolloutTimedOut it is"));
        let refused = judge(state(2, ConditionStatus::False, "ResponderRejected")).unwrap();
        assert!(refused.unwrap_err().render().contains("ResponderRejected it is"));
        assert_eq!(why(&started), "Fetching it is");
    }
}
