//! What a replay's requests come to, on its way to the control plane: counted by the request path without a lock, summed up and told now and then.
//!
//! A [`Tally`] belongs to one run of a replay, that is to one generation, and lives as long as something serves it or it has something to tell.

mod cell;
mod check;
mod gather;
mod groups;
mod send;
mod tally;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use clap::ValueEnum;
use countersign_engine::{compile::CompiledSnapshot, serving::Serving};

use crate::snapshots::Assignment;
pub(crate) use send::Reporter;
pub(crate) use tally::Tally;

/// So many runs are kept at a time whose replay is gone and whose counts the control plane has not taken.
const UNTOLD: usize = 100;

/// How much is counted and told of a replay's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Detail {
    /// By endpoint, with near misses.
    #[default]
    Full,
    /// Totals only.
    Totals,
    /// Nothing.
    Off,
}

/// All runs that are counted.
#[derive(Debug)]
pub(crate) struct Reports {
    tallies: Mutex<Vec<Arc<Tally>>>,
    lanes: usize,
    totals_only: AtomicBool,
}

impl Reports {
    /// Those of a node with so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        Self { tallies: Mutex::default(), lanes, totals_only: AtomicBool::new(false) }
    }

    /// Counts totals only from now on; runs that are open already are counted as they were.
    pub(crate) fn only_totals(&self) {
        self.totals_only.store(true, Ordering::Relaxed);
    }

    /// Finds out by which endpoints a snapshot is counted, so that this takes no time when it is opened.
    pub(crate) fn prepare(&self, compiled: &CompiledSnapshot) {
        if !self.totals_only.load(Ordering::Relaxed) && !compiled.low_data() {
            compiled.endpoints();
        }
    }

    /// The counts of a run; the same for all who serve it. Takes time for a snapshot that was not prepared.
    pub(crate) fn open(&self, of: &Assignment, serving: &Serving) -> Arc<Tally> {
        let compiled = serving.snapshot();
        let totals_only = self.totals_only.load(Ordering::Relaxed) || compiled.low_data();
        let endpoints = (!totals_only).then(|| Arc::clone(compiled.endpoints()));
        let mut tallies = self.lock();
        if let Some(open) = tallies.iter().find(|tally| tally.is_of(of)) {
            return Arc::clone(open);
        }
        // Only this list knows those that are served no more.
        tallies.retain(|tally| Arc::strong_count(tally) > 1 || !tally.is_told());
        while tallies.len() > UNTOLD
            && let Some(oldest) = tallies.iter().position(|tally| Arc::strong_count(tally) == 1)
        {
            tallies.remove(oldest);
        }
        let tally = Tally::new(of, endpoints, (self.lanes, serving.signatures()));
        let tally = Arc::new(tally);
        tallies.push(Arc::clone(&tally));
        tally
    }

    /// All runs that are counted.
    pub(crate) fn all(&self) -> Vec<Arc<Tally>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
