//! One writer per snapshot: the newest upload stream takes over from an older one, whose connection may be dead without its knowing.
//! Whoever reads an upload while it grows hears of each piece that is durable.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Whose turn it is, by snapshot.
#[derive(Debug, Default)]
pub struct Uploads {
    slots: Mutex<HashMap<String, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    lock: Arc<tokio::sync::Mutex<()>>,
    newest: CancellationToken,
    growth: Arc<Growth>,
}

/// Tells readers that an upload has grown.
#[derive(Debug, Default)]
pub struct Growth {
    times: Mutex<u64>,
    grown: Condvar,
}

impl Growth {
    /// How often it has grown.
    #[must_use]
    pub fn times(&self) -> u64 {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has grown more often than that; says whether it has before the time was up.
    #[must_use]
    pub fn wait(&self, times: u64, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut now = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        while *now <= times {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.grown.wait_timeout(now, left);
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn grow(&self) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.grown.notify_all();
    }
}

/// The right to write to a snapshot, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    displaced: CancellationToken,
    growth: Arc<Growth>,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// Resolves when somebody else wants the turn.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Tells readers that more of the upload is durable.
    pub fn grown(&self) {
        self.growth.grow();
    }
}

impl Uploads {
    /// Asks whoever has the turn to give it up, and waits for it.
    pub async fn take_over(&self, snapshot: &str) -> Turn {
        let (lock, displaced, growth) = self.with_slot(snapshot, |slot| {
            slot.newest.cancel();
            slot.newest = CancellationToken::new();
            (Arc::clone(&slot.lock), slot.newest.clone(), Arc::clone(&slot.growth))
        });
        Turn { displaced, growth, _guard: lock.lock_owned().await }
    }

    /// How the uploads to a snapshot grow, whoever has the turn.
    pub fn growth(&self, snapshot: &str) -> Arc<Growth> {
        self.with_slot(snapshot, |slot| Arc::clone(&slot.growth))
    }

    fn with_slot<T>(&self, snapshot: &str, get: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let used = |slot: &Slot| Arc::strong_count(&slot.lock).max(Arc::strong_count(&slot.growth));
        slots.retain(|name, slot| name == snapshot || used(slot) > 1);
        get(slots.entry(snapshot.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_gets_the_turn_when_the_older_gives_it_up() {
        let uploads = Arc::new(Uploads::default());
        let first = uploads.take_over("a").await;
        let other = uploads.take_over("b").await;
        let second = tokio::spawn({
            let uploads = Arc::clone(&uploads);
            async move { uploads.take_over("a").await }
        });
        first.displaced().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        drop(other);
        drop(uploads.take_over("c").await);
        assert_eq!(uploads.slots.lock().unwrap().len(), 1, "slots without users go");
    }

    #[tokio::test]
    async fn who_reads_along_hears_of_growth() {
        let uploads = Arc::new(Uploads::default());
        let growth = uploads.growth("a");
        assert!(!growth.wait(growth.times(), Duration::ZERO));
        let turn = uploads.take_over("a").await;
        let before = growth.times();
        let waits = tokio::task::spawn_blocking({
            let growth = Arc::clone(&growth);
            move || growth.wait(before, Duration::from_secs(60))
        });
        turn.grown();
        assert!(waits.await.unwrap());
        drop((turn, growth));
        drop(uploads.growth("b"));
        assert_eq!(uploads.slots.lock().unwrap().len(), 1, "slots without users go");
    }
}
