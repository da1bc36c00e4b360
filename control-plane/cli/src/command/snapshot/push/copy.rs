//! Chunks from one control plane to another: what is missing there is asked for, read and written at the same time, until nothing is missing.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use countersign_engine::snapshot::{digest::Digest, wire};
use countersign_proto::{
    discovery::v1::{
        FindMissingChunksRequest, GetCapabilitiesResponse, ReadChunksRequest, ReadChunksResponse,
        WriteChunksRequest, chunk_service_client::ChunkServiceClient,
    },
    snapshot::v1::{Manifest, ManifestPage},
    r#type::v1 as common,
};
use indicatif::ProgressBar;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use crate::{
    connect::Wire,
    failure::Failure,
    output::Output,
    upload::{Patience, is_drop},
};

/// So many digests are asked for in one call of the source.
const BATCH: usize = 1000;

/// From where to where.
pub(super) struct Copy {
    pub(super) source: ChunkServiceClient<Wire>,
    pub(super) target: ChunkServiceClient<Wire>,
    /// The snapshot at the source.
    pub(super) from: String,
    /// The snapshot at the target.
    pub(super) to: String,
    /// What the target can do.
    pub(super) can: GetCapabilitiesResponse,
}

/// What was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    bytes: Arc<AtomicU64>,
    chunks: usize,
}

impl Sent {
    /// Bytes of chunks, also of those that had to be sent again.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Chunks that were acknowledged.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }
}

/// What happens after a drop.
pub(super) struct Retries<'a> {
    patience: Patience,
    drops: u32,
    out: &'a Output,
}

impl<'a> Retries<'a> {
    pub(super) fn new(out: &'a Output) -> Self {
        Self { patience: Patience::default(), drops: 0, out }
    }

    /// Does what can be done again, until it succeeds.
    pub(super) async fn run<T>(
        &mut self,
        failed: impl Fn(Status) -> Failure,
        mut work: impl AsyncFnMut() -> Result<T, Status>,
    ) -> Result<T, Failure> {
        loop {
            match work().await {
                Ok(done) => {
                    self.drops = 0;
                    return Ok(done);
                }
                Err(status) => self.pause(status, &failed).await?,
            }
        }
    }

    /// Copies until nothing is missing.
    pub(super) async fn copy(
        &mut self,
        failed: impl Fn(Status) -> Failure,
        copy: &Copy,
        all: &[Digest],
        sent: &mut Sent,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        loop {
            let before = sent.chunks;
            let Err(status) = copy.attempt(all, sent, bar).await else { return Ok(()) };
            if sent.chunks > before {
                self.drops = 0;
            }
            self.pause(status, &failed).await?;
        }
    }

    async fn pause(
        &mut self,
        status: Status,
        failed: &impl Fn(Status) -> Failure,
    ) -> Result<(), Failure> {
        self.drops += 1;
        if !is_drop(&status) || self.drops > self.patience.attempts {
            return Err(failed(status));
        }
        let (why, attempt) = (status.message(), self.drops);
        self.out.note(&format!("the connection dropped ({why}); going on, attempt {attempt}"));
        tokio::time::sleep(self.patience.pause(self.drops)).await;
        Ok(())
    }
}

impl Copy {
    /// Everything that a manifest leads to, and the manifest, each once.
    pub(super) async fn closure(&self, manifest: Digest) -> Result<Vec<Digest>, Status> {
        let unreadable = |error: &dyn std::error::Error| {
            Status::data_loss(format!("the manifest cannot be read: {error}"))
        };
        let decode = |digest: &common::Digest| {
            wire::decode_digest(digest).map_err(|error| unreadable(&error))
        };
        let bytes = self.read(&[manifest]).await?.pop().unwrap_or_default();
        let root = Manifest::decode(bytes).map_err(|error| unreadable(&error))?;
        let pages: Vec<Digest> = root.pages.iter().map(decode).collect::<Result<_, _>>()?;
        let mut listed = root.chunks;
        for some in pages.chunks(BATCH) {
            for page in self.read(some).await? {
                let page = ManifestPage::decode(page).map_err(|error| unreadable(&error))?;
                listed.extend(page.chunks);
            }
        }
        let named = listed.iter().filter_map(|chunk| chunk.digest.as_ref()).chain(&root.ordinals);
        let named = named.map(decode).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        let all = [manifest].into_iter().chain(pages).chain(named);
        Ok(all.filter(|digest| seen.insert(*digest)).collect())
    }

