//! Blobs and assignments on disk, so that a responder can start while the control plane is away.
//!
//! Nothing on the disk is trusted: a blob counts only when its bytes match its digest. Files appear by renaming, so that none is half
//! written under its own name. Of several processes that share a directory one writes, because each would remove what
//! only the others need; the rest reads, until the writer ends.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::SystemTime,
};

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::snapshots::Assignment;

const CURRENT: &str = "current.json";
const BLOBS: &str = "blobs";
const LOCK: &str = "lock";

/// A cache directory.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    /// How many bytes of blobs there may be, unless more are needed.
    limit: u64,
    /// Locked by the process that writes.
    lock: File,
    writes: AtomicBool,
}

/// What was served last, by whom it was announced.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    pub(crate) project: String,
    pub(crate) store_uid: String,
    pub(crate) revision: u64,
    assignments: Vec<Held>,
    /// What was served before these.
    #[serde(default)]
    previous: Vec<Held>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    name: String,
    bundle: String,
    size: u64,
    generation: u64,
    start_time: i64,
    revision: u64,
}

impl Current {
    pub(crate) fn new<'a>(
        project: &str,
        store_uid: &str,
        revision: u64,
        assignments: impl IntoIterator<Item = &'a Assignment>,
        previous: impl IntoIterator<Item = &'a Assignment>,
    ) -> Self {
        let held = |assignment: &Assignment| Held {
            name: assignment.name.clone(),
            bundle: assignment.bundle.file_name(),
            size: assignment.bundle.size(),
            generation: assignment.generation,
            start_time: assignment.start_time,
            revision: assignment.revision,
        };
        Self {
            project: project.to_owned(),
            store_uid: store_uid.to_owned(),
            revision,
            assignments: assignments.into_iter().map(held).collect(),
            previous: previous.into_iter().map(held).collect(),
        }
    }

    /// The assignments whose digests can be read.
    pub(crate) fn assignments(&self) -> impl Iterator<Item = Assignment> {
        self.assignments.iter().filter_map(Held::assignment)
    }

    /// The same of what was served before.
    pub(crate) fn previous(&self) -> impl Iterator<Item = Assignment> {
        self.previous.iter().filter_map(Held::assignment)
    }
}

impl Held {
    fn assignment(&self) -> Option<Assignment> {
        Some(Assignment {
            name: self.name.clone(),
            bundle: Digest::from_file_name(&self.bundle, self.size)?,
            generation: self.generation,
            start_time: self.start_time,
            revision: self.revision,
        })
    }
}

impl Disk {
    /// Uses this directory, creating it when needed. Of blobs that are not needed so many bytes may stay that there are `limit` in all.
    pub(crate) fn open(dir: PathBuf, limit: u64) -> io::Result<Self> {
        // Bundles hold recorded tokens, and keys that stand in templates.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join(BLOBS))?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
        let disk = Self { dir, limit, lock, writes: AtomicBool::new(false) };
        if !disk.writes() {
            tracing::warn!(dir = %disk.dir.display(), "another responder writes to the cache directory; it is only read for now");
        }
        Ok(disk)
    }

    /// Whether this is the process that writes. Asked again and again, for the one before may have ended.
    fn writes(&self) -> bool {
        if !self.writes.load(Relaxed) {
            self.writes.store(self.lock.try_lock().is_ok(), Relaxed);
        }
        self.writes.load(Relaxed)
    }

    /// What was served last.
    pub(crate) fn current(&self) -> io::Result<Option<Current>> {
        match fs::read(self.dir.join(CURRENT)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes what is served, durably.
    pub(crate) fn set_current(&self, current: &Current) -> io::Result<()> {
        self.write(&self.dir.join(CURRENT), &serde_json::to_vec_pretty(current)?)
    }

    /// A blob, if it is there and whole.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let path = self.blob(digest);
        let file = File::open(&path).ok()?;
        // The room that is needed at once: what grows is copied again and again.
        let room = file.metadata().ok()?.len().min(digest.size()).saturating_add(1);
        let mut bytes = Vec::with_capacity(usize::try_from(room).ok()?);
        if self.writes() {
            // What was used last goes last; where the time cannot be set, what was written last.
            drop(file.set_modified(SystemTime::now()));
        }
        file.take(digest.size().saturating_add(1)).read_to_end(&mut bytes).ok()?;
        if digest.matches(&bytes) {
            return Some(bytes.into());
        }
        tracing::warn!(%digest, "blob on disk is damaged");
        if self.writes() {
            drop(fs::remove_file(path));
        }
        None
    }

    /// Whether a blob lies there for good, as far as its size tells. Where another process writes, it may be gone when it is needed.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.writes()
            && fs::metadata(self.blob(digest)).is_ok_and(|file| file.len() == digest.size())
    }

