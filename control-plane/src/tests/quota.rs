//! What one project may store: it ends in time, others do not notice, and deleting makes room.

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use countersign_proto::control::v1::{
    AppendRecordsRequest, CreateReplayRequest, CreateSnapshotRequest, DeleteSnapshotRequest,
    DeleteTestConfigRequest, Replay, StopReplayRequest, TestConfig, UpdateTestConfigRequest,
};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    Server, assert_refused, config,
    content::{messages, write},
    pair, pieces, with_config,
};
use crate::config::Config;

const ROOM: u64 = 64 * 1024;

async fn world() -> Server {
    let dir = TempDir::new().unwrap();
    let config = Config { project_quota: Some(ROOM), ..config(&dir) };
    with_config(dir, config).await
}

async fn create(server: &Server, project: &str, id: &str) -> String {
    let parent = format!("projects/{project}");
    let request = CreateSnapshotRequest { parent, snapshot_id: id.into(), ..Default::default() };
    server.snapshots().create_snapshot(request).await.unwrap().into_inner().name
}

async fn delete(server: &Server, name: &str) {
    let request = DeleteSnapshotRequest { name: name.into(), ..Default::default() };
    server.snapshots().delete_snapshot(request).await.unwrap();
}

/// A test config of this length, created or changed.
async fn configure(server: &Server, id: &str, length: usize) -> Result<TestConfig, Status> {
    let mut config_json = format!(r#"{{"id":"{id}"}}"#);
    config_json.extend(std::iter::repeat_n(' ', length - config_json.len()));
    let name = format!("projects/default/testConfigs/{id}");
    let request = UpdateTestConfigRequest {
        test_config: Some(TestConfig { name, config_json, ..Default::default() }),
        allow_missing: true,
        ..Default::default()
    };
    Ok(server.test_configs().update_test_config(request).await?.into_inner())
}

/// A file with one pair and so many empty lines.
fn file(lines: usize) -> Vec<AppendRecordsRequest> {
    pieces(&[("a.jsonl", pair("OUT", "/a") + &"\n".repeat(lines))])
}

#[tokio::test]
async fn a_project_that_is_full_takes_nothing_more_and_others_do_not_notice() {
    let server = world().await;
    let first = create(&server, "greedy", "first").await;
    server.upload(&first, "u", file(40_000)).await.unwrap();
    // What was uploaded counts before it is committed, for another snapshot.
    let second = create(&server, "greedy", "second").await;
    let refused = server.upload(&second, "u", file(40_000)).await;
    let refused = assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    let violations = refused.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "projects/greedy");
    server.upload(&second, "v", file(10)).await.unwrap();
    // Going on with an upload, and beginning it anew after it was refused, do not count it twice.
    assert_eq!(server.upload(&first, "u", file(40_000)).await.unwrap(), 1);
    let other = create(&server, "modest", "first").await;
    server.upload(&other, "u", file(40_000)).await.unwrap();

    // Committed, a snapshot takes what its content does, which is less here.
    let committed = server.commit(&first, "u", false).await.unwrap();
    assert!((100..4_000).contains(&committed.size_bytes), "{}", committed.size_bytes);
    let third = create(&server, "greedy", "third").await;
    server.upload(&third, "u", file(40_000)).await.unwrap();
    delete(&server, &third).await;
    server.upload(&second, "w", file(40_000)).await.unwrap();
}

#[tokio::test]
async fn what_is_written_by_digest_counts_too() {
    let server = world().await;
    let name = create(&server, "default", "s").await;
    let blob = |byte| {
        let bytes = Bytes::from(vec![byte; 40 * 1024]);
        messages(&name, &[(Digest::of(&bytes), bytes)], 1 << 20)
    };
    let (acknowledged, ended) = write(&server, blob(7)).await;
    ended.unwrap();
    assert_eq!(acknowledged.len(), 1);
    let (acknowledged, ended) = write(&server, blob(8)).await;
    assert!(acknowledged.is_empty());
    let refused = assert_refused(ended, Code::ResourceExhausted, "PROJECT_FULL");
    assert!(refused.message().contains("projects/default may store 65536 bytes"), "{refused}");
    // Neither has another snapshot of the project the room.
    let next = create(&server, "default", "next").await;
    let refused = server.upload(&next, "u", file(40_000)).await;
    assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    delete(&server, &name).await;
    server.upload(&next, "v", file(40_000)).await.unwrap();
}

#[tokio::test]
async fn uploads_to_one_snapshot_count_together() {
    let server = world().await;
    let name = create(&server, "default", "s").await;
    server.upload(&name, "1", file(40_000)).await.unwrap();
    for nth in 2..5 {
        let refused = server.upload(&name, &nth.to_string(), file(40_000)).await;
        assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    }
    server.upload(&name, "6", file(10_000)).await.unwrap();
    // What comes again is there already.
    assert_eq!(server.upload(&name, "1", file(40_000)).await.unwrap(), 1);
}

