//! Several control planes on one PostgreSQL and one S3 server.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_engine::snapshot::wire::decode_digest;
use countersign_proto::{
    control::v1::{
        AppendRecordsRequest, CommitSnapshotRequest, DeleteSnapshotRequest, ListRespondersRequest,
        Replay, ResponderPhase,
    },
    discovery::v1::{AssignmentPhase, Hello, ReadChunksRequest, subscribe_request::Message as Say},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{
    PROJECT, Server, assert_refused, config, content as pushed, pair, pieces, server,
    subscriptions::{Responder, hello, names, outcome, until},
    with_config,
};
use crate::{
    app::StartError,
    config::Config,
    content,
    store::{
        place::Places,
        servers::{Postgres, S3Server},
    },
    sweep,
};

struct Shared {
    cluster: Postgres,
    s3: S3Server,
    bucket: String,
}

impl Shared {
    fn start() -> Option<Self> {
        let (cluster, s3) = (Postgres::start()?, S3Server::start()?);
        let bucket = s3.bucket("replicas");
        Some(Self { cluster, s3, bucket })
    }

    async fn replica(&self) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let places = self.places();
        let config = Config { places, ..config(&dir) };
        with_config(dir, config).await
    }

    fn places(&self) -> Places {
        let variables = self.s3.environment();
        let url = self.cluster.url();
        Places::parse(Some(&url), Some(&self.bucket), "unused".as_ref(), variables).unwrap()
    }
}

#[tokio::test]
async fn what_is_announced_at_one_reaches_responders_of_another_and_back() {
    let Some(shared) = Shared::start() else { return };
    let (a, b) = (shared.replica().await, shared.replica().await);
    let (mut far, welcome) = Responder::greet(&b, hello("far")).await;
    let delta = far.delta().await;
    far.ack(delta.nonce, vec![]).await;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    let listed = async |server: &Server| {
        let list = ListRespondersRequest { parent: PROJECT.into(), ..Default::default() };
        server.replays().list_responders(list).await.unwrap().into_inner().responders
    };
    while listed(&a).await.is_empty() {
        pause.tick().await;
    }
    let replay = a.running_replay("r").await;
    let delta = far.delta().await;
    assert_eq!(names(&delta), (vec!["r"], vec![]));
    assert_eq!(delta.upserted[0].phase(), AssignmentPhase::Prepare);
    far.ack(delta.nonce, vec![outcome(&replay, ResponderPhase::Prepared)]).await;
    let delta = far.delta().await;
    assert_eq!(delta.upserted[0].phase(), AssignmentPhase::Activate);
    let bundle = replay.bundle.clone().unwrap();

    // Its chunks come from either, also from one that has not heard of it yet.
    for server in [&a, &b] {
        let request = ReadChunksRequest {
            replay: replay.name.clone(),
            digests: vec![bundle.clone()],
            ..Default::default()
        };
        let mut pieces = server.chunks().read_chunks(request).await.unwrap().into_inner();
        assert!(pieces.message().await.unwrap().unwrap().last);
    }

    // Both say the same of who serves it, wherever the responders are.
    let (mut near, _) = Responder::greet(&a, hello("near")).await;
    let nonce = near.delta().await.nonce;
    let active = || vec![outcome(&replay, ResponderPhase::Active)];
    near.ack(nonce, active()).await;
    let waiting =
        |replay: &Replay| replay.responders.len() == 2 && replay.conditions[0].reason == "Fetching";
    until(&a, &replay.name, waiting).await;
    until(&b, &replay.name, waiting).await;
    far.ack(delta.nonce, active()).await;
    for server in [&a, &b] {
        let ready = until(server, &replay.name, |r| r.conditions[0].reason == "Serving").await;
        assert_eq!(ready.responders.len(), 2);
    }

    // One that moves is where it is now.
    drop(far);
    let (_moved, again) = Responder::greet(
        &a,
        Hello {
            last_revision: delta.revision,
            store_uid: welcome.store_uid.clone(),
            ..hello("far")
        },
    )
    .await;
    assert_eq!(again.store_uid, welcome.store_uid);
    loop {
        pause.tick().await;
        let found = listed(&b).await;
        let all: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.connected)).collect();
        if all == [("far", true), ("near", true)] {
            break;
        }
        assert_eq!(all, [("far", false), ("near", true)], "it is on its way");
    }

    // A replica that ends takes its responders with it.
    a.running.shutdown().await;
    until(&b, &replay.name, |r| r.conditions[0].reason == "NoResponders").await;
}

