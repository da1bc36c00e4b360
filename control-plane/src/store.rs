//! What the control plane remembers: small mutable records behind [`MetaStore`], large immutable bytes behind [`BlobStore`].
//!
//! A write becomes visible in this order only: blobs durable, then the commit that names them, then the hint that something changed. A crash
//! in between leaves at most unreferenced blobs. Revisions grow with each commit and survive restarts.

pub mod blob;
#[cfg(test)]
mod conformance;
mod pack;
pub mod sqlite;

use std::{collections::HashSet, fmt, io, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use tokio::sync::watch;

/// Mutable records with preconditions and one revision counter.
#[async_trait]
pub trait MetaStore: fmt::Debug + Send + Sync {
    /// The store's random identity, made when the store was.
    fn identity(&self) -> &str;

    /// Applies all operations or none.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;

    /// One record.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError>;

    /// A page of records in order of their names.
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError>;

    /// The revision of the last commit. Lossy: a reader sees the newest value, not each one.
    fn revision(&self) -> watch::Receiver<u64>;
}

/// Immutable bytes by digest.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// Stores bytes durably, and returns their digest; storing them again is free of effect.
    async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError>;

    /// Stores many; all of them are durable when it returns their digests.
    async fn put_all(&self, blobs: Vec<Bytes>) -> Result<Vec<Digest>, StoreError>;

    /// The bytes, verified against their digest; `None` when they are not stored.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError>;

    /// Removes all blobs but these, and returns how many. Nobody may be writing meanwhile.
    async fn retain(&self, live: HashSet<Digest>) -> Result<u64, StoreError>;
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A snapshot.
    Snapshot,
    /// A transform template.
    Transform,
    /// A test config.
    TestConfig,
    /// A replay.
    Replay,
    /// What is announced for a running replay; has the replay's name.
    Assignment,
}

impl Kind {
    /// Its name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Transform => "transform",
            Self::TestConfig => "test config",
            Self::Replay => "replay",
            Self::Assignment => "assignment",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its full resource name.
    pub name: String,
    /// Names this version of it.
    pub etag: String,
    /// The commit that wrote it.
    pub revision: u64,
    /// When it was created, in nanoseconds since the epoch.
    pub created: i64,
    /// When it was written last, in nanoseconds since the epoch.
    pub updated: i64,
    /// What the service stored.
    pub body: Bytes,
}

/// Operations that happen together.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// The operations, in order.
    pub ops: Vec<Op>,
}

impl Txn {
    /// One write.
    #[must_use]
    pub fn put(
        kind: Kind,
        name: impl Into<String>,
        expect: Expect,
        body: impl Into<Bytes>,
    ) -> Self {
        Self::default().and_put(kind, name, expect, body)
    }

    /// One deletion.
    #[must_use]
    pub fn delete(kind: Kind, name: impl Into<String>, expect: Expect) -> Self {
        Self::default().and_delete(kind, name, expect)
    }

    /// Adds a write.
    #[must_use]
    pub fn and_put(
        mut self,
        kind: Kind,
        name: impl Into<String>,
        expect: Expect,
        body: impl Into<Bytes>,
    ) -> Self {
        self.ops.push(Op { kind, name: name.into(), expect, write: Some(body.into()) });
        self
    }

    /// Adds a deletion.
    #[must_use]
    pub fn and_delete(mut self, kind: Kind, name: impl Into<String>, expect: Expect) -> Self {
        self.ops.push(Op { kind, name: name.into(), expect, write: None });
        self
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Op {
    /// The kind of the record.
    pub kind: Kind,
    /// Its full resource name.
    pub name: String,
    /// What must hold for the whole transaction to happen.
    pub expect: Expect,
    /// The new body; `None` deletes.
    pub write: Option<Bytes>,
}

/// A precondition of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Any,
    /// There is no such record.
    Absent,
    /// There is such a record.
    Present,
    /// There is such a record in this version.
    Etag(String),
}

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// The records as written, in the order of the writes.
    pub records: Vec<Record>,
}

/// Asks for a page of records.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// The kind of the records.
    pub kind: Kind,
    /// What their names begin with.
    pub prefix: String,
    /// Only names behind this one; empty for all.
    pub after: String,
    /// At most so many.
    pub limit: usize,
}

/// A page of records, and the revision that it was read at.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records in order of their names.
    pub records: Vec<Record>,
    /// Whether there are more behind the last one.
    pub more: bool,
    /// The store's revision when the page was read.
    pub revision: u64,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The record exists already.
    #[error("{kind} {name} exists already")]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The record does not exist.
    #[error("there is no {kind} {name}")]
    Missing {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The record was changed by somebody else.
    #[error("{kind} {name} was changed since it was read: it is at etag {current}, not {expected}")]
    Changed {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The etag that the caller knew.
        expected: String,
        /// The etag that it has.
        current: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("the data directory {} is in use by another process{}", path.display(), holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, where it said so.
        holder: Option<String>,
    },
    /// The database cannot be used.
    #[error("cannot {doing} the database {}", path.display())]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The database's file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("the database {} has layout {found}, this version knows layouts up to {known}", path.display())]
    Layout {
        /// The database's file.
        path: PathBuf,
        /// The layout found.
        found: i64,
        /// The newest layout known.
        known: i64,
    },
    /// Stored bytes are not what was stored.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The work was cut off by a shutdown.
    #[error("the store is shutting down")]
    Stopped,
}

impl StoreError {
    /// Whether the disk or a quota is full, so that a retry after making room can succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                )
            }
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }

    /// Whether stored bytes were found damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Database { source, .. } => {
                matches!(
                    source.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                )
            }
            _ => false,
        }
    }
}

/// Runs blocking work on the blocking pool.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)
}

/// The time now in nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
