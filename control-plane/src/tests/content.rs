//! Snapshots that are written by digest: what is told to be there, what is taken, and what can be committed.

use std::collections::HashSet;

use bytes::Bytes;
use countersign_engine::snapshot::{
    digest::{Digest, Function},
    wire::{decode_digest, encode_digest},
};
use countersign_proto::{
    control::v1::{
        CommitSnapshotManifestRequest, CreateSnapshotRequest, DeleteSnapshotRequest,
        ReadRecordsRequest, Snapshot, SnapshotState, commit_snapshot_response::Event,
    },
    discovery::v1::{
        FindMissingChunksRequest, GetCapabilitiesRequest, ReadChunksRequest, WriteChunksRequest,
    },
    snapshot::v1::{Manifest, ManifestPage, RrPair},
    r#type::v1::DigestFunction,
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    held,
    store::{self, Expect, Kind, MetaStore as _, Txn, sqlite::SqliteMeta},
};

use super::{PROJECT, Server, assert_refused, config, pair, server, with_config};

pub(super) type Blob = (Digest, Bytes);

async fn read(server: &Server, snapshot: &str, digests: &[Digest]) -> Result<Vec<Blob>, Status> {
    let request = ReadChunksRequest {
        snapshot: snapshot.into(),
        digests: digests.iter().map(encode_digest).collect(),
        ..ReadChunksRequest::default()
    };
    let mut pieces = server.chunks().read_chunks(request).await?.into_inner();
    let mut blobs: Vec<Vec<u8>> = vec![Vec::new(); digests.len()];
    while let Some(piece) = pieces.message().await? {
        blobs[usize::try_from(piece.index).unwrap()].extend_from_slice(&piece.data);
    }
    Ok(digests.iter().copied().zip(blobs.into_iter().map(Bytes::from)).collect())
}

/// All that a snapshot is made of, the manifest first.
pub(super) async fn blobs_of(server: &Server, snapshot: &Snapshot) -> Vec<Blob> {
    let digest = decode_digest(snapshot.manifest.as_ref().unwrap()).unwrap();
    let mut blobs = read(server, &snapshot.name, &[digest]).await.unwrap();
    let manifest = Manifest::decode(blobs[0].1.clone()).unwrap();
    let pages: Vec<Digest> = manifest.pages.iter().map(|one| decode_digest(one).unwrap()).collect();
    let pages = read(server, &snapshot.name, &pages).await.unwrap();
    let mut rest = vec![decode_digest(&manifest.ordinals.unwrap()).unwrap()];
    for (_, page) in &pages {
        let page = ManifestPage::decode(page.clone()).unwrap();
        rest.extend(page.chunks.iter().map(|c| decode_digest(c.digest.as_ref().unwrap()).unwrap()));
    }
    blobs.extend(pages);
    blobs.extend(read(server, &snapshot.name, &rest).await.unwrap());
    blobs
}

pub(super) fn digests(blobs: &[Blob]) -> Vec<Digest> {
    blobs.iter().map(|(digest, _)| *digest).collect()
}

pub(super) async fn missing(
    server: &Server,
    snapshot: &str,
    asked: &[Digest],
) -> Result<Vec<Digest>, Status> {
    let digests = asked.iter().map(encode_digest).collect();
    let request = FindMissingChunksRequest { snapshot: snapshot.into(), digests };
    let found = server.chunks().find_missing_chunks(request).await?.into_inner();
    Ok(found.missing.iter().map(|digest| decode_digest(digest).unwrap()).collect())
}

/// The messages that write blobs, in pieces of so many bytes.
pub(super) fn messages(snapshot: &str, blobs: &[Blob], size: usize) -> Vec<WriteChunksRequest> {
    let mut messages = Vec::new();
    for (digest, bytes) in blobs {
        let count = bytes.len().div_ceil(size).max(1);
        for at in 0..count {
            messages.push(WriteChunksRequest {
                snapshot: if messages.is_empty() { snapshot.into() } else { String::new() },
                digest: (at == 0).then(|| encode_digest(digest)),
                data: bytes.slice(at * size..((at + 1) * size).min(bytes.len())),
                last: at + 1 == count,
            });
        }
    }
    messages
}

