//! Signatures in the order of their paths: what is near a request stands beside the place where its own signature would.
//!
//! A recording may have a million signatures, and a miss must not cost a look at each. Beside each other stand those of one path, among
//! them those of one method and host, and then paths that begin alike.

use std::cmp::Ordering;

use super::keys;
use crate::{index::Index, signature::entries_of};

/// So many signatures are compared on either side of a request's place.
const REACH: usize = 128;

/// The numbers of all signatures, in order.
#[derive(Debug)]
pub(crate) struct Order(Box<[u32]>);

/// What signatures are ordered by: path, method, host, and then everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'s> {
    path: &'s [u8],
    method: &'s [u8],
    host: &'s [u8],
    all: &'s [u8],
}

impl<'s> Place<'s> {
    fn of(signature: &'s [u8]) -> Self {
        let mut place = Self { path: &[], method: &[], host: &[], all: signature };
        for (key, value) in entries_of(signature) {
            match key {
                keys::URL => place.path = value,
                keys::METHOD => place.method = value,
                keys::HOST => place.host = value,
                _ => {}
            }
        }
        place
    }
}

impl Order {
    /// Puts the signatures of an index in order.
    pub(crate) fn of(index: &Index) -> Self {
        let numbered = (0u32..).zip(index.entries());
        let mut all: Vec<(&[u8], u32, &[u8])> = numbered
            .map(|(nth, (signature, _))| (Place::of(signature).path, nth, signature))
            .collect();
        // Paths mostly tell signatures apart, and the rest of a place takes longer to find than to compare.
        all.sort_unstable_by(|(path, _, signature), (other, _, others)| {
            path.cmp(other).then_with(|| Place::of(signature).cmp(&Place::of(others)))
        });
        Self(all.into_iter().map(|(_, nth, _)| nth).collect())
    }

    /// The numbers of the signatures around the place of this one.
    pub(super) fn around(&self, signature: &[u8], index: &Index) -> &[u32] {
        let own = Place::of(signature);
        let before = |nth: &u32| {
            let nth = usize::try_from(*nth).ok();
            let entry = nth.and_then(|nth| index.entry(nth));
            entry.is_some_and(|entry| Place::of(entry.signature()).cmp(&own) == Ordering::Less)
        };
        let at = self.0.partition_point(before);
        // At an end, what is missing on one side is looked at on the other.
        let to = self.0.len().min(at.saturating_sub(REACH) + 2 * REACH);
        self.0.get(to.saturating_sub(2 * REACH)..to).unwrap_or_default()
    }
}
