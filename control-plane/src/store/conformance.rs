//! What every store must do, whatever it is built on.

use bytes::Bytes;

use super::{BlobStore, CommitError, Expect, Kind, ListQuery, MetaStore, Txn};
use countersign_engine::snapshot::digest::Digest;

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
    assert_eq!(store.retain([digest, Digest::of(b"")].into()).await.unwrap(), 30);
    assert_eq!(store.retain([digest].into()).await.unwrap(), 1);
    assert_eq!(store.get(&Digest::of(b"")).await.unwrap(), None);
    assert_eq!(store.get(&digest).await.unwrap(), Some("bytes".into()));
}

/// Checks a metadata store, which must be empty.
pub(crate) async fn meta(store: &dyn MetaStore) {
    preconditions(store).await;
    transactions(store).await;
    pages(store).await;
    concurrent_commits(store).await;
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
