//! What was counted, summed up over the workers, and how it came about in time: what one second's look and the one before differ in belongs to the
//! step of five seconds in which it was looked.

use std::collections::VecDeque;

use countersign_engine::histogram::Histogram;

use super::tally::{Sums, Tally};

/// The length of a step, in seconds.
pub(super) const STEP: i64 = 5;
/// So many steps are kept: ten minutes.
const STEPS: usize = 120;
const NANOS: i64 = 1_000_000_000;

/// Five seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Step {
    /// When they began, in seconds since the epoch; a multiple of five.
    pub(super) start: i64,
    pub(super) misses: u64,
    pub(super) passed: u64,
    /// The times of its hits.
    pub(super) latency: Histogram,
}

/// What was told of a run, and what is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// All requests at the last look.
    seen: Sums,
    /// Tokens that were looked at, and signatures that were made, at the last look.
    beside: [u64; 2],
    steps: VecDeque<Step>,
    /// The number of the last message.
    pub(super) sequence: u64,
    /// There is something that the control plane has not taken.
    pub(super) owes: bool,
    /// The begin of the last step that it has taken.
    pub(super) acknowledged: i64,
    /// The control plane knows its replay no more.
    pub(super) unknown: bool,
    /// The signatures that were made for the version that serves it.
    pub(super) made: u64,
}

impl Told {
    /// Looks at everything now, in nanoseconds since the epoch, and notes what is new.
    pub(super) fn look(&mut self, all: &Sums, checked: u64, now: i64) {
        let beside = [checked, self.made];
        if *all == self.seen && beside == self.beside {
            return;
        }
        self.beside = beside;
        self.owes = true;
        let start = now.div_euclid(NANOS).div_euclid(STEP) * STEP;
        if self.steps.back().is_none_or(|last| last.start < start) {
            self.steps.push_back(Step { start, ..Step::default() });
        }
        while self.steps.len() > STEPS {
            self.steps.pop_front();
        }
        if let Some(step) = self.steps.back_mut() {
            step.misses += all.misses.saturating_sub(self.seen.misses);
            step.passed += all.passed.saturating_sub(self.seen.passed);
            let mut latency = all.latency.since(&self.seen.latency);
            if self.seen.latency.max() == latency.max() {
                // The longest of all may have been before; what is known is the end of the last step that has something.
                latency = bounded(&latency);
            }
            step.latency.add(&latency);
        }
        self.seen = all.clone();
    }

    /// The steps from the last that was taken on.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.start >= self.acknowledged)
    }

    /// Notes that the control plane has taken a message, and everything that it said.
    pub(super) fn take(&mut self, sequence: u64) {
        if sequence == self.sequence {
            self.owes = false;
        }
        if let Some(last) = self.steps.back() {
            self.acknowledged = self.acknowledged.max(last.start - STEP);
        }
    }
}

/// The same with the end of its last step for its greatest value.
fn bounded(latency: &Histogram) -> Histogram {
    let max =
        latency.steps().last().map_or(0, |(step, _)| countersign_engine::histogram::end(*step));
    let max = max.min(latency.max());
    Histogram::new(latency.steps().iter().copied(), latency.sum(), max)
}

impl Tally {
    /// Whether the control plane has taken everything, as far as was looked, or wants nothing of it.
    pub(super) fn is_told(&self) -> bool {
        let told = self.told();
        !told.owes || told.unknown
    }

    /// All requests together.
    pub(super) fn all(&self) -> Sums {
        let (rows, mut all) = self.rows();
        for (_, sums) in &rows {
            all.add(sums);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(times: &[u64], misses: u64) -> Sums {
        let mut latency = Histogram::default();
        for time in times {
            let step = countersign_engine::histogram::step(*time);
            latency.add(&Histogram::new([(step, 1)], *time, *time));
        }
        Sums { latency, misses, ..Sums::default() }
    }

    #[test]
    fn what_came_between_two_looks_belongs_to_the_second() {
        let mut told = Told::default();
        told.look(&sums(&[10], 0), 0, 12 * NANOS);
        told.look(&sums(&[10, 20], 1), 0, 14 * NANOS);
        told.look(&sums(&[10, 20], 1), 0, 21 * NANOS);
        told.look(&sums(&[10, 20, 7], 1), 0, 23 * NANOS);
        let steps: Vec<_> = told
            .steps()
            .map(|it| (it.start, it.latency.count(), it.misses, it.latency.max()))
            .collect();
        assert_eq!(steps, [(10, 2, 1, 20), (20, 1, 0, 7)]);
    }

    #[test]
    fn only_the_newest_message_settles_what_is_owed() {
        let mut told = Told::default();
        told.look(&sums(&[10], 0), 0, 0);
        assert!(told.owes);
        told.sequence = 2;
        told.take(1);
        assert!(told.owes);
        told.take(2);
        assert!(!told.owes);
        told.look(&sums(&[10], 0), 0, 9 * NANOS);
        assert!(!told.owes, "nothing is new");
        told.look(&sums(&[10], 0), 1, 9 * NANOS);
        assert!(told.owes);
    }

    #[test]
    fn ten_minutes_are_kept_and_what_was_taken_is_not_told_again() {
        let mut told = Told::default();
        for nth in 1..=200 {
            told.look(&sums(&[], nth), 0, i64::try_from(nth).unwrap() * STEP * NANOS);
        }
        assert_eq!(told.steps().count(), STEPS);
        told.sequence = 1;
        told.take(1);
        let left: Vec<_> = told.steps().map(|it| it.start).collect();
        assert_eq!(left, [995, 1000]);
    }
}
