//! Brings to the disk what was written to files. Once that has failed, nothing is written any more before the process is started again: what the system
//! could not write it may have forgotten, and would say of the next attempt that all is well.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{StoreError, blob::io_error};

/// The disk that a directory of blobs is on.
#[derive(Debug)]
pub(super) struct Disk {
    failed: AtomicBool,
    sync: fn(&fs::File) -> io::Result<()>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::by(fs::File::sync_all)
    }
}

impl Disk {
    /// One that brings files to rest in this way.
    pub(super) fn by(sync: fn(&fs::File) -> io::Result<()>) -> Self {
        Self { failed: AtomicBool::new(false), sync }
    }

    /// Whether it may be written to.
    pub(super) fn check(&self, path: &Path) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(StoreError::Unsynced { path: path.to_owned() });
        }
        Ok(())
    }

    /// Makes the bytes of a file durable.
    pub(super) fn file(&self, file: &fs::File) -> io::Result<()> {
        (self.sync)(file).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    /// Makes the names in a directory durable.
    pub(super) fn dir(&self, path: &Path) -> Result<(), StoreError> {
        fs::File::open(path).and_then(|dir| self.file(&dir)).map_err(io_error("sync", path))
    }
}
