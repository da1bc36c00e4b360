//! `CommitSnapshotManifest`: reads what was written for a snapshot, then commits the record that names it.

use std::sync::Arc;

use countersign_engine::snapshot::{digest::Digest, wire::decode_digest};
use countersign_proto::control::v1::{
    CommitSnapshotManifestRequest, CommitSnapshotResponse, ImportReport, Snapshot, SnapshotState,
    commit_snapshot_response::Event,
};
use tonic::Code;

use super::{
    commit::{self, Events, Told},
    read,
};
use crate::{
    content::check::{self, Unsound},
    held,
    import::Progress,
    service::{Plane, Problem, name::Name, quota, stored, wire::StoredSnapshot},
    store::{Kind, Record},
};

/// Serves one commit.
pub(super) async fn run(plane: Arc<Plane>, request: CommitSnapshotManifestRequest, events: Events) {
    let last = match commit(&plane, request, &events).await {
        Ok(snapshot) => Ok(CommitSnapshotResponse { event: Some(Event::Snapshot(snapshot)) }),
        Err(problem) => Err(problem.into()),
    };
    // The client may be gone; the result is in the store.
    drop(events.send(last).await);
}

async fn commit(
    plane: &Plane,
    request: CommitSnapshotManifestRequest,
    events: &Events,
) -> Result<Snapshot, Problem> {
    let name = Name::parse(Kind::Snapshot, "name", &request.name)?;
    let given = request.manifest.unwrap_or_default();
    let manifest = decode_digest(&given)
        .map_err(|error| Problem::field("manifest", "INVALID_DIGEST", error.to_string()))?;
    let _turn = plane.uploads.take_over(&name.full).await;
    let record = plane.get(Kind::Snapshot, &name.full).await?;
    if let Some(snapshot) = committed(&record, manifest)? {
        return Ok(snapshot);
    }
    let transform = commit::default_transform(plane, &name, &request.default_transform).await?;
    let _permit = plane.heavy(&name.project).await?;
    let storing = plane.storing().await?;
    let held = held::of(&*plane.meta, &record).await?;
    let mut told = Told::new(events.clone());
    let progress = |check::At { bytes_done, bytes_total, pairs }| {
        told.reading(Progress { bytes_done, bytes_total, pairs });
    };
    let found = check::check(&*plane.blobs, &held, manifest, progress).await?;
    let size_bytes = quota::content(plane, manifest).await?;
    if size_bytes > plane.quota.room(plane, &name.project, &name.full).await? {
        return Err(plane.quota.refusal(&name.project));
    }
    let draft: StoredSnapshot = stored(&record)?;
    let snapshot = Snapshot {
        state: SnapshotState::Ready.into(),
        manifest: Some(given),
        pair_count: found.pairs,
        in_count: found.inbound,
        out_count: found.pairs.saturating_sub(found.inbound),
        report: Some(ImportReport { imported: found.pairs, ..ImportReport::default() }),
        transform,
        size_bytes,
        ..draft.snapshot.unwrap_or_default()
    };
    let stored = StoredSnapshot { snapshot: Some(snapshot), upload_id: manifest.to_string() };
    commit::finish(plane, record, stored, (storing, manifest)).await
}

/// The snapshot, where it is committed with this manifest already.
fn committed(record: &Record, manifest: Digest) -> Result<Option<Snapshot>, Problem> {
    let snapshot = read(record.clone())?;
    if snapshot.state() != SnapshotState::Ready {
        return Ok(None);
    }
    if snapshot.manifest.as_ref().is_some_and(|known| decode_digest(known).ok() == Some(manifest)) {
        return Ok(Some(snapshot));
    }
    let message = format!(
        "snapshot {} is committed already, with other content; create another one",
        record.name
    );
    let subject = record.name.clone();
    Err(Problem::State { reason: "SNAPSHOT_COMMITTED", subject, message })
}

impl From<Unsound> for Problem {
    fn from(unsound: Unsound) -> Self {
        let message = unsound.to_string();
        match unsound {
            Unsound::Missing(digest) => {
                let (code, reason) = (Code::FailedPrecondition, "CHUNK_MISSING");
                Self::Blob { code, reason, digest, message }
            }
            Unsound::Malformed(digest, _) => {
                let (code, reason) = (Code::InvalidArgument, "CHUNK_MALFORMED");
                Self::Blob { code, reason, digest, message }
            }
            Unsound::Content(error) => error.into(),
        }
    }
}
