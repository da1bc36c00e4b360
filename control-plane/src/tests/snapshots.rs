//! Import, pages, and what is refused.

use countersign_engine::snapshot::wire::decode_digest;
use countersign_proto::control::v1::{
    AppendRecordsRequest, CommitSnapshotRequest, CreateSnapshotRequest, DeleteSnapshotRequest,
    GetSnapshotRequest, ListRecordsRequest, ListSnapshotsRequest, ReadRecordsRequest,
    SnapshotState, commit_snapshot_response::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{PROJECT, Server, assert_refused, pair, pieces, server};

fn get(name: &str) -> GetSnapshotRequest {
    GetSnapshotRequest { name: name.into() }
}

async fn listed(server: &Server, page_size: i32) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSnapshotsRequest { parent: PROJECT.into(), page_size, page_token };
        let page = server.snapshots().list_snapshots(request).await.unwrap().into_inner();
        assert!(page.snapshots.len() <= usize::try_from(page_size).unwrap());
        names.extend(
            page.snapshots.into_iter().map(|s| s.name.rsplit('/').next().unwrap().to_owned()),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn an_import_counts_stores_and_survives_a_restart() {
    let server = server().await;
    let files =
        [("b.jsonl", pair("OUT", "/b")), ("a.jsonl", pair("IN", "/a") + &pair("OUT", "/c"))];
    let snapshot = server.import("s", &files).await;
    assert_eq!((snapshot.pair_count, snapshot.in_count, snapshot.out_count), (3, 1, 2));
    assert_eq!((snapshot.state(), snapshot.display_name.as_str()), (SnapshotState::Ready, "s"));
    assert_eq!(snapshot.report.as_ref().unwrap().imported, 3);
    assert_eq!(
        server.commit(&snapshot.name, "u", false).await.unwrap(),
        snapshot,
        "a retried commit"
    );
    assert_refused(
        server.commit(&snapshot.name, "other", false).await,
        Code::FailedPrecondition,
        "SNAPSHOT_COMMITTED",
    );
    assert_refused(
        server.upload(&snapshot.name, "u", pieces(&files)).await,
        Code::FailedPrecondition,
        "SNAPSHOT_COMMITTED",
    );

    let server = server.restart().await;
    assert_eq!(
        server.snapshots().get_snapshot(get(&snapshot.name)).await.unwrap().into_inner(),
        snapshot
    );
    let request = ListRecordsRequest {
        parent: snapshot.name.clone(),
        page_size: 2,
        page_token: String::new(),
    };
    let page = server.snapshots().list_records(request.clone()).await.unwrap().into_inner();
    let path = |n: usize| page.records[n].request.as_ref().unwrap().path.clone();
    assert_eq!((page.records.len(), path(0), path(1)), (2, "/a".to_owned(), "/c".to_owned()));
    let request = ListRecordsRequest { page_token: page.next_page_token, ..request };
    let page = server.snapshots().list_records(request).await.unwrap().into_inner();
    assert_eq!(
        (page.records[0].ordinal, page.records.len(), page.next_page_token.as_str()),
        (2, 1, "")
    );

    let request = ReadRecordsRequest { name: snapshot.name.clone() };
    let mut messages = server.snapshots().read_records(request).await.unwrap().into_inner();
    let mut paths = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        paths.extend(message.records.into_iter().map(|pair| pair.request.unwrap().path));
    }
    assert_eq!(paths, ["/a", "/c", "/b"]);
    server.create_snapshot("open").await;
    let request = ReadRecordsRequest { name: format!("{PROJECT}/snapshots/open") };
    let refused = server.snapshots().read_records(request).await;
    assert_refused(refused, Code::FailedPrecondition, "SNAPSHOT_NOT_READY");
}

#[tokio::test]
async fn the_same_content_has_the_same_manifest() {
    let server = server().await;
    let files = [("a.jsonl", pair("OUT", "/a"))];
    assert_eq!(
        server.import("one", &files).await.manifest,
        server.import("two", &files).await.manifest
    );
}

#[tokio::test]
async fn an_upload_goes_on_after_a_drop() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let all = pieces(&[
        ("a.jsonl", pair("OUT", "/a")),
        ("b.jsonl", pair("OUT", "/b")),
        ("c.jsonl", pair("OUT", "/c")),
    ]);
    assert_eq!(server.upload(&name, "u", all[..2].to_vec()).await.unwrap(), 2);
    let server = server.restart().await;
    let opener = AppendRecordsRequest::default();
    assert_eq!(
        server.upload(&name, "u", vec![opener]).await.unwrap(),
        2,
        "the first answer names the committed sequence"
    );
    let gap = assert_refused(
        server
            .upload(
                &name,
                "u",
                vec![AppendRecordsRequest {
                    sequence: 7,
                    path: "c.jsonl".into(),
                    ..Default::default()
                }],
            )
            .await,
        Code::OutOfRange,
        "UPLOAD_GAP",
    );
    assert_eq!(gap.get_error_details().error_info().unwrap().metadata["expected_sequence"], "3");
    assert_eq!(server.upload(&name, "u", all).await.unwrap(), 3, "what was there is ignored");
    assert_eq!(server.commit(&name, "u", true).await.unwrap().pair_count, 3);
}

