//! A subscription to a control plane that tests make up.

use countersign_engine::snapshot::wire;
use countersign_proto::{
    control::v1::ResponderPhase,
    discovery::v1::{GoAway, subscribe_response::Message as Say},
    snapshot::v1 as proto,
};
use prost::Message as _;

use super::{
    KEY, RESIGN, body, config, exchange,
    fake::{ControlPlane, name, only},
    get, in_time, json, login, pair, serving, status, until,
};
use crate::{app, config::Config};

#[tokio::test(flavor = "multi_thread")]
async fn says_hello_serves_what_is_assigned_and_acknowledges_it() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("demo")).unwrap();
    std::fs::write(secrets.path().join("demo/key"), KEY).unwrap();
    let mut plane = ControlPlane::start().await;
    let wanted = Config { replays: vec!["a".into()], ..config(secrets.path(), Some(&plane)) };
    let running = app::start(wanted).await.unwrap();
    let mut stream = plane.accept().await;
    assert_eq!(
        (stream.hello.responder.as_str(), stream.hello.project.as_str()),
        ("r1", "projects/default")
    );
    assert_eq!(stream.hello.selectors, [name("a")]);
    assert_eq!(stream.hello.data_address, running.data_addr().to_string());
    assert!(stream.hello.held.is_empty() && stream.hello.store_uid.is_empty());

    stream.welcome("store", 7).await;
    let bundle = plane.put(vec![login()], Some(RESIGN));
    stream.delta(5, 7, &[("a", bundle, 3)], &[], true).await;
    let ack = stream.ack().await;
    assert_eq!(ack.nonce, 5);
    let (phase, told) = only(&ack.outcomes);
    assert_eq!(
        (phase, told.generation, told.responder.as_str()),
        (ResponderPhase::Active, 3, "r1")
    );
    assert_eq!(told.active_bundle, Some(wire::encode_digest(&bundle)));
    assert_eq!(told.secrets.len(), 1);
    assert!(told.secrets[0].resolved, "{:?}", told.secrets);
    assert_eq!((told.secrets[0].kind.as_str(), told.secrets[0].thumbprint.as_str()), ("HMAC", ""));

    in_time(running.ready()).await;
    let fresh = json(&get(running.data_addr(), "/login").await);
    assert!(fresh["access_token"].is_string() && fresh["access_token"] != super::RECORDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_signs_and_is_reported() {
    let secrets = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start().await;
    let running = app::start(config(secrets.path(), Some(&plane))).await.unwrap();
    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    let bundle = plane.put(vec![login()], Some(RESIGN));
    stream.delta(1, 1, &[("a", bundle, 1)], &[], true).await;
    let ack = stream.ack().await;
    let (phase, told) = only(&ack.outcomes);
    assert_eq!(phase, ResponderPhase::Active, "a missing key is no reason not to serve");
    assert!(
        !told.secrets[0].resolved && told.secrets[0].error.contains("secret_missing"),
        "{:?}",
        told.secrets
    );
    assert!(get(running.data_addr(), "/login").await.contains(super::RECORDED));

    std::fs::create_dir(secrets.path().join("demo")).unwrap();
    std::fs::write(secrets.path().join("demo/key"), KEY).unwrap();
    let report = stream.report().await;
    assert!(only(&report.outcomes).1.secrets[0].resolved);
    assert!(!get(running.data_addr(), "/login").await.contains(super::RECORDED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_bundle_leaves_the_last_good_one() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let broken = plane.put(vec![pair("GET", "/a", "two")], Some("{ no template"));
    stream.delta(2, 2, &[("r", broken, 2)], &[], false).await;
    let ack = stream.ack().await;
    let (phase, told) = only(&ack.outcomes);
    assert_eq!(phase, ResponderPhase::Rejected);
    assert!(!told.diagnostics.is_empty() && told.active_bundle.is_some());
    assert_eq!(ack.outcomes[0].bundle, Some(wire::encode_digest(&broken)));
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
    in_time(running.ready()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_match_their_digest_are_refused() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let bundle = plane.put(vec![pair("GET", "/a", "two")], None);
    plane.damage(b"two");
    stream.delta(2, 2, &[("r", bundle, 2), ("other", bundle, 1)], &[], false).await;
    let ack = stream.ack().await;
    for outcome in &ack.outcomes {
        let told = outcome.status.as_ref().unwrap();
        assert_eq!(told.phase(), ResponderPhase::Rejected);
        assert_eq!(told.diagnostics[0].code, "blob_corrupt");
    }
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_is_fetched() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    assert_eq!(plane.asked().len(), 5, "bundle, manifest, its page, ordinals, chunk");
    let bundle = plane.put(vec![pair("GET", "/a", "one")], Some(RESIGN));
    stream.delta(2, 2, &[("r", bundle, 2)], &[], false).await;
    assert_eq!(only(&stream.ack().await.outcomes).0, ResponderPhase::Active);
    assert_eq!(plane.asked().len(), 2, "bundle, transform");
    stream.delta(3, 3, &[("r", bundle, 2)], &[], false).await;
    assert_eq!(only(&stream.ack().await.outcomes).0, ResponderPhase::Active);
    assert_eq!(plane.asked(), [], "announced again");
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_hold_less_than_the_manifest_says_are_refused() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let manifest = proto::Manifest { pairs: 1, chunks: Vec::new(), ..proto::Manifest::default() };
    let manifest = plane.blob(manifest.encode_to_vec());
    let bundle = proto::Bundle {
        snapshot_manifest: Some(wire::encode_digest(&manifest)),
        schema: 1,
        ..proto::Bundle::default()
    };
    let bundle = plane.blob(bundle.encode_to_vec());
    stream.delta(2, 2, &[("r", bundle, 2)], &[], false).await;
    let ack = stream.ack().await;
    let (phase, told) = only(&ack.outcomes);
    assert_eq!(phase, ResponderPhase::Rejected);
    assert_eq!(told.diagnostics[0].code, "bundle_malformed");
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_replay_that_is_refused_does_not_take_the_readiness() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let broken = plane.put(vec![pair("GET", "/b", "two")], Some("{"));
    stream.delta(2, 2, &[("later", broken, 1)], &[], false).await;
    assert_eq!(only(&stream.ack().await.outcomes).0, ResponderPhase::Rejected);
    assert_eq!(status(&super::get_admin(running.admin_addr(), "/readyz").await), "200");
    let told = json(&super::get_admin(running.admin_addr(), "/status").await);
    assert_eq!(told["rejected"][0]["name"], name("later"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_replay_that_is_refused_keeps_it_from_being_ready() {
    let secrets = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start().await;
    let running = app::start(config(secrets.path(), Some(&plane))).await.unwrap();
    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    let broken = plane.put(vec![pair("GET", "/a", "one")], Some("{"));
    stream.delta(1, 1, &[("r", broken, 1)], &[], true).await;
    stream.ack().await;
    let told = until(
        || super::get_admin(running.admin_addr(), "/readyz"),
        |told| !told.contains("nothing is known yet"),
    )
    .await;
    assert_eq!(status(&told), "503");
    assert!(told.contains("was refused"), "{told}");
    let mended = plane.put(vec![pair("GET", "/a", "one")], None);
    stream.delta(2, 2, &[("r", mended, 2)], &[], false).await;
    stream.ack().await;
    in_time(running.ready()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_replay_is_sure_to_come_nothing_is_ready_before_it() {
    let secrets = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start().await;
    let settings = Config { expects_replay: true, ..config(secrets.path(), Some(&plane)) };
    let running = app::start(settings).await.unwrap();
    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    stream.delta(1, 1, &[], &[], true).await;
    let told = until(
        || super::get_admin(running.admin_addr(), "/readyz"),
        |told| !told.contains("nothing is known yet"),
    )
    .await;
    assert_eq!(status(&told), "503");
    assert!(told.contains("no replay was started yet"), "{told}");
    let bundle = plane.put(vec![pair("GET", "/a", "one")], None);
    stream.delta(2, 2, &[("r", bundle, 2)], &[], false).await;
    let ack = stream.ack().await;
    stream.alone(&ack).await;
    in_time(running.ready()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_younger_tombstone_withdraws() {
    let (running, _plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    stream.delta(2, 1, &[], &[("r", 1), ("unknown", 9)], false).await;
    stream.ack().await;
    assert_eq!(status(&get(running.data_addr(), "/a").await), "200");
    stream.delta(3, 2, &[], &[("r", 2)], false).await;
    stream.ack().await;
    assert_eq!(status(&get(running.data_addr(), "/a").await), "503");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_broken_stream_it_comes_back_and_keeps_what_it_has() {
    let (running, mut plane, stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    drop(stream);
    let mut again = plane.accept().await;
    assert_eq!((again.hello.store_uid.as_str(), again.hello.last_revision), ("store", 1));
    assert_eq!(again.hello.held.len(), 1);
    assert_eq!(again.hello.held[0].name, name("r"));
    // The new store counts anew and says nothing of what is held: absence is no withdrawal.
    again.welcome("restored", 1).await;
    again.delta(1, 1, &[], &[], true).await;
    again.ack().await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
    again.delta(2, 1, &[], &[("r", 1)], false).await;
    again.ack().await;
    assert_eq!(
        status(&get(running.data_addr(), "/a").await),
        "503",
        "a tombstone of the new store counts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_away_when_asked_to() {
    let (_running, mut plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    stream
        .say(Say::GoAway(GoAway {
            retry_after: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
        }))
        .await;
    assert_eq!(plane.accept().await.hello.held.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_dead() {
    let secrets = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start().await;
    let _running = app::start(config(secrets.path(), Some(&plane))).await.unwrap();
    let mut silent = plane.accept().await;
    let heartbeat_interval = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    silent
        .say(Say::Welcome(countersign_proto::discovery::v1::Welcome {
            heartbeat_interval,
            ..Default::default()
        }))
        .await;
    plane.accept().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_from_the_disk_cache_alone() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("cache");
    let (running, plane, mut stream) =
        serving(vec![pair("GET", "/a", "one")], |config| config.cache_dir = Some(dir.clone()))
            .await;
    // The second acknowledgement comes after the first delta has been settled.
    stream.delta(2, 2, &[], &[], false).await;
    stream.ack().await;
    until(
        || async { std::fs::read_to_string(dir.join("current.json")).unwrap_or_default() },
        |current| current.contains("\"revision\": 2"),
    )
    .await;
    running.shutdown().await;
    drop((plane, stream));

    let secrets = tempfile::tempdir().unwrap();
    let offline = Config { cache_dir: Some(dir.clone()), ..config(secrets.path(), None) };
    let running = app::start(offline.clone()).await.unwrap();
    in_time(running.ready()).await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
    running.shutdown().await;

    for blob in std::fs::read_dir(dir.join("blobs")).unwrap() {
        std::fs::write(blob.unwrap().path(), "damaged").unwrap();
    }
    let running = app::start(offline).await.unwrap();
    let ready = until(
        || super::get_admin(running.admin_addr(), "/readyz"),
        |ready| ready.contains("was refused"),
    )
    .await;
    assert_eq!(status(&ready), "503");
    assert_eq!(
        status(&get(running.data_addr(), "/a").await),
        "503",
        "damaged blobs are not served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_cache_has_is_not_fetched_again_unless_it_is_damaged() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("cache");
    // Room for nothing but what is needed: that, and what was before it.
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |config| {
        (config.cache_dir, config.cache_size) = (Some(dir.clone()), 0);
        config.keep_previous = false;
    })
    .await;
    let first = plane.asked();
    let bundles = ["two", "three"].map(|body| plane.put(vec![pair("GET", "/a", body)], None));
    // The last acknowledgement comes after the delta before it has been settled.
    for (nonce, bundle) in [(2, bundles[0]), (3, bundles[1])] {
        stream.delta(nonce, nonce, &[("r", bundle, nonce)], &[], false).await;
        stream.ack().await;
    }
    stream.delta(4, 4, &[], &[], false).await;
    stream.ack().await;
    let file = |digest: &countersign_engine::snapshot::digest::Digest| {
        dir.join("blobs").join(digest.file_name())
    };
    let before = || async { file(&first[0]).exists().to_string() };
    until(before, |there| there == "false").await;
    plane.asked();
    stream.delta(5, 5, &[("r", bundles[0], 5)], &[], false).await;
    stream.ack().await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "two");
    assert_eq!(plane.asked(), [], "the version before was kept");

    // Of the one that was served before this one every blob is damaged in its own way.
    stream.delta(6, 6, &[], &[], false).await;
    stream.ack().await;
    for (n, blob) in std::fs::read_dir(dir.join("blobs")).unwrap().enumerate() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if n % 2 == 0 {
            bytes[0] ^= 1;
        } else {
            bytes.truncate(1);
        }
        std::fs::write(path, bytes).unwrap();
    }
    stream.delta(7, 7, &[("r", bundles[1], 7)], &[], false).await;
    stream.ack().await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "three");
    let asked = plane.asked();
    assert!(asked.contains(&bundles[1]) && asked.len() >= 5, "{asked:?}");
    for digest in asked {
        assert!(digest.matches(&std::fs::read(file(&digest)).unwrap()), "{digest} is whole again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replay_that_was_started_last_answers_first_unless_one_is_selected() {
    let (running, plane, mut stream) =
        serving(vec![pair("GET", "/a", "old"), pair("GET", "/b", "only")], |_| {}).await;
    let bundle = plane.put(vec![pair("GET", "/a", "new")], None);
    stream.delta(2, 2, &[("newer", bundle, 2)], &[], false).await;
    stream.ack().await;
    let addr = running.data_addr();
    assert_eq!(body(&get(addr, "/a").await), "new");
    assert_eq!(
        body(&get(addr, "/b").await),
        "only",
        "an older replay answers what the newer one has not recorded"
    );
    assert_eq!(json(&get(addr, "/nothing").await)["replay"], name("newer"));
    let select = |replay: &str| {
        let request = format!(
            "GET /a HTTP/1.1\r\nhost: api.example\r\nx-countersign-replay: {replay}\r\nconnection: close\r\n\r\n"
        );
        async move { exchange(addr, &request).await }
    };
    assert_eq!(body(&select("r").await), "old");
    assert_eq!(body(&select(&name("r")).await), "old");
    let unknown = select("gone").await;
    assert_eq!(
        (status(&unknown), json(&unknown)["error"].as_str()),
        ("404", Some("unknown_replay"))
    );
}