#[tokio::test]
async fn a_rollout_goes_on_at_another_replica() {
    let Some(shared) = Shared::start() else { return };
    let (a, b) = (shared.replica().await, shared.replica().await);
    let mut near = Responder::synced(&a, "near").await;
    let mut zone = Responder::synced(&b, "zone").await;
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    for server in [&a, &b] {
        let list = || ListRespondersRequest { parent: PROJECT.into(), ..Default::default() };
        while server.replays().list_responders(list()).await.unwrap().into_inner().responders.len()
            < 2
        {
            pause.tick().await;
        }
    }
    // The one that is connected where it was started tries it; the other one hears nothing of it.
    let replay = a.running_replay("r").await;
    near.answers(&replay, AssignmentPhase::Prepare, ResponderPhase::Fetching).await;
    until(&b, &replay.name, |r| {
        r.rollout.as_ref().is_some_and(|rollout| rollout.canary == "near")
            && r.responders.iter().any(|r| r.phase() == ResponderPhase::Fetching)
    })
    .await;
    a.running.shutdown().await;
    let (mut near, _) = Responder::greet(&b, hello("near")).await;
    near.answers(&replay, AssignmentPhase::Prepare, ResponderPhase::Prepared).await;
    zone.answers(&replay, AssignmentPhase::Prepare, ResponderPhase::Prepared).await;
    near.answers(&replay, AssignmentPhase::Activate, ResponderPhase::Active).await;
    zone.answers(&replay, AssignmentPhase::Activate, ResponderPhase::Active).await;
    let ready = until(&b, &replay.name, |r| r.conditions[0].reason == "Serving").await;
    assert_eq!(ready.responders.len(), 2);
}

#[tokio::test]
async fn a_replica_that_is_behind_asks_before_it_refuses() {
    let Some(shared) = Shared::start() else { return };
    let (a, b) = (shared.replica().await, shared.replica().await);
    for n in 0..3 {
        a.create_snapshot(&format!("s{n}")).await;
        let revision: u64 = shared.cluster.sql("SELECT rev FROM meta").parse().unwrap();
        let uid = shared.cluster.sql("SELECT store_uid FROM meta");
        let ahead = |last_revision| Hello { last_revision, store_uid: uid.clone(), ..hello("x") };
        let (_, welcome) = Responder::greet(&b, ahead(revision)).await;
        assert!(welcome.revision >= revision);
        let mut refused = Responder::connect(&b).await;
        refused.say(Say::Hello(ahead(revision + 1))).await;
        assert_refused(refused.hear().await, Code::Unavailable, "BEHIND");
    }
}

#[tokio::test]
async fn an_upload_goes_on_at_another_replica() {
    let Some(shared) = Shared::start() else { return };
    let (a, b, c) = (shared.replica().await, shared.replica().await, shared.replica().await);
    let name = a.create_snapshot("s").await.name;
    let files: Vec<(String, String)> =
        (0..6).map(|n| (format!("{n}.jsonl"), pair("OUT", &format!("/{n}")))).collect();
    let files: Vec<(&str, String)> =
        files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
    let all = pieces(&files);
    assert_eq!(a.upload(&name, "u", all[..3].to_vec()).await.unwrap(), 3);
    // The other one knows how far it has come, and takes the rest.
    let ask = vec![AppendRecordsRequest::default()];
    assert_eq!(b.upload(&name, "u", ask).await.unwrap(), 3);
    // A third one reads along.
    let request = CommitSnapshotRequest {
        name: name.clone(),
        upload_id: "u".into(),
        upload_pieces: 6,
        ..Default::default()
    };
    let (committed, uploaded) =
        tokio::join!(c.commit_as(request), b.upload(&name, "u", all[3..].to_vec()));
    assert_eq!((committed.unwrap().pair_count, uploaded.unwrap()), (6, 6));
    // Whoever lost the answer finds the result at any of them.
    assert_eq!(a.commit(&name, "u", false).await.unwrap().pair_count, 6);

    let name = a.create_snapshot("t").await.name;
    a.upload(&name, "u", pieces(&files)).await.unwrap();
    assert_eq!(b.commit(&name, "u", false).await.unwrap().pair_count, 6);
}

