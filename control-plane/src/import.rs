//! From uploaded files to chunks: parse, put into recorded order, number, sort by endpoint, cut.
//!
//! Every entry of every file is counted exactly once: as imported, skipped or refused. Memory is bounded: pairs are sorted on disk once
//! they are more than a budget, and only some 30 bytes of each stay in memory.

mod order;
mod pipeline;
pub mod sort;
pub mod staging;
pub mod treat;
pub mod uploads;

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use countersign_engine::{
    diagnostic::{Diagnostic, Diagnostics},
    dlp::{StoredTreatment, strip::Stripper},
    snapshot::chunk::{self, Chunk, Cutter},
    transform::PairFilter,
};

use self::{
    order::{Counts, Full, Order, Ordinals},
    pipeline::{Halves, Outcome, Outcomes},
    sort::{Scratch, Sorter},
    staging::{Pieces, StagingError},
    treat::{Redaction, Treating, Worker},
};
use crate::store::StoreError;

/// What an import did with every entry that it met.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Pairs to store.
    pub imported: u64,
    /// How many of them are IN.
    pub inbound: u64,
    /// Entries passed over on purpose.
    pub skipped: u64,
    /// Entries that could not be read.
    pub refused: u64,
    /// Why.
    pub findings: Vec<Diagnostic>,
    /// What was taken out, if that was asked for.
    pub redaction: Option<Redaction>,
}

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes in all; 0 while they are still being sent.
    pub bytes_total: u64,
    /// Pairs read so far.
    pub pairs: u64,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The upload cannot be read.
    #[error(transparent)]
    Upload(#[from] StagingError),
    /// The content cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are too many pairs.
    #[error("a snapshot holds at most 4,294,967,294 pairs; import the recording in parts")]
    TooMany,
}

impl From<Full> for ImportError {
    fn from(_: Full) -> Self {
        Self::TooMany
    }
}

/// What was read of an upload, ready to be cut.
#[derive(Debug)]
pub struct Pairs {
    sorter: Sorter,
    size: u64,
    ordinals: Ordinals,
    stripper: Stripper,
    treatment: Option<StoredTreatment>,
}

/// What is wanted of an upload.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The pairs themselves; otherwise they are counted and thrown away.
    pub keep: bool,
    /// Only the pairs that it selects.
    pub filter: Option<PairFilter>,
    /// What is taken out of them.
    pub treating: Treating,
}

impl Wanted {
    /// What one thread needs; each has its own, because a regular expression that is shared is waited for.
    fn worker(&self) -> Worker {
        self.treating.worker(self.filter.clone())
    }
}

/// Reads an upload.
///
/// # Errors
/// When the upload cannot be read to its end, or pairs cannot be spilled.
pub fn read(
    pieces: Pieces,
    scratch: Scratch,
    wanted: &Wanted,
    mut progress: impl FnMut(Progress),
) -> Result<(Pairs, Report), ImportError> {
    let mut at = Progress { bytes_total: pieces.bytes_total(), ..Progress::default() };
    let mut reading = Reading::new(scratch, wanted);
    let worker = pipeline::run(pieces, wanted, |outcomes| {
        at.bytes_done = outcomes.bytes_done;
        reading.take(outcomes)?;
        at.pairs = reading.report.imported;
        progress(at);
        Ok::<(), ImportError>(())
    })?;
    reading.settle()?;
    let bytes = at.bytes_total.max(at.bytes_done);
    progress(Progress { bytes_done: bytes, bytes_total: bytes, pairs: reading.report.imported });
    Ok(reading.finish(worker, &wanted.treating))
}

impl Pairs {
    /// What was and will be done to the pairs, for whoever serves them.
    #[must_use]
    pub fn treatment(&self) -> Option<&StoredTreatment> {
        self.treatment.as_ref()
    }

    /// Cuts the pairs into chunks and hands each to `put`. Returns how many JWS signatures were taken out.
    ///
    /// # Errors
    /// When spilled pairs cannot be read back, and the first error of `put`.
    pub fn cut(
        self,
        mut put: impl FnMut(Chunk) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let Self { sorter, size, ordinals, stripper, .. } = self;
        let mut cutter = Cutter::of(size);
        let mut signatures = 0;
        sorter.drain(|key, pair| {
            let Some(ordinal) = ordinals.of(key) else { return Ok(()) };
            let pair = stripped(&stripper, pair, &mut signatures)?;
            let closed = cutter.push(chunk::endpoint_of(key), &pair, ordinal);
            closed.into_iter().flatten().try_for_each(&mut put)
        })?;
        cutter.finish().map_or(Ok(()), put)?;
        Ok(signatures)
    }
}

