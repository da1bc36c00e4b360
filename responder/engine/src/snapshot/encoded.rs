//! A recording as it is stored, of which one pair at a time is read: all of them at once would take several times the memory.

use bytes::Bytes;

use super::{
    Direction, RrPair, Serve, ordinals,
    wire::{self, Part, WireError},
};

/// The chunks of a recording, and where in them each pair lies.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Each with the number of its pairs that were not taken yet.
    chunks: Vec<(Bytes, usize)>,
    pairs: Vec<Place>,
}

/// Where a pair lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    ordinal: u64,
    chunk: u32,
    start: u32,
    len: u32,
    direction: Direction,
}

impl Encoded {
    /// Looks through chunks for pairs. The [`ordinals`] of all of them, chunk after chunk, lie beside; in the first layout each pair holds its own.
    ///
    /// # Errors
    /// When the bytes are no chunks or ordinals, or too large for one.
    pub fn open(
        chunks: impl IntoIterator<Item = Bytes>,
        ordinals: Option<&[u8]>,
    ) -> Result<Self, WireError> {
        let mut encoded = Self::default();
        for chunk in chunks {
            for chunk in wire::plain_chunks(chunk)? {
                encoded.add(chunk)?;
            }
        }
        if let Some(bytes) = ordinals {
            let ordinals = ordinals::decode(bytes, encoded.pairs.len())?;
            encoded.pairs.iter_mut().zip(ordinals).for_each(|(pair, own)| pair.ordinal = own);
        }
        Ok(encoded)
    }

    fn add(&mut self, chunk: Bytes) -> Result<(), WireError> {
        let range = || WireError::Range { what: "chunk" };
        let number = u32::try_from(self.chunks.len()).map_err(|_| range())?;
        let before = self.pairs.len();
        for span in wire::spans(&chunk) {
            let bytes = chunk.get(span.clone()).unwrap_or_default();
            let (ordinal, direction) = wire::place(&chunk, bytes)?;
            let start = u32::try_from(span.start).map_err(|_| range())?;
            let len = u32::try_from(span.len()).map_err(|_| range())?;
            self.pairs.push(Place { ordinal, chunk: number, start, len, direction });
        }
        self.chunks.push((chunk, self.pairs.len() - before));
        Ok(())
    }

    /// Counts the pairs of each chunk anew, after some were left out.
    fn count(&mut self) {
        let mut left = vec![0_usize; self.chunks.len()];
        for pair in &self.pairs {
            let nth = usize::try_from(pair.chunk).ok();
            if let Some(left) = nth.and_then(|nth| left.get_mut(nth)) {
                *left += 1;
            }
        }
        for ((chunk, count), left) in self.chunks.iter_mut().zip(left) {
            *count = left;
            if left == 0 {
                *chunk = Bytes::new();
            }
        }
    }

    /// The chunk of a place, and the pair within it.
    fn bytes(&self, place: Place) -> Option<(&Bytes, &[u8])> {
        let (chunk, _) = self.chunks.get(usize::try_from(place.chunk).ok()?)?;
        let start = usize::try_from(place.start).ok()?;
        let pair = chunk.get(start..start.checked_add(usize::try_from(place.len).ok()?)?)?;
        touch(pair);
        Some((chunk, pair))
    }

    /// Forgets a pair, and its chunk with the last of them.
    fn forget(&mut self, place: Place) {
        let nth = usize::try_from(place.chunk).ok();
        if let Some((chunk, left)) = nth.and_then(|nth| self.chunks.get_mut(nth)) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *chunk = Bytes::new();
            }
        }
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// Pairs, read already or yet to be read, in two orders: as they were recorded, and as they lie.
#[derive(Debug)]
pub(crate) struct Pairs {
    held: Held,
    /// Where the pairs lie, in recorded order.
    order: Vec<usize>,
    /// Their numbers in recorded order, as they lie.
    numbers: Vec<usize>,
}

#[derive(Debug)]
enum Held {
    Read(Vec<RrPair>),
    Encoded(Encoded),
}

impl Pairs {
    /// Those of these pairs that are served.
    pub(crate) fn of(mut pairs: Vec<RrPair>, serve: Serve) -> Self {
        pairs.retain(|pair| serve.includes(pair.direction));
        pairs.sort_by_key(|pair| pair.ordinal);
        let order: Vec<usize> = (0..pairs.len()).collect();
        Self { held: Held::Read(pairs), numbers: order.clone(), order }
    }

