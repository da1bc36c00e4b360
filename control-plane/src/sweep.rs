//! At the start, before anybody writes: removes uploads and blobs that nothing names any more.
//!
//! What is live is read in full first. If any of it cannot be read, no blob is removed: better a full disk than a lost snapshot.

use std::collections::HashSet;

use countersign_engine::snapshot::digest::Digest;

use crate::{
    content::{self, Closures, ContentError},
    import::staging::Staging,
    service::{chain, wire},
    store::{BlobStore, Kind, ListQuery, MetaStore, Record, StoreError, blocking},
};

/// Sweeps the uploads and blobs of a store that nobody writes to.
pub(crate) async fn run(
    meta: &dyn MetaStore,
    blobs: &dyn BlobStore,
    staging: Staging,
) -> Result<(), StoreError> {
    let snapshots = all(meta, Kind::Snapshot).await?;
    let names: Vec<String> = snapshots.iter().map(|record| record.name.clone()).collect();
    blocking(move || staging.retain(&names)).await??;
    let assignments = all(meta, Kind::Assignment).await?;
    match live(blobs, snapshots, assignments).await {
        Ok(live) => {
            let removed = blobs.retain(live).await?;
            if removed > 0 {
                tracing::info!(removed, "removed blobs that nothing names any more");
            }
        }
        Err(error) => tracing::warn!(
            error = chain(&error),
            "not everything stored can be read, so that nothing is removed"
        ),
    }
    Ok(())
}

/// Every blob that a snapshot or an announced bundle is made of.
async fn live(
    blobs: &dyn BlobStore,
    snapshots: Vec<Record>,
    assignments: Vec<Record>,
) -> Result<HashSet<Digest>, ContentError> {
    let mut live = HashSet::new();
    for record in snapshots {
        let manifest = wire::decode_stored_manifest(record.body);
        if let Some(manifest) =
            manifest.map_err(|source| ContentError::Record { name: record.name, source })?
        {
            live.insert(manifest);
            live.extend(
                content::manifest(blobs, manifest)
                    .await?
                    .chunks
                    .into_iter()
                    .map(|(digest, _)| digest),
            );
        }
    }
    let closures = Closures::default();
    for record in assignments {
        let assignment = wire::decode_assignment(record.body);
        let assignment =
            assignment.map_err(|source| ContentError::Record { name: record.name, source })?;
        live.extend(closures.of(blobs, assignment.bundle).await?.iter().copied());
    }
    Ok(live)
}

async fn all(meta: &dyn MetaStore, kind: Kind) -> Result<Vec<Record>, StoreError> {
    let mut query = ListQuery { kind, prefix: String::new(), after: String::new(), limit: 1000 };
    let mut records: Vec<Record> = Vec::new();
    loop {
        let page = meta.list(query.clone()).await?;
        records.extend(page.records);
        if !page.more {
            return Ok(records);
        }
        query.after = records.last().map(|record| record.name.clone()).unwrap_or_default();
    }
}
