//! Writes [`RrPair`]s into users' files: RRPair JSON lines and markdown, WireMock mappings, HAR.
//!
//! A [`Writer`] takes one pair at a time and keeps none, so that memory is bounded by the largest pair. What a target cannot hold is
//! counted and told at the end: nothing is lost without a word.

mod jsonl;
mod loss;
mod markdown;
mod names;

pub use loss::{CODE, Losses};

use crate::{
    diagnostic::Diagnostic,
    formats::{
        MAX_ENTRY, rrpair_json,
        write::{loss::Loss, names::Names},
    },
    snapshot::RrPair,
};

/// What recordings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// RRPair JSON, one pair per line.
    JsonLines,
    /// RRPair markdown, one file per pair.
    Markdown,
}

impl Target {
    /// Whether every pair becomes a file of its own.
    #[must_use]
    pub fn is_directory(self) -> bool {
        self == Self::Markdown
    }
}

/// A piece of the output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// The file below the output directory that the bytes are; empty for a target that is a single file, which the pieces follow each
    /// other in.
    pub path: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Writes pairs, in recorded order.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    losses: Losses,
    names: Names,
}

impl Writer {
    /// A writer that has written nothing yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, losses: Losses::default(), names: Names::default() }
    }

    /// Writes one pair.
    pub fn pair(&mut self, pair: &RrPair) -> Piece {
        match self.target {
            Target::JsonLines => {
                let line = jsonl::line(pair, jsonl::Extent::ALL);
                for loss in check_line(pair, &line) {
                    self.losses.note(loss);
                }
                Piece { path: String::new(), bytes: (line + "\n").into_bytes() }
            }
            Target::Markdown => {
                let (text, lost) = markdown::file(pair);
                for loss in lost {
                    self.losses.note(loss);
                }
                Piece { path: self.names.next(pair), bytes: text.into_bytes() }
            }
        }
    }

    /// The last piece of a single file, and the findings: one per kind of loss, with the number of pairs.
    #[must_use]
    pub fn finish(self) -> (Piece, Vec<Diagnostic>) {
        (Piece::default(), self.losses.into_findings())
    }
}

const TOO_LARGE: Loss = Loss::warning("", "the pair is larger than what is read again");
const UNREADABLE: Loss = Loss::warning("", "the pair cannot be read again from what was written");

fn check_line(pair: &RrPair, line: &str) -> Vec<Loss> {
    if line.len() > MAX_ENTRY {
        return vec![TOO_LARGE];
    }
    match rrpair_json::read(line.as_bytes()) {
        Ok(back) => loss::compare(pair, &back),
        Err(_) => vec![UNREADABLE],
    }
}

#[cfg(test)]
mod tests;
