//! Reads an upload on several threads: one cuts the files into entries, some read and encode entries, the caller's takes the outcomes.
//!
//! Outcomes come in the order of the entries: batches are dealt to the workers in turn and taken back in turn. The channels are short,
//! so that what is in flight is bounded by a few batches.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use countersign_engine::{
    diagnostic::Diagnostic,
    formats::{Entry, FileReader, Half, Joiner, Sink, remark},
    snapshot::{
        Direction, RrPair,
        chunk::{self, Encoded},
    },
};

use super::{
    Wanted,
    staging::{Pieces, StagingError},
    treat::Worker,
};

/// A batch is closed at this size.
const BATCH: usize = 256 * 1024;
/// So many batches wait in each channel.
const QUEUE: usize = 2;
/// More workers than this do not help: one thread cuts the files.
const MOST_WORKERS: usize = 8;

/// What came of an entry.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A pair, encoded.
    Pair(Pair),
    /// A pair that the filter does not select.
    Filtered,
    /// Passed over on purpose.
    Skipped(Diagnostic),
    /// Could not be read.
    Refused(Diagnostic),
    /// Something about a pair; no entry of its own.
    Noted(Diagnostic),
    /// Half an entry, whose other half may lie in any other file.
    Half(Box<Half>),
}

/// An encoded pair, and what its order depends on.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ts: Option<i64>,
    pub(super) inbound: bool,
    pub(super) encoded: Encoded,
}

/// Outcomes of one file.
#[derive(Debug)]
pub(super) struct Outcomes {
    /// The file's path.
    pub(super) path: Arc<str>,
    /// What came of its entries, in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// How much of the upload was read when they were cut.
    pub(super) bytes_done: u64,
}

/// Entries of one file, still to be read.
#[derive(Debug)]
struct Batch {
    path: Arc<str>,
    items: Vec<Item>,
    bytes_done: u64,
}

#[derive(Debug)]
enum Item {
    Entry(Entry),
    Pair(Box<RrPair>),
    Told(Outcome),
}

/// Reads all pieces and hands the outcomes to `take`.
///
/// # Errors
/// The first error of `take`, or why the upload cannot be read to its end.
pub(super) fn run<E: From<StagingError>>(
    pieces: Pieces,
    wanted: &Wanted,
    mut take: impl FnMut(Outcomes) -> Result<(), E>,
) -> Result<Worker, E> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS);
    thread::scope(|scope| {
        let (mut inputs, mut outputs, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..workers {
            let (input, batches) = sync_channel(QUEUE);
            let (outcomes, output) = sync_channel(QUEUE);
            inputs.push(input);
            outputs.push(output);
            let worker = wanted.worker();
            running.push(scope.spawn(move || work(&batches, &outcomes, worker)));
        }
        let feeder = scope.spawn(move || feed(pieces, inputs));
        collect(outputs, &mut take)?;
        join(feeder)?;
        let mut done = wanted.worker();
        for worker in running {
            done.merge(join(worker));
        }
        Ok(done)
    })
}

/// The result of a thread, or its panic.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Takes the outcomes in turn. When it returns, the channels close, which ends the other threads.
#[expect(
    clippy::needless_pass_by_value,
    reason = "that the channels end with it is what ends the workers after an error"
)]
fn collect<E>(
    outputs: Vec<Receiver<Outcomes>>,
    take: &mut impl FnMut(Outcomes) -> Result<(), E>,
) -> Result<(), E> {
    for output in outputs.iter().cycle() {
        // The first worker that has nothing for its turn is the first that was dealt nothing.
        let Ok(outcomes) = output.recv() else { break };
        take(outcomes)?;
    }
    Ok(())
}

