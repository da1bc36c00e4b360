//! The manifest of a snapshot: its chunks by page, and the ordinals of its pairs.
//!
//! Which chunks begin a page is told by their digests, so that an edit changes the pages of the chunks that it changes, and no other. Ordinals lie in a blob of their
//! own, because a pair that is added moves all that come later.

use std::{collections::HashSet, mem, ops::Range};

use bytes::Bytes;
use countersign_engine::{
    dlp::StoredTreatment,
    snapshot::{digest::Digest, ordinals, wire::WireError},
};

use super::{ContentError, blob};
use crate::{
    service::wire,
    store::{BlobStore, StoreError},
};

/// One chunk in so many ends a page.
const PAGE: u8 = 32;
/// A page has at most so many chunks.
const LONGEST: usize = 256;

/// Lists the chunks of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The chunks in endpoint order.
    pub chunks: Vec<ChunkRef>,
    /// What was done to the recording before it was stored.
    pub treatment: Option<StoredTreatment>,
}

/// A chunk as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its address.
    pub digest: Digest,
    /// How many pairs it holds.
    pub pairs: u64,
    /// Their ordinals; empty where each pair holds its own, as in the first layout.
    pub ordinals: Box<[u64]>,
}

/// A manifest as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// The chunks and how many pairs each holds, in the first layout.
    pub(crate) chunks: Vec<(Digest, u64)>,
    /// The pages that list the chunks, since the second.
    pub(crate) pages: Vec<Digest>,
    /// The ordinals of all pairs, chunk after chunk, since the second.
    pub(crate) ordinals: Option<Digest>,
    /// The number of pairs.
    pub(crate) pairs: u64,
    /// What was done to the recording.
    pub(crate) treatment: Option<StoredTreatment>,
}

impl Manifest {
    /// The number of pairs in all chunks.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.pairs).sum()
    }

    /// Reads one.
    pub(crate) async fn get(blobs: &dyn BlobStore, digest: Digest) -> Result<Self, ContentError> {
        let stored = stored(blobs, digest).await?;
        let mut listed = stored.chunks;
        for page in stored.pages {
            listed.extend(read_page(blobs, page).await?);
        }
        let numbered = match stored.ordinals {
            None => Vec::new(),
            Some(digest) => {
                let pairs = listed.iter().map(|(_, pairs)| pairs).sum::<u64>();
                let pairs = usize::try_from(pairs).unwrap_or(usize::MAX);
                ordinals::decode(&blob(blobs, digest).await?, pairs)
                    .map_err(|source| ContentError::Malformed { digest, source })?
            }
        };
        let mut rest = &numbered[..];
        let chunk = |(digest, pairs)| {
            let count = usize::try_from(pairs).unwrap_or(usize::MAX);
            let (own, others) = rest.split_at_checked(count).unwrap_or_default();
            rest = others;
            ChunkRef { digest, pairs, ordinals: own.into() }
        };
        let chunks = listed.into_iter().map(chunk).collect();
        Ok(Self { chunks, treatment: stored.treatment })
    }

    /// Stores it. Returns its digest, and how many bytes all blobs have that it leads to, itself among them, each counted once.
    pub(crate) async fn put(&self, blobs: &dyn BlobStore) -> Result<(Digest, u64), StoreError> {
        let ordinals: Vec<u64> =
            self.chunks.iter().flat_map(|chunk| chunk.ordinals.iter().copied()).collect();
        let mut parts = vec![Bytes::from(ordinals::encode(&ordinals))];
        parts.extend(self.pages().iter().map(|page| wire::encode_page(page)));
        let parts = blobs.put_all(parts).await?;
        let mut named: HashSet<Digest> = self.chunks.iter().map(|chunk| chunk.digest).collect();
        named.extend(&parts);
        let mut stored = parts.into_iter();
        let stored = Stored {
            ordinals: stored.next(),
            pages: stored.collect(),
            pairs: self.pairs(),
            treatment: self.treatment.clone(),
            chunks: Vec::new(),
        };
        let digest = blobs.put(wire::encode_manifest(&stored)).await?;
        named.insert(digest);
        Ok((digest, named.iter().map(Digest::size).sum()))
    }

    fn pages(&self) -> Vec<Vec<(Digest, u64)>> {
        let (mut pages, mut open) = (Vec::new(), Vec::new());
        for chunk in &self.chunks {
            open.push((chunk.digest, chunk.pairs));
            let ends = chunk.digest.hash().first().is_some_and(|first| *first < u8::MAX / PAGE);
            if ends || open.len() >= LONGEST {
                pages.push(mem::take(&mut open));
            }
        }
        if !open.is_empty() {
            pages.push(open);
        }
        pages
    }
}

