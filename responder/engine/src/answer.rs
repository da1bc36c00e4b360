//! Answers: what comes back for a request, and how it is put together from recorded bytes and freshly made values.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

pub use crate::chaos::{Fate, Touched};
use crate::scratch;

/// What the engine says to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A recorded response, current again.
    Hit(Hit),
    /// Nothing was recorded for such a request.
    Miss,
}

/// A response to send.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The status code.
    pub status: u16,
    /// The header fields, without those of the connection, `content-length` and `date`, which the server makes.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// How many tokens in it were re-signed.
    pub resigned: u32,
    /// How many tokens in it are served as recorded, because their key cannot sign.
    pub unsigned: u32,
    /// How long it is held back before it is sent.
    pub delay: Duration,
    /// The fields behind the body; `None` when there are none.
    pub trailers: Option<Box<HeaderMap>>,
    /// Where it comes from; `None` when it was not recorded.
    pub origin: Option<Origin>,
    /// What chaos has done to it; `None` when it is untouched.
    pub touched: Option<Box<Touched>>,
}

/// The recorded pair that an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its position in the recording.
    pub ordinal: u64,
    /// It is one of several, and none of them was recorded for whoever asks.
    pub borrowed: bool,
    /// It changes what nodes share of an identity; they have to be told before it is sent, see [`crate::serving::Serving::moved`].
    pub moved: bool,
    /// Its number in the snapshot.
    pub(crate) instance: usize,
}

impl Hit {
    /// A response without tokens, delay or trailers.
    #[must_use]
    pub fn new(status: u16, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            status,
            headers,
            body,
            resigned: 0,
            unsigned: 0,
            delay: Duration::ZERO,
            trailers: None,
            origin: None,
            touched: None,
        }
    }
}

/// Recorded bytes with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spliced {
    base: Bytes,
    /// In order and without overlap.
    holes: Vec<(Range<usize>, usize)>,
}

impl Spliced {
    /// Bytes whose holes are `(span, what goes there)`.
    pub(crate) fn new(base: Bytes, mut holes: Vec<(Range<usize>, usize)>) -> Self {
        holes.sort_by_key(|hole| hole.0.start);
        Self { base, holes }
    }

    /// The bytes without what fills the holes.
    pub(crate) fn base(&self) -> &Bytes {
        &self.base
    }

    /// What goes into the holes.
    pub(crate) fn fills(&self) -> impl Iterator<Item = usize> {
        self.holes.iter().map(|hole| hole.1)
    }

    /// Puts equal bytes in the place of those that it holds.
    pub(crate) fn keep(&mut self, copy: impl FnOnce(&[u8]) -> Bytes) {
        self.base = copy(&self.base);
    }

    /// The same with holes in `whole`, if the bytes around the holes stand there too; what stands between them does not matter.
    pub(crate) fn within(&self, whole: &Bytes) -> Option<Self> {
        let (mut holes, mut from, mut at) = (Vec::with_capacity(self.holes.len()), 0, 0);
        for (nth, (span, what)) in self.holes.iter().enumerate() {
            let before = self.base.get(from..span.start)?;
            let start = match nth {
                0 => whole.starts_with(before).then_some(0)?,
                _ => at + memchr::memmem::find(whole.get(at..)?, before)?,
            };
            if let Some((hole, _)) = holes.last_mut() {
                *hole = at..start;
            }
            at = start + before.len();
            holes.push((at..at, *what));
            from = span.end;
        }
        let behind = self.base.get(from..)?;
        let end = whole.len().checked_sub(behind.len()).filter(|end| *end >= at)?;
        let (hole, _) = holes.last_mut()?;
        *hole = at..end;
        whole.ends_with(behind).then(|| Self { base: whole.clone(), holes })
    }

    /// One more hole, apart from the others.
    #[must_use]
    pub(crate) fn with_hole(self, span: Range<usize>, what: usize) -> Self {
        let mut holes = self.holes;
        holes.push((span, what));
        Self::new(self.base, holes)
    }

    /// The bytes with each hole filled by `fill`, which appends to the output. `None` when a fill fails.
    pub(crate) fn fill(
        &self,
        mut fill: impl FnMut(usize, &mut Vec<u8>) -> Option<()>,
    ) -> Option<Bytes> {
        scratch::with(|out| {
            let mut from = 0;
            for (span, what) in &self.holes {
                out.extend_from_slice(self.base.get(from..span.start)?);
                fill(*what, out)?;
                from = span.end;
            }
            out.extend_from_slice(self.base.get(from..)?);
            // As large as needed and no larger, so that it is one piece of memory.
            Some(Bytes::copy_from_slice(out))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_outside_holes_never_change(parts in prop::collection::vec("[a-z]{0,9}", 1..6), fill in "[0-9]{0,9}") {
            let base = parts.join("####");
            let holes: Vec<_> = base.match_indices("####").enumerate().map(|(nth, (at, _))| (at..at + 4, nth)).collect();
            let spliced = Spliced::new(base.into(), holes);
            let filled = spliced.fill(|_, out| { out.extend_from_slice(fill.as_bytes()); Some(()) }).unwrap();
            prop_assert_eq!(str::from_utf8(&filled).unwrap(), parts.join(&fill));
        }

        #[test]
        fn other_bytes_in_the_holes_make_no_difference(parts in prop::collection::vec("[ab]{0,4}", 2..6), old in "[ab]{0,4}", fill in "[ab]{0,4}") {
            let base = parts.join("####");
            let holes: Vec<_> = base.match_indices("####").enumerate().map(|(nth, (at, _))| (at..at + 4, nth)).collect();
            let whole = Bytes::from(parts.join(&old));
            let within = Spliced::new(base.into(), holes).within(&whole).unwrap();
            prop_assert_eq!(within.base(), &whole);
            let filled = within.fill(|_, out| { out.extend_from_slice(fill.as_bytes()); Some(()) }).unwrap();
            prop_assert_eq!(str::from_utf8(&filled).unwrap(), parts.join(&fill));
        }
    }
}
