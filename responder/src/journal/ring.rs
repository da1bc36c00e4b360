//! The last entries of one worker, bounded in number and in bytes.

use super::pack::Packed;

/// The entries, in places that are used again and again.
#[derive(Debug)]
pub(super) struct Ring {
    places: Vec<Packed>,
    /// Where the oldest entry is.
    oldest: usize,
    kept: usize,
    most: usize,
    bytes: usize,
    most_bytes: usize,
}

impl Ring {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { places: Vec::new(), oldest: 0, kept: 0, most: most.max(1), bytes: 0, most_bytes }
    }

    /// Adds an entry, which `fill` makes of an old one or of an empty one.
    pub(super) fn push(&mut self, fill: impl FnOnce(&mut Packed)) {
        if self.kept == self.most {
            self.forget(Packed::trim);
        }
        let free = self.place(self.kept);
        if free == self.places.len() {
            self.places.push(Packed::default());
        }
        if let Some(packed) = self.places.get_mut(free) {
            fill(packed);
            self.bytes += packed.size();
            self.kept += 1;
        }
        while self.bytes > self.most_bytes && self.kept > 0 {
            self.forget(|packed| *packed = Packed::default());
        }
    }

    /// The place of an entry by its age. Places are taken one after the other, so that the next free one is at most the end of those there are.
    fn place(&self, nth: usize) -> usize {
        let place = self.oldest + nth;
        if place < self.most { place } else { place - self.most }
    }

    fn forget(&mut self, what: impl FnOnce(&mut Packed)) {
        if let Some(packed) = self.places.get_mut(self.oldest) {
            self.bytes = self.bytes.saturating_sub(packed.size());
            what(packed);
        }
        self.oldest = self.place(1);
        self.kept -= 1;
    }

    /// A copy of all entries.
    pub(super) fn copy(&self) -> Vec<Packed> {
        let places = (0..self.kept).map(|nth| self.place(nth));
        places.filter_map(|place| self.places.get(place).cloned()).collect()
    }

    /// A copy of the last entries, so many at the most.
    pub(super) fn newest(&self, most: usize) -> Vec<Packed> {
        let places = (self.kept.saturating_sub(most)..self.kept).map(|nth| self.place(nth));
        places.filter_map(|place| self.places.get(place).cloned()).collect()
    }

    /// Forgets all entries; returns how many they were.
    pub(super) fn clear(&mut self) -> usize {
        let kept = self.kept;
        *self = Self::new(self.most, self.most_bytes);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, at: i64) {
        ring.push(|packed| packed.at = at);
    }

    fn kept(ring: &Ring) -> Vec<i64> {
        ring.copy().iter().map(|packed| packed.at).collect()
    }

    #[test]
    fn the_last_entries_are_kept_in_their_order() {
        let mut ring = Ring::new(3, usize::MAX);
        for at in 0..8 {
            push(&mut ring, at);
            let first = (at - 2).max(0);
            assert_eq!(kept(&ring), (first..=at).collect::<Vec<_>>());
            let newest: Vec<i64> = ring.newest(2).iter().map(|packed| packed.at).collect();
            assert_eq!(newest, (first.max(at - 1)..=at).collect::<Vec<_>>());
        }
        assert_eq!(ring.clear(), 3);
        push(&mut ring, 9);
        assert_eq!(kept(&ring), [9]);
    }

    #[test]
    fn no_more_bytes_are_kept_than_may_be() {
        let one = Packed::default().size();
        let mut ring = Ring::new(5, 2 * one);
        for at in 0..20 {
            push(&mut ring, at);
            assert_eq!(kept(&ring), ((at - 1).max(0)..=at).collect::<Vec<_>>());
            assert!(ring.bytes <= 2 * one);
        }
        let mut none = Ring::new(5, 0);
        push(&mut none, 1);
        assert!(kept(&none).is_empty());
    }
}
