//! Bundles by digest: what is in memory or on disk is taken from there, the rest from the control plane, over a connection of its own.
//!
//! Every blob is verified, whatever it came from. Old and new bundles share the chunks that they have in common.

pub(crate) mod disk;
mod memory;

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use countersign_engine::{
    dlp::StoredTreatment,
    snapshot::{Serve, digest::Digest, wire},
};
use countersign_proto::{
    discovery::v1::{ReadChunksRequest, chunk_service_client::ChunkServiceClient},
    snapshot::v1::{Bundle, Manifest, ManifestPage},
    r#type::v1 as common,
};
use countersign_tls::bearer::Bearer;
use futures_util::future::try_join_all;
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tokio::time::timeout;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{
    room::{self, Room},
    server,
};
use disk::Disk;
use memory::Memory;

/// The newest layout of bundles that this responder can read.
pub(crate) const SCHEMA: u32 = 2;
/// How many blobs are asked for in one call.
const BATCH: usize = 1000;
/// The largest blob.
const MAX_BLOB: u64 = 1024 * 1024 * 1024;
/// How long the control plane may be silent within a call.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a bundle could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the control plane did not send what was asked for")]
    Refused(#[source] Box<Status>),
    #[error("the control plane sent nothing for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("the bytes that came for {0} are not the ones that it names")]
    Corrupt(Digest),
    #[error("{0} is neither cached nor to be had from the control plane")]
    Missing(Digest),
    #[error("{0} is larger than any blob may be")]
    TooLarge(Digest),
    #[error(transparent)]
    NoRoom(#[from] room::TooLarge),
    #[error("the bundle has layout {0}; this responder reads layouts up to {SCHEMA}")]
    Schema(u32),
    #[error("the {what} cannot be read")]
    Malformed {
        what: &'static str,
        #[source]
        source: wire::WireError,
    },
    #[error("the cache failed")]
    Task(#[source] tokio::task::JoinError),
}

impl FetchError {
    /// A stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Refused(status) if status.code() == Code::DataLoss => "blob_damaged",
            Self::Refused(_) | Self::Silent | Self::Task(_) => "fetch_failed",
            Self::Corrupt(_) => "blob_corrupt",
            Self::Missing(_) => "blob_missing",
            Self::TooLarge(_) => "blob_too_large",
            Self::NoRoom(_) => "insufficient_memory",
            Self::Schema(_) => "bundle_schema",
            Self::Malformed { .. } => "bundle_malformed",
        }
    }

    /// Whether trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status) => !matches!(
                status.code(),
                // What is damaged there is of no use until it was mended, and other replays must not wait for that.
                Code::NotFound | Code::InvalidArgument | Code::PermissionDenied | Code::DataLoss
            ),
            Self::Silent | Self::Task(_) => true,
            Self::Corrupt(_)
            | Self::Missing(_)
            | Self::TooLarge(_)
            | Self::NoRoom(_)
            | Self::Schema(_)
            | Self::Malformed { .. } => false,
        }
    }
}

/// Everything that a bundle consists of.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The encoded chunks.
    pub(crate) chunks: Vec<Bytes>,
    /// The ordinals of their pairs, where those do not hold them.
    pub(crate) ordinals: Option<Bytes>,
    /// How many pairs they hold, as the manifest has it.
    pub(crate) pairs: u64,
    /// What was done to the recording, and so to live requests.
    pub(crate) treatment: StoredTreatment,
    /// The transform template, JSON text.
    pub(crate) transform: Option<Bytes>,
    /// The test config, JSON text.
    pub(crate) test_config: Option<Bytes>,
    /// Which pairs are served.
    pub(crate) serve: Serve,
    /// The digests of all blobs, at last the bundle's own and the manifest's.
    pub(crate) blobs: Arc<[Digest]>,
}

/// The blobs at hand.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    memory: Memory,
    disk: Option<Disk>,
    room: Room,
    /// The bytes that came from a control plane.
    fetched: Counter,
}

/// Where missing blobs come from.
pub(crate) type Remote = ChunkServiceClient<InterceptedService<Channel, Bearer>>;

impl Blobs {
    pub(crate) fn new(disk: Option<Disk>, room: Room, fetched: Counter) -> Self {
        Self { memory: Memory::default(), disk, room, fetched }
    }

