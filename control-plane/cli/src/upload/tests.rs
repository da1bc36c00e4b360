//! Uploads against a snapshot service of our own that drops connections.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use countersign_proto::control::v1::{
    AnalyzeTokensRequest, AnalyzeTokensResponse, CommitSnapshotManifestRequest,
    CommitSnapshotRequest, CommitSnapshotResponse, CreateSnapshotRequest, DeleteSnapshotRequest,
    GetSnapshotRequest, ListRecordsRequest, ListRecordsResponse, ListSnapshotsRequest,
    ListSnapshotsResponse, ReadRecordsRequest, ReadRecordsResponse, Snapshot,
    snapshot_service_server::{SnapshotService, SnapshotServiceServer},
};
use countersign_tls::bearer::Bearer;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, transport::Channel};

use super::*;
use crate::recording;

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// What the fake has taken, and how it misbehaves.
#[derive(Debug, Default)]
struct Fake {
    committed: u64,
    files: BTreeMap<String, Vec<u8>>,
    openings: u32,
    upload_ids: Vec<String>,
    /// Drops the stream after so many pieces of each attempt.
    drop_after: Option<u64>,
    refuse: Option<Code>,
}

#[derive(Debug, Clone, Default)]
struct Service(Arc<Mutex<Fake>>);