/// Reads batches until there are no more, or nobody takes what comes of them.
fn work(batches: &Receiver<Batch>, outcomes: &SyncSender<Outcomes>, mut worker: Worker) -> Worker {
    for Batch { path, items, bytes_done } in batches {
        let outcomes_of = Vec::with_capacity(items.len());
        let mut read = Read { path: &path, outcomes: outcomes_of, worker: &mut worker };
        for item in items {
            match item {
                Item::Entry(entry) => entry.read(&mut read),
                Item::Pair(pair) => read.pair(*pair),
                Item::Told(outcome) => read.outcomes.push(outcome),
            }
        }
        let Read { outcomes: read, .. } = read;
        if outcomes.send(Outcomes { path, outcomes: read, bytes_done }).is_err() {
            break;
        }
    }
    worker
}

/// What comes of entries.
struct Read<'w> {
    path: &'w str,
    outcomes: Vec<Outcome>,
    worker: &'w mut Worker,
}

impl Sink for Read<'_> {
    fn pair(&mut self, mut pair: RrPair) {
        if !self.worker.pair(&mut pair) {
            self.outcomes.push(Outcome::Filtered);
            return;
        }
        if let Some(why) = remark(&pair) {
            self.outcomes.push(Outcome::Noted(why.subject(self.path)));
        }
        let (ts, inbound) = (pair.ts, pair.direction == Direction::In);
        self.outcomes.push(Outcome::Pair(Pair { ts, inbound, encoded: chunk::encode(pair) }));
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.outcomes.push(Outcome::Skipped(why));
    }

    fn refused(&mut self, why: Diagnostic) {
        self.outcomes.push(Outcome::Refused(why));
    }

    fn noted(&mut self, why: Diagnostic) {
        self.outcomes.push(Outcome::Noted(why));
    }

    fn half(&mut self, half: Half) {
        self.outcomes.push(Outcome::Half(Box::new(half)));
    }
}

/// Brings halves together in the order in which they come, so that it is always the same pairs that wait.
#[derive(Debug)]
pub(super) struct Halves {
    joiner: Joiner,
    worker: Worker,
}

impl Halves {
    pub(super) fn new(worker: Worker) -> Self {
        Self { joiner: Joiner::default(), worker }
    }

    /// Takes a half out of the file at `path`; returns what came of it, by file.
    pub(super) fn join(&mut self, half: Half, path: &Arc<str>) -> Vec<(Arc<str>, Outcome)> {
        let worker = &mut self.worker;
        let mut joined = Joined { path: Arc::clone(path), outcomes: Vec::new(), worker };
        self.joiner.join(half, &mut joined);
        joined.outcomes
    }

    /// Reports what waits in vain.
    pub(super) fn settle(&mut self) -> Vec<(Arc<str>, Outcome)> {
        let worker = &mut self.worker;
        let mut joined = Joined { path: "".into(), outcomes: Vec::new(), worker };
        std::mem::take(&mut self.joiner).finish(&mut joined);
        joined.outcomes
    }

    /// Its part of the work.
    pub(super) fn into_worker(self) -> Worker {
        self.worker
    }
}

/// What comes of joining.
struct Joined<'w> {
    path: Arc<str>,
    outcomes: Vec<(Arc<str>, Outcome)>,
    worker: &'w mut Worker,
}

impl Joined<'_> {
    fn take(&mut self, read: impl FnOnce(&mut Read<'_>)) {
        let mut one = Read { path: &self.path, outcomes: Vec::new(), worker: self.worker };
        read(&mut one);
        self.outcomes.extend(one.outcomes.into_iter().map(|told| (Arc::clone(&self.path), told)));
    }
}

impl Sink for Joined<'_> {
    fn pair(&mut self, pair: RrPair) {
        self.take(|read| read.pair(pair));
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.take(|read| read.skipped(why));
    }

    fn refused(&mut self, why: Diagnostic) {
        self.take(|read| read.refused(why));
    }

    fn noted(&mut self, why: Diagnostic) {
        self.take(|read| read.noted(why));
    }

    fn unpacked(&mut self, path: &str) {
        self.path = path.into();
    }
}

