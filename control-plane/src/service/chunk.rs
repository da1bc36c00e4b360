//! Blobs by digest: read by responders and whoever copies a snapshot, written for a snapshot. A digest alone is not a capability: only what the named
//! replay or snapshot is made of is read, and only what the project has is told to be there.

mod find;
mod write;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use countersign_engine::snapshot::{
    digest::{Digest, Function},
    wire::encode_function,
};
use countersign_proto::discovery::v1::{
    FindMissingChunksRequest, FindMissingChunksResponse, GetCapabilitiesRequest,
    GetCapabilitiesResponse, ReadChunksRequest, ReadChunksResponse, WriteChunksRequest,
    WriteChunksResponse, chunk_service_server::ChunkService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Plane, Problem, name::Name, snapshot};
use crate::auth::rights::Principal;
use crate::{
    content::{self, Closures, Root},
    store::Kind,
};

/// The size of a piece.
const PIECE: usize = 256 * 1024;
/// How many blobs one call may ask for.
const ASKED: usize = 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    plane: Arc<Plane>,
    closures: Arc<Closures>,
    memory: write::Memory,
}

impl Chunks {
    pub(crate) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, closures: Arc::default(), memory: write::Memory::default() }
    }

    async fn check(
        &self,
        who: Option<Arc<Principal>>,
        request: ReadChunksRequest,
    ) -> Result<Vec<Digest>, Problem> {
        let digests = find::parse(&request.digests, ASKED)?;
        let (closure, whose) = match (&*request.replay, &*request.snapshot) {
            (replay, "") => {
                let name = Name::parse(Kind::Replay, "replay", replay)?;
                who.map_or(Ok(()), |who| who.may_read(&name))?;
                let closure = self.of_replay(&name, &digests).await?;
                (closure, format!("the bundle of {}", name.full))
            }
            ("", snapshot) => {
                who.map_or(Ok(()), |who| who.is_user())?;
                let name = Name::parse(Kind::Snapshot, "snapshot", snapshot)?;
                let (_, manifest) = snapshot::ready(&self.plane, &name).await?;
                let closure =
                    self.closures.of(&*self.plane.blobs, Root::Manifest(manifest)).await?;
                (closure.iter().copied().collect(), name.full)
            }
            _ => {
                let message = "name a replay or a snapshot, not both";
                return Err(Problem::field("snapshot", "TWO_SOURCES", message));
            }
        };
        match digests.iter().find(|digest| !closure.contains(digest)) {
            None => Ok(digests),
            Some(digest) => {
                let message = format!("the blob {digest} does not belong to {whose}");
                Err(Problem::Denied { reason: "NOT_IN_BUNDLE", message })
            }
        }
    }

    /// What a replay's bundle is made of; one that another control plane may have announced a moment ago is waited for.
    async fn of_replay(&self, name: &Name, digests: &[Digest]) -> Result<HashSet<Digest>, Problem> {
        let mut closure = self.announced(name).await?;
        let known =
            |closure: &HashSet<Digest>| digests.iter().all(|digest| closure.contains(digest));
        if !closure.as_ref().is_some_and(known) {
            let revision = self.plane.meta.refresh().await?;
            self.plane.publisher.caught_up(revision).await;
            closure = self.announced(name).await?;
        }
        closure.ok_or_else(|| Problem::NotFound { kind: Kind::Replay, name: name.full.clone() })
    }

    /// What a replay's bundles are made of: the one that is served, the one before it and the one that will be; `None` when the replay is not
    /// announced.
    async fn announced(&self, name: &Name) -> Result<Option<HashSet<Digest>>, Problem> {
        let table = self.plane.publisher.table();
        let Some(announced) = table.get(&name.full) else { return Ok(None) };
        let mut closure = HashSet::new();
        for bundle in announced.bundles() {
            let named = self.closures.of(&*self.plane.blobs, Root::Bundle(bundle)).await?;
            closure.extend(named.iter().copied());
        }
        Ok(Some(closure))
    }
}

#[tonic::async_trait]
impl ChunkService for Chunks {
    type ReadChunksStream = ReceiverStream<Result<ReadChunksResponse, Status>>;
    type WriteChunksStream = ReceiverStream<Result<WriteChunksResponse, Status>>;

    async fn get_capabilities(
        &self,
        _request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        let number = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
        let functions = Function::ALL.map(|function| encode_function(function).into());
        Ok(Response::new(GetCapabilitiesResponse {
            digest_functions: functions.to_vec(),
            default_digest_function: encode_function(self.plane.blobs.function()).into(),
            max_chunk_bytes: write::MAX_CHUNK,
            max_piece_bytes: number(write::MAX_PIECE),
            max_find_digests: number(find::ASKED),
            max_read_digests: number(ASKED),
        }))
    }

    async fn read_chunks(
        &self,
        request: Request<ReadChunksRequest>,
    ) -> Result<Response<Self::ReadChunksStream>, Status> {
        let who = request.extensions().get::<Arc<Principal>>().cloned();
        let digests = self.check(who, request.into_inner()).await?;
        let (sender, receiver) = mpsc::channel(4);
        let plane = Arc::clone(&self.plane);
        tokio::spawn(async move {
            if let Err(problem) = send(&plane, digests, &sender).await {
                drop(sender.send(Err(problem.into())).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn find_missing_chunks(
        &self,
        request: Request<FindMissingChunksRequest>,
    ) -> Result<Response<FindMissingChunksResponse>, Status> {
        is_user(&request)?;
        let missing = find::missing(&self.plane, &self.closures, request.into_inner()).await?;
        Ok(Response::new(missing))
    }

    async fn write_chunks(
        &self,
        request: Request<Streaming<WriteChunksRequest>>,
    ) -> Result<Response<Self::WriteChunksStream>, Status> {
        is_user(&request)?;
        let (sender, receiver) = mpsc::channel(64);
        let (plane, memory) = (Arc::clone(&self.plane), self.memory.clone());
        tokio::spawn(write::run(plane, memory, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Whether a user calls, or nobody is asked who calls.
fn is_user<T>(request: &Request<T>) -> Result<(), Problem> {
    request.extensions().get::<Arc<Principal>>().map_or(Ok(()), |who| who.is_user())
}

async fn send(
    plane: &Plane,
    digests: Vec<Digest>,
    pieces: &mpsc::Sender<Result<ReadChunksResponse, Status>>,
) -> Result<(), Problem> {
    for (index, digest) in (0..).zip(digests) {
        let blob = content::blob(&*plane.blobs, digest).await?;
        for (data, last) in cut(blob) {
            if pieces.send(Ok(ReadChunksResponse { index, data, last })).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The pieces of a blob, at least one, and whether it is the last.
fn cut(mut blob: Bytes) -> impl Iterator<Item = (Bytes, bool)> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let piece = blob.split_to(blob.len().min(PIECE));
        done = blob.is_empty();
        Some((piece, done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_has_one_last_piece() {
        for (size, pieces) in [(0, 1), (1, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3)] {
            let cut: Vec<_> = cut(vec![7; size].into()).collect();
            assert_eq!(cut.len(), pieces, "{size}");
            assert_eq!(cut.iter().map(|(piece, _)| piece.len()).sum::<usize>(), size);
            assert!(cut.iter().enumerate().all(|(n, (_, last))| *last == (n + 1 == pieces)));
        }
    }
}
