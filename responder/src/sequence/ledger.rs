//! A register that several tasks use, with a way to wait until it changes, and a breaker that spares requests a wait that will be in vain.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_engine::turns::ListId;
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::Instant,
};

use super::register::Register;

/// How long a request waits for its turn at most.
pub(crate) const PATIENCE: Duration = Duration::from_millis(2500);
/// For how long nobody waits after somebody has waited in vain.
const PAUSE: Duration = Duration::from_secs(1);
/// So many lists may be leased at a time.
const ROOMS: usize = 64;

/// The turns of one replay.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) replay: Arc<str>,
    register: Mutex<Register>,
    changes: watch::Sender<u64>,
    breaker: Breaker,
    rooms: Vec<Semaphore>,
    /// The lists of the version that is served, and of the one before.
    versions: Mutex<[HashSet<ListId>; 2]>,
}

/// Lets one request wait now and then, while waiting is in vain.
#[derive(Debug)]
struct Breaker {
    begin: Instant,
    /// In milliseconds since then; 0 while it is closed.
    until: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(replay: &str, session: &Arc<str>) -> Self {
        Self {
            replay: replay.into(),
            register: Mutex::new(Register::new(session)),
            changes: watch::Sender::new(0),
            breaker: Breaker { begin: Instant::now(), until: AtomicU64::new(0) },
            rooms: (0..ROOMS).map(|_| Semaphore::new(1)).collect(),
            versions: Mutex::default(),
        }
    }

    /// The register, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that others wait for.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Register) -> T) -> T {
        let changed = change(&mut self.lock());
        self.breaker.close();
        self.changes.send_modify(|change| *change = change.wrapping_add(1));
        changed
    }

    /// Forgets lists when another version is served. Those of the last version stay, since other nodes may serve it still.
    pub(crate) fn serve(&self, lists: HashSet<ListId>) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let [now, before] = &mut *versions;
        if *now != lists {
            *before = mem::replace(now, lists);
            self.lock().retain(|list| now.contains(&list) || before.contains(&list));
        }
    }

    /// The lists of the version that is served.
    pub(crate) fn lists(&self) -> Vec<ListId> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let [now, _] = &*versions;
        now.iter().copied().collect()
    }

    /// Hears of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// For how long somebody who comes now waits.
    pub(crate) fn patience(&self) -> Duration {
        if self.breaker.may_wait(Instant::now()) { PATIENCE } else { Duration::ZERO }
    }

    /// Somebody got a turn.
    pub(crate) fn found(&self) {
        self.breaker.close();
    }

    /// Somebody has waited in vain; tells whether it is the first.
    pub(crate) fn missed(&self) -> bool {
        self.breaker.open(Instant::now())
    }

    /// Lets one at a time lease turns of a list.
    pub(crate) async fn room(&self, list: ListId) -> Option<SemaphorePermit<'_>> {
        let nth = usize::try_from(list.number()).unwrap_or_default() % ROOMS;
        self.rooms.get(nth)?.acquire().await.ok()
    }
}

impl Breaker {
    fn at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.begin).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn may_wait(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let next = self.at(now + PATIENCE);
        let (order, other) = (Ordering::Relaxed, Ordering::Relaxed);
        self.at(now) >= until && self.until.compare_exchange(until, next, order, other).is_ok()
    }

    fn open(&self, now: Instant) -> bool {
        self.until.swap(self.at(now + PAUSE), Ordering::Relaxed) == 0
    }

    fn close(&self) {
        // Mostly it is closed, and then its memory stays shared.
        if self.until.load(Ordering::Relaxed) != 0 {
            self.until.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_now_and_then_while_waiting_is_in_vain() {
        let begin = Instant::now();
        let breaker = Breaker { begin, until: AtomicU64::new(0) };
        let at = |millis: u64| begin + Duration::from_millis(millis);
        assert!(breaker.may_wait(at(0)) && breaker.may_wait(at(0)));
        assert!(breaker.open(at(2500)), "the first");
        assert!(!breaker.open(at(2500)));
        assert!(!breaker.may_wait(at(3000)));
        assert!(breaker.may_wait(at(3600)));
        assert!(!breaker.may_wait(at(3600)), "another one tries already");
        assert!(breaker.may_wait(at(6200)), "that one has come to nothing, not even a failure");
        breaker.close();
        assert!(breaker.may_wait(at(6200)) && breaker.may_wait(at(6200)));
    }
}