/// Cuts the files into entries. Ends early, without an error, when nobody takes them any more.
fn feed(mut pieces: Pieces, workers: Vec<SyncSender<Batch>>) -> Result<(), StagingError> {
    let closed = Arc::new(AtomicBool::new(false));
    let bytes_done = Arc::new(AtomicU64::new(0));
    let mut dealer = Dealer { workers, turn: 0, closed: Arc::clone(&closed) };
    let mut next = pieces.next().transpose()?;
    while let Some(first) = next.take() {
        let mut cut = Cut::new(&mut dealer, &first.path, Arc::clone(&bytes_done));
        let mut reader = FileReader::new(&first.path, &mut cut);
        bytes_done.store(pieces.bytes_done(), Ordering::Relaxed);
        reader.push(&first.data);
        loop {
            if closed.load(Ordering::Relaxed) {
                return Ok(());
            }
            match pieces.next().transpose()? {
                Some(piece) if piece.path == first.path => {
                    bytes_done.store(pieces.bytes_done(), Ordering::Relaxed);
                    reader.push(&piece.data);
                }
                other => {
                    next = other;
                    break;
                }
            }
        }
        reader.finish();
        cut.deal();
    }
    Ok(pieces.check_end()?)
}

/// Deals batches to the workers in turn.
struct Dealer {
    workers: Vec<SyncSender<Batch>>,
    turn: usize,
    /// Nobody takes batches any more.
    closed: Arc<AtomicBool>,
}

impl Dealer {
    fn deal(&mut self, batch: Batch) {
        let sent = self.workers.get(self.turn).is_some_and(|worker| worker.send(batch).is_ok());
        self.closed.fetch_or(!sent, Ordering::Relaxed);
        self.turn = (self.turn + 1).checked_rem(self.workers.len()).unwrap_or_default();
    }
}

/// Collects the entries of one file into batches.
struct Cut<'d> {
    dealer: &'d mut Dealer,
    path: Arc<str>,
    items: Vec<Item>,
    size: usize,
    bytes_done: Arc<AtomicU64>,
}

impl<'d> Cut<'d> {
    fn new(dealer: &'d mut Dealer, path: &str, bytes_done: Arc<AtomicU64>) -> Self {
        Self { dealer, path: path.into(), items: Vec::new(), size: 0, bytes_done }
    }

    fn push(&mut self, item: Item, size: usize) {
        self.items.push(item);
        self.size += size;
        if self.size >= BATCH {
            self.deal();
        }
    }

    fn deal(&mut self) {
        if !self.items.is_empty() {
            let items = std::mem::take(&mut self.items);
            let bytes_done = self.bytes_done.load(Ordering::Relaxed);
            self.dealer.deal(Batch { path: Arc::clone(&self.path), items, bytes_done });
        }
        self.size = 0;
    }
}

/// Findings weigh something, too, so that a file of a million bad lines does not become one batch.
const FINDING: usize = 256;

impl Sink for Cut<'_> {
    fn entry(&mut self, entry: Entry) {
        let size = entry.size();
        self.push(Item::Entry(entry), size);
    }

    fn pair(&mut self, pair: RrPair) {
        let size = FINDING + pair.response.body.len();
        self.push(Item::Pair(Box::new(pair)), size);
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.push(Item::Told(Outcome::Skipped(why)), FINDING);
    }

    fn refused(&mut self, why: Diagnostic) {
        self.push(Item::Told(Outcome::Refused(why)), FINDING);
    }

    fn noted(&mut self, why: Diagnostic) {
        self.push(Item::Told(Outcome::Noted(why)), FINDING);
    }

    fn unpacked(&mut self, path: &str) {
        self.deal();
        self.path = path.into();
    }

    fn half(&mut self, half: Half) {
        let size = FINDING + half.size();
        self.push(Item::Told(Outcome::Half(Box::new(half))), size);
    }
}
