//! Which blobs a snapshot that is not committed yet has already: those that were written for it, and those of its project that it was told of.
//!
//! This is what keeps them from being removed, and the proof that whoever commits them may have them: a digest alone proves nothing. It is kept in
//! records, each a few digests, which go with the snapshot or once it is committed.

use std::collections::HashSet;

use countersign_engine::snapshot::digest::Digest;

use crate::{
    content::{ContentError, Root},
    service::{Plane, Problem, wire},
    store::{self, Expect, Kind, MetaStore, Record, StoreError, Txn},
    storing::Storing,
};

/// What a snapshot's records are called: its name, and when it was created, so that one that was deleted leaves nothing to the next of its name.
fn prefix(snapshot: &Record) -> String {
    format!("{}/{}/", snapshot.name, snapshot.created)
}

/// The blobs that a snapshot has.
pub(crate) async fn of(
    meta: &dyn MetaStore,
    snapshot: &Record,
) -> Result<HashSet<Digest>, ContentError> {
    let mut held = HashSet::new();
    for record in store::all(meta, Kind::Holding, &prefix(snapshot)).await? {
        let digests = wire::decode_holding(record.body)
            .map_err(|source| ContentError::Record { name: record.name, source })?;
        held.extend(digests);
    }
    Ok(held)
}

/// Gives blobs, which are stored, to a snapshot.
pub(crate) async fn add(
    plane: &Plane,
    snapshot: &Record,
    storing: Storing,
    digests: &[Digest],
) -> Result<(), Problem> {
    if digests.is_empty() {
        return Ok(());
    }
    let name = prefix(snapshot) + &uuid::Uuid::now_v7().to_string();
    let body = wire::encode_holding(digests);
    let txn = Txn::put(Kind::Holding, name, Expect::Absent, body);
    plane.commit_stored(storing, txn, Root::Listed(digests.into())).await?;
    Ok(())
}

/// Forgets what a snapshot has, which is gone or committed.
pub(crate) async fn forget(meta: &dyn MetaStore, snapshot: &str) -> Result<(), StoreError> {
    remove(meta, store::all(meta, Kind::Holding, &format!("{snapshot}/")).await?).await
}

/// Forgets what belongs to no snapshot that could still be committed.
pub(crate) async fn forget_orphans(meta: &dyn MetaStore) -> Result<(), StoreError> {
    let holdings = store::all(meta, Kind::Holding, "").await?;
    if holdings.is_empty() {
        return Ok(());
    }
    // Looked for after the holdings, so that none of a snapshot that is younger than the list is taken for an orphan.
    let snapshots = store::all(meta, Kind::Snapshot, "").await?;
    let open = |record: &Record| {
        // What cannot be read is left alone.
        !matches!(wire::decode_stored_manifest(record.body.clone()), Ok(Some(_)))
    };
    let open: HashSet<String> =
        snapshots.iter().filter(|snapshot| open(snapshot)).map(prefix).collect();
    let orphan = |holding: &Record| {
        holding.name.rsplit_once('/').is_none_or(|(owner, _)| !open.contains(&format!("{owner}/")))
    };
    remove(meta, holdings.into_iter().filter(orphan).collect()).await
}

async fn remove(meta: &dyn MetaStore, holdings: Vec<Record>) -> Result<(), StoreError> {
    for some in holdings.chunks(100) {
        let txn = some.iter().fold(Txn::default(), |txn, record| {
            txn.and_delete(Kind::Holding, record.name.clone(), Expect::Any)
        });
        meta.commit(txn).await.map_err(|error| match error {
            store::CommitError::Store(error) => error,
            // None of them is expected to be in any state.
            _ => StoreError::Stopped,
        })?;
    }
    Ok(())
}
