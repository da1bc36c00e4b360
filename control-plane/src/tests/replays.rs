//! Creating, starting, stopping replays.

use countersign_engine::snapshot::wire::decode_digest;
use countersign_proto::{
    control::v1::{
        CreateReplayRequest, DeleteReplayRequest, DeleteSnapshotRequest, GetReplayRequest,
        ListRecordsRequest, ListReplaysRequest, Replay, ReplayState, StartReplayRequest,
        StopReplayRequest, WatchReplayRequest, replay_service_client::ReplayServiceClient,
    },
    discovery::v1::{ReadChunksRequest, ReadChunksResponse},
    snapshot::v1::{Bundle, Manifest, ManifestPage, ServeDirection},
    r#type::v1::{ConditionStatus, Digest},
};
use prost::Message as _;
use tonic::{Code, Response, Status, transport::Channel};

use super::{PROJECT, Server, assert_refused, pair, server};
use crate::turns::WATCHES;

fn create(replay: Replay) -> CreateReplayRequest {
    CreateReplayRequest { parent: PROJECT.into(), replay: Some(replay), ..Default::default() }
}

fn of(snapshot: &str) -> Replay {
    Replay { snapshot: format!("{PROJECT}/snapshots/{snapshot}"), ..Default::default() }
}

async fn read(server: &Server, replay: &str, digests: Vec<Digest>) -> Result<Vec<Vec<u8>>, Status> {
    let request = ReadChunksRequest { replay: replay.into(), digests, ..Default::default() };
    let mut pieces = server.chunks().read_chunks(request).await?.into_inner();
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut whole = true;
    while let Some(ReadChunksResponse { index, data, last }) = pieces.message().await? {
        if whole {
            blobs.push(Vec::new());
        }
        assert_eq!(usize::try_from(index).unwrap(), blobs.len() - 1);
        blobs.last_mut().unwrap().extend(&data[..]);
        whole = last;
    }
    assert!(whole);
    Ok(blobs)
}

