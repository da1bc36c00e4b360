//! Sorts more than fits into memory: sorted runs are spilled to a file and merged.
//!
//! Memory is bounded by the budget while collecting, and by one buffer per run while merging. The file has no name any more once it is
//! open, so that whatever ends the process ends the file, too; what a crash in between leaves is removed when the directory is opened.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs, io,
    io::{BufWriter, Write as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::store::{
    StoreError,
    blob::{io_error, make_dir},
};

/// Where spilled runs lie while they are needed.
#[derive(Debug, Clone)]
pub struct Scratch {
    root: PathBuf,
    budget: usize,
}

impl Scratch {
    /// So much is sorted in memory before it is spilled.
    pub const BUDGET: usize = 64 * 1024 * 1024;

    /// Uses a directory; a sort holds about `budget` bytes in memory.
    #[must_use]
    pub fn new(root: PathBuf, budget: usize) -> Self {
        Self { root, budget }
    }

    /// Makes the directory, and removes what an interrupted sort left.
    ///
    /// # Errors
    /// When the directory cannot be made or cleared.
    pub fn clear(&self) -> Result<(), StoreError> {
        let cleared = fs::remove_dir_all(&self.root).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        cleared.map_err(io_error("clear", &self.root))?;
        make_dir(&self.root)
    }

    fn file(&self) -> Result<fs::File, StoreError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let path = self.root.join(COUNTER.fetch_add(1, Ordering::Relaxed).to_string());
        let opened = fs::File::options().read(true).write(true).create_new(true).open(&path);
        let file = opened.map_err(io_error("make", &path))?;
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        Ok(file)
    }
}

/// Collects records to be sorted by key. Equal keys come in no particular order.
#[derive(Debug)]
pub struct Sorter {
    scratch: Scratch,
    arena: Vec<u8>,
    records: Vec<Record>,
    spilled: Option<Spilled>,
}

/// Where a record lies: its key, and behind it its value.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: usize,
    key: u32,
    value: u32,
}

#[derive(Debug)]
struct Spilled {
    file: fs::File,
    runs: Vec<Range<u64>>,
}

impl Sorter {
    /// A sorter of nothing yet.
    #[must_use]
    pub fn new(scratch: Scratch) -> Self {
        Self { scratch, arena: Vec::new(), records: Vec::new(), spilled: None }
    }

    /// Takes a record; the key is given in parts.
    ///
    /// # Errors
    /// When what was collected cannot be spilled.
    pub fn push(&mut self, key: &[&[u8]], value: &[u8]) -> Result<(), StoreError> {
        let key_size = key.iter().map(|part| part.len()).sum::<usize>();
        let (Ok(key_len), Ok(value_len)) = (u32::try_from(key_size), u32::try_from(value.len()))
        else {
            let what = "a record to sort is larger than 4 GiB".to_owned();
            return Err(StoreError::Damaged { path: self.scratch.root.clone(), what });
        };
        let record = size_of::<Record>();
        let used = self.arena.len() + self.records.len() * record;
        if used + key_size + value.len() + record > self.scratch.budget && !self.records.is_empty()
        {
            self.spill()?;
        }
        self.records.push(Record { start: self.arena.len(), key: key_len, value: value_len });
        for part in key {
            self.arena.extend_from_slice(part);
        }
        self.arena.extend_from_slice(value);
        Ok(())
    }

    fn sort(&mut self) {
        let Self { arena, records, .. } = self;
        // Keys begin alike, with the same host, and a comparison that has to look into the arena waits for memory. So the bytes behind what
        // all have in common are laid beside the records, and most comparisons end with them.
        let common = common_prefix(records.iter().map(|record| record.key(arena)));
        let mut sorted: Vec<(u128, Record)> = records
            .iter()
            .map(|record| (first_bytes(record.key(arena).get(common..)), *record))
            .collect();
        sorted.sort_unstable_by(|(a, of_a), (b, of_b)| {
            a.cmp(b).then_with(|| of_a.key(arena).cmp(of_b.key(arena)))
        });
        records.clear();
        records.extend(sorted.into_iter().map(|(_, record)| record));
    }

    fn spill(&mut self) -> Result<(), StoreError> {
        self.sort();
        let failed = || io_error("write a sorted run to", &self.scratch.root);
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled { file: self.scratch.file()?, runs: Vec::new() }),
        };
        let start = spilled.runs.last().map_or(0, |run| run.end);
        let mut end = start;
        let mut out = BufWriter::with_capacity(1024 * 1024, &spilled.file);
        for record in &self.records {
            let bytes = record.bytes(&self.arena);
            out.write_all(&record.key.to_le_bytes()).map_err(failed())?;
            out.write_all(&record.value.to_le_bytes()).map_err(failed())?;
            out.write_all(bytes).map_err(failed())?;
            end += HEAD_SIZE + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        out.flush().map_err(failed())?;
        drop(out);
        spilled.runs.push(start..end);
        self.arena.clear();
        self.records.clear();
        Ok(())
    }

    /// Hands over the records in order.
    ///
    /// # Errors
    /// When spilled records cannot be read back, and the first error of `take`.
    pub fn drain<E: From<StoreError>>(
        mut self,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.spilled.is_none() {
            self.sort();
            for record in &self.records {
                take(record.key(&self.arena), record.value(&self.arena))?;
            }
            return Ok(());
        }
        self.spill()?;
        let Self { scratch, spilled, .. } = self;
        let Some(spilled) = spilled else { return Ok(()) };
        merge(&scratch, &spilled, take)
    }
}

