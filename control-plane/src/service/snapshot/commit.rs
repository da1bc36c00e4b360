//! `CommitSnapshot`: parse what was uploaded, store chunks, then the manifest, then the record that names it.

mod treating;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use countersign_engine::{
    diagnostic::Diagnostic,
    snapshot::{chunk::Chunk, digest::Digest, wire::encode_digest},
    transform::PairFilter,
};
use countersign_proto::control::v1::{
    CommitProgress, CommitSnapshotRequest, CommitSnapshotResponse, Snapshot, SnapshotState,
    commit_snapshot_response::Event,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::{mirror, with_record};
use crate::{
    content::{ChunkRef, Manifest, Root},
    held,
    import::{self, ImportError, Pairs, Progress, Report, Wanted, staging::Following},
    service::{
        Plane, Problem, chain,
        name::Name,
        stored,
        wire::{self, StoredSnapshot},
    },
    store::{self, Expect, Kind, Record, StoreError, Txn},
    storing::Storing,
};

/// How long an upload that is read as it comes may pause.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) type Events = mpsc::Sender<Result<CommitSnapshotResponse, Status>>;

/// Serves one commit.
pub(super) async fn run(plane: Arc<Plane>, request: CommitSnapshotRequest, events: Events) {
    let last = match commit(&plane, request, &events).await {
        Ok(snapshot) => Ok(CommitSnapshotResponse { event: Some(Event::Snapshot(snapshot)) }),
        Err(problem) => Err(problem.into()),
    };
    // The client may be gone; the result is in the store.
    drop(events.send(last).await);
}

async fn commit(
    plane: &Plane,
    request: CommitSnapshotRequest,
    events: &Events,
) -> Result<Snapshot, Problem> {
    let name = Name::parse(Kind::Snapshot, "name", &request.name)?;
    let (wanted, remarks) = wanted(&request)?;
    let along = request.upload_pieces > 0;
    let turn = if along { None } else { Some(plane.uploads.take_over(&name.full).await) };
    if let Known::Ready(snapshot) = known(plane, &name, &request.upload_id).await? {
        return Ok(snapshot);
    }
    let transform = default_transform(plane, &name, &request.default_transform).await?;
    let wanted = Wanted { treating: treating::of(plane, &name, &request).await?, ..wanted };
    if !along {
        mirror::fetch(plane, &name.full, &request.upload_id).await?;
    }
    let project = &name.project;
    let _permit = if along { plane.follow(project).await? } else { plane.heavy(project).await? };
    let told = Told::new(events.clone());
    let (pairs, mut report, told) = read(plane, &name, &request, wanted, told).await?;
    // Whoever read along did so beside the upload, which is at its end now.
    let _turn = match turn {
        Some(turn) => turn,
        None => plane.uploads.take_over(&name.full).await,
    };
    let (record, draft) = match known(plane, &name, &request.upload_id).await? {
        Known::Ready(snapshot) => return Ok(snapshot),
        Known::Draft(record, draft) => (record, draft),
    };
    report.findings.splice(..0, remarks);
    judge(&request, &report)?;
    let storing = plane.storing().await?;
    let put = if request.validate_only {
        None
    } else {
        let put = put(plane, &name, pairs, told).await?;
        if let Some(redaction) = &mut report.redaction {
            redaction.signatures = put.signatures;
        }
        Some(put)
    };
    let snapshot = Snapshot {
        pair_count: report.imported,
        in_count: report.inbound,
        out_count: report.imported.saturating_sub(report.inbound),
        report: Some(wire::encode_report(&report)),
        transform,
        ..draft
    };
    let Some(Put { manifest, bytes, .. }) = put else { return Ok(with_record(snapshot, record)) };
    let snapshot = Snapshot {
        state: SnapshotState::Ready.into(),
        manifest: Some(encode_digest(&manifest)),
        size_bytes: bytes,
        ..snapshot
    };
    let stored = StoredSnapshot { snapshot: Some(snapshot), upload_id: request.upload_id };
    finish(plane, record, stored, (storing, manifest)).await
}

/// The name of a transform, which must exist in the snapshot's project; empty for none.
pub(super) async fn default_transform(
    plane: &Plane,
    snapshot: &Name,
    name: &str,
) -> Result<String, Problem> {
    if name.is_empty() {
        return Ok(String::new());
    }
    let field = "default_transform";
    let name = Name::parse(Kind::Transform, field, name)?;
    if name.project != snapshot.project {
        let message = "the transform belongs to another project";
        return Err(Problem::field(field, "WRONG_PROJECT", message));
    }
    Ok(plane.get(Kind::Transform, &name.full).await?.name)
}

/// What is known of a snapshot that is to be committed.
enum Known {
    /// It is, by an earlier commit of this very upload.
    Ready(Snapshot),
    /// It waits for its content.
    Draft(Record, Snapshot),
}

async fn known(plane: &Plane, name: &Name, upload_id: &str) -> Result<Known, Problem> {
    let record = plane.get(Kind::Snapshot, &name.full).await?;
    let known: StoredSnapshot = stored(&record)?;
    let snapshot = known.snapshot.unwrap_or_default();
    if snapshot.state() != SnapshotState::Ready {
        return Ok(Known::Draft(record, snapshot));
    }
    if known.upload_id == upload_id {
        return Ok(Known::Ready(with_record(snapshot, record)));
    }
    let message = format!(
        "snapshot {} is committed already, from another upload; create another one",
        name.full
    );
    Err(Problem::State { reason: "SNAPSHOT_COMMITTED", subject: name.full.clone(), message })
}

/// What the request wants of the upload, and what is to be said of its filter.
fn wanted(request: &CommitSnapshotRequest) -> Result<(Wanted, Vec<Diagnostic>), Problem> {
    let keep = !request.validate_only;
    if request.filter.is_empty() {
        return Ok((Wanted { keep, ..Wanted::default() }, Vec::new()));
    }
    let (filter, found) = PairFilter::parse(&request.filter);
    let findings = found.into_vec();
    match filter {
        Some(filter) => Ok((Wanted { keep, filter: Some(filter), ..Wanted::default() }, findings)),
        None => Err(Problem::Document { what: "the filter", reason: "INVALID_FILTER", findings }),
    }
}

async fn read(
    plane: &Plane,
    name: &Name,
    request: &CommitSnapshotRequest,
    wanted: Wanted,
    mut told: Told,
) -> Result<(Pairs, Report, Told), Problem> {
    let (staging, scratch) = (plane.staging.clone(), plane.scratch.clone());
    let (full, upload_id) = (name.full.clone(), request.upload_id.clone());
    let following = (request.upload_pieces > 0).then(|| {
        let (events, stopping) = (told.events.clone(), plane.stopping.clone());
        Following {
            pieces: request.upload_pieces,
            growth: plane.uploads.growth(&name.full),
            patience: PATIENCE,
            gone: Box::new(move || events.is_closed() || stopping.is_cancelled()),
        }
    });
    let read = store::blocking(move || {
        let pieces = match following {
            Some(following) => Some(staging.follow(&full, &upload_id, following)),
            None => staging.read(&full, &upload_id)?,
        };
        let Some(pieces) = pieces else { return Ok(None) };
        let (pairs, report) = import::read(pieces, scratch, &wanted, |at| told.reading(at))?;
        Ok::<_, ImportError>(Some((pairs, report, told)))
    });
    // Pieces of an upload that is read as it comes may come to another control plane.
    let read = tokio::select! {
        read = read => read,
        Err(problem) = mirror::follow(plane, &name.full, &request.upload_id), if request.upload_pieces > 0 => return Err(problem),
    };
    read??.ok_or_else(|| Problem::State {
        reason: "UPLOAD_NOT_FOUND",
        subject: name.full.clone(),
        message: format!("nothing was uploaded to {} under this upload id", name.full),
    })
}

/// Tells the client how far the commit has come. Lossy: a slow client gets the newest that fits.
#[derive(Debug, Clone)]
pub(super) struct Told {
    events: Events,
    at: CommitProgress,
    due: Instant,
}

impl Told {
    const EVERY: Duration = Duration::from_millis(100);

    pub(super) fn new(events: Events) -> Self {
        Self { events, at: CommitProgress::default(), due: Instant::now() }
    }

    pub(super) fn reading(&mut self, at: Progress) {
        let Progress { bytes_done, bytes_total, pairs } = at;
        self.tell(CommitProgress { bytes_done, bytes_total, pairs, ..self.at });
    }

    fn stored(&mut self, pairs: u64) {
        let pairs_stored = self.at.pairs_stored.saturating_add(pairs);
        self.tell(CommitProgress { pairs_stored, ..self.at });
    }

    fn tell(&mut self, at: CommitProgress) {
        self.at = at;
        let now = Instant::now();
        if now >= self.due {
            self.due = now + Self::EVERY;
            let event = CommitSnapshotResponse { event: Some(Event::Progress(at)) };
            drop(self.events.try_send(Ok(event)));
        }
    }
}

fn judge(request: &CommitSnapshotRequest, report: &Report) -> Result<(), Problem> {
    if request.strict && report.refused > 0 {
        let findings = report.findings.clone();
        return Err(Problem::Document { what: "the upload", reason: "RECORDS_REFUSED", findings });
    }
    if report.imported == 0 {
        let what = format!(
            "the upload holds no pair that can be served ({} entries skipped, {} refused)",
            report.skipped, report.refused
        );
        return Err(Problem::Unusable {
            what,
            reason: "NO_PAIRS",
            findings: report.findings.clone(),
        });
    }
    Ok(())
}

/// What was stored.
struct Put {
    manifest: Digest,
    /// How many bytes it takes.
    bytes: u64,
    /// How many JWS signatures were left out.
    signatures: u64,
}

/// Stores chunks, then the manifest.
async fn put(plane: &Plane, name: &Name, pairs: Pairs, mut told: Told) -> Result<Put, Problem> {
    let room = plane.quota.room(plane, &name.project, &name.full).await?;
    let blobs = Arc::clone(&plane.blobs);
    let written = AtomicU64::new(0);
    let count = &written;
    // Chunks are cut while others are hashed and synced; one batch waits in between.
    let (full, batches) = mpsc::channel::<Vec<Bytes>>(1);
    let cut = store::blocking(move || {
        let treatment = pairs.treatment().cloned();
        let mut numbers = Vec::new();
        let mut batch = Batch::default();
        let signatures = pairs.cut(|chunk| {
            let pairs = u64::try_from(chunk.ordinals.len()).unwrap_or(u64::MAX);
            numbers.push((pairs, chunk.ordinals.clone().into_boxed_slice()));
            told.stored(pairs);
            batch.add(chunk, &full)
        })?;
        batch.send(&full)?;
        Ok::<_, StoreError>((treatment, numbers, signatures))
    });
    let write = async move {
        // Owned here, so that an error closes the channel, which ends the cutting.
        let mut batches = batches;
        let mut digests = Vec::new();
        while let Some(batch) = batches.recv().await {
            let size: usize = batch.iter().map(Bytes::len).sum();
            let size = u64::try_from(size).unwrap_or(u64::MAX);
            if count.load(Ordering::Relaxed).saturating_add(size) > room {
                return Err(plane.quota.refusal(&name.project));
            }
            digests.extend(blobs.put_all(batch).await?);
            count.fetch_add(size, Ordering::Relaxed);
        }
        Ok::<_, Problem>(digests)
    };
    let (cut, ended) = tokio::join!(cut, write);
    if ended.is_err() {
        plane.quota.released(&name.project, written.load(Ordering::Relaxed));
    }
    // That nobody takes chunks any more is not the reason but its consequence.
    let digests = ended?;
    let (treatment, numbers, signatures) = cut??;
    let chunks = digests.into_iter().zip(numbers);
    let named = |(digest, (pairs, ordinals))| ChunkRef { digest, pairs, ordinals };
    let manifest = Manifest { treatment, chunks: chunks.map(named).collect() };
    let (manifest, bytes) = manifest.put(&*plane.blobs).await?;
    Ok(Put { manifest, bytes, signatures })
}

/// Chunks that are stored together.
#[derive(Debug, Default)]
struct Batch {
    chunks: Vec<Bytes>,
    size: usize,
}

impl Batch {
    const SIZE: usize = 8 * 1024 * 1024;

    fn add(&mut self, chunk: Chunk, full: &mpsc::Sender<Vec<Bytes>>) -> Result<(), StoreError> {
        self.size += chunk.bytes.len();
        self.chunks.push(chunk.bytes.into());
        if self.size >= Self::SIZE { self.send(full) } else { Ok(()) }
    }

    fn send(&mut self, full: &mpsc::Sender<Vec<Bytes>>) -> Result<(), StoreError> {
        self.size = 0;
        full.blocking_send(std::mem::take(&mut self.chunks)).map_err(|_| StoreError::Stopped)
    }
}

/// Commits a snapshot whose blobs are stored, and removes what led to them.
pub(super) async fn finish(
    plane: &Plane,
    record: Record,
    snapshot: StoredSnapshot,
    (storing, manifest): (Storing, Digest),
) -> Result<Snapshot, Problem> {
    let txn = Txn::put(
        Kind::Snapshot,
        record.name.clone(),
        Expect::Etag(record.etag.clone()),
        snapshot.encode_to_vec(),
    );
    let committed = plane.commit_stored(storing, txn, Root::Manifest(manifest)).await?;
    // What was uploaded counts no more.
    let name = Name::parse(Kind::Snapshot, "name", &record.name)?;
    plane.quota.released(&name.project, 0);
    let (staging, name) = (plane.staging.clone(), record.name.clone());
    if let Err(error) = held::forget(&*plane.meta, &name).await {
        tracing::warn!(error = chain(&error), "cannot remove what a committed snapshot has held");
    }
    if let Some(parts) = plane.blobs.parts()
        && let Err(error) = parts.remove_parts(&name).await
    {
        tracing::warn!(error = chain(&error), "cannot remove the parts of a committed upload");
    }
    // The snapshot is committed; a left-over upload only takes space and is removed at the next start.
    if let Err(error) = store::blocking(move || staging.remove(&name)).await? {
        tracing::warn!(error = chain(&error), "cannot remove a committed upload");
    }
    let record = committed.records.into_iter().next().unwrap_or(record);
    Ok(with_record(snapshot.snapshot.unwrap_or_default(), record))
}
