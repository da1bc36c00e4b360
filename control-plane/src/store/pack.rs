//! Blobs that were stored together, in one file: `packs/<name>`.
//!
//! A snapshot is thousands of chunks, and a file for each costs more than its bytes do. A pack is the blobs one after the other, then the
//! list of their hashes and sizes, and behind it how many they are, the list's hash, and a mark. It is synced before it gets its name, and
//! never changes. All hashes in it are BLAKE3. Where each blob lies is kept in memory, some hundred bytes a blob.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use tokio_util::sync::CancellationToken;

use super::{
    Scrubbed, StoreError,
    blob::{io_error, is_older, make_dir, read_dir},
    synced::Disk,
};

/// The last bytes of every pack.
const MARK: [u8; 8] = *b"cs-pack1";
/// Hash and size of a blob in the list.
const ENTRY: usize = 32 + 8;
/// Behind the list: the number of blobs, the list's hash, the mark.
const TAIL: usize = 8 + 32 + 8;

/// A directory of packs.
#[derive(Debug)]
pub(super) struct Packs {
    dir: PathBuf,
    disk: Arc<Disk>,
    places: RwLock<HashMap<Digest, Place>>,
}

/// Where a blob lies.
#[derive(Debug, Clone)]
struct Place {
    pack: Arc<Path>,
    at: u64,
}

impl Packs {
    /// Opens the directory, makes it when it is absent, and reads the lists. A pack without a sound list is reported and left alone.
    pub(super) fn open(dir: PathBuf, disk: Arc<Disk>) -> Result<Self, StoreError> {
        make_dir(&dir)?;
        // Whoever wrote the last pack may have died before its name was durable.
        disk.dir(&dir)?;
        let mut places = HashMap::new();
        for path in read_dir(&dir)? {
            match read_list(&path) {
                Ok(list) => places.extend(placed(&path.into(), &list)),
                Err(error) => tracing::warn!(
                    pack = %path.display(),
                    %error,
                    "a pack of blobs cannot be read; what it holds is missing"
                ),
            }
        }
        Ok(Self { dir, disk, places: RwLock::new(places) })
    }

