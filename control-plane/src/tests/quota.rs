//! What one project may store: it ends in time, others do not notice, and deleting makes room.

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use countersign_proto::control::v1::{
    AppendRecordsRequest, CreateSnapshotRequest, DeleteSnapshotRequest,
};
use tempfile::TempDir;
use tonic::Code;
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
