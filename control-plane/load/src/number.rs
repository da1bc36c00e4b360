//! Numbers between the worlds of counters and of ratios.

use std::time::Duration;

/// A count as a ratio's part. Above 2^53 it is rounded.
pub(crate) fn float(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high).mul_add(4_294_967_296.0, f64::from(low))
}

/// Microseconds, as histograms hold them.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A length as a count.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Part of all in percent; `None` of nothing.
pub(crate) fn percent(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| float(part) * 100.0 / float(all))
}

/// A time that is not negative and not endless.
pub(crate) fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_ratios() {
        assert!((float((1 << 40) + 7) - 1_099_511_627_783.0).abs() < 0.5);
        assert_eq!(percent(1, 0), None);
        assert!((percent(1, 4).unwrap() - 25.0).abs() < 1e-9);
        assert_eq!(seconds(-1.0), Duration::ZERO);
        assert_eq!(seconds(f64::INFINITY), Duration::MAX);
    }
}