    /// The disk cache.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Gets all of a bundle; without a remote, from the caches alone.
    pub(crate) async fn bundle(
        self: &Arc<Self>,
        remote: Option<&Remote>,
        replay: &str,
        digest: Digest,
    ) -> Result<Fetched, FetchError> {
        let bytes = self.one(remote, replay, digest).await?;
        let bundle = Bundle::decode(bytes).map_err(|source| malformed("bundle", source))?;
        if bundle.schema > SCHEMA {
            return Err(FetchError::Schema(bundle.schema));
        }
        let manifest_digest =
            required("bundle.snapshot_manifest", bundle.snapshot_manifest.as_ref())?;
        let manifest = Manifest::decode(self.one(remote, replay, manifest_digest).await?)
            .map_err(|source| malformed("manifest", source))?;
        let transform = bundle
            .transform
            .as_ref()
            .map(|digest| required("bundle.transform", Some(digest)))
            .transpose()?;
        let test_config = bundle
            .test_config
            .as_ref()
            .map(|digest| required("bundle.test_config", Some(digest)))
            .transpose()?;
        let pages = manifest.pages.iter().map(|page| required("manifest.pages", Some(page)));
        let pages: Vec<Digest> = pages.collect::<Result<_, _>>()?;
        let mut listed = manifest.chunks;
        for page in self.all(remote, replay, pages.clone()).await? {
            let page = ManifestPage::decode(page).map_err(|why| malformed("manifest page", why))?;
            listed.extend(page.chunks);
        }
        let mut rest = Vec::with_capacity(listed.len() + pages.len() + 5);
        for chunk in &listed {
            rest.push(required("manifest.chunks", chunk.digest.as_ref())?);
        }
        let ordinals = manifest.ordinals.as_ref();
        let ordinals = ordinals.map(|own| required("manifest.ordinals", Some(own))).transpose()?;
        rest.extend(ordinals.into_iter().chain(transform).chain(test_config));
        if remote.is_some() {
            self.check_room(&rest).await?;
        }
        let mut chunks = self.all(remote, replay, rest.clone()).await?;
        // What was asked for last comes last.
        let test_config = test_config.and_then(|_| chunks.pop());
        let transform = transform.and_then(|_| chunks.pop());
        let ordinals = ordinals.and_then(|_| chunks.pop());
        let serve = wire::decode_serve(bundle.serve());
        rest.extend(pages);
        rest.extend([digest, manifest_digest]);
        let pairs = manifest.pairs;
        let treatment = manifest.treatment.map(wire::decode_treatment).unwrap_or_default();
        let blobs = rest.into();
        Ok(Fetched { chunks, ordinals, pairs, treatment, transform, test_config, serve, blobs })
    }

    /// Forgets all blobs but those of what is served. On disk, those before them stay, too, and others as far as there is room.
    pub(crate) fn retain(&self, keep: &HashSet<Digest>) {
        self.memory.retain(|digest| keep.contains(digest));
        self.release();
        if let Some(Err(error)) = self.disk.as_ref().map(|disk| disk.retain(keep)) {
            tracing::warn!(%error, "the disk cache could not be tidied up");
        }
    }

    /// Takes less memory for blobs, once what was made of them is served: those on disk are read again when they are needed.
    pub(crate) fn release(&self) {
        if let Some(disk) = &self.disk {
            self.memory.retain(|digest| !disk.holds(digest));
        }
    }

    /// Packs the blobs that only memory holds. It takes a while and is in nobody's way.
    pub(crate) fn pack(&self) {
        self.memory.pack();
    }

    /// Whether these blobs fit beside what is served: once as they come, and about as much again for what is made of them. Before any of it is
    /// fetched, so that what is served goes on where they do not.
    async fn check_room(self: &Arc<Self>, digests: &[Digest]) -> Result<(), FetchError> {
        let size = |digests: &mut dyn Iterator<Item = &Digest>| {
            digests.fold(0_u64, |sum, digest| sum.saturating_add(digest.size()))
        };
        let fresh = size(&mut self.memory.unknown(digests).iter());
        let need = fresh.saturating_add(size(&mut digests.iter()));
        let blobs = Arc::clone(self);
        Ok(blocking(move || blobs.room.check(need)).await??)
    }

    async fn one(
        self: &Arc<Self>,
        remote: Option<&Remote>,
        replay: &str,
        digest: Digest,
    ) -> Result<Bytes, FetchError> {
        self.all(remote, replay, vec![digest]).await?.pop().ok_or(FetchError::Missing(digest))
    }