#[tokio::test]
async fn a_newer_stream_takes_over_the_upload() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let (sender, receiver) = mpsc::channel(1);
    let mut first = pieces(&[("a.jsonl", pair("OUT", "/a"))]).remove(0);
    first.name.clone_from(&name);
    first.upload_id = "u".into();
    sender.send(first).await.unwrap();
    let mut old = server
        .snapshots()
        .append_records(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    while old.message().await.unwrap().unwrap().committed_sequence < 1 {}
    assert_eq!(server.commit(&name, "u", false).await.unwrap().pair_count, 1);
    assert_refused(old.message().await, Code::Aborted, "UPLOAD_TAKEN_OVER");
    drop(sender);
}

#[tokio::test]
async fn bad_pieces_are_refused_and_good_ones_kept() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let good = pieces(&[("a.jsonl", pair("OUT", "/a"))]).remove(0);
    let large = AppendRecordsRequest {
        sequence: 2,
        path: "b".into(),
        data: vec![0; (1 << 20) + 1].into(),
        ..Default::default()
    };
    let sent = server.upload(&name, "u", vec![good.clone(), large]).await;
    assert_refused(sent, Code::InvalidArgument, "PIECE_TOO_LARGE");
    let no_path = AppendRecordsRequest { sequence: 2, data: "x".into(), ..Default::default() };
    assert_refused(
        server.upload(&name, "u", vec![no_path]).await,
        Code::InvalidArgument,
        "INVALID_PATH",
    );
    let no_sequence =
        AppendRecordsRequest { path: "b".into(), data: "x".into(), ..Default::default() };
    assert_refused(
        server.upload(&name, "u", vec![no_sequence]).await,
        Code::InvalidArgument,
        "INVALID_SEQUENCE",
    );
    assert_refused(
        server.upload(&name, "", vec![good.clone()]).await,
        Code::InvalidArgument,
        "INVALID_UPLOAD_ID",
    );
    let missing = format!("{PROJECT}/snapshots/missing");
    assert_refused(
        server.upload(&missing, "u", vec![good]).await,
        Code::NotFound,
        "SNAPSHOT_NOT_FOUND",
    );
    let filler = |sequence| AppendRecordsRequest {
        sequence,
        path: "z".into(),
        data: vec![b'\n'; 1 << 20].into(),
        ..Default::default()
    };
    let much: Vec<_> = (2..8).map(filler).collect();
    assert_refused(
        server.upload(&name, "u", much).await,
        Code::ResourceExhausted,
        "UPLOAD_TOO_LARGE",
    );
    assert_eq!(server.commit(&name, "u", false).await.unwrap().pair_count, 1);
}