#[tokio::test]
async fn creation_names_what_is_missing() {
    let server = server().await;
    let try_create = |replay| {
        let mut client = server.replays();
        async move { client.create_replay(create(replay)).await }
    };
    assert_refused(try_create(of("s")).await, Code::NotFound, "SNAPSHOT_NOT_FOUND");
    server.create_snapshot("s").await;
    assert_refused(try_create(of("s")).await, Code::FailedPrecondition, "SNAPSHOT_NOT_READY");
    server.import("r", &[("a.jsonl", pair("OUT", "/a"))]).await;
    let transform = format!("{PROJECT}/transforms/t");
    assert_refused(
        try_create(Replay { transform, ..of("r") }).await,
        Code::NotFound,
        "TRANSFORM_NOT_FOUND",
    );
    let test_config = format!("{PROJECT}/testConfigs/c");
    assert_refused(
        try_create(Replay { test_config, ..of("r") }).await,
        Code::NotFound,
        "TEST_CONFIG_NOT_FOUND",
    );
    assert_refused(
        try_create(Replay { serve: 17, ..of("r") }).await,
        Code::InvalidArgument,
        "INVALID_SERVE",
    );
    let elsewhere = Replay { snapshot: "projects/other/snapshots/r".into(), ..Default::default() };
    assert_refused(try_create(elsewhere).await, Code::InvalidArgument, "WRONG_PROJECT");
    let replay = try_create(of("r")).await.unwrap().into_inner();
    assert_eq!(replay.name, format!("{PROJECT}/replays/r"), "the snapshot's id by default");
    assert_eq!(
        (replay.state(), replay.test_config.rsplit('/').next()),
        (ReplayState::Stopped, Some("standard"))
    );
    assert_refused(try_create(of("r")).await, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_refused(
        server.start_replay(&format!("{PROJECT}/replays/none")).await,
        Code::NotFound,
        "REPLAY_NOT_FOUND",
    );
}

#[tokio::test]
async fn a_start_makes_a_bundle_whose_closure_can_be_read() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    assert_eq!((replay.state(), replay.generation), (ReplayState::Running, 1));
    let ready = &replay.conditions[0];
    assert_eq!(
        (ready.r#type.as_str(), ready.status(), ready.reason.as_str()),
        ("Ready", ConditionStatus::False, "NoResponders")
    );

    let bundle =
        read(&server, &replay.name, vec![replay.bundle.clone().unwrap()]).await.unwrap().remove(0);
    assert!(decode_digest(replay.bundle.as_ref().unwrap()).unwrap().matches(&bundle));
    let bundle = Bundle::decode(&bundle[..]).unwrap();
    assert_eq!(
        (bundle.schema, bundle.serve(), bundle.transform.clone()),
        (2, ServeDirection::Out, None)
    );
    let parts =
        vec![bundle.snapshot_manifest.clone().unwrap(), bundle.test_config.clone().unwrap()];
    let blobs = read(&server, &replay.name, parts).await.unwrap();
    let manifest = Manifest::decode(&blobs[0][..]).unwrap();
    assert_eq!((manifest.pairs, manifest.pages.len()), (1, 1));
    let parts = vec![manifest.pages[0].clone(), manifest.ordinals.unwrap()];
    let blobs = read(&server, &replay.name, parts).await.unwrap();
    assert_eq!(&blobs[1][..], [0], "the only ordinal");
    let page = ManifestPage::decode(&blobs[0][..]).unwrap();
    let parts = vec![page.chunks[0].digest.clone().unwrap()];
    let chunk = read(&server, &replay.name, parts).await.unwrap().remove(0);
    assert_eq!(countersign_engine::snapshot::wire::decode_chunk(&chunk).unwrap().len(), 1);
    let again = server.start_replay(&replay.name).await.unwrap();
    assert_eq!((again.generation, again.bundle), (2, replay.bundle));
}

#[tokio::test]
async fn a_digest_alone_is_no_capability() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let other =
        server.import("other", &[("a.jsonl", pair("OUT", "/other"))]).await.manifest.unwrap();
    assert_refused(
        read(&server, &replay.name, vec![other.clone()]).await,
        Code::PermissionDenied,
        "NOT_IN_BUNDLE",
    );
    let bad = Digest { function: 7, ..other.clone() };
    assert_refused(
        read(&server, &replay.name, vec![bad]).await,
        Code::InvalidArgument,
        "INVALID_DIGEST",
    );
    assert_refused(
        read(&server, &replay.name, vec![other; 1001]).await,
        Code::InvalidArgument,
        "TOO_MANY_DIGESTS",
    );
    server.replays().stop_replay(StopReplayRequest { name: replay.name.clone() }).await.unwrap();
    let refused = read(&server, &replay.name, vec![replay.bundle.clone().unwrap()]).await;
    assert_refused(refused, Code::NotFound, "REPLAY_NOT_FOUND");
}

#[tokio::test]
async fn the_wrong_direction_is_refused_before_anything_is_announced() {
    let server = server().await;
    server.import("inbound", &[("a.jsonl", pair("IN", "/a"))]).await;
    let wrong = Replay { serve: ServeDirection::Out.into(), ..of("inbound") };
    let replay = server.replays().create_replay(create(wrong)).await.unwrap().into_inner();
    let refused = assert_refused(
        server.start_replay(&replay.name).await,
        Code::FailedPrecondition,
        "NOTHING_TO_SERVE",
    );
    assert!(refused.message().contains("IN"), "{}", refused.message());
    let served = Replay { serve: ServeDirection::In.into(), ..of("inbound") };
    let request = CreateReplayRequest { replay_id: "in".into(), ..create(served) };
    let replay = server.replays().create_replay(request).await.unwrap().into_inner();
    let dry = StartReplayRequest {
        name: replay.name.clone(),
        validate_only: true,
        ..StartReplayRequest::default()
    };
    assert_eq!(
        server.replays().start_replay(dry).await.unwrap().into_inner().state(),
        ReplayState::Stopped
    );
    server.start_replay(&replay.name).await.unwrap();

    let request = CreateReplayRequest { replay_id: "unsaid".into(), ..create(of("inbound")) };
    let replay = server.replays().create_replay(request).await.unwrap().into_inner();
    let started = server.start_replay(&replay.name).await.unwrap();
    assert_eq!(started.serve(), ServeDirection::In, "there is nothing else to serve");
}

