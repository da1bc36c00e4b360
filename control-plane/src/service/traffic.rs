//! Recorded traffic for pages in a browser: lists, single pairs, counts, and uploads one call at a time.

mod list;
mod summary;
mod upload;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use countersign_engine::{
    lineage::{Held, held},
    preview,
    snapshot::{RrPair, digest::Digest, wire::encode_pair},
    transform::Template,
};
use countersign_proto::{
    control::v1::{
        AppendPiecesRequest, AppendPiecesResponse, GetPairRequest, GetPairResponse,
        ListPairsRequest, ListPairsResponse, PairToken, RecordRef, SummarizeTrafficRequest,
        SummarizeTrafficResponse, traffic_service_server::TrafficService,
    },
    snapshot::v1::SignatureEntry,
};
use tonic::{Request, Response, Status};

use super::{Plane, Problem, inspect::Inspect, name::Name};
use crate::{
    content::Manifest,
    store::{self, Kind, now},
};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    plane: Arc<Plane>,
    manifests: Arc<Kept<Manifest>>,
    summaries: Arc<Kept<SummarizeTrafficResponse>>,
}

impl Traffic {
    pub(crate) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, manifests: Arc::default(), summaries: Arc::default() }
    }

    async fn manifest(&self, digest: Digest) -> Result<Arc<Manifest>, Problem> {
        if let Some(known) = self.manifests.get(&digest) {
            return Ok(known);
        }
        let manifest = Manifest::get(&*self.plane.blobs, digest).await?;
        Ok(self.manifests.keep(digest, manifest))
    }

    async fn pair(&self, request: GetPairRequest) -> Result<GetPairResponse, Problem> {
        let name = Name::parse(Kind::Snapshot, "snapshot", &request.snapshot)?;
        let _turn = self.plane.look(&name.project).await?;
        let inspect = Inspect { plane: Arc::clone(&self.plane) };
        let record =
            RecordRef { snapshot: name.full, ordinal: request.ordinal, ..RecordRef::default() };
        let pair = inspect.record(&name.project, &record).await?;
        let at = now();
        Ok(store::blocking(move || shown(&pair, at)).await?)
    }
}

#[tonic::async_trait]
impl TrafficService for Traffic {
    async fn append_pieces(
        &self,
        request: Request<AppendPiecesRequest>,
    ) -> Result<Response<AppendPiecesResponse>, Status> {
        Ok(Response::new(upload::append(&self.plane, request.into_inner()).await?))
    }

    async fn list_pairs(
        &self,
        request: Request<ListPairsRequest>,
    ) -> Result<Response<ListPairsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn get_pair(
        &self,
        request: Request<GetPairRequest>,
    ) -> Result<Response<GetPairResponse>, Status> {
        Ok(Response::new(self.pair(request.into_inner()).await?))
    }

    async fn summarize_traffic(
        &self,
        request: Request<SummarizeTrafficRequest>,
    ) -> Result<Response<SummarizeTrafficResponse>, Status> {
        Ok(Response::new(self.summarize(request.into_inner()).await?))
    }
}

/// A pair as it may be shown: the template that changes nothing masks JWS signatures as every preview does.
fn shown(pair: &RrPair, at: i64) -> GetPairResponse {
    let tokens = held(pair).into_iter().map(token).collect();
    let preview::Preview { before, signature, .. } =
        preview::preview(&Template::default(), pair, at);
    GetPairResponse {
        pair: Some(encode_pair(before)),
        signature: signature
            .into_iter()
            .map(|(key, value)| SignatureEntry { key, value })
            .collect(),
        tokens,
    }
}

fn token(held: Held) -> PairToken {
    PairToken {
        id: held.id.to_string(),
        in_request: held.in_request,
        place: held.place,
        header_json: held.header,
        claims_json: held.claims,
    }
}

/// What was made of the snapshots that were looked at last, by their manifests. Neither changes.
#[derive(Debug)]
struct Kept<T>(Mutex<VecDeque<(Digest, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// So many; the manifest of a million pairs takes eight megabytes.
    const MOST: usize = 4;

    fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|known| known.0 == *digest).map(|known| Arc::clone(&known.1))
    }

    fn keep(&self, digest: Digest, made: T) -> Arc<T> {
        let made = Arc::new(made);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|known| known.0 != digest);
        kept.push_back((digest, Arc::clone(&made)));
        if kept.len() > Self::MOST {
            kept.pop_front();
        }
        made
    }
}