#[tokio::test]
async fn what_nothing_names_is_removed_while_others_write() {
    let Some(shared) = Shared::start() else { return };
    let a = shared.replica().await;
    let (meta, blobs) = shared.places().open().await.unwrap();
    let left_over = blobs.put("left over".into()).await.unwrap();
    a.running_replay("kept").await;
    let now = Duration::ZERO;
    assert_eq!(sweep::shared(&*meta, &*blobs, "me", sweep::GRACE).await.unwrap(), 0);
    meta.lease("sweep", "other", Duration::from_secs(60)).await.unwrap();
    assert!(matches!(
        sweep::shared(&*meta, &*blobs, "me", now).await,
        Err(sweep::SweepError::Busy)
    ));
    // While somebody removes, a commit waits.
    let writes = tokio::spawn(async move {
        a.running_replay("another").await;
        a
    });
    tokio::task::yield_now().await;
    meta.release("sweep", "other").await.unwrap();
    let a = writes.await.unwrap();
    assert_eq!(sweep::shared(&*meta, &*blobs, "me", now).await.unwrap(), 1);
    assert_eq!(blobs.get(&left_over).await.unwrap(), None);
    for id in ["kept", "another"] {
        a.start_replay(&format!("{PROJECT}/replays/{id}")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_names_what_a_removal_took() {
    let Some(shared) = Shared::start() else { return };
    let a = shared.replica().await;
    let (meta, blobs) = shared.places().open().await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    // Whatever is unnamed for a moment goes, as if it were a day old.
    let removals = tokio::spawn({
        let (meta, blobs, ended) = (Arc::clone(&meta), Arc::clone(&blobs), Arc::clone(&ended));
        async move {
            let mut removed = 0;
            // Commits need a gap between two removals.
            let mut pause = tokio::time::interval(Duration::from_millis(400));
            while !ended.load(Ordering::Relaxed) {
                pause.reset();
                pause.tick().await;
                removed += sweep::shared(&*meta, &*blobs, "me", Duration::ZERO).await.unwrap();
            }
            removed
        }
    });
    // The same content again and again: it is there, nothing names it, and it is taken for granted.
    let files = [("a.jsonl", pair("OUT", "/a")), ("b.jsonl", pair("OUT", "/b"))];
    let (mut again, mut done) = (0, 0);
    while done < 8 {
        let name = a.create_snapshot(&format!("s{done}")).await.name;
        a.upload(&name, "u", pieces(&files)).await.unwrap();
        let snapshot = loop {
            match a.commit(&name, "u", false).await {
                Ok(snapshot) => break snapshot,
                Err(status) => {
                    let reason = status.get_error_details().error_info().map(|i| i.reason.clone());
                    assert_eq!(reason.as_deref(), Some("BLOBS_REMOVED"), "{status:?}");
                }
            }
            again += 1;
            assert!(again < 1000, "commits get through");
        };
        let manifest = decode_digest(&snapshot.manifest.unwrap()).unwrap();
        let named = content::named(&*blobs, content::Root::Manifest(manifest)).await.unwrap();
        let named: Vec<_> = named.into_iter().collect();
        assert_eq!(blobs.missing(&named).await.unwrap(), []);
        let request = DeleteSnapshotRequest { name, ..Default::default() };
        a.snapshots().delete_snapshot(request).await.unwrap();
        done += 1;
    }
    ended.store(true, Ordering::Relaxed);
    assert!(removals.await.unwrap() > 0, "the test removes something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_at_another_replica_while_blobs_are_removed() {
    let Some(shared) = Shared::start() else { return };
    let (a, b, source) = (shared.replica().await, shared.replica().await, server().await);
    let (meta, blobs) = shared.places().open().await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let removals = tokio::spawn({
        let ended = Arc::clone(&ended);
        async move {
            // Commits need a gap between two removals.
            let mut pause = tokio::time::interval(Duration::from_millis(400));
            while !ended.load(Ordering::Relaxed) {
                pause.reset();
                pause.tick().await;
                sweep::shared(&*meta, &*blobs, "me", Duration::ZERO).await.unwrap();
            }
        }
    });
    let snapshot = pushed::import(&source, "s").await;
    let content = pushed::blobs_of(&source, &snapshot).await;
    let all = pushed::digests(&content);
    let name = a.create_snapshot("copy").await.name;
    let mut written = HashSet::new();
    for round in 0.. {
        assert!(round < 1000, "pushes get through");
        let server = if round % 2 == 0 { &a } else { &b };
        let asked = pushed::missing(server, &name, &all).await.unwrap();
        assert!(
            asked.iter().all(|digest| !written.contains(digest)),
            "what was acknowledged stays"
        );
        if asked.is_empty() {
            break;
        }
        let some = content.iter().filter(|(digest, _)| asked.contains(digest)).take(8).cloned();
        let some: Vec<pushed::Blob> = some.collect();
        let (acknowledged, ended) =
            pushed::write(server, pushed::messages(&name, &some, 700)).await;
        written.extend(acknowledged);
        if let Err(status) = ended {
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            assert_eq!(reason.as_deref(), Some("BLOBS_REMOVED"), "{status:?}");
        }
    }
    assert_eq!(pushed::commit(&b, &name, all[0]).await.unwrap().pair_count, 40);
    ended.store(true, Ordering::Relaxed);
    removals.await.unwrap();
    let (_, blobs) = shared.places().open().await.unwrap();
    assert_eq!(blobs.missing(&all).await.unwrap(), []);
}

#[tokio::test]
async fn a_control_plane_whose_store_was_replaced_ends() {
    let Some(shared) = Shared::start() else { return };
    let mut a = shared.replica().await;
    // A standby that lacks the last commit has taken over.
    a.create_snapshot("s").await;
    shared.cluster.sql("UPDATE meta SET rev = rev - 1");
    assert!(matches!(a.running.ended().await, Err(StartError::Replaced)));
    shared.replica().await;
}
