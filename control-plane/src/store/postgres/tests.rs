//! PostgreSQL as it is and as it fails: conformance, several control planes, crashes, cut connections.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::PgMeta;
use crate::store::{
    CommitError, Entry, Expect, Kind, MetaStore as _, Roster as _, StoreError, Txn, conformance,
    servers::{PASSWORD, Postgres},
    sqlite::SqliteMeta,
};

#[tokio::test]
async fn conforms() {
    let Some(cluster) = Postgres::start() else { return };
    let postgres = PgMeta::open(&cluster.url()).await.unwrap();
    conformance::meta(&postgres).await;
    // From servers to a file, and back to a database of its own.
    let dir = tempfile::tempdir().unwrap();
    let file = SqliteMeta::open(&dir.path().join("meta.db")).unwrap();
    conformance::copies(&postgres, &file).await;
    cluster.sql("CREATE DATABASE another");
    let another = PgMeta::open(&cluster.url().replace("/postgres", "/another")).await.unwrap();
    conformance::copies(&file, &another).await;
}

#[tokio::test]
async fn tls_is_used_and_verified_when_it_is_asked_for() {
    let Some(mut cluster) = Postgres::start() else { return };
    let Some(root) = cluster.speak_tls() else { return };
    let ask = |host: &str, more: &str| {
        let url = cluster.url().replace("127.0.0.1", host);
        format!("{url}?sslmode=require{more}")
    };
    let trusted = format!("&sslrootcert={}", root.display());
    let store = PgMeta::open(&ask("localhost", &trusted)).await.unwrap();
    store.commit(put("r")).await.unwrap();
    let connections = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'countersign-control-plane' AND NOT ssl";
    assert_eq!(cluster.sql(connections), "0", "none is in the clear");
    for (host, more) in [("localhost", ""), ("127.0.0.1", &*trusted)] {
        let error = PgMeta::open(&ask(host, more)).await.unwrap_err();
        let text = crate::service::chain(&error);
        assert!(text.contains("certificate"), "{host} {more}: {text}");
    }
}

fn put(name: &str) -> Txn {
    Txn::put(Kind::Replay, name, Expect::Any, "x")
}

/// Until another store knows of a revision, and how long that took.
async fn heard(store: &PgMeta, revision: u64) -> Duration {
    let begin = Instant::now();
    store.revision().wait_for(|known| *known >= revision).await.unwrap();
    begin.elapsed()
}

