//! Lists of answers whose turns several nodes share: what tells such a list apart, and the turns that this node has leased.
//!
//! The engine holds no shared cursor: it says which list a request needs a turn of, and answers once it is told the turn.

use std::fmt;

use crate::{
    identity::IdentityId,
    sync::{AtomicU64, Ordering},
};

/// Tells a list of answers apart: the same on every node, and in every version of a replay that has the same answers in the same order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId([u8; Self::LENGTH]);

impl ListId {
    /// How many bytes it has.
    pub const LENGTH: usize = 16;

    /// The list of these answers under this signature.
    pub(crate) fn of(signature: &[u8], answers: impl Iterator<Item = u64>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(signature);
        // The length parts signature and answers, which may be any bytes.
        hasher.update(&u64::try_from(signature.len()).unwrap_or(u64::MAX).to_le_bytes());
        for answer in answers {
            hasher.update(&answer.to_le_bytes());
        }
        let mut id = [0; Self::LENGTH];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// Those of them that are one identity's, recorded in one epoch.
    pub(crate) fn of_run(
        signature: &[u8],
        (identity, epoch): (IdentityId, u32),
        answers: impl Iterator<Item = u64>,
    ) -> Self {
        let identity = u64::try_from(identity.index()).unwrap_or(u64::MAX);
        let whose = [identity.to_le_bytes(), u64::from(epoch).to_le_bytes()].concat();
        Self::of(&[signature, &whose].concat(), answers)
    }

    /// What tells how far an identity is, which is no list, but is kept as one is.
    pub(crate) fn of_progress(identity: IdentityId) -> Self {
        Self::of_run(b"progress", (identity, 0), std::iter::empty())
    }

    /// The list with these bytes; `None` when there are not as many as there should be.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A number that is spread evenly over all lists.
    #[must_use]
    pub fn number(&self) -> u64 {
        let [head @ .., _, _, _, _, _, _, _, _] = self.0;
        u64::from_le_bytes(head)
    }
}

impl fmt::Display for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ListId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A list whose turns are shared.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: ListId,
    /// How many cycles of it are leased at a time; `None` where turns are taken one by one, in one order.
    pub(crate) cycles: Option<u32>,
    pub(crate) lease: Lease,
}

impl Shared {
    pub(crate) fn new(id: ListId, cycles: Option<u32>) -> Self {
        Self { id, cycles, lease: Lease::default() }
    }
}

/// Turns that this node may take without asking: whole cycles of a list, of which the first may have begun.
#[derive(Debug, Default)]
pub(crate) struct Lease(AtomicU64);

impl Lease {
    /// Takes the next turn in a list of this length, if one is left.
    pub(crate) fn take(&self, len: usize) -> Option<usize> {
        let less = |left: u64| left.checked_sub(1);
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(turn(left, len))
    }

    /// The turn that is taken next, whether it is leased already or not.
    pub(crate) fn peek(&self, len: usize) -> usize {
        turn(self.0.load(Ordering::Relaxed), len)
    }

    /// Adds whole cycles. That they are whole keeps the place in the cycle that has begun.
    pub(crate) fn add(&self, turns: u64) {
        self.0.fetch_add(turns, Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The place in a cycle at which so many turns are left of whole cycles.
fn turn(left: u64, len: usize) -> usize {
    let behind = u64::try_from(len).ok().and_then(|len| left.checked_rem(len)).unwrap_or_default();
    match usize::try_from(behind) {
        Ok(0) | Err(_) => 0,
        Ok(behind) => len.saturating_sub(behind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_differ_by_signature_and_by_answers_and_their_order() {
        let of = |signature: &str, answers: &[u64]| {
            ListId::of(signature.as_bytes(), answers.iter().copied())
        };
        let list = of("GET /a", &[1, 2, 3]);
        assert_eq!(list, of("GET /a", &[1, 2, 3]));
        for other in [of("GET /b", &[1, 2, 3]), of("GET /a", &[1, 3, 2]), of("GET /a", &[1, 2])] {
            assert_ne!(list, other);
        }
        assert_eq!(ListId::from_bytes(list.as_bytes()), Some(list));
        assert_eq!(ListId::from_bytes(b"short"), None);
        assert_eq!(list.to_string().len(), 32);
    }

    #[test]
    fn leased_turns_are_whole_cycles_however_they_come() {
        let lease = Lease::default();
        assert_eq!((lease.take(3), lease.peek(3)), (None, 0));
        lease.add(3);
        assert_eq!([lease.take(3), lease.take(3)], [Some(0), Some(1)]);
        lease.add(6);
        let rest: Vec<_> = std::iter::from_fn(|| lease.take(3)).collect();
        assert_eq!(rest, [2, 0, 1, 2, 0, 1, 2]);
        lease.add(3);
        lease.reset();
        assert_eq!(lease.take(3), None);
    }

    #[test]
    fn many_at_once_take_each_leased_turn_once() {
        let lease = Lease::default();
        lease.add(3 * 1000);
        let mut taken = std::thread::scope(|threads| {
            let take = || std::iter::from_fn(|| lease.take(3)).collect::<Vec<_>>();
            let running: Vec<_> = (0..8).map(|_| threads.spawn(take)).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        taken.sort_unstable();
        let expected = (0..3).flat_map(|turn| std::iter::repeat_n(turn, 1000));
        assert!(taken.into_iter().eq(expected));
    }
}
