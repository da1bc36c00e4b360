//! What is stored as blobs: the chunks and manifest of a snapshot, and the closure of a bundle.
//!
//! Whatever is read was verified by the blob store; a digest that leads nowhere is an error that names it.

pub(crate) mod check;
pub(crate) mod manifest;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use countersign_engine::dlp::Treatment;
use countersign_engine::jwt::key::SecretRef;
use countersign_engine::snapshot::{
    RrPair, Serve,
    digest::Digest,
    wire::{WireError, decode_chunk_bytes},
};

pub use manifest::{ChunkRef, Manifest};

use crate::{
    service::wire,
    store::{BlobStore, StoreError},
};

/// The layout of the blobs that this version writes. Since the second, ordinals lie beside the chunks, and manifests have pages.
pub(crate) const SCHEMA: u32 = 2;

/// Everything that a responder needs, by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest of the snapshot.
    pub manifest: Digest,
    /// The template, where the replay has one.
    pub transform: Option<Digest>,
    /// The test config.
    pub test_config: Digest,
    /// The secrets that the template names.
    pub required_secrets: Vec<SecretRef>,
    /// Which pairs are served.
    pub serve: Serve,
}

/// Why stored content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A blob is named but not stored.
    #[error("the blob {digest} is missing from the store")]
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// A blob is not what the one that names it says.
    #[error("the blob {digest} cannot be read")]
    Malformed {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: WireError,
    },
    /// A record is not what it should be.
    #[error("the record of {name} cannot be read")]
    Record {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: WireError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob that must be there.
pub(crate) async fn blob(blobs: &dyn BlobStore, digest: Digest) -> Result<Bytes, ContentError> {
    blobs.get(&digest).await?.ok_or(ContentError::Missing { digest })
}

/// What live requests go through before they are matched with the snapshot of this manifest.
pub(crate) async fn treatment(
    blobs: &dyn BlobStore,
    digest: Digest,
) -> Result<Treatment, ContentError> {
    let stored = manifest::treatment(blobs, digest).await?;
    let source = WireError::Range { what: "manifest.treatment" };
    stored.open().ok_or(ContentError::Malformed { digest, source })
}

/// The pairs of one chunk.
pub(crate) async fn chunk(
    blobs: &dyn BlobStore,
    chunk: &ChunkRef,
) -> Result<Vec<RrPair>, ContentError> {
    let digest = chunk.digest;
    let pairs = decode_chunk_bytes(blob(blobs, digest).await?)
        .map_err(|source| ContentError::Malformed { digest, source })?;
    chunk.number(pairs, |pair, ordinal| pair.ordinal = ordinal)
}

/// All pairs of a snapshot, in recorded order.
pub(crate) async fn pairs(
    blobs: &dyn BlobStore,
    digest: Digest,
) -> Result<Vec<RrPair>, ContentError> {
    let mut pairs = Vec::new();
    for named in Manifest::get(blobs, digest).await?.chunks {
        pairs.extend(chunk(blobs, &named).await?);
    }
    pairs.sort_by_key(|pair| pair.ordinal);
    Ok(pairs)
}

/// What leads to blobs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    /// The manifest of a snapshot.
    Manifest(Digest),
    /// A bundle.
    Bundle(Digest),
    /// A list of blobs that nothing else names yet.
    Listed(Arc<[Digest]>),
}

/// The root and everything that it names.
pub(crate) async fn named(
    blobs: &dyn BlobStore,
    root: Root,
) -> Result<HashSet<Digest>, ContentError> {
    match root {
        Root::Manifest(digest) => {
            let named = manifest::named(blobs, digest).await?;
            Ok(named.into_iter().chain([digest]).collect())
        }
        Root::Bundle(digest) => {
            let parts = wire::decode_bundle(blob(blobs, digest).await?)
                .map_err(|source| ContentError::Malformed { digest, source })?;
            let mut named = Box::pin(named(blobs, Root::Manifest(parts.manifest))).await?;
            named.extend([digest, parts.test_config]);
            named.extend(parts.transform);
            Ok(named)
        }
        Root::Listed(digests) => Ok(digests.iter().copied().collect()),
    }
}

/// The same of several.
pub(crate) async fn named_by(
    blobs: &dyn BlobStore,
    roots: Vec<Root>,
) -> Result<HashSet<Digest>, ContentError> {
    let mut all = HashSet::new();
    for root in roots {
        all.extend(named(blobs, root).await?);
    }
    Ok(all)
}

/// Which blobs belong to a bundle or a snapshot. Neither changes, so that the answer is kept for the newest few.
#[derive(Debug, Default)]
pub(crate) struct Closures {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    closures: HashMap<Root, Arc<HashSet<Digest>>>,
    order: VecDeque<Root>,
}

impl Closures {
    const KEPT: usize = 64;

    /// The digests of the root itself and of everything that it names.
    pub(crate) async fn of(
        &self,
        blobs: &dyn BlobStore,
        root: Root,
    ) -> Result<Arc<HashSet<Digest>>, ContentError> {
        if let Some(closure) = self.lock().closures.get(&root) {
            return Ok(Arc::clone(closure));
        }
        let closure = named(blobs, root.clone()).await?;
        let closure = Arc::new(closure);
        let mut kept = self.lock();
        if kept.closures.insert(root.clone(), Arc::clone(&closure)).is_none() {
            kept.order.push_back(root);
        }
        if kept.order.len() > Self::KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.closures.remove(&oldest);
        }
        Ok(closure)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
