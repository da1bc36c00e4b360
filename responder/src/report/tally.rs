//! The counts of one run. Each worker adds to counters of its own; what it has never counted takes no memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use countersign_engine::{
    answer::{Fate, Hit, Origin},
    endpoints::{Endpoint, Endpoints, template},
    histogram::Histogram,
    near_miss::NearMiss,
    snapshot::digest::Digest,
};

use super::{
    cell::Cell,
    gather::Told,
    groups::{Group, Groups},
};
use crate::snapshots::Assignment;

/// So many endpoints are counted that were asked for and not recorded; a power of two.
const UNKNOWN: usize = 64;
/// The number of the last of them.
const LAST_UNKNOWN: u64 = 63;

/// The counts of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(super) replay: String,
    pub(super) run: u64,
    pub(super) bundle: Digest,
    /// When the run began, in nanoseconds since the epoch.
    pub(super) start: i64,
    /// The signatures that its version had made when it began.
    pub(super) signatures: u64,
    /// `None` where totals are counted only.
    endpoints: Option<Arc<Endpoints>>,
    lanes: Box<[Lane]>,
    /// What missed, by the row of its endpoint; those without a row at last.
    asked: Box<[Asked]>,
    unknown: OnceLock<Box<[OnceLock<Unknown>]>>,
    unexplained: AtomicU64,
    groups: Mutex<Groups>,
    checked: Mutex<Checked>,
    told: Mutex<Told>,
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    /// By row; hits without a row at last.
    cells: Box<[OnceLock<Box<Cell>>]>,
    borrowed: AtomicU64,
    cut: AtomicU64,
    signed: AtomicU64,
    unsigned: AtomicU64,
    heard: AtomicU64,
    sent: AtomicU64,
}

/// Requests that nothing recorded answers.
#[derive(Debug, Default)]
struct Asked {
    misses: AtomicU64,
    passed: AtomicU64,
}

/// An endpoint that was not recorded.
#[derive(Debug)]
struct Unknown {
    method: String,
    path: String,
    asked: Asked,
}

/// What became of tokens in requests that were looked at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) checked: u64,
    pub(super) accepted: u64,
    /// By code.
    pub(super) refused: BTreeMap<&'static str, u64>,
}

/// Everything of an endpoint, or of all of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) latency: Histogram,
    pub(super) statuses: BTreeMap<u32, u64>,
    pub(super) misses: u64,
    pub(super) passed: u64,
}

/// What all workers have counted apart from endpoints.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) borrowed: u64,
    pub(super) errors: u64,
    pub(super) signed: u64,
    pub(super) unsigned: u64,
    /// Bytes of request bodies.
    pub(super) heard: u64,
    /// Bytes of recorded bodies.
    pub(super) sent: u64,
}

impl Tally {
    /// Nothing counted yet of a run, on so many workers, when so many signatures were made already.
    pub(super) fn new(
        of: &Assignment,
        endpoints: Option<Arc<Endpoints>>,
        (lanes, signatures): (usize, u64),
    ) -> Self {
        let rows = endpoints.as_ref().map_or(0, |endpoints| endpoints.rows().len());
        let lane =
            |_| Lane { cells: (0..=rows).map(|_| OnceLock::new()).collect(), ..Lane::default() };
        Self {
            replay: of.name.clone(),
            run: of.generation,
            bundle: of.bundle,
            start: of.start_time,
            signatures,
            endpoints,
            lanes: (0..lanes.max(1)).map(lane).collect(),
            asked: (0..=rows).map(|_| Asked::default()).collect(),
            unknown: OnceLock::new(),
            unexplained: AtomicU64::new(0),
            groups: Mutex::default(),
            checked: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Whether it is of this run.
    pub(super) fn is_of(&self, assignment: &Assignment) -> bool {
        self.run == assignment.generation
            && self.replay == assignment.name
            && self.bundle == assignment.bundle
    }

    /// Whether totals are counted only.
    pub(super) fn totals_only(&self) -> bool {
        self.endpoints.is_none()
    }

    fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane).or_else(|| self.lanes.last())
    }

    /// Counts an answer that took so many microseconds, and the bytes of its request's body.
    #[inline]
    pub(crate) fn hit(&self, lane: usize, hit: &Hit, micros: u64, heard: usize) {
        let Some(lane) = self.lane(lane) else { return };
        lane.add(self.row(hit.origin.as_ref()), micros, hit.status);
        lane.sign(hit.resigned, hit.unsigned);
        count(&lane.heard, heard);
        count(&lane.sent, hit.body.len());
        if hit.origin.is_some_and(|origin| origin.borrowed) {
            lane.borrowed.fetch_add(1, Relaxed);
        }
        if hit.touched.as_deref().is_some_and(|touched| touched.fate != Fate::Sent) {
            lane.cut.fetch_add(1, Relaxed);
        }
    }

    /// Counts what was said to a message of a dialogue that began with this answer.
    pub(crate) fn said(
        &self,
        lane: usize,
        origin: Option<&Origin>,
        micros: u64,
        tokens: (u32, u32),
    ) {
        let Some(lane) = self.lane(lane) else { return };
        lane.add(self.row(origin), micros, 101);
        lane.sign(tokens.0, tokens.1);
    }

    #[inline]
    fn row(&self, origin: Option<&Origin>) -> Option<usize> {
        self.endpoints.as_ref()?.of(origin?)
    }

