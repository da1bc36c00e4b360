//! The memory that the bodies of all requests together take while they are read.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// So much of each body is not counted: most bodies are small, and counting them would cost more than it spares.
const FREE: usize = 64 * 1024;

/// What is left of the memory for bodies.
#[derive(Debug)]
pub(crate) struct Bodies(AtomicUsize);

/// What one body has taken of it; dropped, it is there for others.
#[derive(Debug)]
pub(crate) struct Held {
    bodies: Arc<Bodies>,
    bytes: usize,
}

/// There is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Bodies {
    /// So many bytes for all.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// Counts a body that has come to be so large, of which so much was counted before.
    pub(crate) fn hold(
        self: &Arc<Self>,
        held: &mut Option<Held>,
        size: usize,
    ) -> Result<(), Exhausted> {
        if size <= FREE {
            return Ok(());
        }
        let held = held.get_or_insert_with(|| Held { bodies: Arc::clone(self), bytes: 0 });
        let more = (size - FREE).saturating_sub(held.bytes);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
        taken.map_err(|_| Exhausted)?;
        held.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let bodies = Bodies::new(100);
        let (mut one, mut two) = (None, None);
        assert_eq!(bodies.hold(&mut one, FREE), Ok(()));
        assert!(one.is_none());
        assert_eq!(bodies.hold(&mut one, FREE + 60), Ok(()));
        assert_eq!(bodies.hold(&mut two, FREE + 50), Err(Exhausted));
        assert_eq!(bodies.hold(&mut two, FREE + 40), Ok(()));
        assert_eq!(bodies.hold(&mut one, FREE + 61), Err(Exhausted));
        drop(two);
        assert_eq!(bodies.hold(&mut one, FREE + 100), Ok(()));
        drop(one);
        assert_eq!(bodies.0.load(Ordering::Relaxed), 100);
    }
}
