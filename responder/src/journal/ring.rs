//! The last entries of one worker, bounded in number and in bytes.

use std::collections::VecDeque;

use super::pack::Packed;

/// The entries, the oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Packed>,
    most: usize,
    bytes: usize,
    most_bytes: usize,
}

impl Ring {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), most, bytes: 0, most_bytes }
    }

    /// Adds an entry, which `fill` makes of an old one or of an empty one.
    pub(super) fn push(&mut self, fill: impl FnOnce(&mut Packed)) {
        let mut packed = if self.entries.len() < self.most {
            Packed::default()
        } else {
            self.pop().unwrap_or_default()
        };
        packed.trim();
        fill(&mut packed);
        self.bytes += packed.size();
        self.entries.push_back(packed);
        while self.bytes > self.most_bytes && self.pop().is_some() {}
    }

    fn pop(&mut self) -> Option<Packed> {
        let oldest = self.entries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.size());
        Some(oldest)
    }

    /// A copy of all entries.
    pub(super) fn copy(&self) -> Vec<Packed> {
        self.entries.iter().cloned().collect()
    }

    /// Forgets all entries; returns how many they were.
    pub(super) fn clear(&mut self) -> usize {
        let entries = std::mem::take(&mut self.entries).len();
        self.bytes = 0;
        entries
    }
}
