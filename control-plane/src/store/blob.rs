//! Blobs as files: `blobs/ab/abcd…`, named by its digest, for one, and a pack for many. Those of SHA-256 are files of their own in any case,
//! `blobs/ab/sha256-abcd…`, so that `sha256sum` can check them.
//!
//! A file's name appears only after its bytes are on disk (temporary file, fsync, rename, fsync of the directory), and each read is verified.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use tokio_util::sync::CancellationToken;

use super::{BlobStore, Scrubbed, StoreError, blocking, pack::Packs, synced::Disk};

/// Where packs lie.
const PACKS: &str = "packs";
/// Where damaged blobs are put.
const ASIDE: &str = "damaged";
/// Where files are that are not whole yet.
const TEMPORARY: &str = "tmp";

/// A directory of blobs.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    root: PathBuf,
    packs: Arc<Packs>,
    disk: Arc<Disk>,
    function: Function,
}

impl FileBlobs {
    /// Opens the directory, makes it when it is absent, and removes what an interrupted write left.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_on(root, Arc::default())
    }

    fn open_on(root: &Path, disk: Arc<Disk>) -> Result<Self, StoreError> {
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { doing: "clear", path: temporary, source });
            }
            _ => {}
        }
        make_dir(&temporary)?;
        let packs = Arc::new(Packs::open(root.join(PACKS), Arc::clone(&disk))?);
        disk.dir(root)?;
        Ok(Self { root: root.to_owned(), packs, disk, function: Function::default() })
    }

    /// The same, where addresses are made with this function from now on.
    #[must_use]
    pub fn by(self, function: Function) -> Self {
        Self { function, ..self }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let shelf: String = digest.to_hex().chars().take(2).collect();
        self.root.join(shelf).join(digest.file_name())
    }

    fn put_blocking(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(&digest);
        let shelf = path.parent().unwrap_or(&self.root);
        if !matches!(self.get_blocking(&digest), Ok(Some(_))) {
            self.make_shelf(shelf)?;
            self.write_new(&path, bytes)?;
        }
        // Also when the blob was there: whoever wrote it may have died before its name was durable.
        if shelf.is_dir() { self.disk.dir(shelf) } else { Ok(()) }
    }

    fn make_shelf(&self, shelf: &Path) -> Result<(), StoreError> {
        if shelf.is_dir() {
            return Ok(());
        }
        make_dir(shelf)?;
        self.disk.dir(&self.root)
    }

    fn put_named_blocking(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), StoreError> {
        self.disk.check(&self.root)?;
        if let [(digest, bytes)] = &blobs[..] {
            return self.put_blocking(*digest, bytes);
        }
        let mut absent = Vec::new();
        let mut seen = HashSet::new();
        for (digest, bytes) in blobs {
            // What is there but damaged is written anew: the caller has its bytes.
            match self.get_blocking(&digest) {
                Ok(None) if seen.insert(digest) => absent.push((digest, bytes)),
                Ok(_) => {}
                Err(_) => self.put_blocking(digest, &bytes)?,
            }
        }
        let packed = |(digest, _): &(Digest, Bytes)| digest.function() == Function::Blake3;
        let (packed, alone): (Vec<_>, Vec<_>) = absent.into_iter().partition(packed);
        self.put_files(&alone)?;
        match &packed[..] {
            [] => Ok(()),
            [(digest, bytes)] => self.put_blocking(*digest, bytes),
            several => self.packs.put(several, &self.temporary()),
        }
    }

    /// Stores blobs that are not there, each as a file; each directory is synced once.
    fn put_files(&self, blobs: &[(Digest, Bytes)]) -> Result<(), StoreError> {
        let mut shelves = HashSet::new();
        for (digest, bytes) in blobs {
            let path = self.path(digest);
            let shelf = path.parent().unwrap_or(&self.root);
            self.make_shelf(shelf)?;
            self.write_new(&path, bytes)?;
            shelves.insert(shelf.to_owned());
        }
        shelves.iter().try_for_each(|shelf| self.disk.dir(shelf))
    }

    fn get_blocking(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        match self.packs.get(digest) {
            Ok(None) => read_verified(&self.path(digest), digest),
            // Mended, if anything, by a file of its own.
            Err(damage) => read_verified(&self.path(digest), digest)?.ok_or(damage).map(Some),
            found => found,
        }
    }

    fn missing_blocking(&self, digests: &[Digest]) -> Vec<Digest> {
        let absent = |digest: &&Digest| !self.packs.holds(digest) && !self.path(digest).is_file();
        digests.iter().filter(absent).copied().collect()
    }

    fn retain_blocking(&self, live: &HashSet<Digest>, grace: Duration) -> Result<u64, StoreError> {
        let packed = self.packs.retain(live, grace, || self.temporary())?;
        let names: HashSet<OsString> =
            live.iter().map(|digest| digest.file_name().into()).collect();
        let mut removed = packed;
        for shelf in self.shelves()? {
            for blob in read_dir(&shelf)? {
                let named = blob.file_name().is_some_and(|name| names.contains(name));
                if !named && is_older(&blob, grace) {
                    fs::remove_file(&blob).map_err(io_error("remove", &blob))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn scrub_blocking(
        &self,
        put_aside: bool,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, StoreError> {
        let mut found = self.packs.scrub(stop)?;
        for shelf in self.shelves()? {
            for blob in read_dir(&shelf)? {
                if stop.is_cancelled() {
                    return Err(StoreError::Stopped);
                }
                let bytes = match fs::read(&blob) {
                    // Removed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    read => read.map_err(io_error("read", &blob))?,
                };
                found.blobs += 1;
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                found.bytes += size;
                let name = blob.file_name().unwrap_or_default();
                let named = name.to_str().and_then(|name| Digest::from_file_name(name, size));
                if named.is_some_and(|digest| digest.matches(&bytes)) {
                    continue;
                }
                found.damaged.push(blob.display().to_string());
                found.hashes.extend(named.map(|digest| *digest.hash()));
                if put_aside {
                    let aside = self.root.join(ASIDE);
                    make_dir(&aside)?;
                    fs::rename(&blob, aside.join(name)).map_err(io_error("put aside", &blob))?;
                    found.put_aside += 1;
                }
            }
        }
        Ok(found)
    }

    /// The directories of blobs that are files of their own.
    fn shelves(&self) -> Result<impl Iterator<Item = PathBuf>, StoreError> {
        let is_shelf = |path: &PathBuf| {
            path.is_dir() && ![PACKS, ASIDE, TEMPORARY].iter().any(|it| path.ends_with(it))
        };
        Ok(read_dir(&self.root)?.into_iter().filter(is_shelf))
    }

    /// A name for a file that is not whole yet.
    fn temporary(&self) -> PathBuf {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        self.root.join(TEMPORARY).join(COUNTER.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.temporary();
        let written = (|| {
            let mut file = fs::File::create_new(&temporary)?;
            file.write_all(bytes)?;
            self.disk.file(&file)?;
            fs::rename(&temporary, path)
        })();
        written.map_err(|source| {
            // The error that matters is the first; a left-over file is removed at the next start.
            drop(fs::remove_file(&temporary));
            StoreError::Io { doing: "write", path: path.to_owned(), source }
        })
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    fn function(&self) -> Function {
        self.function
    }

    async fn put_named(&self, all: Vec<(Digest, Bytes)>) -> Result<(), StoreError> {
        let blobs = self.clone();
        blocking(move || blobs.put_named_blocking(all)).await?
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let (blobs, digest) = (self.clone(), *digest);
        blocking(move || blobs.get_blocking(&digest)).await?
    }

    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let (blobs, digests) = (self.clone(), digests.to_vec());
        blocking(move || blobs.missing_blocking(&digests)).await
    }

    async fn scrub(
        &self,
        put_aside: bool,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, StoreError> {
        let (blobs, stop) = (self.clone(), stop.clone());
        blocking(move || blobs.scrub_blocking(put_aside, &stop)).await?
    }

    async fn retain(&self, live: HashSet<Digest>, grace: Duration) -> Result<u64, StoreError> {
        let blobs = self.clone();
        blocking(move || blobs.retain_blocking(&live, grace)).await?
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", path))
}

/// Adds what was tried, and where, to the system's error.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { doing, path: path.to_owned(), source }
}

/// Makes a directory that is absent, and those that lead to it. What is stored holds recorded tokens, so that nobody but the owner may look into it.
pub(crate) fn make_dir(path: &Path) -> Result<(), StoreError> {
    let mut make = fs::DirBuilder::new();
    make.recursive(true).mode(0o700).create(path).map_err(io_error("make", path))
}

/// Whether a file was written so long ago; not when nobody can tell.
pub(super) fn is_older(path: &Path, age: Duration) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    age.is_zero() || written.is_ok_and(|at| at.elapsed().is_ok_and(|passed| passed >= age))
}

pub(super) fn read_dir(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries =
        fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(io_error("read", path))
}

fn read_verified(path: &Path, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { doing: "read", path: path.to_owned(), source }),
    };
    if digest.matches(&bytes) {
        Ok(Some(bytes.into()))
    } else {
        Err(StoreError::Damaged {
            path: path.to_owned(),
            what: "its bytes do not have the digest that names it".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn conforms() {
        let dir = tempfile::tempdir().unwrap();
        conformance::blobs(&FileBlobs::open(dir.path()).unwrap()).await;
    }

    #[tokio::test]
    async fn by_sha256_each_blob_is_a_file_that_sha256sum_can_check() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap().by(Function::Sha256);
        let all: Vec<Bytes> = ["abc", "def", "ghi"].map(Bytes::from).to_vec();
        let digests = blobs.put_all(all.clone()).await.unwrap();
        // Beside those of the other function, of the same bytes.
        let others = FileBlobs::open(dir.path()).unwrap();
        for bytes in &all {
            assert_eq!(others.put(bytes.clone()).await.unwrap(), Digest::of(bytes));
        }
        for (digest, bytes) in digests.iter().zip(&all) {
            assert_eq!(*digest, Digest::by(Function::Sha256, bytes));
            assert_eq!(blobs.get(digest).await.unwrap().as_ref(), Some(bytes));
            let sum = std::process::Command::new("sha256sum").arg(blobs.path(digest)).output();
            let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
            assert_eq!(sum.split(' ').next(), Some(&*digest.to_hex()));
        }
        assert_eq!(
            blobs.scrub(false, &CancellationToken::new()).await.unwrap(),
            Scrubbed { blobs: 6, bytes: 18, ..Scrubbed::default() }
        );
        fs::write(blobs.path(&digests[0]), "abd").unwrap();
        assert_eq!(blobs.scrub(true, &CancellationToken::new()).await.unwrap().put_aside, 1);
        assert_eq!(blobs.missing(&digests).await.unwrap(), [digests[0]]);
        blobs
            .put_named(vec![(digests[0], "abc".into()), (digests[1], "def".into())])
            .await
            .unwrap();
        let live = digests.iter().copied().collect();
        assert_eq!(blobs.retain(live, Duration::ZERO).await.unwrap(), 3, "those of BLAKE3");
        assert!(blobs.missing(&digests).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"kept");
        FileBlobs::open(dir.path()).unwrap().put("kept".into()).await.unwrap();
        assert_eq!(
            FileBlobs::open(dir.path()).unwrap().get(&digest).await.unwrap(),
            Some("kept".into())
        );
    }

    #[tokio::test]
    async fn a_flipped_bit_is_reported_with_the_path_and_mended_by_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"abc");
        blobs.put("abc".into()).await.unwrap();
        let path = blobs.path(&digest);
        for damage in ["abb", "ab", ""] {
            fs::write(&path, damage).unwrap();
            let error = blobs.get(&digest).await.unwrap_err();
            assert!(
                error.is_damage() && error.to_string().contains(&path.display().to_string()),
                "{error}"
            );
        }
        let found = blobs.scrub(true, &CancellationToken::new()).await.unwrap();
        assert_eq!((found.damaged.len(), found.put_aside), (1, 1));
        assert_eq!(blobs.missing(&[digest]).await.unwrap(), [digest]);
        blobs.put("abc".into()).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap(), Some("abc".into()));
    }

    #[tokio::test]
    async fn a_flipped_bit_in_a_pack_is_mended_by_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        let both = || ["abc", "def"].map(Bytes::from).to_vec();
        blobs.put_all(both()).await.unwrap();
        let pack = read_dir(&dir.path().join(PACKS)).unwrap().remove(0);
        let mut bytes = fs::read(&pack).unwrap();
        bytes[1] ^= 1;
        fs::write(&pack, bytes).unwrap();
        assert!(blobs.get(&Digest::of(b"abc")).await.unwrap_err().is_damage());
        assert_eq!(blobs.scrub(true, &CancellationToken::new()).await.unwrap().damaged.len(), 1);
        blobs.put_all(both()).await.unwrap();
        for blobs in [blobs, FileBlobs::open(dir.path()).unwrap()] {
            for bytes in both() {
                assert_eq!(blobs.get(&Digest::of(&bytes)).await.unwrap(), Some(bytes));
            }
        }
    }

    #[tokio::test]
    async fn d03_a_blob_that_power_has_torn_is_absent_or_damaged_and_never_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = Bytes::from(vec![b'x'; 3000]);
        let digest = Digest::of(&bytes);
        for length in (0..3000).step_by(512) {
            let mut zeros = bytes.to_vec();
            zeros[length..].fill(0);
            for torn in [bytes[..length].to_vec(), zeros] {
                // Before it had its name, nobody was told of it.
                let path = FileBlobs::open(dir.path()).unwrap().path(&digest);
                fs::write(dir.path().join("tmp/0"), &torn).unwrap();
                let blobs = FileBlobs::open(dir.path()).unwrap();
                assert_eq!(blobs.get(&digest).await.unwrap(), None);
                // The name goes to the disk after the bytes; a disk that has it otherwise is found out.
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &torn).unwrap();
                assert!(blobs.get(&digest).await.unwrap_err().is_damage(), "{length}");
                assert_eq!(blobs.put(bytes.clone()).await.unwrap(), digest);
                assert_eq!(blobs.get(&digest).await.unwrap().as_ref(), Some(&bytes));
                fs::remove_file(path).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn d04_after_a_sync_that_failed_no_blob_is_written_and_those_before_are_read() {
        static BAD: AtomicU64 = AtomicU64::new(0);
        // The system reports an error once, and has then forgotten it.
        let sync = |file: &fs::File| match BAD.swap(0, Ordering::Relaxed) {
            0 => file.sync_all(),
            _ => Err(io::Error::from_raw_os_error(5)),
        };
        let many = |from: u8| (from..from + 3).map(|n| Bytes::from(vec![n; 9])).collect::<Vec<_>>();
        for blobs in [vec![Bytes::from("one")], many(1)] {
            let dir = tempfile::tempdir().unwrap();
            let store = FileBlobs::open_on(dir.path(), Arc::new(Disk::by(sync))).unwrap();
            let before = store.put("before".into()).await.unwrap();
            BAD.store(1, Ordering::Relaxed);
            let failed = store.put_all(blobs.clone()).await.unwrap_err();
            assert!(matches!(failed, StoreError::Io { .. }), "{failed:?}");
            for _ in 0..2 {
                let refused = store.put_all(blobs.clone()).await.unwrap_err();
                assert!(matches!(refused, StoreError::Unsynced { .. }), "{refused:?}");
            }
            assert_eq!(store.get(&before).await.unwrap(), Some("before".into()));
            let again = FileBlobs::open(dir.path()).unwrap();
            assert_eq!(again.get(&before).await.unwrap(), Some("before".into()));
            again.put_all(blobs).await.unwrap();
        }
    }

    #[test]
    fn removes_what_an_interrupted_write_left() {
        let dir = tempfile::tempdir().unwrap();
        drop(FileBlobs::open(dir.path()).unwrap());
        fs::write(dir.path().join("tmp/0"), "half").unwrap();
        drop(FileBlobs::open(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("blobs");
        fs::write(&root, "").unwrap();
        let error = FileBlobs::open(&root).unwrap_err();
        assert!(error.to_string().contains("blobs"), "{error}");
    }
}
