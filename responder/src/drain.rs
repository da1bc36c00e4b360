//! The end in three steps: first clients are told to go elsewhere with their next request; then there are no new connections, and what is in
//! flight finishes; then, when time is up, everything is dropped.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// In the flags: the process is about to end.
const LEAVING: u8 = 1;
/// Memory is scarce.
const PRESSED: u8 = 2;
/// Memory is used up.
const REFUSING: u8 = 4;

/// Tells workers and connections to end.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    flags: Arc<AtomicU8>,
    /// Ends the connections that are open by now, at the latest when no more may be taken.
    round: Arc<Mutex<CancellationToken>>,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Default for Drain {
    fn default() -> Self {
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let round = Arc::new(Mutex::new(stop.child_token()));
        Self { flags: Arc::default(), round, stop, kill }
    }
}

impl Drain {
    /// Whether each connection is to end with the next response. A connection that were closed while it is idle could be closed under a request that is under way.
    pub(crate) fn is_leaving(&self) -> bool {
        self.flags.load(Ordering::Relaxed) != 0
    }

    /// Has connections end with their next response.
    pub(crate) fn leave(&self) {
        self.flags.fetch_or(LEAVING, Ordering::Relaxed);
    }

    /// Whether requests are refused, for want of memory.
    pub(crate) fn is_refusing(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & REFUSING != 0
    }

    /// Has connections end with their next response while memory is scarce, those that are idle when it comes to be so at once, and requests refused
    /// while it is used up.
    pub(crate) fn press(&self, scarce: bool, used_up: bool) {
        let was_scarce = self.flags.load(Ordering::Relaxed) & PRESSED != 0;
        for (flag, is_set) in [(PRESSED, scarce), (REFUSING, used_up)] {
            if is_set {
                self.flags.fetch_or(flag, Ordering::Relaxed);
            } else {
                self.flags.fetch_and(!flag, Ordering::Relaxed);
            }
        }
        if scarce && !was_scarce {
            let next = self.stop.child_token();
            let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *round, next).cancel();
        }
    }

    /// Completes when a connection that is open by now has to end once it is idle.
    pub(crate) async fn ending(&self) {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner).clone();
        round.cancelled().await;
    }

    /// Completes when no new connections and requests may be taken.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Completes when time is up.
    pub(crate) async fn killed(&self) {
        self.kill.cancelled().await;
    }

    /// Drops everything at once.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
        self.kill.cancel();
    }

    /// Stops, waits for `ended` for so long, then drops what is left; tells whether nothing had to be dropped.
    pub(crate) async fn run(&self, limit: Duration, ended: impl Future<Output = ()>) -> bool {
        tokio::pin!(ended);
        self.stop.cancel();
        let clean = tokio::time::timeout(limit, ended.as_mut()).await.is_ok();
        self.kill.cancel();
        if !clean {
            ended.await;
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_in_time_is_not_killed() {
        let drain = Drain::default();
        let stopping = drain.clone();
        assert!(drain.run(Duration::from_secs(60), async move { stopping.stopping().await }).await);
    }

    #[tokio::test]
    async fn connections_end_when_memory_comes_to_be_scarce_and_when_no_more_may_be_taken() {
        let drain = Drain::default();
        let first = drain.clone();
        let first = tokio::spawn(async move { first.ending().await });
        tokio::task::yield_now().await;
        drain.press(true, false);
        first.await.unwrap();
        assert!(drain.is_leaving() && !drain.is_refusing());
        let second = drain.clone();
        let second = tokio::spawn(async move { second.ending().await });
        tokio::task::yield_now().await;
        drain.press(true, true);
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && drain.is_refusing());
        drain.press(false, false);
        assert!(!drain.is_leaving() && !drain.is_refusing());
        drain.kill();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed() {
        let drain = Drain::default();
        let killed = drain.clone();
        assert!(!drain.run(Duration::from_millis(1), async move { killed.killed().await }).await);
    }
}
