//! What the control plane remembers: small mutable records behind [`MetaStore`], large immutable bytes behind [`BlobStore`].
//!
//! A write becomes visible in this order only: blobs durable, then the commit that names them, then the hint that something changed. A crash
//! in between leaves at most unreferenced blobs. Revisions grow with each commit and survive restarts.

pub mod blob;
#[cfg(test)]
mod conformance;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
mod pack;
pub mod place;
pub mod postgres;
pub mod s3;
#[cfg(test)]
pub mod servers;
pub mod sqlite;
mod synced;
mod txn;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    error::StoreError,
    txn::{CommitError, Committed, Expect, Guard, Op, Txn},
};

/// Mutable records with preconditions and one revision counter.
#[async_trait]
pub trait MetaStore: fmt::Debug + Send + Sync {
    /// The store's random identity, made when the store was.
    fn identity(&self) -> &str;

    /// Applies all operations or none. An error that is [unavailable](StoreError::is_unavailable) leaves open which of both; no other does.
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;

    /// One record.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError>;

    /// A page of records in order of their names.
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError>;

    /// How many records of a kind have names that begin like this, and how long they are together.
    async fn weigh(&self, kind: Kind, prefix: &str) -> Result<Weight, StoreError>;

    /// The revision of the last commit that this process knows of. Lossy: a reader sees the newest value, not each one.
    fn revision(&self) -> watch::Receiver<u64>;

    /// Asks the store for its revision, so that what others have committed until now is known.
    async fn refresh(&self) -> Result<u64, StoreError>;

    /// Takes or prolongs a lease; `None` while somebody else has it. A holder who let it run out gets another epoch. Time is the store's.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Epoch>, StoreError>;

    /// Gives up a lease, if this holder has it.
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// How a lease stands.
    async fn leased(&self, name: &str) -> Result<Lease, StoreError>;

    /// Cancelled when another store is found where this one was: nothing that this process knows holds any more.
    fn replaced(&self) -> CancellationToken {
        CancellationToken::new()
    }

    /// Everything at one revision.
    async fn dump(&self) -> Result<Dump, StoreError>;

    /// Fills a store that never held anything. What it holds keeps its etags and times; the store keeps its own identity.
    async fn load(&self, dump: Dump) -> Result<(), StoreError>;

    /// Where control planes that share the store hear of each other; `None` when it is not shared.
    fn roster(&self) -> Option<&dyn Roster> {
        None
    }
}

/// All records of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The revision that they were read at.
    pub revision: u64,
    /// The records, each with its kind, in the order of both names.
    pub records: Vec<(Kind, Record)>,
}

/// What control planes tell each other of their responders. It is no part of what revisions count.
#[async_trait]
pub trait Roster: fmt::Debug + Send + Sync {
    /// Says that a replica lives, and writes what has changed at it.
    async fn report(&self, replica: &str, changed: Vec<Entry>) -> Result<(), StoreError>;

    /// Takes a replica off that ends.
    async fn leave(&self, replica: &str) -> Result<(), StoreError>;

    /// All other replicas, each with what has changed at it since the report that is known of it.
    async fn others(
        &self,
        replica: &str,
        known: &BTreeMap<String, u64>,
    ) -> Result<Vec<Reported>, StoreError>;

    /// Changes when somebody may have reported something new. Lossy.
    fn hints(&self) -> watch::Receiver<u64>;
}

/// A replica in the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Its name.
    pub replica: String,
    /// Whether it has said so just now.
    pub alive: bool,
    /// The number of its last report.
    pub reports: u64,
    /// What has changed.
    pub changed: Vec<Entry>,
}

/// A responder in the roster, by whatever the service makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// What the service stored.
    pub body: Bytes,
}

/// Counts who had a lease: it grows whenever the lease passes from one holder to the next, and when one let it run out.
pub type Epoch = u64;

/// A lease as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The epoch of the last holder; 0 when there never was one.
    pub epoch: Epoch,
    /// Whether the last holder has it still.
    pub held: bool,
}

