//! Uploads as no command makes them: cut anywhere, sent twice, committed twice.

use countersign_proto::control::v1::{
    AppendRecordsRequest, CommitSnapshotRequest, CreateSnapshotRequest, Snapshot,
    commit_snapshot_response::Event, snapshot_service_client::SnapshotServiceClient,
};
use tonic::{Status, transport::Channel};

use super::{PROJECT, World};

impl World {
    pub(super) async fn uploads(&self) -> Uploads {
        Uploads { client: SnapshotServiceClient::connect(self.server.clone()).await.unwrap() }
    }
}

/// Uploads as no command makes them.
pub(super) struct Uploads {
    client: SnapshotServiceClient<Channel>,
}

impl Uploads {
    /// Makes a snapshot that waits for its content.
    pub(super) async fn create(&mut self, id: &str) {
        let request = CreateSnapshotRequest {
            parent: PROJECT.into(),
            snapshot_id: id.into(),
            ..CreateSnapshotRequest::default()
        };
        drop(self.client.create_snapshot(request).await.unwrap());
    }

    /// Sends bytes as pieces of so many, waits until they are durable, and hangs up.
    pub(super) async fn send(
        &mut self,
        id: &str,
        bytes: &[u8],
        piece: usize,
    ) -> Result<u64, Status> {
        let request = |(nth, data): (usize, &[u8])| AppendRecordsRequest {
            name: format!("{PROJECT}/snapshots/{id}"),
            upload_id: "one".into(),
            sequence: u64::try_from(nth).unwrap_or_default() + 1,
            path: "all.jsonl".into(),
            data: data.to_vec().into(),
        };
        let pieces: Vec<_> = bytes.chunks(piece).enumerate().map(request).collect();
        let last = u64::try_from(pieces.len()).unwrap_or_default();
        let mut answers =
            self.client.append_records(tokio_stream::iter(pieces)).await?.into_inner();
        let mut durable = 0;
        while durable < last
            && let Some(answer) = answers.message().await?
        {
            durable = answer.committed_sequence;
        }
        Ok(durable)
    }

    /// Commits what was sent.
    pub(super) async fn commit(&mut self, id: &str) -> Result<Snapshot, Status> {
        let request = CommitSnapshotRequest {
            name: format!("{PROJECT}/snapshots/{id}"),
            upload_id: "one".into(),
            ..CommitSnapshotRequest::default()
        };
        let mut events = self.client.commit_snapshot(request).await?.into_inner();
        while let Some(message) = events.message().await? {
            if let Some(Event::Snapshot(snapshot)) = message.event {
                return Ok(snapshot);
            }
        }
        Err(Status::unavailable("it ended without an answer"))
    }
}