#[tokio::test]
async fn who_fills_and_deletes_all_the_time_gets_twice_the_room_and_no_more() {
    let server = world().await;
    let mut stored = 0;
    for nth in 0..5_u8 {
        let name = create(&server, "default", &format!("s{nth}")).await;
        let bytes = Bytes::from(vec![nth; 40 * 1024]);
        let messages = messages(&name, &[(Digest::of(&bytes), bytes)], 1 << 20);
        let (acknowledged, ended) = write(&server, messages).await;
        stored += acknowledged.len();
        if acknowledged.is_empty() {
            assert_refused(ended, Code::ResourceExhausted, "PROJECT_FULL");
        }
        delete(&server, &name).await;
    }
    assert_eq!(stored, 3, "of 40 KiB each, in 128 KiB");
    // Others have theirs.
    let other = create(&server, "modest", "s").await;
    server.upload(&other, "u", file(40_000)).await.unwrap();
}

#[tokio::test]
async fn what_was_written_comes_again_for_nothing() {
    let server = world().await;
    let name = create(&server, "default", "s").await;
    let bytes = Bytes::from(vec![1; 40 * 1024]);
    for _ in 0..3 {
        let blob = (Digest::of(&bytes), bytes.clone());
        let (acknowledged, ended) = write(&server, messages(&name, &[blob], 1 << 20)).await;
        ended.unwrap();
        assert_eq!(acknowledged.len(), 1);
    }
}

#[tokio::test]
async fn whatever_a_project_has_counts() {
    let server = world().await;
    configure(&server, "a", 40_000).await.unwrap();
    assert_refused(configure(&server, "b", 40_000).await, Code::ResourceExhausted, "PROJECT_FULL");
    let snapshot = create(&server, "default", "s").await;
    let refused = server.upload(&snapshot, "u", file(40_000)).await;
    assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    // What grows counts by as much as it grows, and what shrinks makes room.
    configure(&server, "a", 50_000).await.unwrap();
    assert_refused(configure(&server, "a", 70_000).await, Code::ResourceExhausted, "PROJECT_FULL");
    configure(&server, "a", 50_001).await.unwrap();
    let name = "projects/default/testConfigs/a".to_owned();
    let request = DeleteTestConfigRequest { name, ..Default::default() };
    server.test_configs().delete_test_config(request).await.unwrap();
    configure(&server, "b", 40_000).await.unwrap();
}

#[tokio::test]
async fn a_project_cannot_have_any_number_of_empty_things() {
    let server = world().await;
    let mut made = 0;
    let refused = loop {
        let request = CreateSnapshotRequest {
            parent: "projects/default".into(),
            snapshot_id: format!("s{made}"),
            ..Default::default()
        };
        match server.snapshots().create_snapshot(request).await {
            Ok(_) => made += 1,
            refused => break refused,
        }
    };
    assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    assert!((32..64).contains(&made), "{made} of more than a kilobyte each, in 64");
    create(&server, "modest", "s").await;
}

#[tokio::test]
async fn what_replays_are_started_with_counts() {
    let server = world().await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    configure(&server, "c", 10_000).await.unwrap();
    let replay = Replay {
        snapshot: "projects/default/snapshots/s".into(),
        test_config: "projects/default/testConfigs/c".into(),
        ..Default::default()
    };
    let (parent, replay) = ("projects/default".into(), Some(replay));
    let request = CreateReplayRequest { parent, replay, ..Default::default() };
    let replay = server.replays().create_replay(request).await.unwrap().into_inner();
    let mut started = 0;
    let refused = loop {
        // Each time another one, of which the store keeps a copy.
        configure(&server, "c", 10_000 + started).await.unwrap();
        match server.start_replay(&replay.name).await {
            Ok(_) => started += 1,
            refused => break refused,
        }
    };
    assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    assert!((4..12).contains(&started), "{started} times ten kilobytes, in twice 64");
}

#[tokio::test]
async fn a_snapshot_that_is_served_counts_until_it_is_not() {
    let server = world().await;
    // Nothing that could be packed.
    let noise: String = (0_u64..1_000).map(|n| Digest::of(&n.to_le_bytes()).to_string()).collect();
    let path = format!("/{}", noise.get(..15_000).unwrap());
    server.import("s", &[("a.jsonl", pair("OUT", &path))]).await;
    let replay = Replay { snapshot: "projects/default/snapshots/s".into(), ..Default::default() };
    let (parent, replay) = ("projects/default".into(), Some(replay));
    let request = CreateReplayRequest { parent, replay, ..Default::default() };
    let replay = server.replays().create_replay(request).await.unwrap().into_inner();
    server.start_replay(&replay.name).await.unwrap();
    // Again and again, which stores nothing more.
    for _ in 0..3 {
        server.start_replay(&replay.name).await.unwrap();
    }
    delete(&server, "projects/default/snapshots/s").await;
    let next = create(&server, "default", "next").await;
    let refused = server.upload(&next, "u", file(50_000)).await;
    assert_refused(refused, Code::ResourceExhausted, "PROJECT_FULL");
    let request = StopReplayRequest { name: replay.name };
    server.replays().stop_replay(request).await.unwrap();
    server.upload(&next, "v", file(50_000)).await.unwrap();
}