    /// Stores a blob.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        self.write(&self.blob(digest), bytes)
    }

    /// Removes blobs until there are no more than there may be: never one of these, and first those that were not used for the longest time.
    pub(crate) fn retain(&self, keep: &HashSet<Digest>) -> io::Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let keep: HashSet<String> = keep.iter().map(Digest::file_name).collect();
        let mut size = 0_u64;
        let mut others = Vec::new();
        for entry in fs::read_dir(self.dir.join(BLOBS))? {
            let entry = entry?;
            let file = entry.metadata()?;
            size = size.saturating_add(file.len());
            if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
                let used = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                others.push((used, file.len(), entry.path()));
            }
        }
        others.sort_unstable();
        for (_, bytes, path) in others {
            if size <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            size = size.saturating_sub(bytes);
        }
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join(BLOBS).join(digest.file_name())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let temporary = self.dir.join(format!("{}.tmp", uuid::Uuid::new_v4()));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        });
        written
            .and_then(|()| fs::rename(&temporary, path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        Assignment {
            name: "projects/p/replays/r".into(),
            bundle: Digest::of(b"x"),
            generation: 3,
            start_time: -1,
            revision: 7,
        }
    }

    #[test]
    fn nobody_else_looks_into_the_cache() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("deep/cache");
        Disk::open(cache.clone(), 0).unwrap();
        for made in [dir.path().join("deep"), cache.clone(), cache.join(BLOBS)] {
            assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn current_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().join("deep/cache"), 0).unwrap();
        assert_eq!(disk.current().unwrap(), None);
        let before = Assignment { generation: 2, ..assignment() };
        let current = Current::new("projects/p", "uid", 9, [&assignment()], [&before]);
        disk.set_current(&current).unwrap();
        let back = disk.current().unwrap().unwrap();
        assert_eq!(back, current);
        assert_eq!(back.assignments().collect::<Vec<_>>(), [assignment()]);
        assert_eq!(back.previous().collect::<Vec<_>>(), [before]);
    }

    #[test]
    fn of_two_processes_one_writes_and_the_other_takes_over() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"a");
        let first = Disk::open(dir.path().to_owned(), 0).unwrap();
        first.put(&digest, b"a").unwrap();
        let second = Disk::open(dir.path().to_owned(), 0).unwrap();
        second.retain(&HashSet::new()).unwrap();
        assert!(second.get(&digest).is_some(), "what the first needs is not removed");
        drop(first);
        second.retain(&HashSet::new()).unwrap();
        assert_eq!(second.get(&digest), None);
    }

    #[test]
    fn a_damaged_blob_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().to_owned(), 0).unwrap();
        let digest = Digest::of(b"bytes");
        assert_eq!(disk.get(&digest), None);
        disk.put(&digest, b"bytes").unwrap();
        assert_eq!(disk.get(&digest).as_deref(), Some(&b"bytes"[..]));
        fs::write(disk.blob(&digest), b"bytez").unwrap();
        assert_eq!(disk.get(&digest), None);
        assert!(!disk.blob(&digest).exists());
    }

    #[test]
    fn what_is_needed_is_kept_and_of_the_rest_what_was_used_last() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = [b"aaaa", b"bbbb", b"cccc", b"dddd"];
        let digests = blobs.map(|bytes| Digest::of(bytes));
        // How many bytes there may be, and which of the four there are then.
        for (limit, there) in
            [(16, "abcd"), (15, "acd"), (12, "acd"), (8, "ad"), (4, "d"), (0, "d")]
        {
            let disk = Disk::open(dir.path().to_owned(), limit).unwrap();
            for (age, (digest, bytes)) in (1..).zip(digests.iter().zip(blobs)) {
                disk.put(digest, bytes).unwrap();
                let written = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age);
                let file = File::options().write(true).open(disk.blob(digest)).unwrap();
                file.set_modified(written).unwrap();
            }
            // The first was used just now, and the last is needed.
            assert!(disk.get(&digests[0]).is_some());
            disk.retain(&HashSet::from([digests[3]])).unwrap();
            let left: String = "abcd"
                .chars()
                .zip(&digests)
                .filter(|(_, digest)| disk.holds(digest))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(left, there, "{limit}");
        }
    }
}