    /// Those pairs of a recording that are served.
    pub(crate) fn of_encoded(mut encoded: Encoded, serve: Serve) -> Self {
        let all = encoded.pairs.len();
        encoded.pairs.retain(|pair| serve.includes(pair.direction));
        if encoded.pairs.len() < all {
            encoded.count();
        }
        let order = recorded_order(&encoded.pairs);
        let mut numbers = vec![0; order.len()];
        for (nth, at) in order.iter().enumerate() {
            if let Some(number) = numbers.get_mut(*at) {
                *number = nth;
            }
        }
        Self { held: Held::Encoded(encoded), order, numbers }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The pairs, where they were read already.
    pub(crate) fn into_read(self) -> Vec<RrPair> {
        match self.held {
            Held::Read(pairs) => pairs,
            Held::Encoded(_) => Vec::new(),
        }
    }

    /// A part of a pair by its number, or more of it, read into `room` if it was not read yet. One that cannot be read is empty until it is
    /// taken.
    pub(crate) fn get<'p>(&'p self, nth: usize, part: Part, room: &'p mut RrPair) -> &'p RrPair {
        self.at(self.place(nth), part, room)
    }

    /// The same by where it lies. What lies side by side is read much faster than what was recorded one after the other.
    pub(crate) fn at<'p>(&'p self, at: usize, part: Part, room: &'p mut RrPair) -> &'p RrPair {
        let encoded = match &self.held {
            Held::Read(pairs) => return pairs.get(at).unwrap_or(room),
            Held::Encoded(encoded) => encoded,
        };
        let read = encoded.pairs.get(at).is_some_and(|place| {
            let Some((chunk, pair)) = encoded.bytes(*place) else { return false };
            let read = wire::read_into(chunk, pair, part, room).is_ok();
            room.ordinal = place.ordinal;
            read
        });
        if !read {
            *room = RrPair::default();
        }
        room
    }

    /// The number of the pair that lies there.
    pub(crate) fn number(&self, at: usize) -> usize {
        self.numbers.get(at).copied().unwrap_or_default()
    }

    fn place(&self, nth: usize) -> usize {
        self.order.get(nth).copied().unwrap_or(usize::MAX)
    }

    /// Reads a pair into `room`; it is not here any more afterwards.
    pub(crate) fn take(&mut self, nth: usize, room: &mut RrPair) -> Result<(), WireError> {
        let at = self.place(nth);
        match &mut self.held {
            Held::Read(pairs) => {
                *room = pairs.get_mut(at).map(std::mem::take).unwrap_or_default();
                Ok(())
            }
            Held::Encoded(encoded) => {
                let Some(place) = encoded.pairs.get(at).copied() else { return Ok(()) };
                let Some((chunk, pair)) = encoded.bytes(place) else { return Ok(()) };
                let read = wire::read_into(chunk, pair, Part::Whole, room);
                room.ordinal = place.ordinal;
                encoded.forget(place);
                read
            }
        }
    }

    /// Forgets the pair that lies there.
    pub(crate) fn forget(&mut self, at: usize) {
        match &mut self.held {
            Held::Read(pairs) => drop(pairs.get_mut(at).map(std::mem::take)),
            Held::Encoded(encoded) => {
                if let Some(place) = encoded.pairs.get(at).copied() {
                    encoded.forget(place);
                }
            }
        }
    }
}

/// Where the pairs lie, in recorded order. Ordinals mostly are the numbers of all pairs, each once, so that nothing has to be sorted.
fn recorded_order(pairs: &[Place]) -> Vec<usize> {
    const NOBODY: usize = usize::MAX;
    let last = pairs.iter().map(|pair| pair.ordinal).max().unwrap_or_default();
    let last = usize::try_from(last).unwrap_or(usize::MAX);
    if last < pairs.len().saturating_mul(4).saturating_add(64) {
        let mut order = vec![NOBODY; last + 1];
        let alone = pairs.iter().enumerate().all(|(at, pair)| {
            let place = usize::try_from(pair.ordinal).ok().and_then(|nth| order.get_mut(nth));
            place.is_some_and(|place| std::mem::replace(place, at) == NOBODY)
        });
        if alone {
            order.retain(|at| *at != NOBODY);
            return order;
        }
    }
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|at| pairs.get(*at).map(|pair| pair.ordinal));
    order
}

/// Brings bytes near that lie anywhere in memory, all of them at a time: whoever reads field after field waits for each anew.
fn touch(bytes: &[u8]) {
    const LINE: usize = 64;
    let sum = bytes.iter().step_by(LINE).fold(0, |sum: u8, byte| sum ^ byte);
    std::hint::black_box(sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_come_in_recorded_order(ordinals in prop::collection::vec(0..30_u64, 0..20), wide in any::<bool>()) {
            let place = |ordinal: &u64| Place {
                ordinal: if wide { ordinal << 40 } else { *ordinal },
                chunk: 0,
                start: 0,
                len: 0,
                direction: Direction::Out,
            };
            let places: Vec<Place> = ordinals.iter().map(place).collect();
            let mut sorted: Vec<usize> = (0..places.len()).collect();
            sorted.sort_by_key(|at| ordinals[*at]);
            prop_assert_eq!(recorded_order(&places), sorted);
        }
    }
}
