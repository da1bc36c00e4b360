//! The recorded order of an import: which pair has which ordinal.
//!
//! Only what the order depends on is kept, 24 bytes a pair: its time, the file that it came from, and its turn among all pairs read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use countersign_engine::snapshot::chunk::push_ordered;

/// The order so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    places: Vec<Place>,
    files: Vec<File>,
    by_path: HashMap<Arc<str>, u32>,
    last: u32,
}

/// Where a pair stands. Compares as pairs do once the files are numbered by path; `turn` makes the order total.
#[derive(Debug, Clone, Copy)]
struct Place {
    ts: Option<i64>,
    file: u32,
    turn: u32,
}

/// A file of the upload, and what it brought.
#[derive(Debug)]
struct File {
    path: Arc<str>,
    counts: Counts,
}

/// How many pairs, and how many of them are IN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pairs: u64,
    pub(super) inbound: u64,
}

/// There are more pairs than can be numbered.
#[derive(Debug)]
pub(super) struct Full;

impl Order {
    /// Takes the next pair of a file; returns a key that sorts as bytes in recorded order and ends in the pair's turn.
    pub(super) fn push(
        &mut self,
        path: &Arc<str>,
        ts: Option<i64>,
        inbound: bool,
    ) -> Result<Vec<u8>, Full> {
        // The largest one stands for pairs without an ordinal.
        let turn = u32::try_from(self.places.len()).ok().filter(|turn| *turn < u32::MAX);
        let turn = turn.ok_or(Full)?;
        let file = self.file(path).ok_or(Full)?;
        if let Some(file) = self.files.get_mut(index(file)) {
            file.counts.pairs += 1;
            file.counts.inbound += u64::from(inbound);
        }
        self.places.push(Place { ts, file, turn });
        let mut key = Vec::with_capacity(9 + path.len() + 2 + 4);
        key.push(u8::from(ts.is_none()));
        // Flipping the sign makes the bytes of negative times come first.
        key.extend((ts.unwrap_or_default() ^ i64::MIN).to_be_bytes());
        push_ordered(&mut key, path.as_bytes());
        key.extend(turn.to_be_bytes());
        Ok(key)
    }

    /// Takes note of a file one of whose pairs is not kept.
    pub(super) fn pass(&mut self, path: &Arc<str>) -> Result<(), Full> {
        self.file(path).map(drop).ok_or(Full)
    }

    fn file(&mut self, path: &Arc<str>) -> Option<u32> {
        if self.files.get(index(self.last)).is_some_and(|file| file.path == *path) {
            return Some(self.last);
        }
        self.last = match self.by_path.get(path) {
            Some(known) => *known,
            None => {
                let new = u32::try_from(self.files.len()).ok()?;
                self.by_path.insert(Arc::clone(path), new);
                self.files.push(File { path: Arc::clone(path), counts: Counts::default() });
                new
            }
        };
        Some(self.last)
    }

    /// Numbers the pairs, leaving out those of derived files.
    pub(super) fn finish(self) -> (Ordinals, BTreeMap<Arc<str>, Counts>) {
        let Self { mut places, files, .. } = self;
        let mut left_out = BTreeMap::new();
        let mut sorted: Vec<(&str, usize)> =
            files.iter().map(|file| &*file.path).zip(0..).collect();
        sorted.sort_unstable();
        let sources = sources(&files);
        let mut ranks = vec![None; files.len()];
        for (rank, (path, file)) in (0_u32..).zip(sorted) {
            let Some(file) = files.get(file).zip(ranks.get_mut(file)) else { continue };
            if is_derived(path, &sources) {
                left_out.insert(Arc::clone(&file.0.path), file.0.counts);
            } else {
                *file.1 = Some(rank);
            }
        }
        let mut ordinals = vec![u32::MAX; places.len()];
        places.retain_mut(|place| match ranks.get(index(place.file)) {
            Some(Some(rank)) => {
                place.file = *rank;
                true
            }
            _ => false,
        });
        places.sort_unstable_by_key(|place| (place.ts.is_none(), place.ts, place.file, place.turn));
        for (ordinal, place) in (0..).zip(places) {
            if let Some(slot) = ordinals.get_mut(index(place.turn)) {
                *slot = ordinal;
            }
        }
        (Ordinals { ordinals }, left_out)
    }
}

/// The ordinals by turn.
#[derive(Debug)]
pub(super) struct Ordinals {
    ordinals: Vec<u32>,
}

impl Ordinals {
    /// The ordinal of the pair whose key this is; `None` when the pair is left out.
    pub(super) fn of(&self, key: &[u8]) -> Option<u64> {
        let turn = u32::from_be_bytes(*key.last_chunk()?);
        self.ordinals.get(index(turn)).filter(|ordinal| **ordinal < u32::MAX).map(|o| u64::from(*o))
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// In a snapshot's folder `raw.jsonl` is the source; the analyzer makes `action.jsonl` and `reaction.jsonl` from it, so that importing
/// the folder would bring every pair twice.
fn is_derived(path: &str, sources: &BTreeSet<&str>) -> bool {
    ["reaction.jsonl", "action.jsonl"]
        .iter()
        .find_map(|name| path.strip_suffix(name))
        .is_some_and(|folder| sources.contains(folder))
}

/// The folders whose `raw.jsonl` brought pairs.
fn sources(files: &[File]) -> BTreeSet<&str> {
    files.iter().filter_map(|file| file.path.strip_suffix("raw.jsonl")).collect()
}
