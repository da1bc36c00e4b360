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