    /// A blob, verified; `None` when no pack holds it.
    pub(super) fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let place = || {
            let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
            places.get(digest).cloned()
        };
        let Some(mut found) = place() else { return Ok(None) };
        while !found.pack.is_file() {
            // It was written anew since, without what nobody needs.
            match place() {
                Some(now) if now.pack != found.pack => found = now,
                Some(_) => break,
                None => return Ok(None),
            }
        }
        let Place { pack, at } = found;
        let read = || {
            let mut bytes = vec![0; usize::try_from(digest.size()).unwrap_or(usize::MAX)];
            fs::File::open(&pack)?.read_exact_at(&mut bytes, at)?;
            Ok::<_, io::Error>(bytes)
        };
        match read() {
            Ok(bytes) if digest.matches(&bytes) => return Ok(Some(Bytes::from(bytes))),
            // What is cut off is damaged, too.
            Err(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(io_error("read", &pack)(source));
            }
            _ => {}
        }
        let what = format!("its bytes from {at} on are not {digest}, as its list says");
        Err(StoreError::Damaged { path: pack.to_path_buf(), what })
    }

    /// Writes blobs, whose digests by BLAKE3 are theirs, as one pack; `temporary` is the file's name until it is whole.
    pub(super) fn put(
        &self,
        blobs: &[(Digest, Bytes)],
        temporary: &Path,
    ) -> Result<(), StoreError> {
        let mut list = Vec::with_capacity(blobs.len() * ENTRY);
        for (digest, _) in blobs {
            list.extend_from_slice(digest.hash());
            list.extend(digest.size().to_le_bytes());
        }
        let name = Digest::of(&list);
        let path: Arc<Path> = self.dir.join(name.to_hex()).into();
        let count = u64::try_from(blobs.len()).unwrap_or(u64::MAX).to_le_bytes();
        let write = || {
            let mut file = fs::File::create_new(temporary)?;
            let parts = blobs.iter().map(|(_, bytes)| &bytes[..]);
            for part in parts.chain([&list[..], &count, name.hash(), &MARK]) {
                file.write_all(part)?;
            }
            self.disk.file(&file)?;
            fs::rename(temporary, &path)
        };
        write().map_err(|source| {
            // The error that matters is the first; a left-over file is removed at the next start.
            drop(fs::remove_file(temporary));
            io_error("write", &path)(source)
        })?;
        self.disk.dir(&self.dir)?;
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.extend(placed(&path, &digests));
        Ok(())
    }

    /// Whether a pack lists the blob.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.places.read().unwrap_or_else(PoisonError::into_inner).contains_key(digest)
    }

    /// Reads every pack. What is damaged stays where it is: whoever stores it again stores it beside.
    pub(super) fn scrub(&self, stop: &CancellationToken) -> Result<Scrubbed, StoreError> {
        let mut found = Scrubbed::default();
        for path in read_dir(&self.dir)? {
            let Ok(list) = read_list(&path) else {
                if !path.is_file() {
                    continue;
                }
                found.damaged.push(path.display().to_string());
                continue;
            };
            for digest in self.held(&path, list) {
                if stop.is_cancelled() {
                    return Err(StoreError::Stopped);
                }
                found.blobs += 1;
                found.bytes += digest.size();
                match self.get(&digest) {
                    Ok(_) => {}
                    Err(error) if error.is_damage() => {
                        found.damaged.push(format!("{digest} in {}", path.display()));
                        found.hashes.insert(*digest.hash());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Removes all blobs but these, and returns how many. A pack that keeps some is written anew; one that is young or cannot be read stays.
    pub(super) fn retain(
        &self,
        live: &HashSet<Digest>,
        grace: Duration,
        mut temporary: impl FnMut() -> PathBuf,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        for path in read_dir(&self.dir)?.into_iter().filter(|path| is_older(path, grace)) {
            let Ok(list) = read_list(&path) else { continue };
            let held = self.held(&path, list);
            let all = held.len();
            let (keep, dead): (Vec<_>, Vec<_>) = held.into_iter().partition(|d| live.contains(d));
            // One that holds nothing is left from an interrupted sweep: another pack has all of it.
            if dead.is_empty() && all > 0 {
                continue;
            }
            let kept = keep.iter().map(|digest| Ok((*digest, self.get(digest)?)));
            let kept: Vec<(Digest, Bytes)> = match kept.collect::<Result<Vec<_>, StoreError>>() {
                Ok(kept) => kept.into_iter().filter_map(|(d, bytes)| Some((d, bytes?))).collect(),
                Err(error) => {
                    tracing::warn!(pack = %path.display(), %error, "a damaged pack is kept as it is");
                    continue;
                }
            };
            if !kept.is_empty() {
                self.put(&kept, &temporary())?;
            }
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
            for digest in &dead {
                places.remove(digest);
            }
            removed += u64::try_from(dead.len()).unwrap_or(u64::MAX);
        }
        Ok(removed)
    }

    /// Those of a pack's blobs that are read from it, and not from another one.
    fn held(&self, pack: &Path, list: Vec<Digest>) -> Vec<Digest> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let here = |digest: &Digest| places.get(digest).is_some_and(|place| *place.pack == *pack);
        list.into_iter().filter(here).collect()
    }
}

/// Where the blobs of a pack lie.
fn placed(pack: &Arc<Path>, digests: &[Digest]) -> Vec<(Digest, Place)> {
    let mut at = 0_u64;
    let place = |digest: &Digest| {
        let place = Place { pack: Arc::clone(pack), at };
        at = at.saturating_add(digest.size());
        (*digest, place)
    };
    digests.iter().map(place).collect()
}

/// The digests of the blobs in a pack.
fn read_list(path: &Path) -> io::Result<Vec<Digest>> {
    let unsound = || io::Error::new(io::ErrorKind::InvalidData, "its list is damaged");
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    let tail_at = size.checked_sub(u64::try_from(TAIL).unwrap_or_default()).ok_or_else(unsound)?;
    let mut tail = [0; TAIL];
    file.read_exact_at(&mut tail, tail_at)?;
    let (count, rest) = tail.split_first_chunk::<8>().ok_or_else(unsound)?;
    let (hash, mark) = rest.split_first_chunk::<32>().ok_or_else(unsound)?;
    let length = u64::from_le_bytes(*count).checked_mul(u64::try_from(ENTRY).unwrap_or_default());
    let start = length.and_then(|length| tail_at.checked_sub(length)).ok_or_else(unsound)?;
    file.seek(SeekFrom::Start(start))?;
    let mut list = Vec::new();
    file.take(tail_at - start).read_to_end(&mut list)?;
    if mark != MARK || Digest::of(&list).hash() != hash {
        return Err(unsound());
    }
    let digests: Option<Vec<Digest>> = list
        .chunks_exact(ENTRY)
        .map(|entry| {
            let (hash, size) = entry.split_first_chunk::<32>()?;
            Some(Digest::from_parts(
                Function::Blake3,
                *hash,
                u64::from_le_bytes(size.try_into().ok()?),
            ))
        })
        .collect();
    let digests = digests.ok_or_else(unsound)?;
    let sum = digests.iter().try_fold(0_u64, |sum, digest| sum.checked_add(digest.size()));
    if sum == Some(start) { Ok(digests) } else { Err(unsound()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(from: u8, to: u8) -> Vec<(Digest, Bytes)> {
        let bytes = (from..to).map(|n| Bytes::from(vec![n; usize::from(n) * 7]));
        bytes.map(|bytes| (Digest::of(&bytes), bytes)).collect()
    }

    fn open(dir: &tempfile::TempDir) -> Packs {
        Packs::open(dir.path().join("packs"), Arc::default()).unwrap()
    }

    fn files(dir: &tempfile::TempDir) -> Vec<PathBuf> {
        read_dir(&dir.path().join("packs")).unwrap()
    }

    fn all_there(packs: &Packs, blobs: &[(Digest, Bytes)]) -> bool {
        blobs.iter().all(|(digest, bytes)| packs.get(digest).unwrap().as_ref() == Some(bytes))
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let packs = open(&dir);
        let tmp = dir.path().join("tmp");
        packs.put(&blobs(0, 9), &tmp).unwrap();
        packs.put(&blobs(9, 12), &tmp).unwrap();
        for packs in [packs, open(&dir)] {
            assert!(all_there(&packs, &blobs(0, 12)));
            assert_eq!(packs.get(&Digest::of(b"other")).unwrap(), None);
        }
        assert_eq!((files(&dir).len(), tmp.exists()), (2, false));
    }

    #[test]
    fn a_pack_that_keeps_some_is_written_anew_and_one_that_keeps_none_goes() {
        let dir = tempfile::tempdir().unwrap();
        let packs = open(&dir);
        let tmp = || dir.path().join("tmp");
        for (from, to) in [(0, 5), (5, 10), (10, 15)] {
            packs.put(&blobs(from, to), &tmp()).unwrap();
        }
        let untouched: HashSet<PathBuf> = files(&dir).into_iter().collect();
        let live: HashSet<Digest> = blobs(3, 10).into_iter().map(|(digest, _)| digest).collect();
        assert_eq!(packs.retain(&live, Duration::ZERO, tmp).unwrap(), 8);
        for packs in [&packs, &open(&dir)] {
            assert!(all_there(packs, &blobs(3, 10)));
            assert_eq!(packs.get(&blobs(0, 1)[0].0).unwrap(), None);
        }
        assert_eq!(files(&dir).iter().filter(|path| untouched.contains(*path)).count(), 1);
        assert_eq!((files(&dir).len(), packs.retain(&live, Duration::ZERO, tmp).unwrap()), (2, 0));
    }

    #[test]
    fn a_pack_of_which_another_one_has_all_goes() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = || dir.path().join("tmp");
        open(&dir).put(&blobs(1, 3), &tmp()).unwrap();
        open(&dir).put(&blobs(1, 5), &tmp()).unwrap();
        let live = blobs(1, 5).into_iter().map(|(digest, _)| digest).collect();
        let packs = open(&dir);
        packs.put(&blobs(1, 4), &tmp()).unwrap();
        assert_eq!(packs.retain(&live, Duration::ZERO, tmp).unwrap(), 0);
        assert!(files(&dir).len() < 3 && all_there(&packs, &blobs(1, 5)));
        assert!(all_there(&open(&dir), &blobs(1, 5)));
    }

    #[test]
    fn damage_is_reported_and_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).put(&blobs(1, 5), &dir.path().join("tmp")).unwrap();
        let path = files(&dir).remove(0);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let packs = open(&dir);
        let error = packs.get(&blobs(1, 2)[0].0).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains(&path.display().to_string()));
        assert!(all_there(&packs, &blobs(2, 5)));
        let live = blobs(1, 3).into_iter().map(|(digest, _)| digest).collect();
        assert_eq!(packs.retain(&live, Duration::ZERO, || dir.path().join("tmp")).unwrap(), 0);
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let packs = open(&dir);
            assert!(packs.get(&blobs(1, 2)[0].0).unwrap().is_none(), "cut at {cut}");
            assert_eq!(
                packs.retain(&HashSet::new(), Duration::ZERO, || dir.path().join("tmp")).unwrap(),
                0
            );
        }
        assert_eq!(files(&dir).len(), 1);
    }
}
