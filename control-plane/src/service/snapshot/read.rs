//! `ReadRecords`: all pairs of a snapshot in recorded order.
//!
//! Pairs lie in endpoint order, so that recorded order has to be made. A snapshot is sent in windows of recorded order: one window is
//! gathered from all chunks that have a part of it, sorted, sent and dropped. Memory is bounded by a window and a chunk, whatever the
//! snapshot's size; a snapshot smaller than a window is read once.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use countersign_engine::snapshot::{digest::Digest, wire::WireError};
use countersign_proto::{
    control::v1::ReadRecordsResponse,
    snapshot::v1::{Chunk, RrPair},
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::{PAGE_BYTES, Plane, Problem};
use crate::{
    content::{self, ChunkRef, ContentError, Manifest},
    store::BlobStore,
};

/// A window holds so many encoded bytes; one pair may be larger.
const WINDOW: u64 = 32 * 1024 * 1024;

type Messages = mpsc::Sender<Result<ReadRecordsResponse, Status>>;

/// Serves one call.
pub(super) async fn run(plane: Arc<Plane>, manifest: Digest, messages: Messages) {
    if let Err(problem) = send(&*plane.blobs, manifest, WINDOW, &messages).await {
        // The client may be gone.
        drop(messages.send(Err(problem.into())).await);
    }
}

async fn send(
    blobs: &dyn BlobStore,
    manifest: Digest,
    window: u64,
    messages: &Messages,
) -> Result<(), Problem> {
    let manifest = Manifest::get(blobs, manifest).await?;
    let plan = Plan::of(blobs, &manifest, window).await?;
    for window in &plan.windows {
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        for (named, span) in &plan.chunks {
            if span.start() > window.end() || span.end() < window.start() {
                continue;
            }
            let pairs = chunk(blobs, named).await?;
            let pairs = pairs.into_iter().filter(|pair| window.contains(&pair.ordinal));
            // Encoded again, because a decoded pair keeps the whole chunk in memory.
            found.extend(pairs.map(|pair| (pair.ordinal, pair.encode_to_vec().into())));
        }
        found.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        if !send_window(found, messages).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends pairs in messages of a moderate size; `false` when the client is gone.
async fn send_window(found: Vec<(u64, Bytes)>, messages: &Messages) -> Result<bool, Problem> {
    let mut records = Vec::new();
    let mut size = 0;
    for (_, bytes) in found {
        if size + bytes.len() > PAGE_BYTES && !records.is_empty() {
            let message = ReadRecordsResponse { records: std::mem::take(&mut records) };
            if messages.send(Ok(message)).await.is_err() {
                return Ok(false);
            }
            size = 0;
        }
        size += bytes.len();
        records.push(decode(bytes)?);
    }
    Ok(records.is_empty() || messages.send(Ok(ReadRecordsResponse { records })).await.is_ok())
}

fn decode(bytes: Bytes) -> Result<RrPair, Problem> {
    let digest = Digest::of(&bytes);
    RrPair::decode(bytes).map_err(|source| malformed(digest, "pair", source))
}

async fn chunk(blobs: &dyn BlobStore, named: &ChunkRef) -> Result<Vec<RrPair>, Problem> {
    let bytes = content::blob(blobs, named.digest).await?;
    let chunk = Chunk::decode(bytes).map_err(|source| malformed(named.digest, "chunk", source))?;
    Ok(named.number(chunk.pairs, |pair, ordinal| pair.ordinal = ordinal)?)
}

fn malformed(digest: Digest, what: &'static str, source: prost::DecodeError) -> Problem {
    let source = WireError::Decode { what, source };
    ContentError::Malformed { digest, source }.into()
}

/// Which ordinals are sent together, and which chunks hold which ordinals.
#[derive(Debug)]
struct Plan {
    windows: Vec<RangeInclusive<u64>>,
    chunks: Vec<(ChunkRef, RangeInclusive<u64>)>,
}

impl Plan {
    async fn of(blobs: &dyn BlobStore, manifest: &Manifest, window: u64) -> Result<Self, Problem> {
        let all = 0..=u64::MAX;
        let bytes: u64 = manifest.chunks.iter().map(|chunk| chunk.digest.size()).sum();
        if bytes <= window {
            let chunks = manifest.chunks.iter().map(|chunk| (chunk.clone(), all.clone()));
            return Ok(Self { chunks: chunks.collect(), windows: vec![all] });
        }
        let mut sizes: Vec<(u64, u32)> = Vec::new();
        let mut chunks = Vec::new();
        for named in &manifest.chunks {
            let pairs = chunk(blobs, named).await?;
            let ordinals = || pairs.iter().map(|pair| pair.ordinal);
            if let (Some(first), Some(last)) = (ordinals().min(), ordinals().max()) {
                chunks.push((named.clone(), first..=last));
            }
            let size = |pair: &RrPair| u32::try_from(pair.encoded_len()).unwrap_or(u32::MAX);
            sizes.extend(pairs.iter().map(|pair| (pair.ordinal, size(pair))));
        }
        sizes.sort_unstable();
        Ok(Self { windows: cut(&sizes, window), chunks })
    }
}

/// The windows of pairs whose sizes are known, by ordinal.
fn cut(sizes: &[(u64, u32)], window: u64) -> Vec<RangeInclusive<u64>> {
    let mut windows: Vec<RangeInclusive<u64>> = Vec::new();
    let mut filled = u64::MAX;
    for &(ordinal, size) in sizes {
        filled = filled.saturating_add(u64::from(size));
        match windows.last_mut() {
            Some(open) if filled <= window => *open = *open.start()..=ordinal,
            _ => {
                windows.push(ordinal..=ordinal);
                filled = u64::from(size);
            }
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blob::FileBlobs;

    #[test]
    fn windows_are_as_large_as_allowed() {
        let sizes = [(0, 5), (1, 5), (2, 11), (3, 1), (4, 9), (5, 1)];
        assert_eq!(cut(&sizes, 10), [0..=1, 2..=2, 3..=4, 5..=5]);
        assert_eq!(cut(&[], 10), []);
    }

    /// A snapshot of three endpoints whose pairs were recorded in turns, as chunks of endpoints.
    async fn store(blobs: &dyn BlobStore, pairs: u64) -> Digest {
        let mut chunks = Vec::new();
        for endpoint in 0..3 {
            let numbers: Vec<u64> = (0..pairs).filter(|n| n % 3 == endpoint).collect();
            let pair = |_| RrPair { location: "x".repeat(1000), ..RrPair::default() };
            let pairs: Vec<_> = numbers.iter().map(pair).collect();
            let count = u64::try_from(pairs.len()).unwrap();
            let digest = blobs.put(Chunk { pairs }.encode_to_vec().into()).await.unwrap();
            chunks.push(ChunkRef { digest, pairs: count, ordinals: numbers.into() });
        }
        let (digest, _) = Manifest { chunks, treatment: None }.put(blobs).await.unwrap();
        digest
    }

    #[tokio::test]
    async fn recorded_order_is_made_whatever_the_window() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        let manifest = store(&blobs, 50).await;
        for window in [1, 2_500, 20_000, u64::MAX] {
            let (sender, mut receiver) = mpsc::channel(100);
            send(&blobs, manifest, window, &sender).await.unwrap();
            drop(sender);
            let mut ordinals = Vec::new();
            while let Some(message) = receiver.recv().await {
                ordinals.extend(message.unwrap().records.iter().map(|pair| pair.ordinal));
            }
            assert_eq!(ordinals, (0..50).collect::<Vec<_>>(), "{window}");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path()).unwrap();
        let manifest = store(&blobs, 50).await;
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        send(&blobs, manifest, 1, &sender).await.unwrap();
    }
}
