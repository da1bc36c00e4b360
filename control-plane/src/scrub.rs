//! Reads everything that is stored, and tells what of it is damaged or missing: for a command, and now and then beside all else.
//!
//! A disk that rots says nothing until somebody reads. What is found is logged and counted; nothing is changed, and damaged blobs are refused whenever
//! they are read, so that nobody is served what was not recorded.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_engine::snapshot::digest::Digest;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    content::{self, ContentError},
    service::{Plane, chain},
    store::{self, BlobStore, Kind, MetaStore, Record, Scrubbed, StoreError, jitter, now},
    sweep,
};

/// Of the control planes that share a store, one reads it in a period.
const LEASE: &str = "scrub";
/// The first one begins in this time, and one that failed is tried again after it.
const SOON: Duration = Duration::from_secs(3600);
/// So many findings are logged one by one.
const TOLD: usize = 20;

/// What a scrub has shown.
#[derive(Debug)]
pub struct Report {
    /// Of the blobs that are stored.
    pub scrubbed: Scrubbed,
    /// What is named but is not stored, or cannot be read, each in a sentence.
    pub missing: Vec<String>,
    /// What is named and is damaged, each in a sentence.
    pub affected: Vec<String>,
}

/// Reads everything. What is damaged is put aside if that is wanted.
pub(crate) async fn all(
    meta: &dyn MetaStore,
    blobs: &dyn BlobStore,
    put_aside: bool,
    stop: &CancellationToken,
) -> Result<Report, StoreError> {
    let scrubbed = blobs.scrub(put_aside, stop).await?;
    let (mut missing, mut affected) = (Vec::new(), Vec::new());
    for kind in [Kind::Snapshot, Kind::Assignment, Kind::Holding] {
        for record in store::all(meta, kind, "").await? {
            let (absent, damaged) = lacks(blobs, kind, &record, &scrubbed).await?;
            if absent.is_empty() && damaged.is_empty() {
                continue;
            }
            // What was deleted or replaced meanwhile may have lost its blobs.
            let now = meta.get(kind, &record.name).await?;
            if now.is_some_and(|now| now.etag == record.etag) {
                missing.extend(absent);
                affected.extend(damaged);
            }
        }
    }
    Ok(Report { scrubbed, missing, affected })
}

/// What a record names that is not there, and what of it is damaged, each in a sentence.
async fn lacks(
    blobs: &dyn BlobStore,
    kind: Kind,
    record: &Record,
    scrubbed: &Scrubbed,
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let name = &record.name;
    let named = match sweep::roots(kind, record.clone()) {
        Ok(roots) => content::named_by(blobs, roots).await,
        Err(error) => Err(error),
    };
    let named: Vec<Digest> = match named {
        Ok(named) => named.into_iter().collect(),
        Err(ContentError::Store(error)) if !error.is_damage() => return Err(error),
        Err(error) => {
            let what = format!("{kind} {name}: {}", chain(&error));
            return Ok((vec![what], Vec::new()));
        }
    };
    let absent = blobs.missing(&named).await?;
    let absent = absent.iter().map(|digest| format!("{kind} {name} lacks the blob {digest}"));
    let absent: Vec<String> = absent.collect();
    let mut damaged = Vec::new();
    for digest in named.iter().filter(|digest| scrubbed.hashes.contains(digest.hash())) {
        // Somebody may have mended it beside.
        if blobs.get(digest).await.is_err() {
            damaged.push(format!("{kind} {name} needs the blob {digest}, which is damaged"));
        }
    }
    Ok((absent, damaged))
}

/// How the last scrub of this process ended; all zeros before there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Last {
    /// When, in nanoseconds since the epoch.
    pub(crate) at: i64,
    /// How many blobs are damaged, and how many that are named are missing.
    pub(crate) damaged: usize,
    pub(crate) missing: usize,
}

/// How often everything is read, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Scrubbing {
    every: Option<Duration>,
    last: Mutex<Last>,
}

impl Scrubbing {
    pub(crate) fn new(every: Option<Duration>) -> Self {
        Self { every, last: Mutex::default() }
    }

    /// How the last one ended.
    pub(crate) fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, report: &Report) -> Last {
        let (damaged, missing) = (report.scrubbed.damaged.len(), report.missing.len());
        let last = Last { at: now(), damaged, missing };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        last
    }
}

/// Reads everything once in each period, until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>) {
    let Some(every) = plane.scrubbing.every else { return };
    // Soon at first: what was known before the start is forgotten.
    let mut pause = jitter(every.min(SOON));
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = plane.stopping.cancelled() => return,
        }
        pause = match once(&plane, every).await {
            Ok(()) => every.mul_f64(0.9) + jitter(every.mul_f64(0.2)),
            Err(StoreError::Stopped) => return,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(
                    error,
                    "not everything stored could be read through; it is tried again"
                );
                every.min(SOON)
            }
        };
    }
}

async fn once(plane: &Plane, every: Duration) -> Result<(), StoreError> {
    // The next process on a store that is not shared goes on where this one ended.
    let holder = if plane.meta.roster().is_some() { &*plane.replica } else { "this" };
    // It is kept, so that nobody else begins before the period is nearly over.
    if plane.meta.lease(LEASE, holder, every.mul_f64(0.8)).await?.is_none() {
        return Ok(());
    }
    let report = match all(&*plane.meta, &*plane.blobs, false, &plane.stopping).await {
        Ok(report) => report,
        Err(error) => {
            // It runs out by itself where this fails, too; what failed first is what matters.
            drop(plane.meta.release(LEASE, holder).await);
            return Err(error);
        }
    };
    let last = plane.scrubbing.note(&report);
    for finding in report.affected.iter().chain(&report.missing).take(TOLD) {
        tracing::error!(finding, "what is stored is damaged");
    }
    let Scrubbed { blobs, bytes, .. } = report.scrubbed;
    let Last { damaged, missing, .. } = last;
    tracing::info!(blobs, bytes, damaged, missing, "read through everything that is stored");
    Ok(())
}
