//! What every store must do, whatever it is built on.

use std::time::Duration;

use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use tokio_util::sync::CancellationToken;

use super::{
    BlobStore, CommitError, Expect, Guard, Kind, Lease, ListQuery, MetaStore, Record, Scrubbed,
    StoreError, Txn, Weight,
};

/// Checks a blob store, which must be empty.
pub(crate) async fn blobs(store: &dyn BlobStore) {
    let digest = Digest::of(b"bytes");
    assert_eq!(store.get(&digest).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(store.put("bytes".into()).await.unwrap(), digest);
    }
    assert_eq!(store.get(&digest).await.unwrap(), Some("bytes".into()));
    assert_eq!(store.put("".into()).await.unwrap(), Digest::of(b""));
    assert_eq!(store.get(&Digest::of(b"")).await.unwrap(), Some("".into()));
    let several: Vec<Bytes> = (0_u8..40).map(|n| Bytes::from(vec![n % 30; 3])).collect();
    let digests = store.put_all(several.clone()).await.unwrap();
    assert_eq!(store.put_all(Vec::new()).await.unwrap(), []);
    for (digest, bytes) in digests.iter().zip(several) {
        assert_eq!(*digest, Digest::of(&bytes));
        assert_eq!(store.get(digest).await.unwrap(), Some(bytes));
    }
    let asked = [Digest::of(b"absent"), digest, digests[0], Digest::of(b"absent too")];
    assert_eq!(store.missing(&asked).await.unwrap(), [asked[0], asked[3]]);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(store.retain([digest].into(), day).await.unwrap(), 0, "the young are spared");
    let now = Duration::ZERO;
    assert_eq!(store.retain([digest, Digest::of(b"")].into(), now).await.unwrap(), 30);
    assert_eq!(store.retain([digest].into(), now).await.unwrap(), 1);
    assert_eq!(store.missing(&digests).await.unwrap().len(), digests.len());
    assert_eq!(store.get(&Digest::of(b"")).await.unwrap(), None);
    assert_eq!(store.get(&digest).await.unwrap(), Some("bytes".into()));
    assert_eq!(store.get(&digest).await.unwrap(), Some("bytes".into()));
    let named =
        |bytes: &'static str| (Digest::by(Function::Sha256, bytes.as_bytes()), bytes.into());
    let other = [named("bytes"), named("more")];
    store.put_named(vec![other[0].clone(), other[1].clone(), other[0].clone()]).await.unwrap();
    for (digest, bytes) in other {
        assert_eq!(store.get(&digest).await.unwrap(), Some(bytes));
    }
    assert_eq!(store.retain([digest].into(), now).await.unwrap(), 2);
    let sound = Scrubbed { blobs: 1, bytes: 5, ..Scrubbed::default() };
    assert_eq!(store.scrub(true, &CancellationToken::new()).await.unwrap(), sound);
}

/// Checks that what one store dumps another one, which must be empty, takes in once.
pub(crate) async fn copies(from: &dyn MetaStore, into: &dyn MetaStore) {
    let own = into.identity().to_owned();
    let dump = from.dump().await.unwrap();
    assert!(dump.records.len() > 20 && dump.revision == *from.revision().borrow());
    into.load(dump.clone()).await.unwrap();
    let loaded = into.dump().await.unwrap();
    assert_eq!(loaded.records, dump.records, "etags and times too");
    assert!(loaded.revision > dump.revision && loaded.revision == *into.revision().borrow());
    assert_eq!((into.identity(), own != from.identity()), (&*own, true));
    assert!(matches!(into.load(dump).await, Err(StoreError::NotEmpty(_))));
    let next = into.commit(Txn::put(Kind::Replay, "next", Expect::Any, "x")).await.unwrap();
    assert!(next.revision > loaded.revision);
}

/// Checks a metadata store, which must be empty.
pub(crate) async fn meta(store: &dyn MetaStore) {
    preconditions(store).await;
    transactions(store).await;
    pages(store).await;
    concurrent_commits(store).await;
    leases(store).await;
    leases_that_run_out(store).await;
}

async fn preconditions(store: &dyn MetaStore) {
    let put = |expect, body: &'static str| Txn::put(Kind::Transform, "p/a", expect, body);
    assert!(matches!(
        store.commit(put(Expect::Present, "0")).await,
        Err(CommitError::Missing { .. })
    ));
    assert!(matches!(
        store.commit(put(Expect::Etag("x".into()), "0")).await,
        Err(CommitError::Missing { .. })
    ));
    let first = store.commit(put(Expect::Absent, "1")).await.unwrap();
    assert!(matches!(
        store.commit(put(Expect::Absent, "2")).await,
        Err(CommitError::Exists { .. })
    ));
    let etag = first.records[0].etag.clone();
    let second = store.commit(put(Expect::Etag(etag.clone()), "2")).await.unwrap();
    assert!(matches!(
        store.commit(put(Expect::Etag(etag), "3")).await,
        Err(CommitError::Changed { .. })
    ));
    let read = store.get(Kind::Transform, "p/a").await.unwrap().unwrap();
    assert_eq!(read, second.records[0]);
    assert_eq!((&read.body[..], read.created), (&b"2"[..], first.records[0].created));
    assert!(second.revision > first.revision && read.updated >= read.created);
    assert_eq!(
        *store.revision().borrow(),
        second.revision,
        "refused commits leave the revision alone"
    );
    assert_eq!(store.get(Kind::TestConfig, "p/a").await.unwrap(), None, "kinds are apart");
    store
        .commit(Txn::delete(Kind::Transform, "p/a", Expect::Etag(read.etag.clone())))
        .await
        .unwrap();
    assert!(matches!(
        store.commit(Txn::delete(Kind::Transform, "p/a", Expect::Present)).await,
        Err(CommitError::Missing { .. })
    ));
    let again = store.commit(put(Expect::Absent, "2")).await.unwrap();
    assert_ne!(again.records[0].etag, read.etag, "a new life has a new etag");
    store.commit(Txn::delete(Kind::Transform, "p/a", Expect::Any)).await.unwrap();
}

