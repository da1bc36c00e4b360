//! The gRPC services, and what they share. Wire types stay in this module's files.

pub(crate) mod access;
mod announced;
pub(crate) mod chunk;
pub(crate) mod console;
pub(crate) mod discovery;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod lineage;
pub(crate) mod methods;
pub(crate) mod name;
pub(crate) mod page;
mod problem;
mod quota;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod rollout;
pub(crate) mod roster;
pub(crate) mod routes;
pub(crate) mod snapshot;
pub(crate) mod test_config;
pub(crate) mod traffic;
pub(crate) mod transform;
pub(crate) mod wire;
pub(crate) use discovery::members;
pub(crate) use problem::{Problem, chain, stored};
pub(crate) use quota::Quota;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_telemetry::Tracer;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Timing,
    fleet::Fleet,
    import::{sort::Scratch, staging::Staging, uploads::Uploads},
    publish::Publisher,
    scrub::Scrubbing,
    store::{BlobStore, CommitError, Committed, Kind, MetaStore, Record, StoreError, Txn},
    turns::{SUBSCRIPTIONS, Turn, Turns, WATCHES},
};

/// What the services share.
#[derive(Debug)]
pub(crate) struct Plane {
    /// Names this process among those that share the store.
    pub(crate) replica: String,
    /// When it began, in nanoseconds since the epoch.
    pub(crate) began: i64,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    /// Where both are, in words.
    pub(crate) kept: (&'static str, &'static str),
    pub(crate) staging: Staging,
    /// How much one project may store.
    pub(crate) quota: Quota,
    pub(crate) scratch: Scratch,
    /// How often everything that is stored is read, and what came of it.
    pub(crate) scrubbing: Scrubbing,
    pub(crate) uploads: Uploads,
    /// The snapshots that are uploaded to this process.
    pub(crate) appending: Appending,
    pub(crate) publisher: Publisher,
    pub(crate) fleet: Fleet,
    /// Who shares the turns of which replay.
    pub(crate) members: members::Announced,
    pub(crate) timing: Timing,
    /// Bounds imports and compilations, which hold whole snapshots in memory.
    pub(crate) heavy: Turns,
    /// Bounds imports that read along with an upload, as slowly as it comes.
    pub(crate) following: Turns,
    /// Bounds what is looked at in parts of snapshots.
    pub(crate) looking: Turns,
    /// Bounds streams that stay open.
    pub(crate) open: Open,
    /// `None` where nothing is traced.
    pub(crate) tracer: Option<Tracer>,
    /// Ends the streams that would otherwise never end.
    pub(crate) stopping: CancellationToken,
}

impl Plane {
    /// One record, which must exist.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Record, Problem> {
        self.meta
            .get(kind, name)
            .await?
            .ok_or_else(|| Problem::NotFound { kind, name: name.to_owned() })
    }

    /// Commits what changes the announced table, and returns when the table shows it.
    pub(crate) async fn announce(&self, txn: Txn) -> Result<Committed, CommitError> {
        let committed = self.meta.commit(txn).await?;
        self.publisher.caught_up(committed.revision).await;
        Ok(committed)
    }

    /// Waits for a turn at work that holds a whole snapshot in memory.
    pub(crate) async fn heavy(&self, project: &str) -> Result<Turn, Problem> {
        self.heavy.take(project).await.map_err(|_| Problem::Store(StoreError::Stopped))
    }

    /// Waits for a turn at reading along with an upload.
    pub(crate) async fn follow(&self, project: &str) -> Result<Turn, Problem> {
        self.following.take(project).await.map_err(|_| Problem::Store(StoreError::Stopped))
    }

    /// Waits for a turn at work that takes parts of a snapshot into memory, or runs a template once.
    pub(crate) async fn look(&self, project: &str) -> Result<Turn, Problem> {
        self.looking.take(project).await.map_err(|_| Problem::Store(StoreError::Stopped))
    }
}

/// Places for streams that stay open, of each project fewer than there are.
#[derive(Debug)]
pub(crate) struct Open {
    watches: Turns,
    subscriptions: Turns,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            watches: Turns::new(WATCHES.0, WATCHES.1),
            subscriptions: Turns::new(SUBSCRIPTIONS.0, SUBSCRIPTIONS.1),
        }
    }
}

impl Open {
    /// A place for whoever watches something of a project.
    pub(crate) fn watch(&self, project: &str) -> Result<Turn, Problem> {
        self.watches.try_many(project, 1).ok_or_else(|| Self::full("watches"))
    }

    /// A place for a responder of a project.
    pub(crate) fn subscribe(&self, project: &str) -> Result<Turn, Problem> {
        self.subscriptions.try_many(project, 1).ok_or_else(|| Self::full("subscriptions"))
    }

    fn full(what: &str) -> Problem {
        let message = format!("too many {what} are open; end some, or ask again later");
        Problem::Unavailable { reason: "BUSY", message }
    }
}

/// Which snapshots are uploaded to this process now.
#[derive(Debug, Default)]
pub(crate) struct Appending {
    open: Mutex<HashMap<String, usize>>,
}

/// An upload that goes on until it is dropped.
pub(crate) struct Here<'a> {
    appending: &'a Appending,
    snapshot: String,
}

impl Appending {
    pub(crate) fn enter(&self, snapshot: &str) -> Here<'_> {
        *self.lock().entry(snapshot.to_owned()).or_default() += 1;
        Here { appending: self, snapshot: snapshot.to_owned() }
    }

    pub(crate) fn contains(&self, snapshot: &str) -> bool {
        self.lock().contains_key(snapshot)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut open = self.appending.lock();
        let left = open.get_mut(&self.snapshot).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            open.remove(&self.snapshot);
        }
    }
}
