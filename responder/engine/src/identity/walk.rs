//! A walk over all pairs of a recording: mostly as they lie, which is much faster than as they were recorded.

use crate::snapshot::{RrPair, encoded::Pairs, wire::Part};

/// All pairs, step by step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'p> {
    pub(super) pairs: &'p Pairs,
    pub(super) as_they_lie: bool,
}

impl<'p> Walk<'p> {
    pub(super) fn len(self) -> usize {
        self.pairs.len()
    }

    /// The pair that is come to.
    pub(super) fn get(self, step: usize, part: Part, room: &'p mut RrPair) -> &'p RrPair {
        if self.as_they_lie {
            self.pairs.at(step, part, room)
        } else {
            self.pairs.get(step, part, room)
        }
    }

    /// Its number in recorded order.
    pub(super) fn number(self, step: usize) -> usize {
        if self.as_they_lie { self.pairs.number(step) } else { step }
    }
}

/// Where something was seen for the first time: in which pair, and after how much else of it.
pub(super) type First = (usize, usize);

/// Puts things in the order of when they were first seen; returns the new number of each.
pub(super) fn in_order<T>(things: &mut Vec<T>, first: impl Fn(&T) -> First) -> Vec<usize> {
    let mut numbered: Vec<(usize, T)> = std::mem::take(things).into_iter().enumerate().collect();
    // Those of one pair are told apart by the second number.
    numbered.sort_by_key(|(_, thing)| first(thing));
    let mut numbers = vec![0; numbered.len()];
    for (new, (old, thing)) in numbered.into_iter().enumerate() {
        if let Some(number) = numbers.get_mut(old) {
            *number = new;
        }
        things.push(thing);
    }
    numbers
}
