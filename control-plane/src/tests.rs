//! The services through a real server on a free port.

mod access;
mod content;
mod documents;
mod faults;
mod inspect;
mod lineage;
mod members;
mod mutual;
mod quota;
mod replays;
mod replicas;
mod rollouts;
mod scrub;
mod snapshots;
mod start;
mod subscriptions;
mod traffic;

use std::time::Duration;

use countersign_proto::{
    control::v1::{
        AppendRecordsRequest, CommitSnapshotRequest, CreateReplayRequest, CreateSnapshotRequest,
        Replay, Snapshot, StartReplayRequest, commit_snapshot_response::Event,
        replay_service_client::ReplayServiceClient, snapshot_service_client::SnapshotServiceClient,
        test_config_service_client::TestConfigServiceClient,
        transform_service_client::TransformServiceClient,
    },
    discovery::v1::{
        chunk_service_client::ChunkServiceClient, discovery_service_client::DiscoveryServiceClient,
    },
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    app::{self, Running},
    config::{Config, Timing},
};

pub(crate) const PROJECT: &str = "projects/default";

pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) running: Running,
    channel: Channel,
}

pub(crate) fn config(dir: &TempDir) -> Config {
    let timing = Timing {
        hello: Duration::from_millis(200),
        floor: Duration::from_millis(50),
        lease: Duration::from_millis(300),
        ..Timing::default()
    };
    let grace = Duration::from_secs(2);
    let listen = "127.0.0.1:0".parse().unwrap();
    Config {
        timing,
        shutdown_grace: grace,
        max_upload: 1 << 22,
        ..Config::new(listen, dir.path().join("data"))
    }
}

pub(crate) async fn server() -> Server {
    in_dir(tempfile::tempdir().unwrap()).await
}

pub(crate) async fn in_dir(dir: TempDir) -> Server {
    let config = config(&dir);
    with_config(dir, config).await
}

pub(crate) async fn with_config(dir: TempDir, config: Config) -> Server {
    let running = app::start(config).await.unwrap();
    let endpoint = Channel::from_shared(format!("http://{}", running.addr())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    Server { dir, running, channel }
}

impl Server {
    pub(crate) async fn restart(self) -> Self {
        self.running.shutdown().await;
        in_dir(self.dir).await
    }

    pub(crate) fn snapshots(&self) -> SnapshotServiceClient<Channel> {
        SnapshotServiceClient::new(self.channel.clone())
    }

    pub(crate) fn transforms(&self) -> TransformServiceClient<Channel> {
        TransformServiceClient::new(self.channel.clone())
    }

    pub(crate) fn test_configs(&self) -> TestConfigServiceClient<Channel> {
        TestConfigServiceClient::new(self.channel.clone())
    }

    pub(crate) fn replays(&self) -> ReplayServiceClient<Channel> {
        ReplayServiceClient::new(self.channel.clone())
    }

    pub(crate) fn discovery(&self) -> DiscoveryServiceClient<Channel> {
        DiscoveryServiceClient::new(self.channel.clone())
    }

    pub(crate) fn chunks(&self) -> ChunkServiceClient<Channel> {
        ChunkServiceClient::new(self.channel.clone())
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A snapshot, still to be filled.
    pub(crate) async fn create_snapshot(&self, id: &str) -> Snapshot {
        let request = CreateSnapshotRequest {
            parent: PROJECT.into(),
            snapshot_id: id.into(),
            ..Default::default()
        };
        self.snapshots().create_snapshot(request).await.unwrap().into_inner()
    }

    /// A committed snapshot of these files.
    pub(crate) async fn import(&self, id: &str, files: &[(&str, String)]) -> Snapshot {
        let snapshot = self.create_snapshot(id).await;
        self.upload(&snapshot.name, "u", pieces(files)).await.unwrap();
        self.commit(&snapshot.name, "u", false).await.unwrap()
    }

    /// Uploads pieces and returns the last acknowledged sequence.
    pub(crate) async fn upload(
        &self,
        name: &str,
        upload: &str,
        mut pieces: Vec<AppendRecordsRequest>,
    ) -> Result<u64, Status> {
        if let Some(first) = pieces.first_mut() {
            first.name = name.into();
            first.upload_id = upload.into();
        }
        let mut answers =
            self.snapshots().append_records(tokio_stream::iter(pieces)).await?.into_inner();
        let mut last = 0;
        while let Some(answer) = answers.message().await? {
            last = answer.committed_sequence;
        }
        Ok(last)
    }

    pub(crate) async fn commit(
        &self,
        name: &str,
        upload: &str,
        strict: bool,
    ) -> Result<Snapshot, Status> {
        let request = CommitSnapshotRequest {
            name: name.into(),
            upload_id: upload.into(),
            strict,
            ..CommitSnapshotRequest::default()
        };
        self.commit_as(request).await
    }

    pub(crate) async fn commit_as(
        &self,
        request: CommitSnapshotRequest,
    ) -> Result<Snapshot, Status> {
        let mut events = self.snapshots().commit_snapshot(request).await?.into_inner();
        let mut last = None;
        while let Some(event) = events.message().await? {
            last = event.event;
        }
        match last {
            Some(Event::Snapshot(snapshot)) => Ok(snapshot),
            other => panic!("no snapshot at the end: {other:?}"),
        }
    }

    /// A replay of a committed snapshot of one pair, started.
    pub(crate) async fn running_replay(&self, id: &str) -> Replay {
        self.import(id, &[("a.jsonl", pair("OUT", &format!("/{id}")))]).await;
        let replay = Replay { snapshot: format!("{PROJECT}/snapshots/{id}"), ..Default::default() };
        let request = CreateReplayRequest {
            parent: PROJECT.into(),
            replay: Some(replay),
            ..Default::default()
        };
        let replay = self.replays().create_replay(request).await.unwrap().into_inner();
        self.start_replay(&replay.name).await.unwrap()
    }

    pub(crate) async fn start_replay(&self, name: &str) -> Result<Replay, Status> {
        let request = StartReplayRequest { name: name.into(), ..StartReplayRequest::default() };
        Ok(self.replays().start_replay(request).await?.into_inner())
    }
}

/// One piece per file, numbered.
pub(crate) fn pieces(files: &[(&str, String)]) -> Vec<AppendRecordsRequest> {
    let piece = |(sequence, (path, text)): (u64, &(&str, String))| AppendRecordsRequest {
        sequence,
        path: (*path).to_owned(),
        data: text.clone().into(),
        ..Default::default()
    };
    (1..).zip(files).map(piece).collect()
}

/// A recorded pair, as one line of JSON.
pub(crate) fn pair(direction: &str, path: &str) -> String {
    format!(
        r#"{{"msgType":"rrpair","resource":"demo","ts":"2024-01-01T00:00:00Z","l7protocol":"http","duration":1,"tags":{{}},"uuid":"","direction":"{direction}","command":"GET","location":"{path}","status":"200","http":{{"req":{{"url":"http://demo{path}","uri":"{path}","version":"1.1","method":"GET","host":"demo","headers":{{}}}},"res":{{"contentType":"text/plain","statusCode":200,"statusMessage":"200 OK","headers":{{}},"bodyBase64":"b2s="}}}}}}"#
    ) + "\n"
}

/// Checks code and reason of an error, and that it names our domain.
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let status = result.unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, "countersign.dev"),
        "{status:?}"
    );
    status
}