    /// Counts a request that nothing recorded answers.
    pub(crate) fn miss(&self, method: &str, path: &str, explained: Option<(&NearMiss, i64)>) {
        let template = template(path);
        self.asked(method, &template, |asked| asked.misses.fetch_add(1, Relaxed));
        match explained.filter(|_| self.endpoints.is_some()) {
            Some((near, at)) => {
                let nearest = near.nearest.first().map_or(&[][..], |near| &near.differing);
                locked(&self.groups).add(method, &template, nearest, at);
            }
            None => drop(self.unexplained.fetch_add(1, Relaxed)),
        }
    }

    /// Counts a request that the real host answered.
    pub(crate) fn passed(&self, method: &str, path: &str) {
        self.asked(method, &template(path), |asked| asked.passed.fetch_add(1, Relaxed));
    }

    /// Counts tokens of requests that were looked at.
    pub(super) fn check(&self, more: &Checked) {
        let mut all = locked(&self.checked);
        all.checked += more.checked;
        all.accepted += more.accepted;
        for (code, count) in &more.refused {
            *all.refused.entry(code).or_default() += count;
        }
    }

    /// Has the counter of an endpoint changed.
    fn asked(&self, method: &str, template: &str, add: impl FnOnce(&Asked) -> u64) {
        let row = self.endpoints.as_ref().and_then(|endpoints| endpoints.find(method, template));
        let known = row.and_then(|row| self.asked.get(row));
        let asked = known.or_else(|| self.unknown(method, template)).or_else(|| self.asked.last());
        asked.map(add);
    }

    /// The counter of an endpoint that was not recorded; `None` when there are too many. What has its place once keeps it.
    fn unknown(&self, method: &str, template: &str) -> Option<&Asked> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        self.endpoints.as_ref()?;
        let places = self.unknown.get_or_init(|| (0..UNKNOWN).map(|_| OnceLock::new()).collect());
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((method, template));
        let first = usize::try_from(hash & LAST_UNKNOWN).unwrap_or_default();
        (0..UNKNOWN).find_map(|nth| {
            let place = places.get((first + nth) % UNKNOWN)?;
            let own = place.get_or_init(|| {
                let (method, path) = (method.to_owned(), template.to_owned());
                Unknown { method, path, asked: Asked::default() }
            });
            (own.method == method && own.path == template).then_some(&own.asked)
        })
    }

    /// What was told of it.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        locked(&self.told)
    }

    pub(super) fn groups(&self) -> (Vec<Group>, u64) {
        locked(&self.groups).told()
    }

    pub(super) fn checked(&self) -> Checked {
        locked(&self.checked).clone()
    }

    pub(super) fn unexplained(&self) -> u64 {
        self.unexplained.load(Relaxed)
    }

    /// What was counted apart from endpoints.
    pub(super) fn beside(&self) -> Beside {
        let sum = |counter: fn(&Lane) -> &AtomicU64| -> u64 {
            self.lanes.iter().map(|lane| counter(lane).load(Relaxed)).sum()
        };
        Beside {
            borrowed: sum(|lane| &lane.borrowed),
            errors: sum(|lane| &lane.cut),
            signed: sum(|lane| &lane.signed),
            unsigned: sum(|lane| &lane.unsigned),
            heard: sum(|lane| &lane.heard),
            sent: sum(|lane| &lane.sent),
        }
    }

    /// The endpoints that were asked, and at last what has none.
    pub(super) fn rows(&self) -> (Vec<(Endpoint, Sums)>, Sums) {
        let rows = self.endpoints.as_ref().map_or(&[][..], |endpoints| endpoints.rows());
        let known =
            rows.iter().enumerate().map(|(row, endpoint)| (endpoint.clone(), self.sums(row)));
        let unknown = self.unknown.get().into_iter().flatten().filter_map(OnceLock::get);
        let unknown = unknown.map(|it| {
            let Unknown { method, path, asked } = it;
            let (method, path) = (method.clone(), path.clone());
            let endpoint = Endpoint { method, host: String::new(), path, pairs: 0 };
            (endpoint, asked.sums())
        });
        let asked = known.chain(unknown).filter(|(_, sums)| *sums != Sums::default()).collect();
        (asked, self.sums(rows.len()))
    }

    fn sums(&self, row: usize) -> Sums {
        let mut sums = self.asked.get(row).map(Asked::sums).unwrap_or_default();
        for cell in self.lanes.iter().filter_map(|lane| lane.cells.get(row)?.get()) {
            sums.latency.add(&cell.histogram());
            for (status, count) in cell.statuses() {
                *sums.statuses.entry(status).or_default() += count;
            }
        }
        sums
    }
}

impl Lane {
    #[inline]
    fn add(&self, row: Option<usize>, micros: u64, status: u16) {
        let cell = row.and_then(|row| self.cells.get(row)).or_else(|| self.cells.last());
        if let Some(cell) = cell {
            cell.get_or_init(|| Box::new(Cell::new())).add(micros, status);
        }
    }

    #[inline]
    fn sign(&self, signed: u32, unsigned: u32) {
        if signed > 0 {
            self.signed.fetch_add(u64::from(signed), Relaxed);
        }
        if unsigned > 0 {
            self.unsigned.fetch_add(u64::from(unsigned), Relaxed);
        }
    }
}

impl Asked {
    fn sums(&self) -> Sums {
        let (misses, passed) = (self.misses.load(Relaxed), self.passed.load(Relaxed));
        Sums { misses, passed, ..Sums::default() }
    }
}

impl Sums {
    /// Adds the counts of another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.misses += other.misses;
        self.passed += other.passed;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }
}

#[inline]
fn count(counter: &AtomicU64, bytes: usize) {
    if bytes > 0 {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
