//! Histograms of times: steps of whole microseconds whose width grows with the value, so that a few hundred counters hold everything from one
//! microsecond to two minutes, and histograms of several nodes add up.
//!
//! Values below 32 have a step each; above, each power of two has 16 steps of the same width. A quantile is told by the end of its step, and so is
//! at most 1/16 too high, as with HDR histograms of one decimal place and a half.

/// How many steps there are.
pub const STEPS: usize = 384;

/// Steps of each power of two, as a power of two.
const FINE: u32 = 4;

/// Which step a value, in microseconds, falls into.
#[must_use]
pub fn step(micros: u64) -> usize {
    let shift = (u64::BITS - 1 - (micros | 1).leading_zeros()).saturating_sub(FINE);
    let within = micros >> shift;
    usize::try_from(within + (u64::from(shift) << FINE))
        .map_or(STEPS - 1, |step| step.min(STEPS - 1))
}

/// The greatest value of a step, in microseconds.
#[must_use]
pub fn end(step: usize) -> u64 {
    let step = u64::try_from(step).unwrap_or(u64::MAX);
    let shift = (step >> FINE).saturating_sub(1);
    let within = step - (shift << FINE);
    ((within + 1).checked_shl(u32::try_from(shift).unwrap_or(u32::MAX)).unwrap_or(u64::MAX)) - 1
}

/// How many values fell into each step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    /// The steps that are not empty, in order, and how many values each has.
    steps: Vec<(usize, u64)>,
    /// The sum of all values, in microseconds.
    sum: u64,
    /// The greatest value, in microseconds.
    max: u64,
}

impl Histogram {
    /// One of steps and their counts, the sum and the greatest of all values in microseconds. Steps may come in any order; those that do not exist are
    /// taken for the last.
    pub fn new(steps: impl IntoIterator<Item = (usize, u64)>, sum: u64, max: u64) -> Self {
        let mut all: Vec<(usize, u64)> = steps
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(step, count)| (step.min(STEPS - 1), count))
            .collect();
        all.sort_unstable_by_key(|(step, _)| *step);
        all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
        Self { steps: all, sum, max }
    }

    /// The steps that are not empty, in order, and how many values each has.
    #[must_use]
    pub fn steps(&self) -> &[(usize, u64)] {
        &self.steps
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.steps.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The sum of all values, in microseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The greatest value, in microseconds.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The arithmetic mean, in microseconds; 0 when there is no value.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or_default()
    }

    /// Adds the values of another one.
    pub fn add(&mut self, other: &Self) {
        if other.steps.is_empty() {
            return;
        }
        let both = self.steps.iter().chain(&other.steps).copied();
        let (sum, max) = (self.sum.saturating_add(other.sum), self.max.max(other.max));
        *self = Self::new(both, sum, max);
    }

    /// What has come since an earlier state of the same histogram. The greatest value is that of all of it, since more is not known.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.steps.iter().peekable();
        let steps = self.steps.iter().map(|(step, count)| {
            while before.next_if(|(other, _)| other < step).is_some() {}
            let known = before.next_if(|(other, _)| other == step).map_or(0, |(_, count)| *count);
            (*step, count.saturating_sub(known))
        });
        let steps: Vec<_> = steps.collect();
        Self::new(steps, self.sum.saturating_sub(earlier.sum), self.max)
    }

    /// So many of a million values are not greater than this, in microseconds; 0 when there is no value.
    #[must_use]
    pub fn quantile(&self, millionths: u32) -> u64 {
        let count = u128::from(self.count());
        let rank = (count * u128::from(millionths)).div_ceil(1_000_000).max(1);
        let mut seen = 0;
        for (step, count) in &self.steps {
            seen += u128::from(*count);
            if seen >= rank && *step < STEPS - 1 {
                return end(*step).min(self.max);
            }
        }
        self.max
    }

    /// How many values are not greater than this, in microseconds, as far as steps tell: those of the step in which it lies count when it ends there.
    #[must_use]
    pub fn at_most(&self, micros: u64) -> u64 {
        let within = self.steps.iter().take_while(|(step, _)| end(*step) <= micros);
        within.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let max = values.iter().copied().max().unwrap_or_default();
        Histogram::new(values.iter().map(|value| (step(*value), 1)), values.iter().sum(), max)
    }

    #[test]
    fn steps_are_as_the_contract_says() {
        for step_of in 0..32 {
            assert_eq!(
                (step(step_of), end(step(step_of))),
                (usize::try_from(step_of).unwrap(), step_of)
            );
        }
        for nth in 32..STEPS - 1 {
            let begins = u64::try_from((16 + nth % 16) << (nth / 16 - 1)).unwrap();
            assert_eq!((step(begins), step(begins - 1)), (nth, nth - 1), "{nth}");
            assert_eq!(step(end(nth)), nth);
        }
        assert_eq!((step(31 << 22), step(u64::MAX)), (STEPS - 1, STEPS - 1));
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let all = of(&(1..=1000).collect::<Vec<_>>());
        assert_eq!((all.count(), all.mean(), all.max()), (1000, 500, 1000));
        for (millionths, exact) in
            [(500_000, 500), (900_000, 900), (990_000, 990), (1_000_000, 1000)]
        {
            let told = all.quantile(millionths);
            assert!(told >= exact && told <= exact + exact / 16 + 1, "{millionths}: {told}");
        }
        assert_eq!(all.at_most(31), 31);
        assert_eq!(Histogram::default().quantile(500_000), 0);
    }

    proptest! {
        #[test]
        fn parts_add_up_and_a_quantile_is_no_more_than_a_sixteenth_too_high(
            mut a in prop::collection::vec(0_u64..200_000_000, 1..50),
            b in prop::collection::vec(0_u64..200_000_000, 0..50),
            millionths in 1_u32..=1_000_000,
        ) {
            let mut sum = of(&a);
            let before = sum.clone();
            sum.add(&of(&b));
            let (came, own) = (sum.since(&before), of(&b));
            prop_assert_eq!((came.steps(), came.sum()), (own.steps(), own.sum()));
            a.extend(&b);
            prop_assert_eq!(&sum, &of(&a));
            a.sort_unstable();
            let rank = (a.len() * usize::try_from(millionths).unwrap()).div_ceil(1_000_000).max(1);
            let (exact, told) = (a[rank - 1], sum.quantile(millionths));
            prop_assert!(told >= exact, "{told} < {exact}");
            // Within the last step only the greatest value is known.
            prop_assert!(told <= exact + exact / 16 + 1 || step(exact) == STEPS - 1);
        }
    }
}
