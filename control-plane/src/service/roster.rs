//! Tells the other control planes of the responders that are connected here, and hears of theirs; only where the store is shared.
//!
//! Lossy and coalesced: what is told is how a responder stands, at most twice a second. Nothing here counts as a change of the store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_engine::snapshot::wire::encode_digest;
use countersign_proto::{control::v1::ResponderStatus, discovery::v1::Outcome};
use prost::Message;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Plane, chain, wire};
use crate::{
    fleet::{AtReplay, Peer, Responder},
    store::{Entry, Reported, Roster, StoreError},
};

/// How often something is told and asked.
const EVERY: Duration = Duration::from_millis(500);

/// A report at least so often, even of nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Goes on until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>) {
    let Some(roster) = plane.meta.roster() else { return };
    let mut hints = roster.hints();
    let mut changes = plane.fleet.subscribe();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut works = true;
    let mut told = Told::default();
    loop {
        let quiet = told.news.is_none_or(|at| at.elapsed() >= EVERY);
        let done = tokio::select! {
            _ = ticks.tick() => exchange(&plane, roster, &mut told).await,
            // What comes after a quiet while is told at once.
            _ = changes.changed(), if quiet => {
                ticks.reset();
                exchange(&plane, roster, &mut told).await
            }
            // The store outlives this task.
            _ = hints.changed() => hear(&plane, roster).await,
            () = plane.stopping.cancelled() => break,
        };
        match done {
            Err(error) if works => {
                tracing::warn!(error = chain(&error), "cannot hear of other control planes");
                works = false;
            }
            Ok(()) if !works => {
                tracing::info!("hears of other control planes again");
                works = true;
            }
            _ => {}
        }
    }
    if let Err(error) = roster.leave(&plane.replica).await {
        tracing::debug!(error = chain(&error), "could not leave the roster");
    }
}

/// When it was told last.
#[derive(Debug, Default)]
struct Told {
    anything: Option<Instant>,
    news: Option<Instant>,
}

async fn exchange(plane: &Plane, roster: &dyn Roster, told: &mut Told) -> Result<(), StoreError> {
    let untold = plane.fleet.untold();
    if !untold.is_empty() || told.anything.is_none_or(|at| at.elapsed() >= SIGN_OF_LIFE) {
        let entries = untold.iter().map(encode).collect();
        if let Err(error) = roster.report(&plane.replica, entries).await {
            plane.fleet.tell_again(&untold);
            return Err(error);
        }
        told.anything = Some(Instant::now());
        if !untold.is_empty() {
            told.news = told.anything;
        }
    }
    hear(plane, roster).await
}

async fn hear(plane: &Plane, roster: &dyn Roster) -> Result<(), StoreError> {
    let others = roster.others(&plane.replica, &plane.fleet.heard()).await?;
    plane.fleet.hear(others.into_iter().map(decode).collect());
    Ok(())
}

/// A responder as it is stored.
#[derive(Clone, PartialEq, Message)]
struct StoredResponder {
    #[prost(bool, tag = "1")]
    connected: bool,
    #[prost(string, tag = "2")]
    data_address: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(int64, tag = "4")]
    connect_time: i64,
    #[prost(string, repeated, tag = "5")]
    selectors: Vec<String>,
    /// As the responder reported them.
    #[prost(message, repeated, tag = "6")]
    outcomes: Vec<Outcome>,
    #[prost(int64, tag = "7")]
    leave_time: i64,
    #[prost(uint32, tag = "8")]
    others: u32,
}

fn encode(responder: &Responder) -> Entry {
    let outcomes = responder.replays.iter().flat_map(|(replay, at)| {
        at.outcomes().map(|outcome| Outcome {
            name: replay.clone(),
            bundle: outcome.bundle.as_ref().map(encode_digest),
            status: ResponderStatus::decode(outcome.report.clone()).ok(),
        })
    });
    let body = StoredResponder {
        connected: responder.connected,
        data_address: responder.data_address.clone(),
        version: responder.version.clone(),
        connect_time: responder.connect_time,
        selectors: responder.selectors.clone(),
        outcomes: outcomes.collect(),
        leave_time: responder.leave_time,
        others: responder.others,
    };
    Entry {
        project: responder.project.clone(),
        name: responder.name.clone(),
        body: body.encode_to_vec().into(),
    }
}

fn decode(reported: Reported) -> Peer {
    let responder = |entry: Entry| {
        // Of another version, perhaps; it will be told again.
        let stored = StoredResponder::decode(entry.body).ok()?;
        let mut replays: BTreeMap<String, AtReplay> = BTreeMap::new();
        for outcome in stored.outcomes {
            replays.entry(outcome.name.clone()).or_default().note(wire::decode_outcome(outcome));
        }
        Some(Responder {
            project: entry.project,
            name: entry.name,
            connected: stored.connected,
            data_address: stored.data_address,
            version: stored.version,
            connect_time: stored.connect_time,
            leave_time: stored.leave_time,
            others: stored.others,
            selectors: stored.selectors,
            replays,
        })
    };
    let responders = reported.changed.into_iter().filter_map(responder).collect();
    let Reported { replica, alive, reports, .. } = reported;
    Peer { replica, alive, reports, responders }
}

#[cfg(test)]
mod tests {
    use countersign_engine::snapshot::digest::Digest;
    use countersign_proto::control::v1::ResponderPhase;

    use super::*;
    use crate::fleet::Phase;

    #[test]
    fn a_responder_arrives_as_it_was_told() {
        let outcome = |phase: ResponderPhase, generation| {
            let status =
                ResponderStatus { phase: phase.into(), generation, ..ResponderStatus::default() };
            wire::decode_outcome(Outcome {
                name: "projects/p/replays/r".into(),
                bundle: Some(encode_digest(&Digest::of(b"bundle"))),
                status: Some(status),
            })
        };
        let mut at = AtReplay::default();
        at.note(outcome(ResponderPhase::Active, 1));
        at.note(outcome(ResponderPhase::Prepared, 2));
        assert_eq!(at.next.as_ref().unwrap().phase, Phase::Prepared);
        let responder = Responder {
            project: "projects/p".into(),
            name: "n".into(),
            connected: true,
            data_address: "a:1".into(),
            version: "v".into(),
            connect_time: 7,
            leave_time: 9,
            others: 1,
            selectors: vec!["r".into()],
            replays: BTreeMap::from([("projects/p/replays/r".to_owned(), at)]),
        };
        let reported = Reported {
            replica: "x".into(),
            alive: true,
            reports: 3,
            changed: vec![
                encode(&responder),
                Entry { project: "projects/p".into(), name: "bad".into(), body: "\u{7f}".into() },
            ],
        };
        let peer = decode(reported);
        assert_eq!((peer.reports, peer.responders.len()), (3, 1));
        assert_eq!(format!("{:?}", peer.responders[0]), format!("{responder:?}"));
    }
}
