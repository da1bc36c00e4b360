//! Counts on their way into the store: those of many responders in one commit, a few times a second at most, so that a large fleet costs the store no
//! more than a small one. Whoever sent them is answered once they are durable.
//!
//! What waits is bounded, in number and size, and of one project less than that; one whose counts cannot be stored keeps no other's from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_proto::discovery::v1::{RunTally, SendTallyRequest, SendTallyResponse};
use futures_util::future::join_all;
use prost::Message as _;
use tokio::sync::oneshot;

use super::{
    RUNS, runs,
    stored::{Contribution, RunName, bound},
};
use crate::{
    service::{Plane, Problem, chain, quota},
    store::{CommitError, Expect, Kind, StoreError, Txn, all},
};

/// How long counts are gathered before they are committed.
const GATHER: Duration = Duration::from_millis(300);
/// So many messages of one project wait at a time, and of all together.
const WAITING: usize = 2000;
const WAITING_IN_ALL: usize = 2 * WAITING;
/// So many records go into a commit.
const TOGETHER: usize = 50;
/// So many runs may be in a message.
const MOST_RUNS: usize = 20;
/// How often a commit is tried that another control plane has got ahead of.
const ATTEMPTS: usize = 5;

/// What waits to be stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intake {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By project.
    messages: BTreeMap<String, Vec<Sent>>,
    /// Somebody will store them.
    scheduled: bool,
}

impl Waiting {
    /// Takes a message in, if there is room.
    fn add(&mut self, project: &str, sent: Sent) -> bool {
        let all: usize = self.messages.values().map(Vec::len).sum();
        let own = self.messages.get(project).map_or(0, Vec::len);
        if own >= WAITING || all >= WAITING_IN_ALL {
            return false;
        }
        self.messages.entry(project.to_owned()).or_default().push(sent);
        true
    }
}

/// A message.
#[derive(Debug)]
struct Sent {
    responder: String,
    session_id: String,
    runs: Vec<RunTally>,
    /// Hears which replays are not known, or why nothing was stored.
    done: oneshot::Sender<Result<Vec<String>, String>>,
}

/// Counts for a record: of which process, and what.
type Counted = Vec<(String, RunTally)>;

impl Intake {
    /// Takes a message of a responder of this project, and returns when it is durable.
    pub(super) async fn take(
        &self,
        plane: &Arc<Plane>,
        project: &str,
        request: SendTallyRequest,
    ) -> Result<SendTallyResponse, Problem> {
        check(project, &request)?;
        let (done, outcome) = oneshot::channel();
        let SendTallyRequest { responder, session_id, mut runs, .. } = request;
        runs.iter_mut().for_each(bound);
        let schedule = {
            let mut waiting = self.lock();
            if !waiting.add(project, Sent { responder, session_id, runs, done }) {
                let message = "too many counts wait to be stored; send them again".to_owned();
                return Err(Problem::Unavailable { reason: "BUSY", message });
            }
            !std::mem::replace(&mut waiting.scheduled, true)
        };
        if schedule {
            let (intake, plane) = (self.clone(), Arc::clone(plane));
            tokio::spawn(async move { intake.store(&plane).await });
        }
        match outcome.await {
            Ok(Ok(unknown)) => Ok(SendTallyResponse { unknown }),
            Ok(Err(message)) => Err(Problem::Unavailable { reason: "NOT_STORED", message }),
            Err(_) => Err(Problem::Store(StoreError::Stopped)),
        }
    }

