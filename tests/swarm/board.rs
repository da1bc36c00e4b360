//! What the simulated responders have done so far, for whoever waits for all of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// How often it is looked whether all are there.
const LOOK: Duration = Duration::from_millis(5);

/// What all of them share.
#[derive(Debug, Default)]
pub(crate) struct Board {
    tally: Mutex<Tally>,
    changed: Notify,
}

/// How it stands.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Who is connected and knows everything that applies to it, and since when, by number.
    synced: BTreeMap<usize, Instant>,
    /// When a generation was acknowledged by each.
    acknowledged: BTreeMap<u64, BTreeMap<usize, Instant>>,
    /// When a generation was prepared last.
    prepared: BTreeMap<u64, Instant>,
    /// Bundles that somebody did not hold and would have had to fetch.
    pub(crate) fetches: usize,
    /// Sessions that ended without being told to.
    pub(crate) lost: usize,
    /// Why the last of them did.
    pub(crate) last: String,
}

impl Board {
    /// One is connected and knows everything.
    pub(crate) fn synced(&self, number: usize) {
        self.lock().synced.entry(number).or_insert_with(Instant::now);
        self.changed.notify_waiters();
    }

    /// One has lost its session.
    pub(crate) fn left(&self, number: usize, why: Option<String>) {
        let mut tally = self.lock();
        tally.synced.remove(&number);
        if let Some(why) = why {
            tally.lost += 1;
            tally.last = why;
        }
    }

    /// Forgets who was synced before this moment.
    pub(crate) fn forget(&self, before: Instant) {
        self.lock().synced.retain(|_, since| *since > before);
    }

    /// One would have fetched so many bundles.
    pub(crate) fn fetched(&self, fetches: usize) {
        self.lock().fetches += fetches;
    }

    /// One has prepared a generation.
    pub(crate) fn prepared(&self, generation: u64) {
        let mut tally = self.lock();
        tally.prepared.insert(generation, Instant::now());
        while tally.prepared.len() > 4 {
            tally.prepared.pop_first();
        }
    }

    /// When the last of them had prepared a generation.
    pub(crate) fn last_prepared(&self, generation: u64) -> Option<Instant> {
        self.lock().prepared.get(&generation).copied()
    }

    /// One has acknowledged that it serves a generation.
    pub(crate) fn acknowledged(&self, number: usize, generation: u64) {
        let mut tally = self.lock();
        let all = tally.acknowledged.entry(generation).or_default();
        all.entry(number).or_insert_with(Instant::now);
        // Rounds long past are nobody's business.
        while tally.acknowledged.len() > 4 {
            tally.acknowledged.pop_first();
        }
        drop(tally);
        self.changed.notify_waiters();
    }

    /// How it stands now.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all are synced, and tells how long after `begin` the last of them was.
    pub(crate) async fn all_synced(
        &self,
        count: usize,
        begin: Instant,
        limit: Duration,
    ) -> anyhow::Result<Duration> {
        self.until(limit, "are synced", count, |tally| tally.synced.len()).await?;
        let last = self.lock().synced.values().copied().max();
        Ok(last.unwrap_or(begin).saturating_duration_since(begin))
    }

    /// Waits until all have acknowledged a generation, and tells how long after `begin` each did.
    pub(crate) async fn all_acknowledged(
        &self,
        count: usize,
        generation: u64,
        begin: Instant,
        limit: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let there = |tally: &Tally| tally.acknowledged.get(&generation).map_or(0, BTreeMap::len);
        self.until(limit, "have acknowledged", count, there).await?;
        let tally = self.lock();
        let times = tally.acknowledged.get(&generation).into_iter().flat_map(BTreeMap::values);
        let mut times: Vec<Duration> =
            times.map(|at| at.saturating_duration_since(begin)).collect();
        times.sort_unstable();
        Ok(times)
    }

    async fn until(
        &self,
        limit: Duration,
        what: &str,
        count: usize,
        there: impl Fn(&Tally) -> usize,
    ) -> anyhow::Result<()> {
        let wait = async {
            loop {
                // Asked for before looking, so that nothing is missed in between.
                let changed = self.changed.notified();
                if there(&self.lock()) >= count {
                    return;
                }
                // With each change it would be looking that takes the time.
                changed.await;
                sleep(LOOK).await;
            }
        };
        if timeout(limit, wait).await.is_ok() {
            return Ok(());
        }
        let tally = self.lock();
        anyhow::bail!(
            "only {} of {count} {what} after {limit:?}; {} sessions were lost, the last because: {}",
            there(&tally),
            tally.lost,
            tally.last
        )
    }
}
