//! What operators do with stores, without a control plane or beside those that run: remove what nothing names, read everything again, back up,
//! restore.
//!
//! A backup is the data directory of a control plane of its own: `meta.db` and `blobs`. So it can be looked into, or served, as it is.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_engine::snapshot::digest::Digest;
use tokio_util::sync::CancellationToken;

use crate::{
    content::{self, ContentError},
    lock::lock,
    scrub,
    store::{BlobStore, Dump, MetaStore, StoreError, blob::io_error, blocking, place::Places},
    sweep::{self, SweepError},
};

pub use crate::scrub::Report;

/// Blobs that are copied together; they are in memory meanwhile.
const BATCH: usize = 64;

/// Stores that are open for a command.
#[derive(Debug)]
pub struct Stores {
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    holder: String,
    // Held open as long as the directory is used.
    _lock: Option<fs::File>,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing, or not everything, was removed.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// Something live cannot be read.
    #[error("the backup is not whole")]
    Content(#[from] ContentError),
    /// There is something already.
    #[error("{} is there already; name a directory that is not, or is empty", path.display())]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// There is no backup.
    #[error("{} is no backup: there is no meta.db in it", path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
    },
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Records.
    pub records: usize,
    /// Blobs.
    pub blobs: usize,
    /// The revision of the records.
    pub revision: u64,
}

impl Stores {
    /// Opens stores. What belongs to one process is opened only while no control plane has it.
    ///
    /// # Errors
    /// When a store cannot be opened, or a control plane uses the data directory.
    pub async fn open(places: &Places, data_dir: &Path) -> Result<Self, OperateError> {
        let lock = if places.is_shared() {
            None
        } else {
            let dir = data_dir.to_owned();
            Some(blocking(move || lock(&dir)).await??)
        };
        let (meta, blobs) = places.open().await?;
        let holder = format!("command {}", uuid::Uuid::new_v4());
        Ok(Self { meta, blobs, holder, _lock: lock })
    }

    /// Removes what nothing names and is older than the grace. Returns how many blobs went.
    ///
    /// # Errors
    /// When somebody else is at it, something live cannot be read, or a store fails.
    pub async fn collect(&self, grace: Duration) -> Result<u64, OperateError> {
        Ok(sweep::shared(&*self.meta, &*self.blobs, &self.holder, grace).await?)
    }

    /// Reads everything, and tells what is damaged or missing. What is damaged is put aside if that is wanted.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn scrub(&self, put_aside: bool) -> Result<Report, OperateError> {
        Ok(scrub::all(&*self.meta, &*self.blobs, put_aside, &CancellationToken::new()).await?)
    }

    /// Copies everything that is live into a new directory. Others may write meanwhile; the copy is of one revision.
    ///
    /// # Errors
    /// When the directory is not empty, something live cannot be read, or a store fails.
    pub async fn back_up(&self, into: &Path) -> Result<Copied, OperateError> {
        let path = into.to_owned();
        if !blocking(move || is_absent(&path)).await?? {
            return Err(OperateError::InTheWay { path: into.to_owned() });
        }
        let copy = async {
            let target = Self::open(&Places::embedded(into), into).await;
            let target = target.map_err(|error| match error {
                OperateError::Store(error) => error,
                _ => StoreError::Stopped,
            })?;
            let dump = self.meta.dump().await?;
            copy(&*self.blobs, &target, dump).await
        };
        // Nothing that is copied may be removed meanwhile.
        Ok(sweep::alone(&*self.meta, &self.holder, Box::pin(copy)).await?)
    }

    /// Fills these stores, which never held anything, from a backup. They keep their own identity, so that responders check what they hold.
    ///
    /// # Errors
    /// When there is something in them, there is no backup, it is not whole, or a store fails.
    pub async fn restore(&self, from: &Path) -> Result<Copied, OperateError> {
        if !from.join("meta.db").is_file() {
            return Err(OperateError::NoBackup { path: from.to_owned() });
        }
        let present = self.meta.dump().await?;
        if !present.records.is_empty() {
            let what = "the store".to_owned();
            return Err(StoreError::NotEmpty(what).into());
        }
        let source = Self::open(&Places::embedded(from), from).await?;
        let dump = source.meta.dump().await?;
        Ok(copy(&*source.blobs, self, dump).await?)
    }
}

/// Copies blobs, then the records that name them.
async fn copy(from: &dyn BlobStore, into: &Stores, dump: Dump) -> Result<Copied, SweepError> {
    let mut live: HashSet<Digest> = HashSet::new();
    for (kind, record) in &dump.records {
        let roots = sweep::roots(*kind, record.clone()).map_err(SweepError::Unreadable)?;
        live.extend(content::named_by(from, roots).await.map_err(SweepError::Unreadable)?);
    }
    let digests: Vec<Digest> = live.into_iter().collect();
    for batch in digests.chunks(BATCH) {
        let mut blobs = Vec::new();
        for digest in batch {
            let bytes = content::blob(from, *digest).await.map_err(SweepError::Unreadable)?;
            blobs.push((*digest, bytes));
        }
        into.blobs.put_named(blobs).await?;
    }
    let copied =
        Copied { records: dump.records.len(), blobs: digests.len(), revision: dump.revision };
    into.meta.load(dump).await?;
    Ok(copied)
}

/// Whether there is nothing in a directory, or none.
fn is_absent(path: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("read", path)(error)),
    }
}
