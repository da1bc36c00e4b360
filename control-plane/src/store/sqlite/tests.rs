//! The database file: conformance, restarts, damage, layouts.

use std::fs;

use super::*;
use crate::store::{Expect, conformance};

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::meta(&SqliteMeta::open(&dir.path().join("meta.db")).unwrap()).await;
}

#[tokio::test]
async fn identity_revision_and_records_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let first = SqliteMeta::open(&path).unwrap();
    let committed =
        first.commit(Txn::put(Kind::Replay, "r", Expect::Absent, "body")).await.unwrap();
    let uid = first.identity().to_owned();
    drop(first);
    let second = SqliteMeta::open(&path).unwrap();
    assert_eq!(second.identity(), uid);
    assert_eq!(*second.revision().borrow(), committed.revision);
    assert_eq!(second.get(Kind::Replay, "r").await.unwrap().as_ref(), committed.records.first());
}

#[test]
fn damage_and_wrong_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    fs::write(&path, "this is no database, but it is long enough to look at: ".repeat(40)).unwrap();
    let error = SqliteMeta::open(&path).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("meta.db"), "{error:?}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(SqliteMeta::open(&path).unwrap_err().to_string().contains("meta.db"));
}

#[test]
fn a_newer_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    drop(SqliteMeta::open(&path).unwrap());
    connect(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = SqliteMeta::open(&path).unwrap_err();
    assert!(error.to_string().contains("layout 7"), "{error}");
}

#[tokio::test]
async fn d10_the_database_is_copied_before_its_layout_changes_and_the_copy_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let put = |name: &str| Txn::put(Kind::Replay, name, Expect::Absent, "body");
    SqliteMeta::open(&path).unwrap().commit(put("old")).await.unwrap();
    // As the first layout was.
    let connection = connect(&path).unwrap();
    connection.execute_batch("DROP TABLE leases; PRAGMA user_version = 1").unwrap();
    drop(connection);
    let copy = dir.path().join("meta.db.layout-1");
    // An attempt that was cut off.
    fs::write(&copy, "half a copy").unwrap();
    let migrated = SqliteMeta::open(&path).unwrap();
    migrated.commit(put("new")).await.unwrap();
    let layout = |path: &Path| -> i64 {
        connect(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    assert_eq!((layout(&path), layout(&copy)), (2, 1));
    drop(migrated);
    drop(SqliteMeta::open(&path).unwrap());
    assert_eq!(layout(&copy), 1, "it is made once");
    let old = SqliteMeta::open(&copy).unwrap();
    assert!(old.get(Kind::Replay, "old").await.unwrap().is_some());
    assert!(old.get(Kind::Replay, "new").await.unwrap().is_none());
}

#[tokio::test]
async fn d04_after_a_sync_that_failed_nothing_is_written_and_what_was_acknowledged_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let put = |name: &str| Txn::put(Kind::Replay, name, Expect::Any, "body");
    let store = SqliteMeta::open(&path).unwrap();
    store.commit(put("before")).await.unwrap();
    let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    // Another failure passes.
    drop(store.inner.failed("write")(failure(ffi::SQLITE_IOERR_WRITE)));
    store.commit(put("between")).await.unwrap();
    drop(store.inner.failed("write")(failure(ffi::SQLITE_IOERR_FSYNC)));
    for _ in 0..2 {
        let refused = store.commit(put("after")).await.unwrap_err();
        assert!(matches!(refused, CommitError::Store(StoreError::Unsynced { .. })), "{refused:?}");
    }
    assert!(store.refresh().await.is_err(), "whoever asks after its health is told");
    assert!(store.get(Kind::Replay, "between").await.unwrap().is_some());
    drop(store);
    let again = SqliteMeta::open(&path).unwrap();
    assert!(again.get(Kind::Replay, "before").await.unwrap().is_some());
    again.commit(put("after")).await.unwrap();
}
