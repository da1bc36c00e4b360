//! A control plane without a mind of its own: it serves blobs, and hands each subscription to the test.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use countersign_engine::snapshot::{RrPair, chunk, digest::Digest, ordinals, wire};
use countersign_proto::{
    control::v1::{ResponderPhase, ResponderStatus, SequencePeer},
    discovery::v1::{
        Ack, Assignment, AssignmentPhase, Delta, FindMissingChunksRequest,
        FindMissingChunksResponse, GetCapabilitiesRequest, GetCapabilitiesResponse, Hello, Member,
        Members, Outcome, ReadChunksRequest, ReadChunksResponse, StatusReport, SubscribeRequest,
        SubscribeResponse, Tombstone, Welcome, WriteChunksRequest, WriteChunksResponse,
        chunk_service_server::{ChunkService, ChunkServiceServer},
        discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
        subscribe_request::Message as Said,
        subscribe_response::Message as Say,
    },
    snapshot::v1 as proto,
};
use http::Uri;
use prost::Message as _;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};

use super::in_time;

type Blobs = Arc<Mutex<HashMap<Digest, Bytes>>>;

pub(super) struct ControlPlane {
    addr: SocketAddr,
    blobs: Blobs,
    asked: Arc<Mutex<Vec<Digest>>>,
    streams: mpsc::Receiver<Stream>,
    held: Arc<watch::Sender<bool>>,
    _server: AbortOnDropHandle<()>,
}

/// A subscription in the hands of the test.
pub(super) struct Stream {
    inbound: Streaming<SubscribeRequest>,
    outbound: mpsc::Sender<Result<SubscribeResponse, Status>>,
    pub(super) hello: Hello,
}

struct Service {
    blobs: Blobs,
    asked: Arc<Mutex<Vec<Digest>>>,
    held: Arc<watch::Sender<bool>>,
    streams: mpsc::Sender<Stream>,
}

impl ControlPlane {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (blobs, asked) = (Blobs::default(), Arc::default());
        let (streams, accepted) = mpsc::channel(4);
        let held = Arc::new(watch::Sender::new(false));
        let service = Arc::new(Service {
            blobs: Arc::clone(&blobs),
            asked: Arc::clone(&asked),
            held: Arc::clone(&held),
            streams,
        });
        let server = tonic::transport::Server::builder()
            .add_service(DiscoveryServiceServer::from_arc(Arc::clone(&service)))
            .add_service(ChunkServiceServer::from_arc(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(async move { server.await.unwrap() }));
        Self { addr, blobs, asked, streams: accepted, held, _server: server }
    }

    pub(super) fn url(&self) -> Uri {
        format!("http://{}", self.addr).parse().unwrap()
    }

    /// The next subscription, its hello read.
    pub(super) async fn accept(&mut self) -> Stream {
        in_time(self.streams.recv()).await.unwrap()
    }

    /// Stores a bundle.
    pub(super) fn put(&self, pairs: Vec<RrPair>, transform: Option<&str>) -> Digest {
        self.put_with(pairs, transform, None)
    }