#[tokio::test]
async fn strict_keeps_nothing_and_lenient_reports() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let files = [("bad.jsonl", pair("OUT", "/a") + "{\"broken\": \n" + &pair("OUT", "/b"))];
    server.upload(&name, "u", pieces(&files)).await.unwrap();
    let refused = assert_refused(
        server.commit(&name, "u", true).await,
        Code::InvalidArgument,
        "RECORDS_REFUSED",
    );
    let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
    assert!(violations.iter().any(|v| v.description.contains("bad.jsonl:2")), "{violations:?}");
    let request = CommitSnapshotRequest {
        name: name.clone(),
        upload_id: "u".into(),
        validate_only: true,
        ..CommitSnapshotRequest::default()
    };
    let mut events = server.snapshots().commit_snapshot(request).await.unwrap().into_inner();
    let (mut progressed, mut dry) = (false, None);
    while let Some(event) = events.message().await.unwrap() {
        match event.event.unwrap() {
            Event::Progress(progress) => progressed = progress.bytes_total > 0,
            Event::Snapshot(snapshot) => dry = Some(snapshot),
        }
    }
    let dry = dry.unwrap();
    assert!(progressed);
    assert_eq!(
        (dry.state(), dry.pair_count, dry.report.unwrap().refused),
        (SnapshotState::Importing, 2, 1)
    );
    let snapshot = server.commit(&name, "u", false).await.unwrap();
    assert_eq!((snapshot.pair_count, snapshot.report.unwrap().refused), (2, 1));
}

#[tokio::test]
async fn a_commit_reads_along_with_an_upload_that_drops_and_goes_on() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let files = [("a.jsonl", pair("OUT", "/a")), ("b.jsonl", pair("OUT", "/b"))];
    let mut all = pieces(&files);
    let request = |upload_pieces| CommitSnapshotRequest {
        name: name.clone(),
        upload_id: "u".into(),
        upload_pieces,
        ..CommitSnapshotRequest::default()
    };
    let many = u64::try_from(all.len()).unwrap();
    assert!(many >= 2);
    let upload = async {
        let rest = all.split_off(1);
        server.upload(&name, "u", all).await.unwrap();
        server.upload(&name, "u", rest).await.unwrap();
    };
    // Two at once, as when a client lost the answer: the second finds what the first one made.
    let (first, second, ()) =
        tokio::join!(server.commit_as(request(many)), server.commit_as(request(many)), upload);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.pair_count, first.state()), (2, SnapshotState::Ready));
    assert_eq!(first.manifest, second.manifest);
    assert_eq!(server.commit_as(request(0)).await.unwrap().manifest, first.manifest);
}

