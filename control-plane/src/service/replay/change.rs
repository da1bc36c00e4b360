//! Changes of what is announced of a running replay: another bundle, the one before, or another try.

use std::time::Duration;

use countersign_engine::snapshot::wire::encode_digest;
use countersign_proto::control::v1::{Replay, ReplayState};
use prost::Message as _;

use crate::{
    content::Root,
    publish::Assignment,
    rollout::{Announced, OnStraggler, Policy, Stage},
    service::{Plane, Problem, announced::decode_policy, name::Name, stored, wire},
    store::{CommitError, Expect, Kind, Record, Txn, now},
    storing::Storing,
};

/// How often a change is tried that a step of a rollout overtakes.
const ATTEMPTS: usize = 5;
/// Going back waits no longer for who hangs.
const GOING_BACK: Duration = Duration::from_secs(10);

/// What is to be announced.
pub(super) struct Chosen {
    pub(super) next: Assignment,
    pub(super) policy: Policy,
    /// Whether it was served before, so that nobody has to try it first.
    pub(super) proven: bool,
    /// Set when its blobs were stored only now.
    pub(super) storing: Option<Storing>,
}

/// Writes a replay's record together with what is announced of it. Returns the record.
pub(super) async fn announce(
    plane: &Plane,
    record: Record,
    started: &Replay,
    chosen: Chosen,
) -> Result<Record, Problem> {
    let Chosen { next, policy, proven, storing } = chosen;
    let mut attempts = ATTEMPTS;
    loop {
        let (expect, announced) = plane.announced(&record.name).await?;
        let nodes = plane.nodes_for(&record.name, &next, &announced.fleet, now());
        let announced = announced.with_next(next, policy, proven, &nodes, now());
        let txn = both(&record, started, expect, &announced);
        let committed = match storing {
            Some(storing) => plane.commit_stored(storing, txn, Root::Bundle(next.bundle)).await,
            None => plane.meta.commit(txn).await.map_err(Problem::from),
        };
        match committed {
            // A rollout went on meanwhile.
            Err(problem) if attempts > 0 && is_overtaken(&problem) => attempts -= 1,
            Err(problem) => return Err(problem),
            Ok(committed) => {
                plane.publisher.caught_up(committed.revision).await;
                return Ok(committed.records.into_iter().next().unwrap_or(record));
            }
        }
    }
}

/// Goes back to what was served before; or, while something else is on its way, stays with what is served.
pub(super) async fn roll_back(plane: &Plane, name: &Name) -> Result<Record, Problem> {
    let (record, replay) = running(plane, name).await?;
    let (expect, announced) = plane.announced(&name.full).await?;
    let state = |reason, message| Problem::State { reason, subject: name.full.clone(), message };
    if announced.rollout.is_some() {
        let active = announced.active.ok_or_else(|| {
            let message = format!("replay {} was not served before; stop it instead", name.full);
            state("NOTHING_BEFORE", message)
        })?;
        let kept = Replay { bundle: Some(encode_digest(&active.bundle)), ..replay };
        let announced = Announced { rollout: None, ..announced };
        return commit(plane, both(&record, &kept, expect, &announced), record).await;
    }
    let bundle = announced.before.ok_or_else(|| {
        let message =
            format!("replay {} has served no other bundle since it was started first", name.full);
        state("NOTHING_BEFORE", message)
    })?;
    let generation = replay.generation.saturating_add(1);
    let next = Assignment { bundle, generation, start_time: now() };
    let policy = decode_policy(&replay.rollout_policy.unwrap_or_default())?;
    let policy = Policy {
        timeout: policy.timeout.min(GOING_BACK),
        on_straggler: OnStraggler::Exclude,
        min_responders: 0,
        ..policy
    };
    let back = Replay { bundle: Some(encode_digest(&bundle)), generation, ..replay };
    announce(plane, record, &back, Chosen { next, policy, proven: true, storing: None }).await
}

/// Has those try again that refused; a rollout that has failed begins anew.
pub(super) async fn retry(plane: &Plane, name: &Name) -> Result<Record, Problem> {
    let (record, replay) = running(plane, name).await?;
    let (expect, announced) = plane.announced(&name.full).await?;
    let again = Announced { retries: announced.retries.saturating_add(1), ..announced };
    let failed = again.rollout.as_ref().filter(|r| matches!(r.stage, Stage::Failed(_)));
    let Some(failed) = failed.map(|failed| failed.next) else {
        return commit(plane, both(&record, &replay, expect, &again), record).await;
    };
    let generation = replay.generation.saturating_add(1);
    let next = Assignment { generation, start_time: now(), ..failed };
    let nodes = plane.nodes_for(&name.full, &next, &again.fleet, now());
    let again = again.with_next(next, again.policy, false, &nodes, now());
    let started = Replay { generation, ..replay };
    commit(plane, both(&record, &started, expect, &again), record).await
}

async fn running(plane: &Plane, name: &Name) -> Result<(Record, Replay), Problem> {
    let record = plane.get(Kind::Replay, &name.full).await?;
    let replay: Replay = stored(&record)?;
    if replay.state() == ReplayState::Running {
        return Ok((record, replay));
    }
    let message = format!("replay {} is not started", name.full);
    Err(Problem::State { reason: "REPLAY_STOPPED", subject: name.full.clone(), message })
}

fn both(record: &Record, replay: &Replay, expect: Expect, announced: &Announced) -> Txn {
    let etag = Expect::Etag(record.etag.clone());
    Txn::put(Kind::Replay, &record.name, etag, replay.encode_to_vec()).and_put(
        Kind::Assignment,
        &record.name,
        expect,
        wire::encode_announced(announced),
    )
}

async fn commit(plane: &Plane, txn: Txn, record: Record) -> Result<Record, Problem> {
    let committed = plane.announce(txn).await?;
    Ok(committed.records.into_iter().next().unwrap_or(record))
}

/// Whether what is announced was changed meanwhile, and not the replay itself.
fn is_overtaken(problem: &Problem) -> bool {
    let Problem::Commit(error) = problem else { return false };
    matches!(
        error,
        CommitError::Changed { kind: Kind::Assignment, .. }
            | CommitError::Exists { kind: Kind::Assignment, .. }
            | CommitError::Missing { kind: Kind::Assignment, .. }
    )
}
