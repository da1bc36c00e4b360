//! What a replay's requests come to, on its way to the control plane: counted by the request path without a lock, summed up and told now and then.
//!
//! A [`Tally`] belongs to one run of a replay, that is to one generation, and lives as long as something serves it or it has something to tell.

mod cell;
mod check;
mod gather;
mod groups;
mod send;
mod tally;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::ValueEnum;
use countersign_engine::{
    compile::CompiledSnapshot, endpoints::Endpoints, histogram::Histogram, serving::Serving,
};

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
    /// What runs have counted that are not kept any more, by replay.
    past: Mutex<BTreeMap<String, Exposed>>,
}

/// What is told of a replay to whoever scrapes metrics.
#[derive(Debug, Default, Clone)]
pub(crate) struct Exposed {
    pub(crate) latency: Histogram,
    pub(crate) misses: u64,
    pub(crate) passed: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

impl Exposed {
    fn of(tally: &Tally) -> Self {
        let (all, checked) = (tally.all(), tally.checked());
        Self {
            latency: all.latency,
            misses: all.misses,
            passed: all.passed,
            accepted: checked.accepted,
            refused: checked.refused,
        }
    }

    /// Adds the counts of another one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.misses += other.misses;
        self.passed += other.passed;
        self.accepted += other.accepted;
        for (code, count) in &other.refused {
            *self.refused.entry(code).or_default() += count;
        }
    }
}

impl Reports {
    /// Those of a node with so many lanes.
    pub(crate) fn new(lanes: usize) -> Self {
        let totals_only = AtomicBool::new(false);
        Self { tallies: Mutex::default(), lanes, totals_only, past: Mutex::default() }
    }

    /// Counts totals only from now on; runs that are open already are counted as they were.
    pub(crate) fn only_totals(&self) {
        self.totals_only.store(true, Ordering::Relaxed);
    }

    /// Finds out by which endpoints a snapshot is counted, so that this takes no time when it is opened.
    pub(crate) fn prepare(&self, compiled: &CompiledSnapshot) {
        if !self.totals_only.load(Ordering::Relaxed) && !compiled.low_data() {
            let _found: &Endpoints = compiled.endpoints();
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
        let gone = tallies.extract_if(.., |it| Arc::strong_count(it) == 1 && it.is_told());
        gone.for_each(|tally| self.keep(&tally));
        while tallies.len() > UNTOLD
            && let Some(oldest) = tallies.iter().position(|tally| Arc::strong_count(tally) == 1)
        {
            self.keep(&tallies.remove(oldest));
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

    /// What all runs of each replay have counted, those before included.
    pub(crate) fn exposed(&self) -> BTreeMap<String, Exposed> {
        let tallies = self.lock();
        let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for tally in tallies.iter() {
            all.entry(tally.replay.clone()).or_default().add(&Exposed::of(tally));
        }
        all
    }

    /// Keeps what a run has counted that is gone. So many replays are told apart.
    fn keep(&self, tally: &Tally) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let known = past.len() < UNTOLD || past.contains_key(&tally.replay);
        let name = if known { tally.replay.clone() } else { String::new() };
        past.entry(name).or_default().add(&Exposed::of(tally));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
