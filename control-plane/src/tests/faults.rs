//! Stores that fail: nothing is acknowledged that did not happen, and asking again is safe.

use std::{path::Path, sync::Arc};

use countersign_proto::control::v1::{CreateReplayRequest, CreateSnapshotRequest, Replay};
use tonic::{Code, Status};

use super::{
    PROJECT, Server, assert_refused, config, pair, pieces,
    subscriptions::{Responder, hello, names},
    with_config,
};
use crate::{
    config::Config,
    store::{
        blob::FileBlobs,
        faulty::{Fault, Faulty},
        place::Places,
        sqlite::SqliteMeta,
    },
};

struct World {
    server: Server,
    meta: Arc<Faulty<SqliteMeta>>,
    blobs: Arc<Faulty<FileBlobs>>,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let meta = SqliteMeta::open(&path.join("meta.db")).unwrap();
        (meta, FileBlobs::open(&path.join("blobs")).unwrap())
    };
    let (meta, blobs) = open(dir.path());
    let (meta, blobs) = (Arc::new(Faulty::new(meta)), Arc::new(Faulty::new(blobs)));
    let places = Places::given(meta.clone(), blobs.clone());
    let config = Config { places, ..config(&dir) };
    World { server: with_config(dir, config).await, meta, blobs }
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = assert_refused(result, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some(), "{status:?}");
}

#[tokio::test]
async fn a_commit_whose_outcome_is_unknown_is_no_acknowledgement() {
    let World { server, meta, .. } = world().await;
    let create = async |id: &str| {
        let request = CreateSnapshotRequest {
            parent: PROJECT.into(),
            snapshot_id: id.into(),
            ..Default::default()
        };
        server.snapshots().create_snapshot(request).await
    };
    meta.plan("commit", Fault::Before);
    assert_unavailable(create("before").await);
    create("before").await.unwrap();
    meta.plan("commit", Fault::After);
    assert_unavailable(create("after").await);
    assert_refused(create("after").await, Code::AlreadyExists, "ALREADY_EXISTS");
}

#[tokio::test]
async fn an_import_is_committed_by_asking_again_wherever_it_failed() {
    let World { server, meta, blobs } = world().await;
    for (id, fault) in [("before", Fault::Before), ("after", Fault::After)] {
        let name = server.create_snapshot(id).await.name;
        let files = [("a.jsonl", pair("OUT", &format!("/{id}")))];
        server.upload(&name, "u", pieces(&files)).await.unwrap();
        blobs.plan("put_all", fault);
        assert_unavailable(server.commit(&name, "u", false).await);
        blobs.plan("put", fault);
        assert_unavailable(server.commit(&name, "u", false).await);
        meta.plan("leased", fault);
        assert_unavailable(server.commit(&name, "u", false).await);
        meta.plan("commit", fault);
        assert_unavailable(server.commit(&name, "u", false).await);
        assert_eq!(server.commit(&name, "u", false).await.unwrap().pair_count, 1);
    }
}

#[tokio::test]
async fn what_is_announced_arrives_although_the_store_failed_meanwhile() {
    let World { server, meta, blobs } = world().await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    let replay = Replay { snapshot: format!("{PROJECT}/snapshots/s"), ..Default::default() };
    let request =
        CreateReplayRequest { parent: PROJECT.into(), replay: Some(replay), ..Default::default() };
    let name = server.replays().create_replay(request).await.unwrap().into_inner().name;
    let (mut responder, _) = Responder::greet(&server, hello("r")).await;
    let delta = responder.delta().await;
    responder.ack(delta.nonce, vec![]).await;
    blobs.plan("put", Fault::Before);
    assert_unavailable(server.start_replay(&name).await);
    // It did happen; and the first look at what is announced fails, too.
    meta.plan("commit", Fault::After);
    meta.plan("list", Fault::Before);
    assert_unavailable(server.start_replay(&name).await);
    let delta = responder.delta().await;
    assert_eq!(names(&delta), (vec!["s"], vec![]));
    responder.ack(delta.nonce, vec![]).await;
    let again = server.start_replay(&name).await.unwrap();
    assert_eq!(again.generation, 2);
    assert_eq!(responder.delta().await.upserted[0].generation, 2);
}
