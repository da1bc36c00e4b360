//! Removes uploads and blobs that nothing names any more: at the start, before anybody writes, or with a lease, while others write.
//!
//! What is live is read in full first. If any of it cannot be read, no blob is removed: better a full disk than a lost snapshot.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use countersign_engine::snapshot::digest::Digest;
use tokio::time::{Instant, interval, sleep};

use crate::{
    content::{self, ContentError, Root},
    held,
    import::staging::Staging,
    service::{Plane, chain, wire},
    store::{BlobStore, Epoch, Kind, MetaStore, Record, StoreError, all, blocking, jitter},
    storing::SWEEP,
};

/// Removes the uploads of this process's own that belong to no snapshot.
pub(crate) async fn uploads(meta: &dyn MetaStore, staging: Staging) -> Result<(), StoreError> {
    let snapshots = all(meta, Kind::Snapshot, "").await?;
    let names: Vec<String> = snapshots.into_iter().map(|record| record.name).collect();
    blocking(move || staging.retain(&names)).await?
}

/// Removes the blobs of a store that nobody else writes to.
pub(crate) async fn blobs(meta: &dyn MetaStore, blobs: &dyn BlobStore) -> Result<(), StoreError> {
    held::forget_orphans(meta).await?;
    match live(meta, blobs).await {
        Ok(live) => {
            let removed = blobs.retain(live, Duration::ZERO).await?;
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

/// What nothing names is left alone for so long by default.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// By when, at the latest, what nothing names is removed.
pub(crate) const AFTER: Duration = Duration::from_secs(GRACE.as_secs() + EVERY.as_secs() * 2);
/// How often one of the control planes that share a store removes what nothing names.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// Whoever removes has to say so anew in this time.
const TTL: Duration = Duration::from_secs(60);

/// Why nothing, or not everything, was removed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Somebody else is at it.
    #[error("another control plane, or another command, is removing blobs now")]
    Busy,
    /// The lease ran out.
    #[error("the removal of blobs took a pause for so long that it had to be given up")]
    Lost,
    /// Something live cannot be read.
    #[error("not everything stored can be read, so that nothing is removed")]
    Unreadable(#[source] ContentError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes, while others write, what nothing names and is older than the grace. Returns how many blobs went.
///
/// # Errors
/// When somebody else is at it, something live cannot be read, or a store fails.
pub async fn shared(
    meta: &dyn MetaStore,
    stored: &dyn BlobStore,
    holder: &str,
    grace: Duration,
) -> Result<u64, SweepError> {
    let removal = async {
        held::forget_orphans(meta).await?;
        // Only now: whoever commits from here on looks whether what it names is still there.
        let live = live(meta, stored).await.map_err(SweepError::Unreadable)?;
        let removed = stored.retain(live, grace).await?;
        if let Some(parts) = stored.parts() {
            let snapshots = all(meta, Kind::Snapshot, "").await?.into_iter();
            // A committed one needs its upload no more.
            let open = snapshots.map(|record| (record.name.clone(), roots(Kind::Snapshot, record)));
            let open = open.filter(|(_, roots)| !matches!(roots, Ok(roots) if !roots.is_empty()));
            let names: Vec<String> = open.map(|(name, _)| name).collect();
            parts.retain_parts(&names, grace).await?;
        }
        Ok(removed)
    };
    alone(meta, holder, removal).await
}

/// Does work during which nobody else may remove blobs.
pub(crate) async fn alone<T>(
    meta: &dyn MetaStore,
    holder: &str,
    work: impl Future<Output = Result<T, SweepError>>,
) -> Result<T, SweepError> {
    let had = Mutex::new(Instant::now());
    let Some(epoch) = meta.lease(SWEEP, holder, TTL).await? else { return Err(SweepError::Busy) };
    let mut work = pin!(work);
    // A process that was stopped for long does nothing before it has asked whether the lease is still its own.
    let gated = poll_fn(|context| {
        let since = had.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if since > TTL / 2 { Poll::Pending } else { work.as_mut().poll(context) }
    });
    let done = tokio::select! {
        biased;
        () = lost(meta, holder, epoch, &had) => Err(SweepError::Lost),
        done = gated => done,
    };
    meta.release(SWEEP, holder).await?;
    done
}

/// Prolongs the lease, and notes since when it was had; ends when that does not succeed well before it runs out.
async fn lost(meta: &dyn MetaStore, holder: &str, epoch: Epoch, had: &Mutex<Instant>) {
    let mut beats = interval(TTL / 6);
    beats.tick().await;
    loop {
        beats.tick().await;
        let asked = Instant::now();
        let last = had.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        match meta.lease(SWEEP, holder, TTL).await {
            Ok(Some(now)) if now == epoch => {
                *had.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            }
            Ok(_) => return,
            Err(_) if last > TTL / 2 => return,
            Err(_) => {}
        }
    }
}

/// Removes now and then, until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>) {
    loop {
        let pause = EVERY.mul_f64(0.8) + jitter(EVERY.mul_f64(0.4));
        tokio::select! {
            () = sleep(pause) => {}
            () = plane.stopping.cancelled() => return,
        }
        match shared(&*plane.meta, &*plane.blobs, &plane.replica, GRACE).await {
            Ok(removed) => tracing::info!(removed, "removed blobs that nothing names any more"),
            Err(SweepError::Busy) => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "could not remove what nothing names");
            }
        }
    }
}

/// Every blob that a snapshot or an announced bundle is made of, or that was written for a snapshot.
async fn live(
    meta: &dyn MetaStore,
    blobs: &dyn BlobStore,
) -> Result<HashSet<Digest>, ContentError> {
    let mut live = HashSet::new();
    for kind in [Kind::Snapshot, Kind::Assignment, Kind::Holding] {
        for record in all(meta, kind, "").await? {
            live.extend(content::named_by(blobs, roots(kind, record)?).await?);
        }
    }
    Ok(live)
}

/// What a record names.
pub(crate) fn roots(kind: Kind, record: Record) -> Result<Vec<Root>, ContentError> {
    let roots = match kind {
        Kind::Snapshot => wire::decode_stored_manifest(record.body)
            .map(|manifest| manifest.map(Root::Manifest).into_iter().collect()),
        Kind::Assignment => wire::decode_announced(record.body)
            .map(|announced| announced.bundles().map(Root::Bundle).collect()),
        Kind::Holding => {
            wire::decode_holding(record.body).map(|digests| vec![Root::Listed(digests.into())])
        }
        Kind::Transform | Kind::TestConfig | Kind::Replay | Kind::Members | Kind::Report => {
            Ok(Vec::new())
        }
    };
    roots.map_err(|source| ContentError::Record { name: record.name, source })
}