#[tokio::test]
async fn several_start_at_a_time_and_hear_of_each_others_commits() {
    let Some(cluster) = Postgres::start() else { return };
    let url = cluster.url();
    let (one, two, three) =
        tokio::try_join!(PgMeta::open(&url), PgMeta::open(&url), PgMeta::open(&url)).unwrap();
    assert_eq!((one.identity(), two.identity()), (two.identity(), three.identity()));
    for n in 0..5 {
        let committed = one.commit(put(&format!("r{n}"))).await.unwrap();
        assert_eq!(two.refresh().await.unwrap(), committed.revision);
        heard(&two, committed.revision).await;
        heard(&three, committed.revision).await;
        assert_eq!(
            two.get(Kind::Replay, &format!("r{n}")).await.unwrap().as_ref(),
            committed.records.first()
        );
    }
    // Notifications go with the connections; the next question comes a second later.
    cluster.cut_connections();
    let committed = loop {
        match one.commit(put("cut")).await {
            Ok(committed) => break committed,
            Err(CommitError::Store(error)) => assert!(error.is_unavailable(), "{error:?}"),
            Err(error) => panic!("{error:?}"),
        }
    };
    let took = heard(&two, committed.revision).await;
    assert!(took < Duration::from_secs(5), "{took:?}");

    // A standby that has not got the last commits takes over, or somebody puts another store there.
    for replaced in ["rev = 2", "rev = 1000, store_uid = 'another'"] {
        cluster.sql(&format!("UPDATE meta SET {replaced}"));
        assert!(matches!(
            one.commit(put("x")).await,
            Err(CommitError::Store(StoreError::Replaced { .. }))
        ));
        assert!(matches!(two.refresh().await, Err(StoreError::Replaced { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_nothing_that_was_acknowledged_and_needs_no_restart_of_ours() {
    let Some(mut cluster) = Postgres::start() else { return };
    let store = std::sync::Arc::new(PgMeta::open(&cluster.url()).await.unwrap());
    let ended = std::sync::Arc::new(AtomicBool::new(false));
    let writers = tokio::spawn({
        let (store, ended) = (store.clone(), ended.clone());
        async move { conformance::write_until(&*store, &ended).await }
    });
    let mut crashes = 0;
    while crashes < 3 {
        // Each crash comes while commits are under way.
        let next = *store.revision().borrow() + 40;
        heard(&store, next).await;
        cluster = tokio::task::spawn_blocking(move || {
            cluster.crash();
            cluster.resume();
            cluster
        })
        .await
        .unwrap();
        crashes += 1;
    }
    let next = *store.revision().borrow() + 40;
    heard(&store, next).await;
    ended.store(true, Ordering::Relaxed);
    let acknowledged = writers.await.unwrap();
    assert!(acknowledged.len() > 100);
    for record in &acknowledged {
        let found = store.get(Kind::Replay, &record.name).await.unwrap();
        assert_eq!(found.as_ref(), Some(record), "acknowledged and lost");
    }
    let mut revisions: Vec<u64> = acknowledged.iter().map(|record| record.revision).collect();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "a revision was given twice");
}

#[tokio::test]
async fn what_is_in_the_way_at_the_start_is_named_without_the_password() {
    let Some(mut cluster) = Postgres::start() else { return };
    drop(PgMeta::open(&cluster.url()).await.unwrap());
    let named = async |url: String, part: &str| {
        let error = PgMeta::open(&url).await.unwrap_err();
        let text = format!("{} {error:?}", crate::service::chain(&error));
        assert!(text.contains(part) && !text.contains(PASSWORD), "{text}");
    };
    named(cluster.url().replace(PASSWORD, "wrong"), "password authentication failed").await;
    named(cluster.url() + "x", "database \"postgresx\" does not exist").await;
    named(cluster.url() + "?sslmode=require", "TLS").await;
    cluster.sql("INSERT INTO countersign_layout VALUES (99)");
    named(cluster.url(), "layout 99").await;
    cluster.sql(
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    named(cluster.url().replace("/postgres", "/latin"), "UTF8").await;
    cluster.crash();
    named(cluster.url(), "does not connect now").await;
}

#[tokio::test]
async fn replicas_hear_of_each_others_responders() {
    let Some(cluster) = Postgres::start() else { return };
    let url = cluster.url();
    let (one, two) = tokio::try_join!(PgMeta::open(&url), PgMeta::open(&url)).unwrap();
    let entry = |name: &str, body: &'static str| Entry {
        project: "projects/p".into(),
        name: name.into(),
        body: body.into(),
    };
    one.report("one", vec![entry("a", "1"), entry("b", "1")]).await.unwrap();
    // It may not hear yet; but once it does, it hears of each report.
    let mut hints = two.hints();
    let mut reports = tokio::time::interval(Duration::from_millis(100));
    while !hints.has_changed().unwrap() {
        reports.tick().await;
        one.report("one", vec![entry("a", "1")]).await.unwrap();
    }
    hints.mark_unchanged();
    two.report("two", Vec::new()).await.unwrap();
    let known = BTreeMap::new();
    assert_eq!(one.others("one", &known).await.unwrap()[0].changed, []);
    let heard = two.others("two", &known).await.unwrap().remove(0);
    assert_eq!((&*heard.replica, heard.alive, heard.changed.len()), ("one", true, 2));

    let known = BTreeMap::from([("one".to_owned(), heard.reports)]);
    one.report("one", Vec::new()).await.unwrap();
    assert_eq!(two.others("two", &known).await.unwrap()[0].changed, []);
    one.report("one", vec![entry("b", "2")]).await.unwrap();
    assert_eq!(two.others("two", &known).await.unwrap()[0].changed, [entry("b", "2")]);

    cluster.sql("UPDATE replicas SET seen = seen - interval '1 minute' WHERE replica = 'one'");
    assert!(!two.others("two", &known).await.unwrap()[0].alive);
    one.report("one", Vec::new()).await.unwrap();
    assert!(two.others("two", &known).await.unwrap()[0].alive);
    one.leave("one").await.unwrap();
    assert!(two.others("two", &known).await.unwrap().is_empty());
    assert_eq!(*one.revision().borrow(), 1, "none of it is a revision");
}