/// Sends messages; returns what was acknowledged, and how the stream ended.
pub(super) async fn write(
    server: &Server,
    messages: Vec<WriteChunksRequest>,
) -> (Vec<Digest>, Result<(), Status>) {
    let mut acknowledged = Vec::new();
    let answers = server.chunks().write_chunks(tokio_stream::iter(messages)).await;
    let mut answers = answers.unwrap().into_inner();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => acknowledged.push(decode_digest(&answer.digest.unwrap()).unwrap()),
            Ok(None) => return (acknowledged, Ok(())),
            Err(status) => return (acknowledged, Err(status)),
        }
    }
}

pub(super) async fn commit(
    server: &Server,
    snapshot: &str,
    manifest: Digest,
) -> Result<Snapshot, Status> {
    let request = CommitSnapshotManifestRequest {
        name: snapshot.into(),
        manifest: Some(encode_digest(&manifest)),
        ..CommitSnapshotManifestRequest::default()
    };
    let mut events = server.snapshots().commit_snapshot_manifest(request).await?.into_inner();
    let mut last = None;
    while let Some(event) = events.message().await? {
        last = event.event;
    }
    match last {
        Some(Event::Snapshot(snapshot)) => Ok(snapshot),
        other => panic!("no snapshot at the end: {other:?}"),
    }
}

async fn records(server: &Server, snapshot: &str) -> Vec<RrPair> {
    let request = ReadRecordsRequest { name: snapshot.into() };
    let mut messages = server.snapshots().read_records(request).await.unwrap().into_inner();
    let mut records = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        records.extend(message.records);
    }
    records
}

/// A recording of several chunks.
pub(super) async fn import(server: &Server, id: &str) -> Snapshot {
    let endpoint = |n: u32| format!("/{}/{n}{}", n % 7, "x".repeat(900));
    let lines = |n: u32| pair(if n.is_multiple_of(4) { "IN" } else { "OUT" }, &endpoint(n));
    let text: String = (0..40).map(lines).collect();
    server.import(id, &[("a.jsonl", text)]).await
}

async fn create_in(server: &Server, project: &str, id: &str) -> String {
    let request = CreateSnapshotRequest {
        parent: project.into(),
        snapshot_id: id.into(),
        ..CreateSnapshotRequest::default()
    };
    server.snapshots().create_snapshot(request).await.unwrap().into_inner().name
}

#[tokio::test]
async fn a_snapshot_is_copied_by_digest_whatever_function_made_it() {
    for function in Function::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = config(&dir);
        settings.places = settings.places.by(function);
        let (source, target) = (with_config(dir, settings).await, server().await);
        let snapshot = import(&source, "s").await;
        let blobs = blobs_of(&source, &snapshot).await;
        assert!(blobs.len() > 8 && blobs.iter().all(|(digest, _)| digest.function() == function));
        let name = target.create_snapshot("copy").await.name;
        let all = digests(&blobs);
        assert_eq!(missing(&target, &name, &all).await.unwrap(), all);
        let (acknowledged, ended) = write(&target, messages(&name, &blobs, 700)).await;
        ended.unwrap();
        assert_eq!(acknowledged, all);
        assert_eq!(missing(&target, &name, &all).await.unwrap(), []);
        let copy = commit(&target, &name, all[0]).await.unwrap();
        assert_eq!(copy.state(), SnapshotState::Ready);
        assert_eq!(
            (copy.manifest.clone(), copy.pair_count, copy.in_count, copy.out_count),
            (snapshot.manifest.clone(), 40, 10, 30)
        );
        assert_eq!(records(&target, &name).await, records(&source, &snapshot.name).await);
        assert_eq!(commit(&target, &name, all[0]).await.unwrap(), copy, "a retried commit");
        let other = commit(&target, &name, all[1]).await;
        assert_refused(other, Code::FailedPrecondition, "SNAPSHOT_COMMITTED");
        let asked = missing(&target, &name, &all).await;
        assert_refused(asked, Code::FailedPrecondition, "SNAPSHOT_COMMITTED");
        let (_, refused) = write(&target, messages(&name, &blobs[..1], 700)).await;
        assert_refused(refused, Code::FailedPrecondition, "SNAPSHOT_COMMITTED");
        // It is still there when nothing else names its blobs.
        let target = target.restart().await;
        assert_eq!(records(&target, &name).await.len(), 40);
    }
}

