//! Watches the memory of this process and has work refused before the system ends it.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::{drain::Drain, metrics::Metrics, room::Room};

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// From this part on, in percent, connections end with their next response.
const SCARCE: u64 = 92;
/// From this part on, requests are refused.
const USED_UP: u64 = 95;
/// Version 1 of control groups has a number as large as this where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// The memory that this process may have: what is wanted, else what its control groups allow. `None` where there is no limit.
pub(crate) fn limit(wanted: Option<u64>) -> Option<u64> {
    let limit = wanted.or_else(|| Room::default().most());
    limit.filter(|limit| (1..NO_LIMIT).contains(limit))
}

/// Watches until the task is dropped.
pub(crate) async fn watch(limit: u64, drain: Drain, metrics: Arc<Metrics>) {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        ticks.tick().await;
        let Some(resident) = resident(page) else { continue };
        let level = level(resident, limit);
        drain.press(level >= 1, level >= 2);
        metrics.pressure.set(level);
        if level > before {
            tracing::warn!(resident, limit, level, "memory is used up; clients are turned away");
        }
        before = level;
    }
}

/// 0, 1 where memory is scarce, 2 where it is used up.
fn level(resident: u64, limit: u64) -> i64 {
    let percent = resident.saturating_mul(100) / limit.max(1);
    i64::from(percent >= SCARCE) + i64::from(percent >= USED_UP)
}

/// The memory of this process in bytes, without what the system could read from files again; `None` where it does not tell.
fn resident(page: u64) -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = told.split_ascii_whitespace().skip(1).map(|number| number.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared).saturating_mul(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_later_than_connections_end() {
        assert_eq!([91, 92, 94, 95, 200].map(|used| level(used, 100)), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_limit_that_is_none_is_left_out() {
        assert_eq!(limit(Some(0)), None);
        assert_eq!(limit(Some(1 << 20)), Some(1 << 20));
        assert_eq!(limit(Some(u64::MAX)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_is_known() {
        assert!(resident(4096).unwrap() > 1 << 20);
    }
}
