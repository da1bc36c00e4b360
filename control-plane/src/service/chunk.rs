//! Blobs by digest, for responders: only what the named replay's bundle is made of. A digest alone is not a capability.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use countersign_engine::snapshot::{digest::Digest, wire::decode_digest};
use countersign_proto::discovery::v1::{
    ReadChunksRequest, ReadChunksResponse, chunk_service_server::ChunkService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Plane, Problem, access::Peer, name::Name};
use crate::{
    content::{self, Closures},
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
}

impl Chunks {
    pub(crate) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, closures: Arc::default() }
    }

    async fn check(
        &self,
        peer: Option<Peer>,
        request: ReadChunksRequest,
    ) -> Result<Vec<Digest>, Problem> {
        let name = Name::parse(Kind::Replay, "replay", &request.replay)?;
        peer.map_or(Ok(()), |peer| peer.may_read(&name))?;
        if request.digests.len() > ASKED {
            return Err(Problem::field(
                "digests",
                "TOO_MANY_DIGESTS",
                format!("at most {ASKED} digests may be asked for at once"),
            ));
        }
        let mut closure = self.closure(&name).await?;
        let known = |closure: &HashSet<Digest>| {
            let mut digests =
                request.digests.iter().filter_map(|digest| decode_digest(digest).ok());
            digests.all(|digest| closure.contains(&digest))
        };
        if !closure.as_ref().is_some_and(known) {
            // Another control plane may have announced it a moment ago.
            let revision = self.plane.meta.refresh().await?;
            self.plane.publisher.caught_up(revision).await;
            closure = self.closure(&name).await?;
        }
        let closure = closure
            .ok_or_else(|| Problem::NotFound { kind: Kind::Replay, name: name.full.clone() })?;
        let parse = |(index, digest)| {
            let field = format!("digests[{index}]");
            let digest = decode_digest(digest)
                .map_err(|error| Problem::field(field, "INVALID_DIGEST", error.to_string()))?;
            if closure.contains(&digest) {
                return Ok(digest);
            }
            let message =
                format!("the blob {digest} does not belong to the bundle of {}", name.full);
            Err(Problem::Denied { reason: "NOT_IN_BUNDLE", message })
        };
        request.digests.iter().enumerate().map(parse).collect()
    }

    /// What a replay's bundles are made of: the one that is served, the one before it and the one that will be; `None` when the replay is not
    /// announced.
    async fn closure(&self, name: &Name) -> Result<Option<HashSet<Digest>>, Problem> {
        let table = self.plane.publisher.table();
        let Some(announced) = table.get(&name.full) else { return Ok(None) };
        let mut closure = HashSet::new();
        for bundle in announced.bundles() {
            closure.extend(self.closures.of(&*self.plane.blobs, bundle).await?.iter().copied());
        }
        Ok(Some(closure))
    }
}

#[tonic::async_trait]
impl ChunkService for Chunks {
    type ReadChunksStream = ReceiverStream<Result<ReadChunksResponse, Status>>;

    async fn read_chunks(
        &self,
        request: Request<ReadChunksRequest>,
    ) -> Result<Response<Self::ReadChunksStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let digests = self.check(peer, request.into_inner()).await?;
        let (sender, receiver) = mpsc::channel(4);
        let plane = Arc::clone(&self.plane);
        tokio::spawn(async move {
            if let Err(problem) = send(&plane, digests, &sender).await {
                drop(sender.send(Err(problem.into())).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
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