#[tokio::test]
async fn a_filter_selects_pairs_and_is_checked_first() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    let files = [("a.jsonl", pair("OUT", "/a") + "\n" + &pair("OUT", "/b"))];
    server.upload(&name, "u", pieces(&files)).await.unwrap();
    let commit = |filter: &str| {
        let filter = filter.to_owned();
        let request = CommitSnapshotRequest {
            name: name.clone(),
            upload_id: "u".into(),
            filter,
            ..CommitSnapshotRequest::default()
        };
        let mut client = server.snapshots();
        async move {
            let mut events = client.commit_snapshot(request).await?.into_inner();
            let mut last = None;
            while let Some(message) = events.message().await? {
                last = message.event;
            }
            Ok::<_, tonic::Status>(last)
        }
    };
    let refused = assert_refused(
        commit(r#"(locatoin IS "/a")"#).await,
        Code::InvalidArgument,
        "INVALID_FILTER",
    );
    let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
    assert!(violations[0].description.contains("character 2"), "{violations:?}");
    assert_refused(commit(r#"location IS "/c""#).await, Code::FailedPrecondition, "NO_PAIRS");
    let Some(Event::Snapshot(snapshot)) =
        commit(r#"{"filters":[{"include":false,"detectedLocation":"/a"}]}"#).await.unwrap()
    else {
        panic!("no snapshot");
    };
    let report = snapshot.report.unwrap();
    assert_eq!((snapshot.pair_count, report.skipped), (1, 1));
    assert_eq!((report.findings[0].code.as_str(), report.findings[0].count), ("filtered_out", 1));
}

#[tokio::test]
async fn an_upload_without_pairs_is_refused() {
    let server = server().await;
    let name = server.create_snapshot("s").await.name;
    assert_refused(
        server.commit(&name, "u", false).await,
        Code::FailedPrecondition,
        "UPLOAD_NOT_FOUND",
    );
    server.upload(&name, "u", pieces(&[("a.jsonl", "{\"broken\": \n".into())])).await.unwrap();
    let refused = assert_refused(
        server.commit(&name, "u", false).await,
        Code::FailedPrecondition,
        "NO_PAIRS",
    );
    assert!(refused.message().contains("a.jsonl"), "{}", refused.message());
}

#[tokio::test]
async fn pages_names_and_etags() {
    let server = server().await;
    for id in ["c", "a", "b"] {
        server.create_snapshot(id).await;
    }
    for size in 1..4 {
        assert_eq!(listed(&server, size).await, ["a", "b", "c"]);
    }
    let list = |parent: &str, page_token: &str, page_size| {
        let request = ListSnapshotsRequest {
            parent: parent.into(),
            page_size,
            page_token: page_token.into(),
        };
        let mut client = server.snapshots();
        async move { client.list_snapshots(request).await }
    };
    let token = list(PROJECT, "", 1).await.unwrap().into_inner().next_page_token;
    assert_refused(
        list("projects/other", &token, 1).await,
        Code::InvalidArgument,
        "INVALID_PAGE_TOKEN",
    );
    assert_refused(list(PROJECT, "nonsense", 1).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    assert_refused(list(PROJECT, "", -1).await, Code::InvalidArgument, "INVALID_PAGE_SIZE");
    assert_refused(list("elsewhere", "", 1).await, Code::InvalidArgument, "INVALID_NAME");

    let create = |id: &str| CreateSnapshotRequest {
        parent: PROJECT.into(),
        snapshot_id: id.into(),
        ..Default::default()
    };
    assert_refused(
        server.snapshots().create_snapshot(create("a")).await,
        Code::AlreadyExists,
        "ALREADY_EXISTS",
    );
    assert_refused(
        server.snapshots().create_snapshot(create("a b")).await,
        Code::InvalidArgument,
        "INVALID_ID",
    );
    let dry = CreateSnapshotRequest { validate_only: true, ..create("d") };
    server.snapshots().create_snapshot(dry).await.unwrap();
    let name = format!("{PROJECT}/snapshots/d");
    let missing = assert_refused(
        server.snapshots().get_snapshot(get(&name)).await,
        Code::NotFound,
        "SNAPSHOT_NOT_FOUND",
    );
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_name, name);
    let made = server.snapshots().create_snapshot(create("")).await.unwrap().into_inner();
    let delete = |etag: &str| DeleteSnapshotRequest { name: made.name.clone(), etag: etag.into() };
    assert_refused(
        server.snapshots().delete_snapshot(delete("other")).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    server.snapshots().delete_snapshot(delete(&made.etag)).await.unwrap();
    assert_refused(
        server.snapshots().delete_snapshot(delete("")).await,
        Code::NotFound,
        "SNAPSHOT_NOT_FOUND",
    );
}

#[tokio::test]
async fn a_damaged_chunk_is_an_error_that_names_it() {
    let server = server().await;
    let snapshot = server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    let manifest = decode_digest(&snapshot.manifest.unwrap()).unwrap().file_name();
    let blobs = server.dir.path().join("data/blobs");
    for shelf in std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap()) {
        for blob in std::fs::read_dir(shelf.path()).unwrap().map(|entry| entry.unwrap()) {
            if *blob.file_name() != *manifest {
                std::fs::write(blob.path(), "damaged").unwrap();
            }
        }
    }
    let request = ListRecordsRequest { parent: snapshot.name, ..Default::default() };
    let lost = assert_refused(
        server.snapshots().list_records(request).await,
        Code::DataLoss,
        "STORE_DAMAGED",
    );
    assert!(lost.message().contains("blobs"), "{}", lost.message());
}