impl Service {
    fn with<T>(&self, act: impl FnOnce(&mut Fake) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(
        &self,
        mut requests: Streaming<AppendRecordsRequest>,
        answers: mpsc::Sender<Result<AppendRecordsResponse, Status>>,
    ) {
        let first = requests.message().await.unwrap().unwrap();
        assert!(!first.name.is_empty() && first.sequence == 0);
        let committed = self.with(|fake| {
            fake.openings += 1;
            fake.upload_ids.push(first.upload_id);
            fake.committed
        });
        answers.send(Ok(AppendRecordsResponse { committed_sequence: committed })).await.unwrap();
        let mut taken = 0;
        while let Ok(Some(piece)) = requests.message().await {
            if let Some(code) = self.with(|fake| fake.refuse) {
                drop(answers.send(Err(Status::new(code, "no"))).await);
                return;
            }
            let committed = self.with(|fake| {
                assert_eq!(
                    piece.sequence,
                    fake.committed + 1,
                    "pieces come without gap or repetition"
                );
                fake.files.entry(piece.path).or_default().extend_from_slice(&piece.data);
                fake.committed += 1;
                fake.committed
            });
            taken += 1;
            if self.with(|fake| fake.drop_after) == Some(taken) {
                // Without an acknowledgement: the client learns of the piece when it comes back.
                drop(answers.send(Err(Status::unavailable("going away"))).await);
                return;
            }
            if answers
                .send(Ok(AppendRecordsResponse { committed_sequence: committed }))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl SnapshotService for Service {
    type AppendRecordsStream = Answers<AppendRecordsResponse>;
    type CommitSnapshotStream = Answers<CommitSnapshotResponse>;
    type CommitSnapshotManifestStream = Answers<CommitSnapshotResponse>;
    type ReadRecordsStream = Answers<ReadRecordsResponse>;

    async fn commit_snapshot_manifest(
        &self,
        _: Request<CommitSnapshotManifestRequest>,
    ) -> Result<Response<Self::CommitSnapshotManifestStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn read_records(
        &self,
        _: Request<ReadRecordsRequest>,
    ) -> Result<Response<Self::ReadRecordsStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn append_records(
        &self,
        request: Request<Streaming<AppendRecordsRequest>>,
    ) -> Result<Response<Self::AppendRecordsStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move { service.serve(request.into_inner(), sender).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_snapshot(
        &self,
        _: Request<GetSnapshotRequest>,
    ) -> Result<Response<Snapshot>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_snapshots(
        &self,
        _: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn create_snapshot(
        &self,
        _: Request<CreateSnapshotRequest>,
    ) -> Result<Response<Snapshot>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn delete_snapshot(
        &self,
        _: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn commit_snapshot(
        &self,
        _: Request<CommitSnapshotRequest>,
    ) -> Result<Response<Self::CommitSnapshotStream>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_records(
        &self,
        _: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn analyze_tokens(
        &self,
        _: Request<AnalyzeTokensRequest>,
    ) -> Result<Response<AnalyzeTokensResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

/// Starts the fake and makes an upload of files of these sizes.
async fn upload(service: &Service, sizes: &[usize]) -> (Upload, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    for (index, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> =
            (0..*size).map(|at| u8::try_from((at + index) % 251).unwrap()).collect();
        std::fs::write(root.path().join(format!("{index}.md")), bytes).unwrap();
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(SnapshotServiceServer::new(service.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let plan = Plan::new(recording::walk(&[root.path().to_owned()]).unwrap());
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let upload = Upload {
        client: SnapshotServiceClient::with_interceptor(channel, Bearer::default()),
        snapshot: "projects/default/snapshots/x".into(),
        id: "upload-1".into(),
        plan: Arc::new(plan),
        patience: Patience {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            attempts: 2,
        },
    };
    (upload, root)
}

fn assert_arrived(service: &Service, root: &tempfile::TempDir, sizes: &[usize]) {
    service.with(|fake| {
        assert_eq!(fake.files.len(), sizes.len());
        for (path, bytes) in &fake.files {
            assert_eq!(bytes, &std::fs::read(path).unwrap(), "{path}");
            assert!(path.starts_with(root.path().to_str().unwrap()));
        }
        assert!(fake.upload_ids.iter().all(|id| id == "upload-1"));
    });
}

const PIECE_SIZE: usize = 512 * 1024;
const SIZES: [usize; 5] = [10, 0, PIECE_SIZE * 2, PIECE_SIZE + 1, 7];

#[tokio::test]
async fn everything_arrives_once_and_progress_reaches_the_end() {
    let service = Service::default();
    let (mut upload, root) = upload(&service, &SIZES).await;
    let mut last = 0;
    upload
        .run(|seen| {
            if let Seen::Durable { bytes } = seen {
                assert!(bytes >= last);
                last = bytes;
            }
        })
        .await
        .unwrap();
    assert_eq!(last, upload.plan.bytes());
    assert_arrived(&service, &root, &SIZES);
}

#[tokio::test]
async fn a_drop_after_every_piece_loses_and_repeats_nothing() {
    let service = Service::default();
    service.with(|fake| fake.drop_after = Some(1));
    let (mut upload, root) = upload(&service, &SIZES).await;
    let mut drops = 0;
    upload.run(|seen| drops += u32::from(matches!(seen, Seen::Dropped { .. }))).await.unwrap();
    assert_arrived(&service, &root, &SIZES);
    service.with(|fake| assert_eq!((fake.openings, drops), (8, 7)));
}

#[tokio::test]
async fn drops_without_progress_end_the_upload() {
    let service = Service::default();
    service.with(|fake| fake.refuse = Some(Code::Unavailable));
    let (mut upload, _root) = upload(&service, &SIZES).await;
    let failure = upload.run(|_| {}).await.unwrap_err();
    assert_eq!(failure.exit_code(), 4);
    service.with(|fake| assert_eq!(fake.openings, 3));
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let service = Service::default();
    service.with(|fake| fake.refuse = Some(Code::InvalidArgument));
    let (mut upload, _root) = upload(&service, &SIZES).await;
    let failure = upload.run(|_| {}).await.unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    service.with(|fake| assert_eq!(fake.openings, 1));
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_planned_ends_the_upload() {
    for changed in ["", "much longer than it was"] {
        let service = Service::default();
        let (mut upload, root) = upload(&service, &[10, 3]).await;
        std::fs::write(root.path().join("0.md"), changed).unwrap();
        let failure = upload.run(|_| {}).await.unwrap_err();
        assert!(
            failure.render().contains("0.md changed while it was uploaded"),
            "{}",
            failure.render()
        );
    }
}

#[test]
fn progress_counts_the_bytes_of_whole_and_half_sent_files() {
    let piece = usize::try_from(PIECE).unwrap();
    let file = |size: usize| File { path: "x".into(), size: u64::try_from(size).unwrap() };
    let plan = Plan::new(vec![file(10), file(0), file(piece + 5)]);
    let up_to: Vec<u64> = (0..=4).map(|sequence| plan.bytes_up_to(sequence)).collect();
    assert_eq!(up_to, [0, 10, 10, 10 + PIECE, 15 + PIECE]);
    assert_eq!((plan.pieces, plan.bytes(), plan.files.len()), (4, 15 + PIECE, 3));
}

#[test]
fn pauses_grow_and_are_bounded() {
    let patience = Patience::default();
    for n in 1..40 {
        let whole =
            patience.first.saturating_mul(2_u32.saturating_pow(n - 1)).min(patience.longest);
        assert!((whole / 2..=whole).contains(&patience.pause(n)), "{n}");
    }
}
