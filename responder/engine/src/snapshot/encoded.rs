//! A recording as it is stored, of which one pair at a time is read: all of them at once would take several times the memory.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    Direction, RrPair, Serve,
    wire::{self, Part, WireError},
};

/// The chunks of a recording, and where in them each pair lies.
#[derive(Debug, Default)]
pub struct Encoded {
    pairs: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    ordinal: u64,
    direction: Direction,
    bytes: Bytes,
}

impl Encoded {
    /// Looks through chunks for pairs.
    ///
    /// # Errors
    /// When the bytes are no chunks.
    pub fn open(chunks: impl IntoIterator<Item = Bytes>) -> Result<Self, WireError> {
        let mut pairs = Vec::new();
        for chunk in chunks {
            for bytes in wire::split_chunk(&chunk)? {
                let (ordinal, direction) = wire::place(&bytes)?;
                pairs.push(Place { ordinal, direction, bytes });
            }
        }
        pairs.sort_by_key(|pair| pair.ordinal);
        Ok(Self { pairs })
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

/// Pairs in recorded order, read already or yet to be read.
#[derive(Debug)]
pub(crate) enum Pairs {
    Read(Vec<RrPair>),
    Encoded(Encoded),
}

impl Pairs {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Read(pairs) => pairs.len(),
            Self::Encoded(encoded) => encoded.len(),
        }
    }

    /// Leaves those out that are not served, and brings the others into recorded order.
    pub(crate) fn prepare(&mut self, serve: Serve) {
        match self {
            Self::Read(pairs) => {
                pairs.retain(|pair| serve.includes(pair.direction));
                pairs.sort_by_key(|pair| pair.ordinal);
            }
            Self::Encoded(encoded) => encoded.pairs.retain(|pair| serve.includes(pair.direction)),
        }
    }

    /// A part of a pair, or more of it. One that cannot be read is empty until it is taken.
    pub(crate) fn get(&self, nth: usize, part: Part) -> Cow<'_, RrPair> {
        match self {
            Self::Read(pairs) => pairs.get(nth).map(Cow::Borrowed).unwrap_or_default(),
            Self::Encoded(encoded) => {
                let place = encoded.pairs.get(nth);
                let read = place.and_then(|place| wire::read(&place.bytes, part).ok());
                Cow::Owned(read.unwrap_or_default())
            }
        }
    }

    /// A pair, which is not there any more afterwards.
    pub(crate) fn take(&mut self, nth: usize) -> Result<RrPair, WireError> {
        match self {
            Self::Read(pairs) => Ok(pairs.get_mut(nth).map(std::mem::take).unwrap_or_default()),
            Self::Encoded(encoded) => {
                let bytes =
                    encoded.pairs.get_mut(nth).map(|place| std::mem::take(&mut place.bytes));
                wire::read(&bytes.unwrap_or_default(), Part::Whole)
            }
        }
    }
}
