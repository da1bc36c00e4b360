//! `CommitSnapshot`: parse what was uploaded, store chunks, then the manifest, then the record that names it.

use std::sync::Arc;

use bytes::Bytes;
use countersign_engine::snapshot::{RrPair, digest::Digest, wire::encode_digest};
use countersign_proto::control::v1::{
    CommitProgress, CommitSnapshotRequest, CommitSnapshotResponse, Snapshot, SnapshotState,
    commit_snapshot_response::Event,
};
use prost::Message as _;
use tokio::{runtime::Handle, sync::mpsc};
use tonic::Status;

use super::with_record;
use crate::{
    content::Manifest,
    import::{self, Progress, Report},
    service::{
        Plane, Problem,
        name::Name,
        stored,
        wire::{self, StoredSnapshot},
    },
    store::{self, BlobStore, Expect, Kind, Record, StoreError, Txn},
};

type Events = mpsc::Sender<Result<CommitSnapshotResponse, Status>>;

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
    let _turn = plane.uploads.take_over(&name.full).await;
    let record = plane.get(Kind::Snapshot, &name.full).await?;
    let known: StoredSnapshot = stored(&record)?;
    let draft = known.snapshot.unwrap_or_default();
    if draft.state() == SnapshotState::Ready {
        if known.upload_id == request.upload_id {
            return Ok(with_record(draft, record));
        }
        let message = format!(
            "snapshot {} is committed already, from another upload; create another one",
            name.full
        );
        return Err(Problem::State { reason: "SNAPSHOT_COMMITTED", subject: name.full, message });
    }
    let _permit = plane.heavy().await?;
    let (pairs, report) = read(plane, &name, &request, events).await?;
    judge(&request, &report)?;
    let snapshot = Snapshot {
        pair_count: report.imported,
        in_count: report.inbound,
        out_count: report.imported.saturating_sub(report.inbound),
        report: Some(wire::encode_report(&report)),
        ..draft
    };
    if request.validate_only {
        return Ok(with_record(snapshot, record));
    }
    let manifest = put(plane, pairs).await?;
    let snapshot = Snapshot {
        state: SnapshotState::Ready.into(),
        manifest: Some(encode_digest(&manifest)),
        ..snapshot
    };
    finish(plane, record, StoredSnapshot { snapshot: Some(snapshot), upload_id: request.upload_id })
        .await
}

async fn read(
    plane: &Plane,
    name: &Name,
    request: &CommitSnapshotRequest,
    events: &Events,
) -> Result<(Vec<RrPair>, Report), Problem> {
    let (staging, events) = (plane.staging.clone(), events.clone());
    let (full, upload_id) = (name.full.clone(), request.upload_id.clone());
    let read = store::blocking(move || {
        let Some(pieces) = staging.read(&full, &upload_id)? else { return Ok(None) };
        import::read(pieces, progress(events)).map(Some)
    });
    read.await??.ok_or_else(|| Problem::State {
        reason: "UPLOAD_NOT_FOUND",
        subject: name.full.clone(),
        message: format!("nothing was uploaded to {} under this upload id", name.full),
    })
}

/// Progress is lossy: a slow client gets the newest that fits.
fn progress(events: Events) -> impl FnMut(Progress) {
    const STEP: u64 = 1024 * 1024;
    let mut due = 0;
    move |at| {
        if at.bytes_done >= due {
            due = at.bytes_done.saturating_add(STEP);
            let progress = CommitProgress {
                bytes_done: at.bytes_done,
                bytes_total: at.bytes_total,
                pairs: at.pairs,
            };
            drop(
                events.try_send(Ok(CommitSnapshotResponse {
                    event: Some(Event::Progress(progress)),
                })),
            );
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

/// Stores chunks, then the manifest, and returns the manifest's digest.
async fn put(plane: &Plane, pairs: Vec<RrPair>) -> Result<Digest, Problem> {
    let blobs = Arc::clone(&plane.blobs);
    let runtime = Handle::current();
    let manifest = store::blocking(move || {
        let mut manifest = Manifest::default();
        import::cut(pairs, |chunk| {
            manifest.chunks.push((chunk.digest, chunk.pairs));
            runtime.block_on(blobs.put_if_absent(chunk.digest, chunk.bytes.into()))
        })?;
        Ok::<_, StoreError>(manifest)
    });
    let bytes = wire::encode_manifest(&manifest.await??);
    Ok(put_blob(&*plane.blobs, bytes).await?)
}

/// Stores a blob and returns its digest.
pub(crate) async fn put_blob(blobs: &dyn BlobStore, bytes: Bytes) -> Result<Digest, StoreError> {
    let digest = Digest::of(&bytes);
    blobs.put_if_absent(digest, bytes).await?;
    Ok(digest)
}

async fn finish(
    plane: &Plane,
    record: Record,
    snapshot: StoredSnapshot,
) -> Result<Snapshot, Problem> {
    let txn = Txn::put(
        Kind::Snapshot,
        record.name.clone(),
        Expect::Etag(record.etag.clone()),
        snapshot.encode_to_vec(),
    );
    let committed = plane.meta.commit(txn).await?;
    let (staging, name) = (plane.staging.clone(), record.name.clone());
    // The snapshot is committed; a left-over upload only takes space and is removed at the next start.
    if let Err(error) = store::blocking(move || staging.remove(&name)).await? {
        tracing::warn!(error = crate::service::chain(&error), "cannot remove a committed upload");
    }
    let record = committed.records.into_iter().next().unwrap_or(record);
    Ok(with_record(snapshot.snapshot.unwrap_or_default(), record))
}
