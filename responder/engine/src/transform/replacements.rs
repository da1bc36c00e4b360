//! Learned replacements: once a chain has learned that a value is now another one, every answer of the session says so.
//!
//! A value is replaced where it stands for itself: not as a part of a longer word or number. Readers take no lock. What was learned lately
//! is searched for beside the bulk of the table, so that learning one more value does not mean to build the whole search again.

use std::{collections::BTreeMap, sync::Arc};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use arc_swap::ArcSwap;

use super::world::Learned;

/// At most this many are remembered.
const MAX_REPLACEMENTS: usize = 10_000;
/// At most this many are kept beside the bulk.
const MAX_RECENT: usize = 128;
/// A longer value is not learned.
const MAX_LENGTH: usize = 16 * 1024;

/// The table of a session.
#[derive(Debug, Default)]
pub(crate) struct Replacements {
    table: ArcSwap<Table>,
}

#[derive(Debug, Clone, Default)]
struct Table {
    bulk: Arc<Level>,
    recent: Level,
}

#[derive(Debug, Clone, Default)]
struct Level {
    values: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    search: Option<AhoCorasick>,
}

impl Level {
    fn build(values: BTreeMap<Arc<[u8]>, Arc<[u8]>>) -> Self {
        let search = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::NoncontiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(values.keys())
            .ok();
        Self { values, search }
    }

    fn hits<'l>(&'l self, text: &'l [u8]) -> impl Iterator<Item = (usize, usize)> + 'l {
        self.search
            .iter()
            .flat_map(move |search| search.find_iter(text))
            .map(|hit| (hit.start(), hit.end()))
    }
}

impl Table {
    fn get(&self, original: &[u8]) -> Option<&Arc<[u8]>> {
        self.recent.values.get(original).or_else(|| self.bulk.values.get(original))
    }

    fn with(&self, learned: &[Learned]) -> Self {
        let mut recent = self.recent.values.clone();
        for new in learned {
            let known = recent.contains_key(new.original.as_slice())
                || self.bulk.values.contains_key(new.original.as_slice());
            let room = known || self.bulk.values.len() + recent.len() < MAX_REPLACEMENTS;
            let sound = !new.original.is_empty() && new.original.len() <= MAX_LENGTH;
            if sound && room && (!known || new.overwrite) {
                recent.insert(new.original.as_slice().into(), new.replacement.as_slice().into());
            }
        }
        if recent.len() <= MAX_RECENT {
            return Self { bulk: Arc::clone(&self.bulk), recent: Level::build(recent) };
        }
        let mut all = self.bulk.values.clone();
        all.extend(recent);
        Self { bulk: Arc::new(Level::build(all)), recent: Level::default() }
    }

    /// Where originals stand, in order and without overlap; of those that begin together the longest.
    fn hits(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut hits: Vec<(usize, usize)> = self
            .recent
            .hits(text)
            .chain(self.bulk.hits(text))
            .filter(|(start, end)| stands_alone(text, *start, *end))
            .collect();
        hits.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut from = 0;
        hits.retain(|(start, end)| {
            let free = *start >= from;
            if free {
                from = *end;
            }
            free
        });
        hits
    }
}

/// Whether a value is not a part of a longer word or number.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let word =
        |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let before = word(start.checked_sub(1)) && word(Some(start));
    let after = word(end.checked_sub(1)) && word(Some(end));
    !before && !after
}

impl Replacements {
    /// Adds replacements. One that is known already stays unless it is to be overwritten.
    pub(crate) fn learn(&self, learned: &[Learned]) {
        let news = |table: &Table| {
            learned.iter().any(|new| match table.get(&new.original) {
                None => true,
                Some(known) => new.overwrite && **known != *new.replacement,
            })
        };
        // Most answers teach nothing that is not known already.
        if news(&self.table.load()) {
            self.table.rcu(|table| table.with(learned));
        }
    }

    /// Whether nothing was learned yet.
    pub(crate) fn is_empty(&self) -> bool {
        let table = self.table.load();
        table.bulk.values.is_empty() && table.recent.values.is_empty()
    }

    /// The text with every learned value replaced; `None` when there is nothing to replace in it.
    pub(crate) fn apply(&self, text: &[u8]) -> Option<Vec<u8>> {
        let table = self.table.load();
        let hits = table.hits(text);
        if hits.is_empty() {
            return None;
        }
        let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
        for (start, end) in hits {
            out.extend_from_slice(text.get(from..start)?);
            out.extend_from_slice(table.get(text.get(start..end)?)?);
            from = end;
        }
        out.extend_from_slice(text.get(from..)?);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn learned(pairs: &[(&str, &str)], overwrite: bool) -> Vec<Learned> {
        let learned = |(original, replacement): &(&str, &str)| Learned {
            original: original.as_bytes().to_vec(),
            replacement: replacement.as_bytes().to_vec(),
            overwrite,
        };
        pairs.iter().map(learned).collect()
    }

    fn apply(table: &Replacements, text: &str) -> String {
        table
            .apply(text.as_bytes())
            .map_or_else(|| text.to_owned(), |new| String::from_utf8(new).unwrap())
    }

    #[test]
    fn replaces_what_stands_for_itself() {
        let table = Replacements::default();
        table.learn(&learned(&[("42", "57"), ("order-42", "order-9")], false));
        assert_eq!(
            apply(&table, r#"{"id":42,"ref":"order-42","n":142,"x":"42a","path":"/o/42/items"}"#),
            r#"{"id":57,"ref":"order-9","n":142,"x":"42a","path":"/o/57/items"}"#
        );
        assert_eq!(table.apply(b"nothing"), None);
    }

    #[test]
    fn the_first_stays_unless_it_is_overwritten() {
        let table = Replacements::default();
        table.learn(&learned(&[("a", "1")], false));
        table.learn(&learned(&[("a", "2")], false));
        assert_eq!(apply(&table, "a"), "1");
        table.learn(&learned(&[("a", "3")], true));
        assert_eq!(apply(&table, "a"), "3");
    }

    #[test]
    fn many_values_end_in_the_bulk_and_are_still_found() {
        let table = Replacements::default();
        for nth in 0..400 {
            table.learn(&learned(&[(&format!("id-{nth}"), &format!("new-{nth}"))], false));
        }
        table.learn(&learned(&[("id-7", "newest")], true));
        assert_eq!(apply(&table, "id-7,id-250,id-399,id-400"), "newest,new-250,new-399,id-400");
        assert!(table.table.load().bulk.values.len() > 250);
    }

    proptest! {
        #[test]
        fn text_without_originals_stays(text in "[b-z ]{0,50}") {
            let table = Replacements::default();
            table.learn(&learned(&[("a1", "x")], false));
            prop_assert_eq!(table.apply(text.as_bytes()), None);
        }
    }
}
