//! Learned replacements: once a chain has learned that `original` is now `replacement`, every answer of the session says so.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use super::world::Learned;

/// At most this many are remembered.
const MAX_REPLACEMENTS: usize = 10_000;

/// The table of a session. Readers take no lock; a writer replaces the table.
#[derive(Debug, Default)]
pub(crate) struct Replacements {
    table: ArcSwap<Table>,
}

type Table = BTreeMap<Vec<u8>, Arc<[u8]>>;

impl Replacements {
    /// Adds replacements. One that is known already stays unless it is to be overwritten.
    pub(crate) fn learn(&self, learned: &[Learned]) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            for new in learned {
                let known = table.contains_key(&new.original);
                let room = known || table.len() < MAX_REPLACEMENTS;
                if room && (!known || new.overwrite) && !new.original.is_empty() {
                    table.insert(new.original.clone(), new.replacement.as_slice().into());
                }
            }
            table
        });
    }

    /// Whether nothing was learned yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// The text with every learned value replaced; `None` when there is nothing to replace in it.
    pub(crate) fn apply(&self, text: &[u8]) -> Option<Vec<u8>> {
        let table = self.table.load();
        let mut out = Vec::new();
        let mut from = 0;
        let mut at = 0;
        while at < text.len() {
            let rest = text.get(at..)?;
            // The longest original comes first in reverse order among those that begin alike.
            let hit = table.iter().rev().find(|(original, _)| rest.starts_with(original));
            match hit {
                Some((original, replacement)) => {
                    out.extend_from_slice(text.get(from..at)?);
                    out.extend_from_slice(replacement);
                    at += original.len();
                    from = at;
                }
                None => at += 1,
            }
        }
        if from == 0 {
            return None;
        }
        out.extend_from_slice(text.get(from..)?);
        Some(out)
    }
}