impl ChunkRef {
    /// Whether it may hold a pair with such an ordinal. Only if each pair holds its own that is not known without reading it.
    pub(crate) fn may_hold(&self, wanted: &Range<u64>) -> bool {
        self.ordinals.is_empty() || self.ordinals.iter().any(|ordinal| wanted.contains(ordinal))
    }

    /// Gives its pairs their ordinals.
    pub(crate) fn number<P>(
        &self,
        mut pairs: Vec<P>,
        set: impl Fn(&mut P, u64),
    ) -> Result<Vec<P>, ContentError> {
        if self.ordinals.is_empty() {
            return Ok(pairs);
        }
        if self.ordinals.len() != pairs.len() {
            let source = WireError::Range { what: "page.chunks.pairs" };
            return Err(ContentError::Malformed { digest: self.digest, source });
        }
        pairs.iter_mut().zip(&self.ordinals).for_each(|(pair, ordinal)| set(pair, *ordinal));
        Ok(pairs)
    }
}

/// Everything that a manifest names.
pub(crate) async fn named(
    blobs: &dyn BlobStore,
    digest: Digest,
) -> Result<Vec<Digest>, ContentError> {
    let stored = stored(blobs, digest).await?;
    let mut named: Vec<Digest> = stored.chunks.into_iter().map(|(digest, _)| digest).collect();
    for page in stored.pages {
        named.extend(read_page(blobs, page).await?.into_iter().map(|(digest, _)| digest));
        named.push(page);
    }
    named.extend(stored.ordinals);
    Ok(named)
}

/// What live requests go through before they are matched with the snapshot of this manifest.
pub(crate) async fn treatment(
    blobs: &dyn BlobStore,
    digest: Digest,
) -> Result<StoredTreatment, ContentError> {
    Ok(stored(blobs, digest).await?.treatment.unwrap_or_default())
}

async fn stored(blobs: &dyn BlobStore, digest: Digest) -> Result<Stored, ContentError> {
    wire::decode_manifest(blob(blobs, digest).await?)
        .map_err(|source| ContentError::Malformed { digest, source })
}

async fn read_page(
    blobs: &dyn BlobStore,
    digest: Digest,
) -> Result<Vec<(Digest, u64)>, ContentError> {
    wire::decode_page(blob(blobs, digest).await?)
        .map_err(|source| ContentError::Malformed { digest, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blob::FileBlobs;

    fn manifest(chunks: u64) -> Manifest {
        let chunk = |n: u64| ChunkRef {
            digest: Digest::of(&n.to_le_bytes()),
            pairs: 2,
            ordinals: [n, n + chunks].into(),
        };
        Manifest { chunks: (0..chunks).map(chunk).collect(), treatment: None }
    }

    #[tokio::test]
    async fn manifests_come_back_page_by_page() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        for chunks in [0, 1, 2000] {
            let manifest = manifest(chunks);
            let (digest, _) = manifest.put(&blobs).await.unwrap();
            assert_eq!(Manifest::get(&blobs, digest).await.unwrap(), manifest);
        }
        let before = manifest(2000);
        let mut after = before.clone();
        after.chunks.remove(1000);
        after
            .chunks
            .insert(500, ChunkRef { digest: Digest::of(b"new"), ..before.chunks[0].clone() });
        let mut parts = Vec::new();
        for manifest in [&before, &after] {
            let (digest, size) = manifest.put(&blobs).await.unwrap();
            parts.push(stored(&blobs, digest).await.unwrap());
            let mut named: HashSet<Digest> =
                named(&blobs, digest).await.unwrap().into_iter().collect();
            named.insert(digest);
            assert_eq!(size, named.iter().map(Digest::size).sum::<u64>());
            assert!(manifest.chunks.iter().all(|chunk| named.contains(&chunk.digest)));
        }
        let new = parts[1].pages.iter().filter(|page| !parts[0].pages.contains(page)).count();
        assert!(parts[1].pages.len() > 30 && new <= 4, "{new} of {} pages", parts[1].pages.len());
    }
}
