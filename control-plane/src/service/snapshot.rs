//! Snapshots: import, list, inspect, delete. A committed snapshot's content does not change any more.

pub(crate) mod append;
mod commit;
mod manifest;
mod mirror;
mod read;

use std::sync::Arc;

use countersign_engine::snapshot::{
    digest::Digest,
    wire::{decode_digest, encode_pair, timestamp},
};
use countersign_proto::{
    control::v1::{
        AnalyzeTokensRequest, AnalyzeTokensResponse, AppendRecordsRequest, AppendRecordsResponse,
        CommitSnapshotManifestRequest, CommitSnapshotRequest, CommitSnapshotResponse,
        CreateSnapshotRequest, DeleteSnapshotRequest, GetSnapshotRequest, ListRecordsRequest,
        ListRecordsResponse, ListSnapshotsRequest, ListSnapshotsResponse, ReadRecordsRequest,
        ReadRecordsResponse, Snapshot, SnapshotState, snapshot_service_server::SnapshotService,
    },
    snapshot::v1::RrPair,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Plane, Problem, lineage,
    name::{self, Name},
    page, quota,
    transform::expect,
    wire::StoredSnapshot,
};
use crate::{
    content::{self, ContentError, Manifest},
    held,
    store::{self, Expect, Kind, ListQuery, Record, Txn},
};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl SnapshotService for Snapshots {
    type AppendRecordsStream = ReceiverStream<Result<AppendRecordsResponse, Status>>;
    type CommitSnapshotStream = ReceiverStream<Result<CommitSnapshotResponse, Status>>;
    type CommitSnapshotManifestStream = Self::CommitSnapshotStream;
    type ReadRecordsStream = ReceiverStream<Result<ReadRecordsResponse, Status>>;

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<Snapshot>, Status> {
        let name = Name::parse(Kind::Snapshot, "name", &request.into_inner().name)?;
        Ok(Response::new(read(self.plane.get(Kind::Snapshot, &name.full).await?)?))
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<Snapshot>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        Ok(Response::new(self.delete(request.into_inner()).await?))
    }

    async fn append_records(
        &self,
        request: Request<Streaming<AppendRecordsRequest>>,
    ) -> Result<Response<Self::AppendRecordsStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let plane = Arc::clone(&self.plane);
        tokio::spawn(append::run(plane, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_snapshot(
        &self,
        request: Request<CommitSnapshotRequest>,
    ) -> Result<Response<Self::CommitSnapshotStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let plane = Arc::clone(&self.plane);
        // In its own task, so that a client that goes away does not leave the work half done: its retry finds the result.
        tokio::spawn(commit::run(plane, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_snapshot_manifest(
        &self,
        request: Request<CommitSnapshotManifestRequest>,
    ) -> Result<Response<Self::CommitSnapshotManifestStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let plane = Arc::clone(&self.plane);
        // As above.
        tokio::spawn(manifest::run(plane, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        Ok(Response::new(self.records(request.into_inner()).await?))
    }

    async fn read_records(
        &self,
        request: Request<ReadRecordsRequest>,
    ) -> Result<Response<Self::ReadRecordsStream>, Status> {
        let name = Name::parse(Kind::Snapshot, "name", &request.into_inner().name)?;
        let (_, manifest) = ready(&self.plane, &name).await?;
        let (sender, receiver) = mpsc::channel(2);
        let plane = Arc::clone(&self.plane);
        tokio::spawn(read::run(plane, manifest, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn analyze_tokens(
        &self,
        request: Request<AnalyzeTokensRequest>,
    ) -> Result<Response<AnalyzeTokensResponse>, Status> {
        Ok(Response::new(self.tokens(&request.into_inner().name).await?))
    }
}

impl Snapshots {
    async fn list(&self, request: ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Problem> {
        let prefix = name::prefix(Kind::Snapshot, &name::project("parent", &request.parent)?);
        let after = page::after(&prefix, &request.page_token)?;
        let query = ListQuery {
            kind: Kind::Snapshot,
            prefix: prefix.clone(),
            after,
            limit: page::size(request.page_size)?,
        };
        let found = self.plane.meta.list(query).await?;
        let next_page_token = match found.records.last() {
            Some(last) if found.more => page::token(&prefix, &last.name),
            _ => String::new(),
        };
        Ok(ListSnapshotsResponse {
            snapshots: found.records.into_iter().map(read).collect::<Result<_, _>>()?,
            next_page_token,
        })
    }

    async fn create(&self, request: CreateSnapshotRequest) -> Result<Snapshot, Problem> {
        let project = name::project("parent", &request.parent)?;
        let made = if request.snapshot_id.is_empty() {
            uuid::Uuid::now_v7().to_string()
        } else {
            request.snapshot_id
        };
        let name = Name::within(Kind::Snapshot, &project, "snapshot_id", &made)?;
        let title = request.snapshot.unwrap_or_default().display_name;
        if title.len() > 1000 {
            return Err(Problem::field(
                "snapshot.display_name",
                "TOO_LONG",
                "a display name may have 1000 bytes",
            ));
        }
        let display_name = if title.is_empty() { name.id.clone() } else { title };
        let snapshot = Snapshot {
            display_name,
            state: SnapshotState::Importing.into(),
            ..Snapshot::default()
        };
        if request.validate_only {
            if self.plane.meta.get(Kind::Snapshot, &name.full).await?.is_some() {
                return Err(Problem::Exists { kind: Kind::Snapshot, name: name.full });
            }
            return Ok(Snapshot { name: name.full, ..snapshot });
        }
        let body =
            StoredSnapshot { snapshot: Some(snapshot), upload_id: String::new() }.encode_to_vec();
        read(quota::put(&self.plane, Kind::Snapshot, name, Expect::Absent, body).await?)
    }

    async fn delete(&self, request: DeleteSnapshotRequest) -> Result<(), Problem> {
        let name = Name::parse(Kind::Snapshot, "name", &request.name)?;
        self.plane.get(Kind::Snapshot, &name.full).await?;
        // An open upload must not go on acknowledging what is thrown away.
        let _turn = self.plane.uploads.take_over(&name.full).await;
        let record = self.plane.get(Kind::Snapshot, &name.full).await?;
        let bytes = self.plane.quota.weigh(&self.plane, &record).await?;
        self.plane
            .meta
            .commit(Txn::delete(Kind::Snapshot, name.full.clone(), expect(request.etag)))
            .await?;
        self.plane.quota.released(&name.project, bytes);
        held::forget(&*self.plane.meta, &name.full).await?;
        if let Some(parts) = self.plane.blobs.parts() {
            parts.remove_parts(&name.full).await?;
        }
        let staging = self.plane.staging.clone();
        Ok(store::blocking(move || staging.remove(&name.full)).await??)
    }

    async fn tokens(&self, name: &str) -> Result<AnalyzeTokensResponse, Problem> {
        let name = Name::parse(Kind::Snapshot, "name", name)?;
        let (_, manifest) = ready(&self.plane, &name).await?;
        let _turn = self.plane.heavy(&name.project).await?;
        let analysis = lineage::analyze(&self.plane, manifest).await?;
        Ok(AnalyzeTokensResponse { report: Some(lineage::encode_report(analysis.report())) })
    }

    /// Pairs are numbered without gaps in recorded order but lie in endpoint order, so that a page is picked out of all chunks.
    async fn records(&self, request: ListRecordsRequest) -> Result<ListRecordsResponse, Problem> {
        let name = Name::parse(Kind::Snapshot, "parent", &request.parent)?;
        let limit = u64::try_from(page::size(request.page_size)?).unwrap_or(u64::MAX);
        let (_, manifest) = ready(&self.plane, &name).await?;
        let _turn = self.plane.look(&name.project).await?;
        // The manifest is in the list's identity: a token does not survive a snapshot of the same name with other content.
        let list = format!("{}@{manifest}", name.full);
        let after = page::after(&list, &request.page_token)?;
        let first: u64 = after.parse().unwrap_or_default();
        let manifest = Manifest::get(&*self.plane.blobs, manifest).await?;
        let last = first.saturating_add(limit).min(manifest.pairs());
        let mut found = Vec::new();
        for chunk in manifest.chunks.iter().filter(|chunk| chunk.may_hold(&(first..last))) {
            let pairs = content::chunk(&*self.plane.blobs, chunk).await?;
            found.extend(pairs.into_iter().filter(|pair| (first..last).contains(&pair.ordinal)));
        }
        found.sort_by_key(|pair| pair.ordinal);
        let mut records: Vec<RrPair> = Vec::new();
        let mut size = 0;
        for pair in found {
            let pair = encode_pair(pair);
            size += pair.encoded_len();
            if size > PAGE_BYTES && !records.is_empty() {
                break;
            }
            records.push(pair);
        }
        let next = records.last().map_or(last, |pair| pair.ordinal.saturating_add(1));
        let more = !records.is_empty() && next < manifest.pairs();
        let next_page_token =
            if more { page::token(&list, &next.to_string()) } else { String::new() };
        Ok(ListRecordsResponse { records, next_page_token })
    }
}

/// A page of pairs ends early at this size, because clients refuse messages of more than 4 MiB by default.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A committed snapshot, and the digest of its manifest.
pub(crate) async fn ready(plane: &Plane, name: &Name) -> Result<(Snapshot, Digest), Problem> {
    let snapshot = read(plane.get(Kind::Snapshot, &name.full).await?)?;
    match snapshot.manifest.as_ref().map(decode_digest) {
        Some(Ok(manifest)) if snapshot.state() == SnapshotState::Ready => Ok((snapshot, manifest)),
        Some(Err(source)) => Err(ContentError::Record { name: name.full.clone(), source }.into()),
        _ => Err(Problem::State {
            reason: "SNAPSHOT_NOT_READY",
            subject: name.full.clone(),
            message: format!(
                "snapshot {} is still being imported; upload its records and commit it first",
                name.full
            ),
        }),
    }
}

/// A snapshot that still waits for its content.
pub(crate) async fn open(plane: &Plane, name: &str) -> Result<Record, Problem> {
    let record = plane.get(Kind::Snapshot, name).await?;
    if read(record.clone())?.state() == SnapshotState::Importing {
        return Ok(record);
    }
    let message = format!(
        "snapshot {name} is committed, and its content does not change any more; create another one"
    );
    Err(Problem::State { reason: "SNAPSHOT_COMMITTED", subject: name.to_owned(), message })
}

fn read(record: Record) -> Result<Snapshot, Problem> {
    let stored: StoredSnapshot = super::stored(&record)?;
    Ok(with_record(stored.snapshot.unwrap_or_default(), record))
}

fn with_record(snapshot: Snapshot, record: Record) -> Snapshot {
    Snapshot {
        name: record.name,
        etag: record.etag,
        create_time: Some(timestamp(record.created)),
        update_time: Some(timestamp(record.updated)),
        ..snapshot
    }
}
