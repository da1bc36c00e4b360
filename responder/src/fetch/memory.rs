//! Blobs in memory, for responders without a disk cache: packed once they were compiled, since they are only needed again when a bundle is
//! replaced by one that shares them.

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

/// The blobs, by their digests.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Digest, Held>>);

#[derive(Debug)]
enum Held {
    Plain(Bytes),
    Packed(Bytes),
}

impl Memory {
    /// Keeps a blob that was verified.
    pub(super) fn insert(&self, digest: Digest, bytes: Bytes) {
        self.held().insert(digest, Held::Plain(bytes));
    }

    /// Those of these that are not there.
    pub(super) fn unknown(&self, digests: &[Digest]) -> HashSet<Digest> {
        let held = self.held();
        digests.iter().filter(|digest| !held.contains_key(digest)).copied().collect()
    }

    /// A blob.
    pub(super) fn get(&self, digest: &Digest) -> Option<Bytes> {
        // Nobody waits for the lock while it is unpacked.
        let packed = match self.held().get(digest)? {
            Held::Plain(bytes) => return Some(bytes.clone()),
            Held::Packed(packed) => packed.clone(),
        };
        unpacked(&packed, digest)
    }

    /// Forgets all blobs that are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&Digest) -> bool) {
        self.held().retain(|digest, _| keep(digest));
    }

    /// Packs what is not packed yet.
    pub(super) fn pack(&self) {
        let plain: Vec<Digest> = {
            let held = self.held();
            let plain = held.iter().filter(|(_, held)| matches!(held, Held::Plain(_)));
            plain.map(|(digest, _)| *digest).collect()
        };
        for digest in plain {
            // Nobody waits for the lock while one of them is packed.
            let Some(small) = self.get(&digest).and_then(|bytes| packed(&bytes)) else { continue };
            if let Some(held) = self.held().get_mut(&digest) {
                *held = Held::Packed(small);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The packed form; `None` when it is no smaller.
fn packed(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}

fn unpacked(packed: &[u8], digest: &Digest) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(digest.size()).ok()?);
    DeflateDecoder::new(packed).take(digest.size()).read_to_end(&mut bytes).ok()?;
    digest.matches(&bytes).then(|| bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_blobs_come_back() {
        let memory = Memory::default();
        let blobs = ["", "x", "again and again and again and again"].map(Bytes::from);
        for blob in &blobs {
            memory.insert(Digest::of(blob), blob.clone());
        }
        memory.pack();
        memory.pack();
        let packed = memory.held().values().filter(|held| matches!(held, Held::Packed(_))).count();
        assert_eq!(packed, 1);
        for blob in &blobs {
            assert_eq!(memory.get(&Digest::of(blob)).as_ref(), Some(blob));
        }
        memory.retain(|digest| *digest == Digest::of(b"x"));
        assert_eq!(memory.unknown(&blobs.each_ref().map(|blob| Digest::of(blob))).len(), 2);
    }
}