    async fn store(&self, plane: &Plane) {
        tokio::time::sleep(GATHER).await;
        let messages = {
            let mut waiting = self.lock();
            waiting.scheduled = false;
            std::mem::take(&mut waiting.messages)
        };
        let each = messages.into_iter();
        let each = each.map(|(project, messages)| async move {
            store_all(plane, &project, messages).await;
        });
        // A project may have to wait for turns of its own.
        join_all(each).await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores what waits of a project, and tells everybody who waits for that.
async fn store_all(plane: &Plane, project: &str, messages: Vec<Sent>) {
    let mut records: BTreeMap<(String, u64, String), Counted> = BTreeMap::new();
    for sent in &messages {
        for run in &sent.runs {
            let key = (run.replay.clone(), run.run, sent.responder.clone());
            records.entry(key).or_default().push((sent.session_id.clone(), run.clone()));
        }
    }
    let stored = store(plane, project, records).await.map_err(|problem| chain(&problem));
    if let Err(error) = &stored {
        tracing::warn!(project, error, "counts of responders could not be stored");
    }
    for sent in messages {
        // Whoever does not wait any more sends it again.
        drop(sent.done.send(stored.clone().map(|unknown| {
            let own = |replay: &String| sent.runs.iter().any(|run| run.replay == *replay);
            unknown.into_iter().filter(own).collect()
        })));
    }
}

fn check(project: &str, request: &SendTallyRequest) -> Result<(), Problem> {
    let responder = &request.responder;
    if responder.is_empty() || responder.len() > 253 || responder.chars().any(char::is_control) {
        let message = "a responder's name has 1 to 253 bytes";
        return Err(Problem::field("responder", "INVALID_RESPONDER", message));
    }
    if request.session_id.is_empty() || request.session_id.len() > 64 {
        let message = "a process is named by 1 to 64 bytes";
        return Err(Problem::field("session_id", "INVALID_SESSION", message));
    }
    if request.runs.len() > MOST_RUNS {
        let message = format!("a message has at most {MOST_RUNS} runs");
        return Err(Problem::field("runs", "TOO_MANY", message));
    }
    let own = crate::service::name::prefix(Kind::Replay, project);
    for run in &request.runs {
        crate::service::name::Name::parse(Kind::Replay, "runs.replay", &run.replay)?;
        if !run.replay.starts_with(&own) {
            return Err(Problem::Denied {
                reason: "WRONG_PROJECT",
                message: format!("{} does not belong to {project}", run.replay),
            });
        }
    }
    Ok(())
}

/// Stores everything; tells which replays are not known.
async fn store(
    plane: &Plane,
    project: &str,
    records: BTreeMap<(String, u64, String), Counted>,
) -> Result<Vec<String>, Problem> {
    let replays: BTreeSet<&String> = records.keys().map(|(replay, ..)| replay).collect();
    let mut unknown = Vec::new();
    for replay in replays {
        if plane.meta.get(Kind::Replay, replay).await?.is_none() {
            unknown.push(replay.clone());
        }
    }
    let known: Vec<_> =
        records.into_iter().filter(|((replay, ..), _)| !unknown.contains(replay)).collect();
    for some in known.chunks(TOGETHER) {
        commit(plane, project, some).await?;
    }
    Ok(unknown)
}

async fn commit(
    plane: &Plane,
    project: &str,
    records: &[((String, u64, String), Counted)],
) -> Result<(), Problem> {
    let mut attempts = ATTEMPTS;
    loop {
        let mut txn = Txn::default();
        let mut begun = BTreeSet::new();
        let mut grown = 0_u64;
        for ((replay, run, responder), counted) in records {
            let name = format!("{}{responder}", RunName { replay, run: *run }.prefix());
            let record = plane.meta.get(Kind::Report, &name).await?;
            let before = record.as_ref().map(|record| record.body.len());
            let (expect, known) = match record {
                None => (Expect::Absent, None),
                Some(record) => (Expect::Etag(record.etag), Contribution::decode(&record.body)),
            };
            if expect == Expect::Absent {
                begun.insert((replay, *run));
            }
            let mut contribution = known.unwrap_or_default();
            let mut news = false;
            for (session_id, counted) in counted {
                news |= contribution.take(session_id, counted.clone());
            }
            if news {
                let body = contribution.encode_to_vec();
                grown = grown.saturating_add(quota::growth(before, body.len()));
                txn = txn.and_put(Kind::Report, name, expect, body);
            }
        }
        if txn.ops.is_empty() {
            return Ok(());
        }
        plane.quota.take(plane, project, grown).await?;
        let committed = plane.meta.commit(txn).await;
        if committed.is_err() {
            plane.quota.give_back(project, grown);
        }
        match committed {
            Ok(_) => return forget_old(plane, &begun).await,
            Err(
                CommitError::Changed { .. }
                | CommitError::Exists { .. }
                | CommitError::Missing { .. },
            ) if attempts > 0 => attempts -= 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Forgets the runs of which there are too many since these have begun.
async fn forget_old(plane: &Plane, begun: &BTreeSet<(&String, u64)>) -> Result<(), Problem> {
    let replays: BTreeSet<&String> = begun.iter().map(|(replay, _)| *replay).collect();
    for replay in replays {
        let kept = runs(plane, replay).await?;
        for run in kept.iter().take(kept.len().saturating_sub(RUNS)) {
            let prefix = RunName { replay, run: *run }.prefix();
            let old = all(&*plane.meta, Kind::Report, &prefix).await?;
            let txn = old.into_iter().fold(Txn::default(), |txn, record| {
                txn.and_delete(Kind::Report, record.name, Expect::Any)
            });
            plane.meta.commit(txn).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_room_to_others() {
        let mut waiting = Waiting::default();
        let mut add = |project: &str| {
            let (done, _) = oneshot::channel();
            let sent =
                Sent { responder: "r".into(), session_id: "1".into(), runs: Vec::new(), done };
            waiting.add(project, sent)
        };
        while add("projects/busy") {}
        assert!(add("projects/other"));
        while add("projects/other") {}
        assert!(!add("projects/third"), "all together are bounded, too");
    }
}
