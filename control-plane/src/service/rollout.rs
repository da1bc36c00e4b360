//! Carries rollouts on: for each there is one control plane that does, by a lease, and any other can go on where it stopped.
//!
//! Every step is one commit that holds only if the record is as it was judged and the lease is still the own one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use countersign_telemetry::{Kind as SpanKind, Span};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Plane, Problem, chain, wire};
use crate::{
    fleet::Absence,
    publish::{Assignment, Entry, Table},
    rollout::{Announced, Node, Step},
    store::{CommitError, Epoch, Expect, Guard, Kind, StoreError, Txn, now},
};

/// Whoever carries a rollout on has to say so anew in this time.
const TTL: Duration = Duration::from_secs(5);
/// How often it does.
const RENEW: Duration = Duration::from_secs(2);
/// How soon it is looked again whether somebody else still carries it on, and whether a store works again.
const AGAIN: Duration = Duration::from_millis(500);
/// Looking at more responders than this takes long enough to take a pause.
const MANY: usize = 500;

/// A lease that this process has.
#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: Epoch,
    asked: Instant,
}

/// What this process carries on.
#[derive(Debug, Default)]
struct Own {
    leases: BTreeMap<String, Held>,
    /// What could not be carried on when that was tried last.
    stuck: BTreeSet<String>,
}

/// Goes on until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut table = plane.publisher.subscribe();
    let mut fleet = plane.fleet.subscribe();
    let mut own = Own::default();
    loop {
        let announced = Arc::clone(&table.borrow_and_update());
        fleet.mark_unchanged();
        let again = carry_on(&plane, &announced, &mut own).await;
        let looked_at = plane.fleet.size().saturating_mul(announced.busy());
        if looked_at > MANY {
            // Each answer of each responder wakes this; looking at all of them takes no more than a part of the time.
            sleep(Duration::from_micros(u64::try_from(looked_at).unwrap_or(u64::MAX))).await;
        }
        let changed = async {
            match again {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = table.changed() => if changed.is_err() { break },
            _ = fleet.changed(), if announced.busy() > 0 => {}
            () = changed => {}
            () = plane.stopping.cancelled() => break,
        }
    }
    for name in own.leases.into_keys() {
        release(&plane, &name).await;
    }
}

impl Table {
    /// How much is being rolled out.
    fn busy(&self) -> usize {
        self.assignments.values().filter(|entry| entry.announced.under_way().is_some()).count()
    }
}

/// Takes every step that can be taken; tells when to look again if nothing happens.
async fn carry_on(plane: &Plane, table: &Table, own: &mut Own) -> Option<Instant> {
    let mut again: Option<Instant> = None;
    let mut busy = BTreeSet::new();
    for (name, entry) in &table.assignments {
        if entry.announced.under_way().is_none() {
            continue;
        }
        busy.insert(name.clone());
        let next = match advance(plane, name, entry, own).await {
            Ok(next) => {
                if own.stuck.remove(name) {
                    tracing::info!(replay = name, "a rollout is carried on again");
                }
                next
            }
            Err(error) => {
                if own.stuck.insert(name.clone()) {
                    let error = chain(&error);
                    tracing::warn!(replay = name, error, "cannot carry a rollout on, trying again");
                }
                Some(Instant::now() + AGAIN)
            }
        };
        again = again.into_iter().chain(next).min();
    }
    own.stuck.retain(|name| busy.contains(name));
    let ended = own.leases.keys().filter(|name| !busy.contains(*name));
    for name in ended.cloned().collect::<Vec<_>>() {
        own.leases.remove(&name);
        release(plane, &name).await;
    }
    again
}

async fn advance(
    plane: &Plane,
    name: &str,
    entry: &Entry,
    own: &mut Own,
) -> Result<Option<Instant>, StoreError> {
    let Some(held) = lease(plane, name, &mut own.leases).await? else {
        return Ok(Some(Instant::now() + AGAIN));
    };
    let renew = held.asked + RENEW;
    let at = now();
    let nodes = plane.nodes(name, &entry.announced, at);
    let step = entry.announced.step(&nodes, at);
    let Some(after) = entry.announced.after(step.clone(), &nodes, at) else {
        return Ok(Some(look_again(plane, &step, &nodes, at).map_or(renew, |at| at.min(renew))));
    };
    tell(name, &after, &step);
    // It is recorded when the step is taken, or was not.
    let _span = span(plane, name, &after, &step);
    let guard = Guard { lease: lease_name(name), epoch: held.epoch, held: true };
    let expect = Expect::Etag(entry.etag.clone());
    let txn = Txn::put(Kind::Assignment, name, expect, wire::encode_announced(&after));
    match plane.announce(txn.guarded(guard)).await {
        Ok(_) => Ok(Some(renew)),
        Err(CommitError::Fenced { .. }) => {
            own.leases.remove(name);
            Ok(Some(Instant::now()))
        }
        Err(CommitError::Store(error)) => Err(error),
        // Somebody has started or stopped it meanwhile; the table is about to show that.
        Err(
            CommitError::Changed { .. } | CommitError::Missing { .. } | CommitError::Exists { .. },
        ) => Ok(Some(Instant::now() + AGAIN)),
    }
}