    /// The blobs of these digests, in their order.
    async fn all(
        self: &Arc<Self>,
        remote: Option<&Remote>,
        replay: &str,
        digests: Vec<Digest>,
    ) -> Result<Vec<Bytes>, FetchError> {
        let missing = self.missing(&digests).await?;
        if let Some(digest) = missing.iter().find(|digest| digest.size() > MAX_BLOB) {
            return Err(FetchError::TooLarge(*digest));
        }
        for batch in missing.chunks(BATCH) {
            let remote = remote.ok_or_else(|| {
                batch.first().map_or(FetchError::Silent, |digest| FetchError::Missing(*digest))
            })?;
            self.download(remote.clone(), replay, batch).await?;
        }
        let blobs = Arc::clone(self);
        blocking(move || {
            let get =
                |digest: &Digest| blobs.memory.get(digest).ok_or(FetchError::Missing(*digest));
            digests.iter().map(get).collect()
        })
        .await?
    }

    /// Loads what is on disk into memory, on all cores, and returns what is in neither.
    async fn missing(self: &Arc<Self>, digests: &[Digest]) -> Result<Vec<Digest>, FetchError> {
        let unknown: Vec<Digest> = self.memory.unknown(digests).into_iter().collect();
        let share = unknown.len().div_ceil(server::cores()).max(1);
        let parts = unknown.chunks(share).map(|part| {
            let (blobs, part) = (Arc::clone(self), part.to_vec());
            blocking(move || blobs.absent(part))
        });
        Ok(try_join_all(parts).await?.concat())
    }

    /// Those of these that are not on disk; the others are in memory then.
    fn absent(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        digests.retain(|digest| match self.disk.as_ref().and_then(|disk| disk.get(digest)) {
            Some(bytes) => {
                self.memory.insert(*digest, bytes);
                false
            }
            None => true,
        });
        digests
    }

    async fn download(
        self: &Arc<Self>,
        mut remote: Remote,
        replay: &str,
        wanted: &[Digest],
    ) -> Result<(), FetchError> {
        let request = ReadChunksRequest {
            replay: replay.to_owned(),
            digests: wanted.iter().map(wire::encode_digest).collect(),
            ..ReadChunksRequest::default()
        };
        let mut stream = in_time(remote.read_chunks(request)).await?.into_inner();
        for (index, digest) in wanted.iter().enumerate() {
            let mut blob = BytesMut::new();
            loop {
                let piece = in_time(stream.message()).await?.ok_or(FetchError::Missing(*digest))?;
                let fits = u64::try_from(blob.len() + piece.data.len())
                    .is_ok_and(|size| size <= digest.size());
                if usize::try_from(piece.index) != Ok(index) || !fits {
                    return Err(FetchError::Corrupt(*digest));
                }
                blob.extend_from_slice(&piece.data);
                self.fetched.inc_by(u64::try_from(piece.data.len()).unwrap_or_default());
                if piece.last {
                    break;
                }
            }
            self.keep(*digest, blob.freeze()).await?;
        }
        Ok(())
    }

    /// Verifies a blob and keeps it.
    async fn keep(self: &Arc<Self>, digest: Digest, bytes: Bytes) -> Result<(), FetchError> {
        let blobs = Arc::clone(self);
        blocking(move || {
            if !digest.matches(&bytes) {
                return Err(FetchError::Corrupt(digest));
            }
            if let Some(Err(error)) = blobs.disk.as_ref().map(|disk| disk.put(&digest, &bytes)) {
                tracing::warn!(%error, "a blob could not be written to the disk cache");
            }
            blobs.memory.insert(digest, bytes);
            Ok(())
        })
        .await?
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work).await.map_err(FetchError::Task)
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, FetchError> {
    timeout(SILENCE, call)
        .await
        .map_err(|_| FetchError::Silent)?
        .map_err(|status| FetchError::Refused(Box::new(status)))
}

fn malformed(what: &'static str, source: prost::DecodeError) -> FetchError {
    FetchError::Malformed { what, source: wire::WireError::Decode { what, source } }
}

fn required(what: &'static str, digest: Option<&common::Digest>) -> Result<Digest, FetchError> {
    let digest =
        digest.ok_or(FetchError::Malformed { what, source: wire::WireError::Range { what } })?;
    wire::decode_digest(digest).map_err(|source| FetchError::Malformed { what, source })
}
