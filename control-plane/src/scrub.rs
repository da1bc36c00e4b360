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

use crate::{
    content::{self, ContentError},
    service::{Plane, chain},
    store::{BlobStore, MetaStore, Scrubbed, StoreError, jitter, now},
    sweep,
};

/// Of the control planes that share a store, one reads it in a period.
const LEASE: &str = "scrub";
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
) -> Result<Report, StoreError> {
    let scrubbed = blobs.scrub(put_aside).await?;
    let (mut missing, mut affected) = (Vec::new(), Vec::new());
    for (kind, record) in meta.dump().await?.records {
        let name = record.name.clone();
        let named = match sweep::roots(kind, record) {
            Ok(roots) => content::named_by(blobs, roots).await,
            Err(error) => Err(error),
        };
        match named {
            Ok(named) => {
                let named: Vec<Digest> = named.into_iter().collect();
                let absent = blobs.missing(&named).await?;
                let lacks = |digest: &Digest| format!("{kind} {name} lacks the blob {digest}");
                missing.extend(absent.iter().map(lacks));
                let damaged = |digest: &&Digest| scrubbed.hashes.contains(digest.hash());
                for digest in named.iter().filter(damaged) {
                    // Somebody may have mended it beside.
                    if blobs.get(digest).await.is_err() {
                        let needs = format!("{kind} {name} needs the blob {digest}");
                        affected.push(format!("{needs}, which is damaged"));
                    }
                }
            }
            Err(ContentError::Store(error)) if !error.is_damage() => return Err(error),
            Err(error) => missing.push(format!("{kind} {name}: {}", chain(&error))),
        }
    }
    Ok(Report { scrubbed, missing, affected })
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
    let mut pause = jitter(every);
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = plane.stopping.cancelled() => return,
        }
        pause = every.mul_f64(0.9) + jitter(every.mul_f64(0.2));
        tokio::select! {
            ended = once(&plane, every) => if let Err(error) = ended {
                tracing::warn!(error = chain(&error), "not everything stored could be read through");
            },
            () = plane.stopping.cancelled() => return,
        }
    }
}

async fn once(plane: &Plane, every: Duration) -> Result<(), StoreError> {
    // It is kept, so that nobody else begins before the period is nearly over.
    if plane.meta.lease(LEASE, &plane.replica, every.mul_f64(0.8)).await?.is_none() {
        return Ok(());
    }
    let report = all(&*plane.meta, &*plane.blobs, false).await?;
    let last = plane.scrubbing.note(&report);
    for finding in report.affected.iter().chain(&report.missing).take(TOLD) {
        tracing::error!(finding, "what is stored is damaged");
    }
    let Scrubbed { blobs, bytes, .. } = report.scrubbed;
    let Last { damaged, missing, .. } = last;
    tracing::info!(blobs, bytes, damaged, missing, "read through everything that is stored");
    Ok(())
}