#[tokio::test]
async fn a_watch_sees_each_state_and_ends_with_the_replay() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let watch = WatchReplayRequest { name: replay.name.clone() };
    let mut states = server.replays().watch_replay(watch).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap(), replay);
    // Stopping twice is stopping.
    for _ in 0..2 {
        let stopped = server
            .replays()
            .stop_replay(StopReplayRequest { name: replay.name.clone() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (stopped.state(), stopped.bundle, stopped.conditions[0].reason.as_str()),
            (ReplayState::Stopped, None, "Stopped")
        );
    }
    assert_eq!(states.message().await.unwrap().unwrap().state(), ReplayState::Stopped);
    server
        .replays()
        .delete_replay(DeleteReplayRequest { name: replay.name.clone(), etag: String::new() })
        .await
        .unwrap();
    assert_refused(states.message().await, Code::NotFound, "REPLAY_NOT_FOUND");
    let get = GetReplayRequest { name: replay.name };
    assert_refused(server.replays().get_replay(get).await, Code::NotFound, "REPLAY_NOT_FOUND");
}

#[tokio::test]
async fn running_replays_survive_a_restart_and_their_snapshot() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let delete = DeleteSnapshotRequest { name: replay.snapshot.clone(), etag: String::new() };
    server.snapshots().delete_snapshot(delete).await.unwrap();
    let server = server.restart().await;
    let list = ListReplaysRequest { parent: PROJECT.into(), ..Default::default() };
    let listed = server.replays().list_replays(list).await.unwrap().into_inner().replays;
    assert_eq!(
        (listed.len(), listed[0].state(), &listed[0].bundle),
        (1, ReplayState::Running, &replay.bundle)
    );
    read(&server, &replay.name, vec![replay.bundle.unwrap()]).await.unwrap();
    assert_refused(server.start_replay(&replay.name).await, Code::NotFound, "SNAPSHOT_NOT_FOUND");
}

#[tokio::test]
async fn a_start_removes_what_nothing_names_any_more() {
    let server = server().await;
    let kept = server.import("kept", &[("a.jsonl", pair("OUT", "/kept"))]).await;
    let gone = server.import("gone", &[("a.jsonl", pair("OUT", "/gone"))]).await;
    let replay = server.running_replay("running").await;
    for name in [gone.name, replay.snapshot.clone()] {
        let delete = DeleteSnapshotRequest { name, etag: String::new() };
        server.snapshots().delete_snapshot(delete).await.unwrap();
    }
    let blobs = |server: &Server| {
        let shelves = std::fs::read_dir(server.dir.path().join("data/blobs")).unwrap();
        shelves
            .map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count())
            .sum::<usize>()
    };
    // Manifest, its parts in a pack, and chunk of each snapshot, the bundle and its test config.
    assert_eq!(blobs(&server), 3 * 3 + 2);
    let server = server.restart().await;
    assert_eq!(blobs(&server), 2 * 3 + 2);
    read(&server, &replay.name, vec![replay.bundle.unwrap()]).await.unwrap();
    let list = ListRecordsRequest { parent: kept.name, ..Default::default() };
    assert_eq!(server.snapshots().list_records(list).await.unwrap().into_inner().records.len(), 1);
}

#[tokio::test]
async fn watches_of_one_project_are_bounded() {
    let server = server().await;
    let replay = server.running_replay("r").await;
    let watch = |channel: &Channel| {
        let mut client = ReplayServiceClient::new(channel.clone());
        let request = WatchReplayRequest { name: replay.name.clone() };
        async move { client.watch_replay(request).await.map(Response::into_inner) }
    };
    let (mut open, mut channel) = (Vec::new(), server.channel());
    for nth in 0..WATCHES.0 {
        if nth % 90 == 0 {
            let endpoint = Channel::from_shared(format!("http://{}", server.running.addr()));
            channel = endpoint.unwrap().connect().await.unwrap();
        }
        open.push(watch(&channel).await.unwrap());
    }
    let channel = server.channel();
    assert_refused(watch(&channel).await, Code::Unavailable, "BUSY");
    drop(open.pop());
    while watch(&channel).await.is_err() {}
}