impl Record {
    fn bytes<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        let size = to_usize(self.key).saturating_add(to_usize(self.value));
        arena.get(self.start..).and_then(|rest| rest.get(..size)).unwrap_or_default()
    }

    fn key<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        self.bytes(arena).get(..to_usize(self.key)).unwrap_or_default()
    }

    fn value<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        self.bytes(arena).get(to_usize(self.key)..).unwrap_or_default()
    }
}

/// How many bytes all keys begin with.
fn common_prefix<'k>(mut keys: impl Iterator<Item = &'k [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| {
        let both = first.iter().zip(key).take(common);
        both.take_while(|(a, b)| a == b).count()
    })
}

/// A number that compares like the first bytes of a key, as far as they go.
fn first_bytes(key: Option<&[u8]>) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key.unwrap_or_default()) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

/// The lengths of key and value.
const HEAD: usize = 4 + 4;
const HEAD_SIZE: u64 = 8;

fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn merge<E: From<StoreError>>(
    scratch: &Scratch,
    spilled: &Spilled,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let buffer = scratch.budget.checked_div(spilled.runs.len()).unwrap_or(scratch.budget);
    let buffer = buffer.clamp(16 * 1024, 256 * 1024);
    let mut heads = BinaryHeap::with_capacity(spilled.runs.len());
    for run in &spilled.runs {
        let mut run =
            Run { file: &spilled.file, left: run.clone(), buffer: Vec::new(), at: 0, size: buffer };
        let mut head = Head::default();
        if run.next(&mut head, &scratch.root)? {
            heads.push(Reverse(Front { head, run }));
        }
    }
    while let Some(mut first) = heads.peek_mut() {
        let Front { head, run } = &mut first.0;
        take(&head.key, &head.value)?;
        if !run.next(head, &scratch.root)? {
            drop(PeekMut::pop(first));
        }
    }
    Ok(())
}

/// A record of a run.
#[derive(Debug, Default)]
struct Head {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A run and its next record, by which runs are compared.
struct Front<'f> {
    head: Head,
    run: Run<'f>,
}

impl PartialEq for Front<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.head.key == other.head.key
    }
}

impl Eq for Front<'_> {}

impl PartialOrd for Front<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Front<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.head.key.cmp(&other.head.key)
    }
}

struct Run<'f> {
    file: &'f fs::File,
    left: Range<u64>,
    buffer: Vec<u8>,
    at: usize,
    size: usize,
}

impl Run<'_> {
    /// Reads the next record; says whether there was one.
    fn next(&mut self, head: &mut Head, root: &Path) -> Result<bool, StoreError> {
        if self.at == self.buffer.len() && self.left.is_empty() {
            return Ok(false);
        }
        let lengths = self.take(HEAD).map_err(io_error("read a sorted run from", root))?;
        let (key, value) = lengths.split_at_checked(4).unwrap_or_default();
        let length = |bytes: &[u8]| {
            <[u8; 4]>::try_from(bytes).map_or(0, |bytes| to_usize(u32::from_le_bytes(bytes)))
        };
        let (key, value) = (length(key), length(value));
        let bytes = self.take(key.saturating_add(value));
        let bytes = bytes.map_err(io_error("read a sorted run from", root))?;
        let (key, value) = bytes.split_at_checked(key).unwrap_or_default();
        head.key.clear();
        head.key.extend_from_slice(key);
        head.value.clear();
        head.value.extend_from_slice(value);
        Ok(true)
    }

    /// The next bytes of the run, which must be there.
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let have = self.buffer.len() - self.at;
        if have < count {
            self.buffer.drain(..self.at);
            self.at = 0;
            let left = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
            let more = (count - have).max(self.size.saturating_sub(have)).min(left);
            self.buffer.resize(have + more, 0);
            let fresh = self.buffer.get_mut(have..).unwrap_or_default();
            self.file.read_exact_at(fresh, self.left.start)?;
            self.left.start += u64::try_from(more).unwrap_or(u64::MAX);
        }
        let end = self.at.saturating_add(count);
        let bytes = self.buffer.get(self.at..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[(Vec<u8>, Vec<u8>)], budget: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path().join("scratch"), budget);
        scratch.clear().unwrap();
        let mut sorter = Sorter::new(scratch);
        for (key, value) in records {
            let (left, right) = key.split_at(key.len() / 2);
            sorter.push(&[left, right], value).unwrap();
            assert!(sorter.arena.len() <= budget.max(key.len() + value.len()));
        }
        let mut out = Vec::new();
        sorter
            .drain(|key, value| {
                out.push((key.to_vec(), value.to_vec()));
                Ok::<(), StoreError>(())
            })
            .unwrap();
        assert_eq!(
            fs::read_dir(dir.path().join("scratch")).unwrap().count(),
            0,
            "a spilled file has no name"
        );
        out
    }

    proptest! {
        #[test]
        fn sorts_whatever_the_budget(
            records in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..60),
            budget in 0_usize..4000,
        ) {
            let mut expected = records.clone();
            expected.sort();
            let mut found = sorted(&records, budget);
            prop_assert!(found.is_sorted_by_key(|(key, _)| key.clone()));
            // Equal keys come in any order.
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn records_larger_than_the_buffers_come_back() {
        let records: Vec<(Vec<u8>, Vec<u8>)> =
            (0_u8..9).rev().map(|n| (vec![n; 3], vec![n; 600 * 1024])).collect();
        let mut expected = records.clone();
        expected.reverse();
        assert_eq!(sorted(&records, 1_500_000), expected);
    }

    #[test]
    fn what_an_interrupted_sort_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path().join("scratch"), 0);
        scratch.clear().unwrap();
        fs::write(dir.path().join("scratch/0"), "left").unwrap();
        scratch.clear().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
    }
}