/// When time alone changes what is to be done: a step is late, or somebody has been absent for long enough.
fn look_again(plane: &Plane, step: &Step, nodes: &[Node], at: i64) -> Option<Instant> {
    let late = match step {
        Step::Wait(Some(end)) => {
            Some(Duration::from_nanos(u64::try_from(end.saturating_sub(at)).unwrap_or_default()))
        }
        _ => None,
    };
    // When each of them left is not told here; now and then is often enough.
    let absent = nodes.iter().any(|node| !node.here).then(|| plane.timing.lease / 8);
    late.into_iter()
        .chain(absent)
        .min()
        .map(|wait| Instant::now() + wait + Duration::from_millis(1))
}

/// A span of a step.
fn span(plane: &Plane, replay: &str, after: &Announced, step: &Step) -> Option<Span> {
    let mut span = plane.tracer.as_ref()?.span("rollout step", SpanKind::Internal, None)?;
    span.set("countersign.replay", replay);
    if let Some(newest) = after.newest() {
        span.set("countersign.bundle", newest.bundle.to_string());
        span.set("countersign.run", i64::try_from(newest.generation).unwrap_or(i64::MAX));
    }
    span.set("countersign.step", format!("{step:?}"));
    Some(span)
}

fn tell(replay: &str, after: &Announced, step: &Step) {
    let generation = after.newest().map(|newest| newest.generation);
    match step {
        Step::Activate(excluded) => {
            tracing::info!(replay, generation, excluded = excluded.len(), "rollout activated");
        }
        step => tracing::info!(replay, generation, ?step, "rollout goes on"),
    }
}

/// The lease of a rollout, taken or prolonged if it is time; `None` while somebody else has it.
async fn lease(
    plane: &Plane,
    name: &str,
    leases: &mut BTreeMap<String, Held>,
) -> Result<Option<Held>, StoreError> {
    if let Some(held) = leases.get(name).filter(|held| held.asked.elapsed() < RENEW) {
        return Ok(Some(*held));
    }
    let asked = Instant::now();
    let epoch = plane.meta.lease(&lease_name(name), &plane.replica, TTL).await?;
    leases.remove(name);
    let Some(epoch) = epoch else { return Ok(None) };
    let held = Held { epoch, asked };
    leases.insert(name.to_owned(), held);
    Ok(Some(held))
}

async fn release(plane: &Plane, name: &str) {
    if let Err(error) = plane.meta.release(&lease_name(name), &plane.replica).await {
        tracing::debug!(replay = name, error = chain(&error), "a lease could not be given up");
    }
}

fn lease_name(replay: &str) -> String {
    format!("rollout {replay}")
}

impl Plane {
    /// The responders that count for what was started last of a replay.
    pub(crate) fn nodes(&self, replay: &str, announced: &Announced, now: i64) -> Vec<Node> {
        let Some(newest) = announced.newest() else { return Vec::new() };
        self.nodes_for(replay, &newest, &announced.fleet, now)
    }

    /// The same for any version.
    pub(crate) fn nodes_for(
        &self,
        replay: &str,
        version: &Assignment,
        known: &[String],
        now: i64,
    ) -> Vec<Node> {
        let absence = Absence { lease: self.timing.lease, began: self.began, now };
        self.fleet.nodes(replay, version, known, absence)
    }

    /// The announced record of a replay, to be changed; an empty one where there is none.
    pub(crate) async fn announced(&self, name: &str) -> Result<(Expect, Announced), Problem> {
        let Some(record) = self.meta.get(Kind::Assignment, name).await? else {
            return Ok((Expect::Absent, Announced::default()));
        };
        let etag = Expect::Etag(record.etag);
        let announced = wire::decode_announced(record.body).map_err(|source| {
            crate::content::ContentError::Record { name: name.to_owned(), source }
        })?;
        Ok((etag, announced))
    }
}
