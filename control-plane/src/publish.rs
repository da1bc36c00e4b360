//! The table of what is announced, kept equal to the store's assignments.
//!
//! Level-triggered: a change of the store's revision only says "look again"; whoever is slow sees the newest table, never a queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_engine::snapshot::{digest::Digest, wire::WireError};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    rollout::Announced,
    service::{chain, wire},
    store::{Kind, ListQuery, MetaStore, StoreError},
};

const CATCH_UP: Duration = Duration::from_secs(2);

/// A version of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The bundle to serve.
    pub bundle: Digest,
    /// Grows with each start of the replay.
    pub generation: u64,
    /// When the replay was started, in nanoseconds since the epoch.
    pub start_time: i64,
}

/// All assignments at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The store's revision.
    pub revision: u64,
    /// The assignments by the replay's name.
    pub assignments: BTreeMap<String, Arc<Entry>>,
}

/// A stored assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names this version of the record.
    pub etag: String,
    /// What is announced.
    pub announced: Announced,
}

impl Table {
    /// What is announced of a replay.
    #[must_use]
    pub fn get(&self, replay: &str) -> Option<&Announced> {
        self.assignments.get(replay).map(|entry| &entry.announced)
    }
}

/// Keeps the table.
#[derive(Debug, Clone)]
pub struct Publisher {
    table: watch::Receiver<Arc<Table>>,
}

impl Publisher {
    /// Reads the table and keeps it up to date until `stopping`.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn start(
        meta: Arc<dyn MetaStore>,
        stopping: CancellationToken,
    ) -> Result<Self, StoreError> {
        let mut revision = meta.revision();
        revision.mark_changed();
        let (sender, table) = watch::channel(Arc::new(read(&*meta, &Table::default()).await?));
        tokio::spawn(async move {
            stopping.run_until_cancelled(follow(&*meta, revision, &sender)).await;
        });
        Ok(Self { table })
    }

    /// The table, and its changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Table>> {
        self.table.clone()
    }

    /// Waits until the table shows a commit, so that a caller who was answered finds it announced. Bounded: the commit stands in any case.
    pub async fn caught_up(&self, revision: u64) {
        let mut table = self.table.clone();
        let caught_up = table.wait_for(|table| table.revision >= revision);
        if timeout(CATCH_UP, caught_up).await.is_err() {
            tracing::warn!(revision, "the announced table lags behind the store");
        }
    }

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }
}

async fn follow(
    meta: &dyn MetaStore,
    mut revision: watch::Receiver<u64>,
    table: &watch::Sender<Arc<Table>>,
) {
    while revision.changed().await.is_ok() {
        let before = Arc::clone(&table.borrow());
        match read(meta, &before).await {
            Ok(now) => {
                table.send_replace(Arc::new(now));
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot read the assignments, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                revision.mark_changed();
            }
        }
    }
}

/// Reads everything; records that are as they were before are taken over.
async fn read(meta: &dyn MetaStore, before: &Table) -> Result<Table, StoreError> {
    let mut table = Table::default();
    let mut query = ListQuery {
        kind: Kind::Assignment,
        prefix: String::new(),
        after: String::new(),
        limit: 1000,
    };
    loop {
        let page = meta.list(query.clone()).await?;
        // Pages may come from different revisions; the first is the one that all of them are at least at.
        if table.revision == 0 {
            table.revision = page.revision;
        }
        for record in page.records {
            query.after.clone_from(&record.name);
            if let Some(same) =
                before.assignments.get(&record.name).filter(|entry| entry.etag == record.etag)
            {
                table.assignments.insert(record.name, Arc::clone(same));
                continue;
            }
            match wire::decode_announced(record.body) {
                Ok(announced) => {
                    let entry = Entry { etag: record.etag, announced };
                    table.assignments.insert(record.name, Arc::new(entry));
                }
                // One bad record must not hide the others.
                Err(error) => log_unreadable(&record.name, &error),
            }
        }
        if !page.more {
            return Ok(table);
        }
    }
}

fn log_unreadable(replay: &str, error: &WireError) {
    tracing::error!(replay, error = chain(error), "cannot read an assignment, leaving it out");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expect, Txn, sqlite::SqliteMeta};

    fn assignment(content: &str, generation: u64) -> Assignment {
        Assignment { bundle: Digest::of(content.as_bytes()), generation, start_time: 1 }
    }

    async fn put(meta: &SqliteMeta, name: &str, assignment: Assignment) -> u64 {
        let announced = Announced { active: Some(assignment), ..Announced::default() };
        let body = wire::encode_announced(&announced);
        meta.commit(Txn::put(Kind::Assignment, name, Expect::Any, body)).await.unwrap().revision
    }

    #[tokio::test]
    async fn the_table_follows_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Arc::new(SqliteMeta::open(&dir.path().join("meta.db")).unwrap());
        put(&meta, "r", assignment("one", 1)).await;
        let publisher = Publisher::start(meta.clone(), CancellationToken::new()).await.unwrap();
        let mut table = publisher.subscribe();
        let active = |table: &Table| table.get("r").unwrap().active;
        assert_eq!(active(&publisher.table()), Some(assignment("one", 1)));

        let revision = put(&meta, "r", assignment("two", 2)).await;
        let seen = active(&table.wait_for(|table| table.revision >= revision).await.unwrap());
        assert_eq!(seen, Some(assignment("two", 2)));

        let txn = Txn::delete(Kind::Assignment, "r", Expect::Present);
        let revision = meta.commit(txn).await.unwrap().revision;
        let gone = table.wait_for(|table| table.revision >= revision).await.unwrap();
        assert!(gone.assignments.is_empty());
    }
}
