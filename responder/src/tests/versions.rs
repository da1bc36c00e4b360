//! Versions of a replay: prepared, served, the one before; and asking for one of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_engine::snapshot::{
    digest::Digest,
    told::{ACTIVATE, PREPARE, Told, state_digest},
};
use countersign_proto::{
    control::v1::ResponderPhase,
    discovery::v1::{
        AssignmentPhase, Delta, Heartbeat, Tombstone, subscribe_response::Message as Say,
    },
};

use super::{
    body, config, exchange,
    fake::{Stream, name, only},
    get, get_admin, in_time, json, pair, serving, status, until,
};
use crate::{app, config::Config};

/// Asks for a version.
async fn ask(addr: SocketAddr, bundle: &str) -> String {
    let request = format!(
        "GET /a HTTP/1.1\r\nhost: api.example\r\nx-countersign-bundle: {bundle}\r\nconnection: close\r\n\r\n"
    );
    exchange(addr, &request).await
}

fn told(response: &str) -> Option<&str> {
    response.lines().find_map(|line| line.strip_prefix("x-countersign-bundle: "))
}

async fn drop_prepared(stream: &mut Stream, nonce: u64, generation: u64) {
    let tombstone = Tombstone { name: name("r"), revision: nonce, prepared_generation: generation };
    let delta = Delta { nonce, revision: nonce, removed: vec![tombstone], ..Delta::default() };
    stream.say(Say::Delta(delta)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_prepared_waits_for_the_word_and_then_answers_at_once() {
    let (running, mut plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let addr = running.data_addr();
    let two = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.prepare(2, "r", two, 2).await;
    let ack = stream.ack().await;
    let (phase, told) = only(&ack.outcomes);
    assert_eq!((phase, told.generation), (ResponderPhase::Prepared, 2));
    assert_ne!(told.active_bundle, ack.outcomes[0].bundle);
    assert_eq!(body(&get(addr, "/a").await), "one");
    assert!(!plane.asked().is_empty());

    // It is still there after the stream was broken, and is told of.
    drop(stream);
    let mut stream = plane.accept().await;
    let held: Vec<_> = stream.hello.held.iter().map(|h| (h.generation, h.phase())).collect();
    assert_eq!(held, [(1, AssignmentPhase::Activate), (2, AssignmentPhase::Prepare)]);
    stream.welcome("store", 2).await;
    stream.prepare(3, "r", two, 2).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Prepared);
    stream.delta(4, 4, &[("r", two, 2)], &[], true).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Active);
    assert_eq!(body(&get(addr, "/a").await), "two");
    assert_eq!(plane.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_queues_behind_a_download() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let addr = running.data_addr();
    let [two, three] = ["two", "three"].map(|text| plane.put(vec![pair("GET", "/a", text)], None));
    plane.hold(true);
    stream.prepare(2, "r", two, 2).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Fetching);
    // It is overtaken, and the next one is to be served as soon as it is there.
    stream.prepare(3, "r", three, 3).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Fetching);
    stream.delta(4, 4, &[("r", three, 3)], &[], false).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Fetching);
    stream.delta(5, 5, &[], &[("gone", 5)], false).await;
    stream.first_ack().await;
    assert_eq!(body(&get(addr, "/a").await), "one");
    plane.hold(false);
    let report = stream.report().await;
    let (phase, told) = only(&report.outcomes);
    assert_eq!((phase, told.generation), (ResponderPhase::Active, 3));
    assert_eq!(body(&get(addr, "/a").await), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_served_is_worked_on_first() {
    let (_running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let bundles = ["2", "3", "4"].map(|text| plane.put(vec![pair("GET", "/a", text)], None));
    plane.hold(true);
    stream.prepare(2, "r", bundles[0], 2).await;
    stream.first_ack().await;
    stream.prepare(3, "later", bundles[1], 1).await;
    stream.first_ack().await;
    stream.delta(4, 4, &[("now", bundles[2], 1)], &[], false).await;
    stream.first_ack().await;
    plane.hold(false);
    for (id, expected) in [
        ("r", ResponderPhase::Prepared),
        ("now", ResponderPhase::Active),
        ("later", ResponderPhase::Prepared),
    ] {
        let report = stream.report().await;
        assert_eq!((only(&report.outcomes).0, &report.outcomes[0].name), (expected, &name(id)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_in_vain_is_dropped() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let two = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.prepare(2, "r", two, 2).await;
    stream.ack().await;
    let prepared =
        || async { json(&get_admin(running.admin_addr(), "/status").await)["prepared"].clone() };
    assert_eq!(prepared().await[0]["generation"], 2);
    drop_prepared(&mut stream, 3, 1).await;
    stream.ack().await;
    assert_eq!(prepared().await[0]["generation"], 2, "another generation is meant");
    drop_prepared(&mut stream, 4, 2).await;
    stream.ack().await;
    assert_eq!(prepared().await.as_array().map(Vec::len), Some(0));
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_to_prepare_holds_when_it_is_to_be_served() {
    let (running, plane, mut stream) = serving(vec![pair("GET", "/a", "one")], |_| {}).await;
    let bad = plane.put(vec![pair("GET", "/a", "two")], Some("{"));
    stream.prepare(2, "r", bad, 2).await;
    assert_eq!(only(&stream.ack().await.outcomes).0, ResponderPhase::Rejected);
    stream.delta(3, 3, &[("r", bad, 2)], &[], false).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Rejected);
    // Told once more, it tries.
    stream.delta(4, 4, &[("r", bad, 2)], &[], false).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Fetching);
    assert_eq!(only(&stream.report().await.outcomes).0, ResponderPhase::Rejected);
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_takes_no_download_and_begins_anew() {
    let turns = || vec![pair("GET", "/a", "1"), pair("GET", "/a", "2")];
    let (running, plane, mut stream) = serving(turns(), |_| {}).await;
    let (addr, one) = (running.data_addr(), plane.put(turns(), None));
    assert_eq!(body(&get(addr, "/a").await), "1");
    let two = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.delta(2, 2, &[("r", two, 2)], &[], false).await;
    stream.ack().await;
    assert_eq!(body(&get(addr, "/a").await), "two");
    assert_eq!(body(&ask(addr, &one.to_hex()).await), "2", "it goes on with its turns");
    plane.asked();
    stream.prepare(3, "r", one, 3).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Prepared);
    stream.delta(4, 4, &[("r", one, 3)], &[], false).await;
    assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Active);
    assert_eq!(body(&get(addr, "/a").await), "1");
    assert_eq!(body(&ask(addr, &two.to_hex()).await), "two");
    assert_eq!(plane.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_asked_for_by_its_digest() {
    let one = || vec![pair("GET", "/a", "one")];
    let (running, plane, mut stream) = serving(one(), |_| {}).await;
    let (addr, first) = (running.data_addr(), plane.put(one(), None).to_hex());
    let plain = get(addr, "/a").await;
    assert_eq!((body(&plain), told(&plain)), ("one", None), "nobody asked");
    let asked = ask(addr, "?").await;
    assert_eq!((body(&asked), told(&asked)), ("one", Some(first.as_str())));
    let second = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.delta(2, 2, &[("r", second, 2)], &[], false).await;
    stream.ack().await;
    let second = second.to_hex();
    for (wanted, answer, by) in [
        ("?", "two", &second),
        (second.as_str(), "two", &second),
        (&format!("blake3:{second}"), "two", &second),
        (&first, "one", &first),
        (first.get(..12).unwrap(), "one", &first),
    ] {
        let asked = ask(addr, wanted).await;
        assert_eq!((body(&asked), told(&asked)), (answer, Some(by.as_str())), "{wanted}");
    }
    for bad in [first.get(..11).unwrap(), "0123456789ab", "", "not hex, but long enough"] {
        let refused = ask(addr, bad).await;
        assert_eq!((status(&refused), told(&refused)), ("412", None), "{bad}");
        assert!(refused.contains("x-countersign-miss: true"), "{refused}");
        let refused = json(&refused);
        assert_eq!(refused["error"], "bundle_not_served");
        assert_eq!(refused["served"][1]["bundle"], first, "{refused}");
    }
    // A miss tells who was asked, and a second replay does not stand in for the version that was asked for.
    let other = plane.put(vec![pair("GET", "/b", "other")], None);
    stream.delta(3, 3, &[("other", other, 1)], &[], false).await;
    stream.ack().await;
    let missed = exchange(
        addr,
        &format!("GET /b HTTP/1.1\r\nhost: api.example\r\nx-countersign-bundle: {first}\r\nconnection: close\r\n\r\n"),
    )
    .await;
    assert_eq!((status(&missed), told(&missed)), ("404", Some(first.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_of_two_versions_while_they_are_swapped() {
    let texts = ["one", "two"].map(|text| text.repeat(2000));
    let pairs = |at: usize| vec![pair("GET", "/a", &texts[at])];
    let (running, plane, mut stream) = serving(pairs(0), |_| {}).await;
    let bundles = [0, 1].map(|at| plane.put(pairs(at), None));
    let known: Vec<(String, String)> =
        bundles.iter().map(Digest::to_hex).zip(texts.clone()).collect();
    let (addr, ended) = (running.data_addr(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (known, ended) = (known.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut seen = [0, 0];
                while !ended.load(Ordering::Relaxed) || seen[0] == 0 {
                    let answer = ask(addr, "?").await;
                    let by = known.iter().position(|(digest, _)| told(&answer) == Some(digest));
                    let at = by.expect("a version that was told of");
                    assert_eq!(body(&answer), known[at].1, "the answer of that version");
                    seen[at] += 1;
                }
                seen
            })
        })
        .collect();
    for generation in 2..42 {
        let bundle = bundles[usize::try_from(generation % 2).unwrap()];
        stream.prepare(2 * generation, "r", bundle, generation).await;
        stream.ack().await;
        let now = 2 * generation + 1;
        stream.delta(now, now, &[("r", bundle, generation)], &[], false).await;
        assert_eq!(only(&stream.first_ack().await.outcomes).0, ResponderPhase::Active);
    }
    // Whoever has not seen the first one by now sees it at last.
    stream.delta(100, 100, &[("r", bundles[0], 100)], &[], false).await;
    stream.ack().await;
    ended.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(in_time(client).await.unwrap()[0] > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_is_not_kept_where_memory_is_short() {
    let one = || vec![pair("GET", "/a", "one")];
    let (running, plane, mut stream) = serving(one(), |config| config.keep_previous = false).await;
    let second = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.delta(2, 2, &[("r", second, 2)], &[], false).await;
    stream.ack().await;
    let first = plane.put(one(), None);
    assert_eq!(status(&ask(running.data_addr(), &first.to_hex()).await), "412");
    // Its bytes are, so that the way back needs no download.
    plane.asked();
    stream.delta(3, 3, &[("r", first, 3)], &[], false).await;
    stream.ack().await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "one");
    assert_eq!(plane.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_survive_on_disk() {
    let cache = tempfile::tempdir().unwrap();
    let one = || vec![pair("GET", "/a", "one")];
    let (running, plane, mut stream) =
        serving(one(), |config| config.cache_dir = Some(cache.path().to_owned())).await;
    let second = plane.put(vec![pair("GET", "/a", "two")], None);
    stream.delta(2, 2, &[("r", second, 2)], &[], false).await;
    stream.ack().await;
    until(
        || async { std::fs::read_to_string(cache.path().join("current.json")).unwrap_or_default() },
        |current| current.contains("\"generation\": 2") && current.contains("\"generation\": 1"),
    )
    .await;
    running.shutdown().await;
    let secrets = tempfile::tempdir().unwrap();
    let offline =
        Config { cache_dir: Some(cache.path().to_owned()), ..config(secrets.path(), None) };
    let running = app::start(offline).await.unwrap();
    in_time(running.ready()).await;
    assert_eq!(body(&get(running.data_addr(), "/a").await), "two");
    let first = plane.put(one(), None).to_hex();
    let before = until(|| ask(running.data_addr(), &first), |answer| status(answer) == "200").await;
    assert_eq!(body(&before), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_heartbeats_that_expect_another_state_begin_a_new_session() {
    let one = || vec![pair("GET", "/a", "one")];
    let (running, mut plane, mut stream) = serving(one(), |_| {}).await;
    let (first, second) = (plane.put(one(), None), plane.put(vec![pair("GET", "/a", "two")], None));
    stream.prepare(2, "r", second, 2).await;
    stream.ack().await;
    let name = name("r");
    let active = Told { name: &name, phase: ACTIVATE, bundle: first.hash(), generation: 1 };
    let next = Told { phase: PREPARE, bundle: second.hash(), generation: 2, ..active };
    let beat = |digest: Vec<u8>| {
        Say::Heartbeat(Heartbeat { expected_state_digest: digest.into(), ..Heartbeat::default() })
    };
    let right = state_digest(vec![active, next]).to_vec();
    let wrong = state_digest(vec![active]).to_vec();
    for digest in [&right, &wrong, &right, &wrong, &Vec::new(), &right] {
        stream.say(beat(digest.clone())).await;
    }
    stream.delta(3, 3, &[], &[], false).await;
    assert_eq!(stream.ack().await.nonce, 3, "one alone may have crossed a change");
    stream.say(beat(wrong.clone())).await;
    stream.say(beat(wrong)).await;
    assert_eq!(plane.accept().await.hello.held.len(), 2);
    let metrics = get_admin(running.admin_addr(), "/metrics").await;
    assert!(metrics.contains("countersign_resyncs_total 1"), "{metrics}");
}