#[tokio::test]
async fn who_knows_a_digest_of_another_project_learns_and_gets_nothing() {
    let server = server().await;
    let snapshot = import(&server, "s").await;
    let blobs = blobs_of(&server, &snapshot).await;
    let all = digests(&blobs);
    // Within the project all is there, and can be committed without being sent.
    let own = server.create_snapshot("own").await.name;
    assert_eq!(missing(&server, &own, &all).await.unwrap(), []);
    assert_eq!(commit(&server, &own, all[0]).await.unwrap().pair_count, 40);

    let other = create_in(&server, "projects/other", "theirs").await;
    let absent = Digest::of(b"nobody has this");
    let asked: Vec<Digest> = all.iter().copied().chain([absent]).collect();
    assert_eq!(missing(&server, &other, &asked).await.unwrap(), asked);
    // The manifest alone, which could be guessed, is no way to the chunks.
    let few = blobs[..blobs.len() - 1].to_vec();
    write(&server, messages(&other, &few[..1], 700)).await.1.unwrap();
    let refused = commit(&server, &other, all[0]).await;
    assert_refused(refused, Code::FailedPrecondition, "CHUNK_MISSING");
    write(&server, messages(&other, &few[1..], 700)).await.1.unwrap();
    let refused = commit(&server, &other, all[0]).await;
    let status = assert_refused(refused, Code::FailedPrecondition, "CHUNK_MISSING");
    let lacking = all.last().unwrap().to_string();
    assert!(status.message().contains(&lacking), "{}", status.message());
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["digest"], lacking);
    let refused = read(&server, &other, &all).await;
    assert_refused(refused, Code::FailedPrecondition, "SNAPSHOT_NOT_READY");
    let theirs = server.import("unlike", &[("a.jsonl", pair("OUT", "/unlike"))]).await;
    let refused = read(&server, &theirs.name, &all).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_IN_BUNDLE");
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused_and_what_came_before_is_kept() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let blob = |bytes: &'static [u8]| (Digest::of(bytes), Bytes::from_static(bytes));
    let (good, later) = (blob(b"good"), blob(b"later"));
    let wrong = Digest::of(b"what it should be");
    for bytes in [&b"what it should bE"[..], b"what it should b", b"what it should be, and more"] {
        let bad = (wrong, Bytes::from_static(bytes));
        let sent = messages(&name, &[good.clone(), bad, later.clone()], 5);
        let (acknowledged, ended) = write(&server, sent).await;
        assert_eq!(acknowledged, [good.0]);
        let status = assert_refused(ended, Code::InvalidArgument, "DIGEST_MISMATCH");
        assert_eq!(
            status.get_error_details().error_info().unwrap().metadata["digest"],
            wrong.to_string()
        );
        let asked = [good.0, wrong, later.0];
        assert_eq!(missing(&server, &name, &asked).await.unwrap(), [wrong, later.0]);
    }
    // The same bytes by another function are another blob.
    let sha256 = Digest::by(Function::Sha256, b"good");
    assert_eq!(missing(&server, &name, &[sha256]).await.unwrap(), [sha256]);
    write(&server, messages(&name, &[(sha256, good.1.clone())], 9)).await.1.unwrap();
    assert_eq!(missing(&server, &name, &[sha256]).await.unwrap(), []);
    // What is no manifest cannot be committed.
    let refused = commit(&server, &name, good.0).await;
    assert_refused(refused, Code::InvalidArgument, "CHUNK_MALFORMED");
}

