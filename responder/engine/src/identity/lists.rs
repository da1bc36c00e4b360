//! Many short lists, one after the other, without an allocation for each.

use std::ops::Range;

/// Lists that are written in their order.
#[derive(Debug)]
pub(super) struct Lists<T> {
    items: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { items: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Lists<T> {
    /// Adds to the list that is open.
    pub(super) fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Ends it, so that the next begins.
    pub(super) fn end(&mut self) {
        self.ends.push(self.items.len());
    }

    /// One of them; empty when there is none.
    pub(super) fn get(&self, nth: usize) -> &[T] {
        self.span(nth).and_then(|span| self.items.get(span)).unwrap_or_default()
    }

    fn span(&self, nth: usize) -> Option<Range<usize>> {
        let end = self.ends.get(nth)?;
        let start = nth.checked_sub(1).and_then(|before| self.ends.get(before));
        Some(start.copied().unwrap_or_default()..*end)
    }

    /// The same, to be changed.
    pub(super) fn items_mut(&mut self) -> &mut [T] {
        &mut self.items
    }

    /// Lists of as many items, made of these.
    pub(super) fn map<U>(&self, make: impl FnMut(&T) -> U) -> Lists<U> {
        Lists { items: self.items.iter().map(make).collect(), ends: self.ends.clone() }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[T]> {
        (0..self.ends.len()).map(|nth| self.get(nth))
    }

    /// The items of all of them.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_apart() {
        let mut lists = Lists::default();
        lists.push(1);
        lists.push(2);
        lists.end();
        lists.end();
        lists.push(3);
        lists.end();
        let doubled = lists.map(|item| item * 2);
        let all: Vec<&[i32]> = doubled.iter().collect();
        assert_eq!(all, [&[2, 4][..], &[], &[6]]);
        assert_eq!((doubled.get(2), doubled.get(3)), (&[6][..], &[][..]));
        assert_eq!(lists.items(), [1, 2, 3]);
    }
}
