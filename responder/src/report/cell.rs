//! Times and statuses of one endpoint on one worker: plain atomics, to be summed up elsewhere.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use countersign_engine::histogram::{self, Histogram, STEPS};

/// So many statuses are told apart; those beyond are one.
const STATUSES: usize = 8;
/// Where the status stands in its counter, whose lower part counts.
const SHIFT: u32 = 48;

/// Counters of the hits of an endpoint.
#[derive(Debug)]
pub(super) struct Cell {
    steps: [AtomicU64; STEPS],
    /// Microseconds.
    sum: AtomicU64,
    /// Microseconds.
    max: AtomicU64,
    /// A status and its count each; 0 where none has come yet.
    statuses: [AtomicU64; STATUSES],
    /// Hits with any other status.
    others: AtomicU64,
}

impl Cell {
    pub(super) fn new() -> Self {
        let zero = |_| AtomicU64::new(0);
        Self {
            steps: std::array::from_fn(zero),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
            statuses: std::array::from_fn(zero),
            others: AtomicU64::new(0),
        }
    }

    /// Counts a hit.
    #[inline]
    pub(super) fn add(&self, micros: u64, status: u16) {
        if let Some(step) = self.steps.get(histogram::step(micros)) {
            step.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(micros, Relaxed);
        if self.max.load(Relaxed) < micros {
            self.max.fetch_max(micros, Relaxed);
        }
        let tag = u64::from(status) << SHIFT;
        for counter in &self.statuses {
            let known = counter.load(Relaxed);
            if known >> SHIFT == u64::from(status) {
                counter.fetch_add(1, Relaxed);
                return;
            }
            if known == 0 {
                match counter.compare_exchange(0, tag | 1, Relaxed, Relaxed) {
                    Ok(_) => return,
                    Err(other) if other >> SHIFT == u64::from(status) => {
                        counter.fetch_add(1, Relaxed);
                        return;
                    }
                    Err(_) => {}
                }
            }
        }
        self.others.fetch_add(1, Relaxed);
    }

    pub(super) fn histogram(&self) -> Histogram {
        let steps = self.steps.iter().map(|step| step.load(Relaxed)).enumerate();
        Histogram::new(steps, self.sum.load(Relaxed), self.max.load(Relaxed))
    }

    /// The statuses and how often each came; 0 stands for those beyond the bound.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u32, u64)> {
        let known = self.statuses.iter().map(|counter| counter.load(Relaxed));
        let known = known.map(|both| {
            let status = u32::try_from(both >> SHIFT).unwrap_or_default();
            (status, both & ((1 << SHIFT) - 1))
        });
        known.chain([(0, self.others.load(Relaxed))]).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart_up_to_a_bound() {
        let cell = Cell::new();
        for status in 200..220 {
            cell.add(5, status);
            cell.add(9, 200);
        }
        let told: Vec<_> = cell.statuses().collect();
        assert_eq!(told[0], (200, 21));
        assert_eq!(told[1..8], (201..208).map(|status| (status, 1)).collect::<Vec<_>>()[..]);
        assert_eq!(told[8..], [(0, 12)]);
        let times = cell.histogram();
        assert_eq!((times.count(), times.sum(), times.max()), (40, 20 * 14, 9));
        assert_eq!(times.steps(), [(5, 20), (9, 20)]);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let cell = Cell::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u16 {
                let cell = &cell;
                scope.spawn(move || {
                    for n in 0..1000_u64 {
                        cell.add(n, 200 + thread * u16::try_from(n % 3).unwrap());
                    }
                });
            }
        });
        assert_eq!(cell.histogram().count(), 4000);
        assert_eq!(cell.statuses().map(|(_, count)| count).sum::<u64>(), 4000);
    }
}