#[tokio::test]
async fn a_write_that_breaks_off_anywhere_goes_on_with_the_rest() {
    let mut target = server().await;
    let source = server().await;
    let snapshot = import(&source, "s").await;
    let blobs = blobs_of(&source, &snapshot).await;
    let all = digests(&blobs);
    let name = target.create_snapshot("copy").await.name;
    let mut written: HashSet<Digest> = HashSet::new();
    let mut seed = 7_usize;
    for round in 0.. {
        let asked = missing(&target, &name, &all).await.unwrap();
        assert!(asked.iter().all(|digest| !written.contains(digest)), "nothing is sent twice");
        assert_eq!(asked.len() + written.len(), all.len());
        if asked.is_empty() {
            break;
        }
        let rest: Vec<Blob> = blobs.iter().filter(|(d, _)| asked.contains(d)).cloned().collect();
        let mut sent = messages(&name, &rest, 600);
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12345);
        // At least one message; mostly within a blob.
        sent.truncate(1 + (seed >> 16) % 9);
        written.extend(write(&target, sent).await.0);
        if round % 5 == 4 {
            target = target.restart().await;
        }
    }
    assert_eq!(commit(&target, &name, all[0]).await.unwrap().pair_count, 40);
}

#[tokio::test]
async fn what_a_deleted_snapshot_had_is_gone() {
    let (source, target) = (server().await, server().await);
    let snapshot = import(&source, "s").await;
    let blobs = blobs_of(&source, &snapshot).await;
    let all = digests(&blobs);
    let name = target.create_snapshot("copy").await.name;
    write(&target, messages(&name, &blobs, 4096)).await.1.unwrap();
    let target = target.restart().await;
    assert_eq!(missing(&target, &name, &all).await.unwrap(), [], "kept while it is not committed");
    let delete = DeleteSnapshotRequest { name: name.clone(), ..DeleteSnapshotRequest::default() };
    target.snapshots().delete_snapshot(delete).await.unwrap();
    assert_eq!(target.create_snapshot("copy").await.name, name);
    assert_eq!(missing(&target, &name, &all).await.unwrap(), all);
    let target = target.restart().await;
    let blobs = target.dir.path().join("data/blobs");
    let left = std::fs::read_dir(blobs.join("packs")).unwrap().count();
    assert_eq!(left, 0, "nothing names them");
}

#[tokio::test]
async fn what_was_told_to_be_there_stays_until_it_is_committed() {
    let server = server().await;
    let snapshot = import(&server, "s").await;
    let all = digests(&blobs_of(&server, &snapshot).await);
    let name = server.create_snapshot("copy").await.name;
    assert_eq!(missing(&server, &name, &all).await.unwrap(), []);
    let delete = DeleteSnapshotRequest { name: snapshot.name, ..DeleteSnapshotRequest::default() };
    server.snapshots().delete_snapshot(delete).await.unwrap();
    // What nothing names is removed at the start.
    let server = server.restart().await;
    assert_eq!(commit(&server, &name, all[0]).await.unwrap().pair_count, 40);
    let server = server.restart().await;
    assert_eq!(records(&server, &name).await.len(), 40);
    // Once it is committed nothing but the snapshot names them.
    server.running.shutdown().await;
    let meta = SqliteMeta::open(&server.dir.path().join("data/meta.db")).unwrap();
    assert!(store::all(&meta, Kind::Holding, "").await.unwrap().is_empty());
}

