//! One writer per snapshot: the newest upload stream takes over from an older one, whose connection may be dead without its knowing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
}

/// The right to write to a snapshot, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    displaced: CancellationToken,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// Resolves when somebody else wants the turn.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Uploads {
    /// Asks whoever has the turn to give it up, and waits for it.
    pub async fn take_over(&self, snapshot: &str) -> Turn {
        let (lock, displaced) = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|name, slot| name == snapshot || Arc::strong_count(&slot.lock) > 1);
            let slot = slots.entry(snapshot.to_owned()).or_default();
            slot.newest.cancel();
            slot.newest = CancellationToken::new();
            (Arc::clone(&slot.lock), slot.newest.clone())
        };
        Turn { displaced, _guard: lock.lock_owned().await }
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
}