async fn transactions(store: &dyn MetaStore) {
    let before = *store.revision().borrow();
    let half = Txn::put(Kind::Replay, "p/r", Expect::Absent, "r").and_put(
        Kind::Assignment,
        "p/r",
        Expect::Present,
        "a",
    );
    assert!(store.commit(half).await.is_err());
    assert_eq!(store.get(Kind::Replay, "p/r").await.unwrap(), None, "all or nothing");
    assert_eq!(*store.revision().borrow(), before);
}

async fn pages(store: &dyn MetaStore) {
    for name in ["p/s/b", "p/s/a", "p/s/c", "p/s0", "q/s/a", "p/s/"] {
        store.commit(Txn::put(Kind::Snapshot, name, Expect::Absent, "x")).await.unwrap();
    }
    let query = |after: &str| ListQuery {
        kind: Kind::Snapshot,
        prefix: "p/s/".into(),
        after: after.into(),
        limit: 2,
    };
    let first = store.list(query("")).await.unwrap();
    assert_eq!(
        first.records.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["p/s/", "p/s/a"]
    );
    assert!(first.more);
    let second = store.list(query("p/s/a")).await.unwrap();
    assert_eq!(
        second.records.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["p/s/b", "p/s/c"]
    );
    assert!(!second.more);
    assert_eq!(second.revision, *store.revision().borrow());
    let weight = |prefix: &'static str| store.weigh(Kind::Snapshot, prefix);
    assert_eq!(weight("p/s/").await.unwrap(), Weight { records: 4, bytes: 4 });
    assert_eq!(weight("r/").await.unwrap(), Weight::default());
    assert_eq!(store.weigh(Kind::Transform, "p/s/").await.unwrap(), Weight::default());
}

async fn concurrent_commits(store: &dyn MetaStore) {
    let commits = (0..20)
        .map(|n| store.commit(Txn::put(Kind::Replay, format!("c/{n}"), Expect::Absent, "x")));
    let mut revisions: Vec<u64> = futures_util::future::join_all(commits)
        .await
        .into_iter()
        .map(|c| c.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
    assert_eq!(revisions.last().copied(), Some(*store.revision().borrow()));
}

async fn leases(store: &dyn MetaStore) {
    let minute = Duration::from_secs(60);
    assert_eq!(store.leased("l").await.unwrap(), Lease { epoch: 0, held: false });
    for _ in 0..2 {
        assert_eq!(store.lease("l", "a", minute).await.unwrap(), Some(1));
    }
    assert_eq!(store.lease("l", "b", minute).await.unwrap(), None);
    assert_eq!(store.lease("other", "b", minute).await.unwrap(), Some(1));
    assert_eq!(store.leased("l").await.unwrap(), Lease { epoch: 1, held: true });

    let guarded = async |epoch, held| {
        let guard = Guard { lease: "l".into(), epoch, held };
        store.commit(Txn::put(Kind::Replay, "fenced", Expect::Any, "x").guarded(guard)).await
    };
    guarded(1, true).await.unwrap();
    let before = *store.revision().borrow();
    for (epoch, held) in [(2, true), (1, false), (0, false)] {
        assert!(matches!(guarded(epoch, held).await, Err(CommitError::Fenced { .. })));
    }
    assert_eq!(*store.revision().borrow(), before);

    store.release("l", "b").await.unwrap();
    assert!(store.leased("l").await.unwrap().held, "only its holder gives it up");
    store.release("l", "a").await.unwrap();
    guarded(1, false).await.unwrap();
    assert_eq!(store.lease("l", "b", minute).await.unwrap(), Some(2));
    assert!(matches!(guarded(1, true).await, Err(CommitError::Fenced { .. })));
}

async fn leases_that_run_out(store: &dyn MetaStore) {
    let blink = Duration::from_millis(1);
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    for (name, next, epoch) in [("passes", "b", 2), ("lapses", "a", 2)] {
        assert_eq!(store.lease(name, "a", blink).await.unwrap(), Some(1));
        while store.leased(name).await.unwrap().held {
            pause.tick().await;
        }
        let taken = store.lease(name, next, Duration::from_secs(60)).await.unwrap();
        assert_eq!(taken, Some(epoch), "who did not prolong it has lost it");
    }
}

/// Commits from several tasks until they are stopped, each record once, and returns what was acknowledged.
pub(crate) async fn write_until(
    store: &dyn MetaStore,
    ended: &std::sync::atomic::AtomicBool,
) -> Vec<Record> {
    let writer = async |number: usize| {
        let mut acknowledged = Vec::new();
        let mut count = 0;
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            count += 1;
            let txn = Txn::put(Kind::Replay, format!("w{number}/{count}"), Expect::Absent, "x");
            match store.commit(txn).await {
                Ok(committed) => acknowledged.extend(committed.records),
                Err(CommitError::Store(error)) if error.is_unavailable() => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        acknowledged
    };
    let all = futures_util::future::join_all((0..4).map(writer)).await;
    all.into_iter().flatten().collect()
}