#[tokio::test]
async fn holdings_without_a_snapshot_are_forgotten() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let blob = (Digest::of(b"blob"), Bytes::from_static(b"blob"));
    write(&server, messages(&name, &[blob], 9)).await.1.unwrap();
    server.running.shutdown().await;
    let meta = SqliteMeta::open(&server.dir.path().join("data/meta.db")).unwrap();
    let held = store::all(&meta, Kind::Holding, "").await.unwrap().remove(0);
    // As if it had been written while the snapshot was deleted; and of an earlier snapshot of the name.
    let (_, own) = held.name.rsplit_once('/').unwrap();
    for name in [format!("{name}x/1/{own}"), format!("{name}/1/{own}")] {
        let txn = Txn::put(Kind::Holding, name, Expect::Absent, held.body.clone());
        meta.commit(txn).await.unwrap();
    }
    held::forget_orphans(&meta).await.unwrap();
    let left = store::all(&meta, Kind::Holding, "").await.unwrap();
    assert_eq!(left.iter().map(|record| &record.name).collect::<Vec<_>>(), [&held.name]);
}

#[tokio::test]
async fn streams_that_break_the_rules_are_refused() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let of = |size| encode_digest(&Digest::from_parts(Function::Blake3, [7; 32], size));
    let message = |digest, data: &'static [u8], last| WriteChunksRequest {
        snapshot: name.clone(),
        digest,
        data: Bytes::from_static(data),
        last,
    };
    let none = DigestFunction::Unspecified.into();
    let unknown = countersign_proto::r#type::v1::Digest { function: none, ..of(3) };
    let elsewhere =
        WriteChunksRequest { snapshot: format!("{name}2"), ..message(None, b"a", true) };
    let cases = [
        (vec![message(None, b"abc", true)], "DIGEST_MISSING"),
        (vec![message(Some(unknown), b"abc", true)], "INVALID_DIGEST"),
        (vec![message(Some(of(9)), b"abc", false)], "CHUNK_INCOMPLETE"),
        (
            vec![message(Some(of(9)), b"abc", false), message(Some(of(9)), b"", true)],
            "CHUNK_INCOMPLETE",
        ),
        (vec![message(Some(of(9)), b"abc", false), elsewhere], "SNAPSHOT_CHANGED"),
        (vec![message(Some(of(1 << 40)), b"abc", true)], "CHUNK_TOO_LARGE"),
        (vec![message(Some(of(1 << 21)), &[0; (1 << 20) + 1], false)], "PIECE_TOO_LARGE"),
    ];
    for (sent, reason) in cases {
        let (acknowledged, ended) = write(&server, sent).await;
        assert_eq!(acknowledged, []);
        assert_refused(ended, Code::InvalidArgument, reason);
    }
    // The tests' server takes uploads of 4 MiB.
    let (_, ended) = write(&server, vec![message(Some(of(5 << 20)), b"abc", true)]).await;
    assert_refused(ended, Code::ResourceExhausted, "UPLOAD_TOO_LARGE");
    let absent = format!("{PROJECT}/snapshots/absent");
    let (_, ended) = write(
        &server,
        vec![WriteChunksRequest { snapshot: absent.clone(), ..message(None, b"", true) }],
    )
    .await;
    assert_refused(ended, Code::NotFound, "SNAPSHOT_NOT_FOUND");
    let many = vec![Digest::of(b"x"); 10_001];
    assert_refused(missing(&server, &name, &many).await, Code::InvalidArgument, "TOO_MANY_DIGESTS");
    assert_refused(missing(&server, &absent, &[]).await, Code::NotFound, "SNAPSHOT_NOT_FOUND");
    let both =
        ReadChunksRequest { replay: "r".into(), snapshot: name, ..ReadChunksRequest::default() };
    let refused = server.chunks().read_chunks(both).await;
    assert_refused(refused, Code::InvalidArgument, "TWO_SOURCES");
    let can =
        server.chunks().get_capabilities(GetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(can.digest_functions, [1, 2]);
    assert_eq!(can.default_digest_function(), DigestFunction::Blake3);
    assert!(can.max_chunk_bytes >= 64 << 20 && can.max_piece_bytes == 1 << 20);
}
