//! Whether a manifest that somebody has written, and all that it names, is what this control plane would have written: everything there, readable,
//! and as many pairs as it says, numbered without a gap.
//!
//! Each blob is read once, one at a time. What is held of each pair is a bit and its number.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use countersign_engine::snapshot::{
    Direction, RrPair,
    digest::Digest,
    ordinals,
    wire::{WireError, decode_chunk_bytes},
};

use super::{ContentError, manifest::Stored};
use crate::{
    service::wire,
    store::{BlobStore, StoreError, blocking},
};

/// A manifest lists so many chunks at most.
const CHUNKS: usize = 1 << 20;
/// A snapshot has so many pairs at most.
const PAIRS: u64 = 4_294_967_294;
/// A pair takes so many bytes of its chunk at least: what it is, and how long.
const LEAST: u64 = 2;

/// Why a manifest cannot be committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    /// A blob was not written, or is gone.
    #[error("the chunk {0} is missing: write it, and commit again")]
    Missing(Digest),
    /// A blob is not what the one that names it says.
    #[error("the chunk {0} is malformed: {1}")]
    Malformed(Digest, String),
    /// The store failed.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<StoreError> for Unsound {
    fn from(error: StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// What a manifest leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// How many pairs.
    pub(crate) pairs: u64,
    /// How many of them are IN.
    pub(crate) inbound: u64,
}

/// How far the check has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Bytes of chunks read.
    pub(crate) bytes_done: u64,
    /// Bytes of all chunks.
    pub(crate) bytes_total: u64,
    /// Pairs read.
    pub(crate) pairs: u64,
}

/// Reads everything that a manifest leads to. Only what is held counts as being there.
pub(crate) async fn check(
    blobs: &dyn BlobStore,
    held: &HashSet<Digest>,
    manifest: Digest,
    mut progress: impl FnMut(At),
) -> Result<Found, Unsound> {
    let reader = Reader { blobs, held };
    let stored = wire::decode_manifest(reader.get(manifest).await?).map_err(malformed(manifest))?;
    let listed = reader.chunks(manifest, &stored).await?;
    let pairs = count(manifest, &stored, &listed)?;
    let numbers = match stored.ordinals {
        None => Vec::new(),
        Some(digest) => {
            let count = usize::try_from(pairs).unwrap_or(usize::MAX);
            let bytes = reader.get(digest).await?;
            blocking(move || ordinals::decode(&bytes, count)).await?.map_err(malformed(digest))?
        }
    };
    let mut taken = Taken::new(stored.ordinals.unwrap_or(manifest), pairs);
    numbers.iter().try_for_each(|ordinal| taken.take(*ordinal))?;
    let own_ordinals = stored.ordinals.is_none();
    let total = listed.iter().map(|(digest, _)| digest.size());
    let mut at = At { bytes_done: 0, bytes_total: total.sum(), pairs: 0 };
    let mut known: HashMap<Digest, Found> = HashMap::new();
    let mut found = Found::default();
    for (digest, said) in listed {
        let chunk = match known.get(&digest) {
            // A recording may have the same pairs again and again.
            Some(chunk) if !own_ordinals => *chunk,
            _ => {
                let bytes = reader.get(digest).await?;
                let pairs = blocking(move || decode_chunk_bytes(bytes)).await?;
                let pairs = pairs.map_err(malformed(digest))?;
                if own_ordinals {
                    pairs.iter().try_for_each(|pair| taken.take(pair.ordinal))?;
                }
                let chunk = summed(&pairs);
                known.insert(digest, chunk);
                chunk
            }
        };
        if chunk.pairs != said {
            let what = format!("it holds {} pairs, and is said to hold {said}", chunk.pairs);
            return Err(Unsound::Malformed(digest, what));
        }
        found.pairs += chunk.pairs;
        found.inbound += chunk.inbound;
        at.bytes_done += digest.size();
        at.pairs = found.pairs;
        progress(at);
    }
    Ok(found)
}

fn summed(pairs: &[RrPair]) -> Found {
    let inbound = pairs.iter().filter(|pair| pair.direction == Direction::In).count();
    let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
    Found { pairs: number(pairs.len()), inbound: number(inbound) }
}

fn malformed(digest: Digest) -> impl FnOnce(WireError) -> Unsound {
    move |error| Unsound::Malformed(digest, crate::service::chain(&error))
}

/// How many pairs the chunks are said to hold in all, where that can be.
fn count(manifest: Digest, stored: &Stored, listed: &[(Digest, u64)]) -> Result<u64, Unsound> {
    let unsound = |what: &str| Err(Unsound::Malformed(manifest, what.to_owned()));
    if stored.treatment.as_ref().is_some_and(|treatment| treatment.open().is_none()) {
        return unsound("its treatment is none that live requests can go through");
    }
    let mut pairs = 0_u64;
    for (digest, said) in listed {
        if *said == 0 || said.saturating_mul(LEAST) > digest.size() {
            return unsound("a chunk cannot hold as many pairs as it says");
        }
        pairs = pairs.saturating_add(*said);
    }
    if pairs == 0 || pairs > PAIRS || pairs != stored.pairs {
        return unsound("the number of its pairs is not that of its chunks, none, or too many");
    }
    Ok(pairs)
}

/// Reads what is held.
struct Reader<'a> {
    blobs: &'a dyn BlobStore,
    held: &'a HashSet<Digest>,
}

impl Reader<'_> {
    async fn get(&self, digest: Digest) -> Result<Bytes, Unsound> {
        if !self.held.contains(&digest) {
            return Err(Unsound::Missing(digest));
        }
        self.blobs.get(&digest).await?.ok_or(Unsound::Missing(digest))
    }

    /// The chunks of all pages, and how many pairs each is said to hold.
    async fn chunks(
        &self,
        manifest: Digest,
        stored: &Stored,
    ) -> Result<Vec<(Digest, u64)>, Unsound> {
        let mut listed = stored.chunks.clone();
        for page in &stored.pages {
            let bytes = self.get(*page).await?;
            listed.extend(wire::decode_page(bytes).map_err(malformed(*page))?);
            if listed.len() > CHUNKS {
                let what = format!("it lists more than {CHUNKS} chunks");
                return Err(Unsound::Malformed(manifest, what));
            }
        }
        // Before anything large is read, so that whoever forgot some hears of it at once.
        match listed.iter().find(|(digest, _)| !self.held.contains(digest)) {
            Some((digest, _)) => Err(Unsound::Missing(*digest)),
            None => Ok(listed),
        }
    }
}

/// Which numbers pairs have.
struct Taken {
    named: Digest,
    pairs: u64,
    bits: Vec<u64>,
}

impl Taken {
    fn new(named: Digest, pairs: u64) -> Self {
        let words = usize::try_from(pairs.div_ceil(64)).unwrap_or_default();
        Self { named, pairs, bits: vec![0; words] }
    }

    fn take(&mut self, ordinal: u64) -> Result<(), Unsound> {
        let word = usize::try_from(ordinal / 64).unwrap_or(usize::MAX);
        let bit = 1 << (ordinal % 64);
        match self.bits.get_mut(word) {
            Some(word) if ordinal < self.pairs && *word & bit == 0 => {
                *word |= bit;
                Ok(())
            }
            _ => {
                let what = format!("two pairs have the number {ordinal}, or there are fewer pairs");
                Err(Unsound::Malformed(self.named, what))
            }
        }
    }
}

#[cfg(test)]
mod tests;