/// Immutable bytes by digest.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// What addresses are made with, of what is stored without one.
    fn function(&self) -> Function {
        Function::default()
    }

    /// Stores bytes durably, and returns their digest; storing them again is free of effect.
    async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let function = self.function();
        let (digest, bytes) = blocking(move || (Digest::by(function, &bytes), bytes)).await?;
        self.put_named(vec![(digest, bytes)]).await?;
        Ok(digest)
    }

    /// Stores many; all of them are durable when it returns their digests.
    async fn put_all(&self, blobs: Vec<Bytes>) -> Result<Vec<Digest>, StoreError> {
        let function = self.function();
        let name = move |bytes: Bytes| (Digest::by(function, &bytes), bytes);
        let named: Vec<_> = blocking(move || blobs.into_iter().map(name).collect()).await?;
        let digests = named.iter().map(|(digest, _)| *digest).collect();
        self.put_named(named).await?;
        Ok(digests)
    }

    /// Stores many under digests that the caller knows to be theirs, of whatever function; all of them are durable when it returns.
    async fn put_named(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), StoreError>;

    /// The bytes, verified against their digest; `None` when they are not stored.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError>;

    /// Those of the digests whose bytes are not stored. It does not read them.
    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError>;

    /// Removes all blobs but these and those that were stored within the grace, and returns how many. Whoever names a blob in a commit
    /// meanwhile has to look afterwards whether it is still there.
    async fn retain(&self, live: HashSet<Digest>, grace: Duration) -> Result<u64, StoreError>;

    /// Reads everything that is stored, and tells what is not as it was. What is damaged is put aside if that is wanted and possible, so that
    /// it is missing, and whoever stores it again mends it. It ends early, with an error, when it is told to stop.
    async fn scrub(
        &self,
        put_aside: bool,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, StoreError>;

    /// Makes the place that of one store, since each removes what it does not name; an error when it is another's.
    async fn claim(&self, store_uid: &str) -> Result<(), StoreError> {
        // A directory belongs to the process that has locked it.
        let _ = store_uid;
        Ok(())
    }

    /// Where parts of uploads are kept that other processes may go on with; `None` when there is no such place.
    fn parts(&self) -> Option<&dyn Parts> {
        None
    }
}

/// What reading everything has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged, each by its place.
    pub damaged: Vec<String>,
    /// The hashes of what is damaged, where its name tells.
    pub hashes: HashSet<[u8; 32]>,
    /// How many of these were put aside.
    pub put_aside: u64,
}

/// Parts of uploads in progress, each named by the first piece in it.
#[async_trait]
pub trait Parts: fmt::Debug + Send + Sync {
    /// Stores a part durably.
    async fn put_part(
        &self,
        snapshot: &str,
        upload_id: &str,
        first: u64,
        bytes: Bytes,
    ) -> Result<(), StoreError>;

    /// The first pieces of all parts of an upload, in order.
    async fn list_parts(&self, snapshot: &str, upload_id: &str) -> Result<Vec<u64>, StoreError>;

    /// A part; `None` when it is not there.
    async fn get_part(
        &self,
        snapshot: &str,
        upload_id: &str,
        first: u64,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Removes the parts of all uploads to a snapshot.
    async fn remove_parts(&self, snapshot: &str) -> Result<(), StoreError>;

    /// Removes what was stored before the grace and belongs to none of these snapshots.
    async fn retain_parts(&self, snapshots: &[String], grace: Duration) -> Result<(), StoreError>;
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
    /// Who shares the turns of a running replay; has the replay's name.
    Members,
    /// Blobs that were written for a snapshot which is not committed yet; its name begins with that of the snapshot.
    Holding,
    /// What a responder has counted of a run of a replay; its name begins with that of the replay.
    Report,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Snapshot,
        Self::Transform,
        Self::TestConfig,
        Self::Replay,
        Self::Assignment,
        Self::Members,
        Self::Holding,
        Self::Report,
    ];

    /// The kind with this name in the store.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Transform => "transform",
            Self::TestConfig => "test config",
            Self::Replay => "replay",
            Self::Assignment => "assignment",
            Self::Members => "members",
            Self::Holding => "holding",
            Self::Report => "report",
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

/// What records weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// How many there are.
    pub records: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
}

/// All records of a kind whose names begin with the prefix.
pub(crate) async fn all(
    meta: &dyn MetaStore,
    kind: Kind,
    prefix: &str,
) -> Result<Vec<Record>, StoreError> {
    let prefix = prefix.to_owned();
    let mut query = ListQuery { kind, prefix, after: String::new(), limit: 1000 };
    let mut records: Vec<Record> = Vec::new();
    loop {
        let page = meta.list(query.clone()).await?;
        records.extend(page.records);
        if !page.more {
            return Ok(records);
        }
        query.after = records.last().map(|record| record.name.clone()).unwrap_or_default();
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

/// A random time up to this one.
pub(crate) fn jitter(ceiling: Duration) -> Duration {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(high.checked_rem(nanos.saturating_add(1)).unwrap_or_default())
}