    /// Small blobs of the source.
    async fn read(&self, digests: &[Digest]) -> Result<Vec<Bytes>, Status> {
        let mut pieces = read(self.source.clone(), &self.from, digests).await?;
        let mut blobs = Vec::with_capacity(digests.len());
        for digest in digests {
            let mut blob = BytesMut::new();
            loop {
                let piece = pieces.message().await?.ok_or_else(ended)?;
                blob.extend_from_slice(&piece.data);
                if piece.last {
                    break;
                }
            }
            if !digest.matches(&blob) {
                return Err(Status::data_loss(format!("the bytes of {digest} are damaged")));
            }
            blobs.push(blob.freeze());
        }
        Ok(blobs)
    }

    /// Sends what is missing.
    async fn attempt(
        &self,
        all: &[Digest],
        sent: &mut Sent,
        bar: &ProgressBar,
    ) -> Result<(), Status> {
        let missing = self.missing(all).await?;
        let lacking: u64 = missing.iter().map(Digest::size).sum();
        bar.set_position(bar.length().unwrap_or_default().saturating_sub(lacking));
        if missing.is_empty() {
            return Ok(());
        }
        // The channel is short: what waits in it is in memory.
        let (pieces, requests) = mpsc::channel(4);
        let feeder = Feeder {
            source: self.source.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            missing: missing.clone(),
            sent: Arc::clone(&sent.bytes),
        };
        let mut feeder = AbortOnDropHandle::new(tokio::spawn(feeder.run(pieces)));
        let received = self.receive(ReceiverStream::new(requests), sent, bar).await;
        if received.is_ok() {
            // What was acknowledged is asked for once more, so that nothing is missing at the end.
            return self.attempt_is_done(all).await;
        }
        // One that failed has ended the stream by that and is about to return; any other is only in the way.
        let fed = tokio::time::timeout(Duration::from_secs(1), &mut feeder).await;
        match fed {
            Ok(Ok(Err(status))) => Err(status),
            _ => received,
        }
    }

    async fn attempt_is_done(&self, all: &[Digest]) -> Result<(), Status> {
        match self.missing(all).await?.first() {
            None => Ok(()),
            Some(_) => Err(ended()),
        }
    }

    async fn receive(
        &self,
        requests: ReceiverStream<WriteChunksRequest>,
        sent: &mut Sent,
        bar: &ProgressBar,
    ) -> Result<(), Status> {
        let mut answers = self.target.clone().write_chunks(requests).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            sent.chunks += 1;
            bar.inc(answer.digest.map_or(0, |digest| digest.size_bytes));
        }
        Ok(())
    }

    async fn missing(&self, all: &[Digest]) -> Result<Vec<Digest>, Status> {
        let at_once = usize::try_from(self.can.max_find_digests).unwrap_or(BATCH).max(1);
        let mut missing = Vec::new();
        for some in all.chunks(at_once) {
            let digests = some.iter().map(wire::encode_digest).collect();
            let request = FindMissingChunksRequest { snapshot: self.to.clone(), digests };
            let found = self.target.clone().find_missing_chunks(request).await?.into_inner();
            for digest in &found.missing {
                let digest = wire::decode_digest(digest);
                missing.push(digest.map_err(|error| Status::internal(error.to_string()))?);
            }
        }
        Ok(missing)
    }
}

/// Reads at the source what is missing at the target.
struct Feeder {
    source: ChunkServiceClient<Wire>,
    from: String,
    to: String,
    missing: Vec<Digest>,
    sent: Arc<AtomicU64>,
}

impl Feeder {
    /// Ends early when nobody takes the pieces any more.
    async fn run(self, to: mpsc::Sender<WriteChunksRequest>) -> Result<(), Status> {
        let mut snapshot = self.to;
        for some in self.missing.chunks(BATCH) {
            let mut pieces = read(self.source.clone(), &self.from, some).await?;
            for digest in some {
                let mut digest = Some(wire::encode_digest(digest));
                loop {
                    let piece = pieces.message().await?.ok_or_else(ended)?;
                    self.sent.fetch_add(piece.data.len().try_into().unwrap_or_default(), Relaxed);
                    let ReadChunksResponse { data, last, .. } = piece;
                    // Both are told once.
                    let snapshot = std::mem::take(&mut snapshot);
                    let request =
                        WriteChunksRequest { snapshot, digest: digest.take(), data, last };
                    if to.send(request).await.is_err() {
                        return Ok(());
                    }
                    if last {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

async fn read(
    mut source: ChunkServiceClient<Wire>,
    snapshot: &str,
    digests: &[Digest],
) -> Result<Streaming<ReadChunksResponse>, Status> {
    let request = ReadChunksRequest {
        snapshot: snapshot.to_owned(),
        digests: digests.iter().map(wire::encode_digest).collect(),
        ..ReadChunksRequest::default()
    };
    Ok(source.read_chunks(request).await?.into_inner())
}

fn ended() -> Status {
    Status::unavailable("the stream ended early")
}