    /// Stores a bundle with a test config.
    pub(super) fn put_with(
        &self,
        mut pairs: Vec<RrPair>,
        transform: Option<&str>,
        test_config: Option<&str>,
    ) -> Digest {
        for (ordinal, pair) in (0..).zip(&mut pairs) {
            pair.ordinal = ordinal;
        }
        chunk::sort_by_endpoint(&mut pairs);
        let (count, mut numbers) = (pairs.len().try_into().unwrap(), Vec::new());
        let mut page = proto::ManifestPage::default();
        chunk::cut(pairs, |chunk| {
            let digest = self.blob(chunk.bytes);
            page.chunks.push(proto::ChunkRef {
                digest: Some(wire::encode_digest(&digest)),
                pairs: chunk.ordinals.len().try_into().unwrap(),
            });
            numbers.extend(chunk.ordinals);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        let manifest = proto::Manifest {
            pairs: count,
            pages: vec![wire::encode_digest(&self.blob(page.encode_to_vec()))],
            ordinals: Some(wire::encode_digest(&self.blob(ordinals::encode(&numbers)))),
            ..proto::Manifest::default()
        };
        let manifest = self.blob(manifest.encode_to_vec());
        let bundle = proto::Bundle {
            snapshot_manifest: Some(wire::encode_digest(&manifest)),
            transform: transform.map(|json| wire::encode_digest(&self.blob(json.into()))),
            test_config: test_config.map(|json| wire::encode_digest(&self.blob(json.into()))),
            schema: 2,
            required_secrets: Vec::new(),
            serve: proto::ServeDirection::Out.into(),
        };
        self.blob(bundle.encode_to_vec())
    }

    pub(super) fn blob(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.lock().unwrap().insert(digest, bytes.into());
        digest
    }

    /// Flips a bit in every blob that holds these bytes.
    pub(super) fn damage(&self, holding: &[u8]) {
        for blob in self.blobs.lock().unwrap().values_mut() {
            if blob.windows(holding.len()).any(|window| window == holding) {
                let mut bytes = blob.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                *blob = bytes.into();
            }
        }
    }

    /// Whether blobs wait to be sent.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// The digests that were asked for since the last call.
    pub(super) fn asked(&self) -> Vec<Digest> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Stream {
    pub(super) async fn welcome(&mut self, store_uid: &str, revision: u64) {
        let heartbeat_interval = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        self.say(Say::Welcome(Welcome {
            store_uid: store_uid.into(),
            revision,
            heartbeat_interval,
        }))
        .await;
    }

    pub(super) async fn delta(
        &mut self,
        nonce: u64,
        revision: u64,
        upserted: &[(&str, Digest, u64)],
        removed: &[(&str, u64)],
        complete: bool,
    ) {
        let upserted = upserted.iter().map(|(id, bundle, generation)| Assignment {
            name: name(id),
            bundle: Some(wire::encode_digest(bundle)),
            generation: *generation,
            start_time: Some(wire::timestamp(i64::try_from(*generation).unwrap())),
            phase: AssignmentPhase::Activate.into(),
        });
        let removed = removed.iter().map(|(id, revision)| Tombstone {
            name: name(id),
            revision: *revision,
            ..Tombstone::default()
        });
        self.say(Say::Delta(Delta {
            nonce,
            revision,
            upserted: upserted.collect(),
            removed: removed.collect(),
            initial_sync_complete: complete,
        }))
        .await;
    }

    pub(super) async fn say(&mut self, message: Say) {
        self.outbound.send(Ok(SubscribeResponse { message: Some(message) })).await.unwrap();
    }

    /// Says that this responder has the turns of all replays to itself, as far as it shares any.
    pub(super) async fn alone(&mut self, ack: &Ack) {
        for outcome in &ack.outcomes {
            let peer = outcome.status.as_ref().and_then(|status| status.sequence_peer.as_ref());
            let Some(SequencePeer { session_id, address }) = peer.cloned() else { continue };
            let member = Member { name: self.hello.responder.clone(), session_id, address };
            self.members(&outcome.name, (1, vec![member]), (0, Vec::new())).await;
        }
    }

    /// Says who shares the turns of a replay, in an epoch and in the one before.
    pub(super) async fn members(
        &mut self,
        replay: &str,
        (epoch, members): (u64, Vec<Member>),
        (previous_epoch, previous): (u64, Vec<Member>),
    ) {
        let replay = replay.to_owned();
        self.say(Say::Members(Members { replay, epoch, members, previous_epoch, previous })).await;
    }

    /// Has it prepare a version.
    pub(super) async fn prepare(&mut self, nonce: u64, id: &str, bundle: Digest, generation: u64) {
        let upserted = vec![Assignment {
            name: name(id),
            bundle: Some(wire::encode_digest(&bundle)),
            generation,
            start_time: Some(wire::timestamp(i64::try_from(generation).unwrap())),
            phase: AssignmentPhase::Prepare.into(),
        }];
        let delta = Delta { nonce, revision: nonce, upserted, ..Delta::default() };
        self.say(Say::Delta(delta)).await;
    }

    /// The next acknowledgement, with what had become of everything when nothing was left to do; other reports are passed over.
    pub(super) async fn ack(&mut self) -> Ack {
        let mut ack = self.first_ack().await;
        while let Some(open) = ack.outcomes.iter_mut().find(|outcome| is_open(outcome)) {
            let Said::Status(report) = self.hear().await else { panic!("acknowledged twice") };
            let told = report.outcomes.into_iter().find(|told| told.name == open.name);
            if let Some(told) = told.filter(|told| !is_open(told)) {
                *open = told;
            }
        }
        ack
    }

    /// The next acknowledgement as it comes; reports before it are passed over.
    pub(super) async fn first_ack(&mut self) -> Ack {
        loop {
            if let Said::Ack(ack) = self.hear().await {
                return ack;
            }
        }
    }

    /// The next report.
    pub(super) async fn report(&mut self) -> StatusReport {
        loop {
            if let Said::Status(report) = self.hear().await {
                return report;
            }
        }
    }

    async fn hear(&mut self) -> Said {
        in_time(self.inbound.message()).await.unwrap().unwrap().message.unwrap()
    }
}

fn is_open(outcome: &Outcome) -> bool {
    outcome.status.as_ref().is_some_and(|status| status.phase() == ResponderPhase::Fetching)
}

pub(super) fn name(id: &str) -> String {
    format!("projects/default/replays/{id}")
}

/// The status in the only outcome.
pub(super) fn only(outcomes: &[Outcome]) -> (ResponderPhase, &ResponderStatus) {
    assert_eq!(outcomes.len(), 1);
    let status = outcomes[0].status.as_ref().unwrap();
    (status.phase(), status)
}

#[tonic::async_trait]
impl DiscoveryService for Service {
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (outbound, answers) = mpsc::channel(16);
        let mut inbound = request.into_inner();
        let Some(Said::Hello(hello)) = inbound.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::failed_precondition("no hello"));
        };
        let stream = Stream { inbound, outbound, hello };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl ChunkService for Service {
    type ReadChunksStream = ReceiverStream<Result<ReadChunksResponse, Status>>;
    type WriteChunksStream = ReceiverStream<Result<WriteChunksResponse, Status>>;

    async fn get_capabilities(
        &self,
        _request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        Err(Status::unimplemented("responders do not ask"))
    }

    async fn find_missing_chunks(
        &self,
        _request: Request<FindMissingChunksRequest>,
    ) -> Result<Response<FindMissingChunksResponse>, Status> {
        Err(Status::unimplemented("responders do not ask"))
    }

    async fn write_chunks(
        &self,
        _request: Request<Streaming<WriteChunksRequest>>,
    ) -> Result<Response<Self::WriteChunksStream>, Status> {
        Err(Status::unimplemented("responders do not write"))
    }

    async fn read_chunks(
        &self,
        request: Request<ReadChunksRequest>,
    ) -> Result<Response<Self::ReadChunksStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let digests: Vec<Digest> = request
            .into_inner()
            .digests
            .iter()
            .map(|digest| wire::decode_digest(digest).unwrap())
            .collect();
        self.asked.lock().unwrap().extend(&digests);
        let blobs = Arc::clone(&self.blobs);
        let mut held = self.held.subscribe();
        tokio::spawn(async move {
            held.wait_for(|held| !held).await.ok();
            for (index, digest) in (0..).zip(digests) {
                let blob = blobs.lock().unwrap().get(&digest).cloned();
                let Some(blob) = blob else {
                    sender.send(Err(Status::not_found("no such blob"))).await.ok();
                    return;
                };
                // Two pieces, so that they have to be joined.
                let (head, tail) = (blob.slice(..blob.len() / 2), blob.slice(blob.len() / 2..));
                for (data, last) in [(head, false), (tail, true)] {
                    sender.send(Ok(ReadChunksResponse { index, data, last })).await.ok();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