/// An encoded pair without the signatures that are to go.
fn stripped<'p>(
    stripper: &Stripper,
    pair: &'p [u8],
    signatures: &mut u64,
) -> Result<Cow<'p, [u8]>, StoreError> {
    if stripper.is_empty() {
        return Ok(Cow::Borrowed(pair));
    }
    let mut read = chunk::decode(pair).map_err(|_| StoreError::Damaged {
        path: PathBuf::new(),
        what: "a sorted pair cannot be read back".to_owned(),
    })?;
    let stripped = stripper.strip(&mut read);
    *signatures += stripped.signatures;
    Ok(if stripped.changed { Cow::Owned(chunk::encode(read).pair) } else { Cow::Borrowed(pair) })
}

/// What was read so far.
#[derive(Debug)]
struct Reading {
    keep: bool,
    order: Order,
    sorter: Sorter,
    size: u64,
    filtered: u64,
    report: Report,
    findings: Diagnostics,
    halves: Halves,
}

impl Reading {
    fn new(scratch: Scratch, wanted: &Wanted) -> Self {
        Self {
            keep: wanted.keep,
            order: Order::default(),
            sorter: Sorter::new(scratch),
            size: 0,
            filtered: 0,
            report: Report::default(),
            findings: Diagnostics::default(),
            halves: Halves::new(wanted.worker()),
        }
    }

    fn take(&mut self, outcomes: Outcomes) -> Result<(), ImportError> {
        for outcome in outcomes.outcomes {
            match outcome {
                Outcome::Half(half) => {
                    for (path, outcome) in self.halves.join(*half, &outcomes.path) {
                        self.count(&path, outcome)?;
                    }
                }
                outcome => self.count(&outcomes.path, outcome)?,
            }
        }
        Ok(())
    }

    /// Says what of the last file was still to be joined.
    fn settle(&mut self) -> Result<(), ImportError> {
        for (path, outcome) in self.halves.settle() {
            self.count(&path, outcome)?;
        }
        Ok(())
    }

    fn count(&mut self, path: &Arc<str>, outcome: Outcome) -> Result<(), ImportError> {
        match outcome {
            Outcome::Pair(pair) => {
                self.report.imported += 1;
                self.report.inbound += u64::from(pair.inbound);
                let key = self.order.push(path, pair.ts, pair.inbound)?;
                if self.keep {
                    self.size += u64::try_from(pair.encoded.pair.len()).unwrap_or(u64::MAX);
                    self.sorter.push(&[&pair.encoded.endpoint, &key], &pair.encoded.pair)?;
                }
            }
            Outcome::Filtered => {
                self.filtered += 1;
                self.report.skipped += 1;
                self.order.pass(path)?;
            }
            Outcome::Skipped(why) => {
                self.report.skipped += why.count.max(1);
                self.findings.push(why);
            }
            Outcome::Refused(why) => {
                self.report.refused += why.count.max(1);
                self.findings.push(why);
            }
            Outcome::Noted(why) => self.findings.push(why),
            Outcome::Half(half) => self.count(path, Outcome::Skipped(half.lone()))?,
        }
        Ok(())
    }

    fn finish(mut self, mut worker: Worker, treating: &Treating) -> (Pairs, Report) {
        worker.merge(self.halves.into_worker());
        let treated = worker.finish(treating);
        self.findings.extend(treated.findings);
        self.report.redaction = treated.redaction;
        let (ordinals, left_out) = self.order.finish();
        for (path, Counts { pairs, inbound }) in left_out {
            // A derived file all of whose pairs are filtered out brought none.
            if pairs == 0 {
                continue;
            }
            self.report.imported -= pairs;
            self.report.inbound -= inbound;
            self.report.skipped += pairs;
            self.findings.push(derived(&path, pairs));
        }
        if self.filtered > 0 {
            self.findings.push(filtered(self.filtered));
        }
        self.report.findings = self.findings.into_vec();
        let (stripper, treatment) = (treated.stripper, treated.stored);
        let pairs = Pairs { sorter: self.sorter, size: self.size, ordinals, stripper, treatment };
        (pairs, self.report)
    }
}

fn filtered(pairs: u64) -> Diagnostic {
    let message = "the filter does not select the pair";
    Diagnostic { count: pairs, ..Diagnostic::info("filtered_out", "", message) }
}

fn derived(path: &str, pairs: u64) -> Diagnostic {
    let message = "made from the raw.jsonl beside it, which is imported";
    Diagnostic { count: pairs, ..Diagnostic::info("derived_file", "", message).subject(path) }
}

#[cfg(test)]
mod tests;
