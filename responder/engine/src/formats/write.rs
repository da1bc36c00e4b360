//! Writes [`RrPair`]s into users' files: RRPair JSON lines and markdown, WireMock mappings, HAR.
//!
//! A [`Writer`] takes one pair at a time and keeps none, so that memory is bounded by the largest pair. What a target cannot hold is
//! counted and told at the end: nothing is lost without a word.

mod har;
mod jsonl;
mod loss;
mod markdown;
mod names;
mod object;
mod wiremock;

pub use loss::{CODE, Losses};

use crate::{
    diagnostic::Diagnostic,
    formats::{
        MAX_ENTRY, rrpair_json,
        write::{har::Entries, loss::Loss, names::Names, wiremock::Mappings},
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
    /// WireMock mappings, one document. The pairs have to be surveyed first.
    WireMock,
    /// HAR 1.2, one document.
    Har,
}

impl Target {
    /// Whether every pair becomes a file of its own.
    #[must_use]
    pub fn is_directory(self) -> bool {
        self == Self::Markdown
    }

    /// Whether all pairs have to be surveyed before the first is written.
    #[must_use]
    pub fn needs_survey(self) -> bool {
        self == Self::WireMock
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
    form: Form,
    losses: Losses,
}

/// What is known of the output so far.
#[derive(Debug)]
enum Form {
    JsonLines,
    Markdown(Names),
    WireMock(Mappings),
    Har(Entries),
}

impl Writer {
    /// A writer that has written nothing yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let form = match target {
            Target::JsonLines => Form::JsonLines,
            Target::Markdown => Form::Markdown(Names::default()),
            Target::WireMock => Form::WireMock(Mappings::default()),
            Target::Har => Form::Har(Entries::default()),
        };
        Self { form, losses: Losses::default() }
    }

    /// Takes note of a pair that will be written. Needed where [`Target::needs_survey`] says so.
    pub fn survey(&mut self, pair: &RrPair) {
        if let Form::WireMock(mappings) = &mut self.form {
            mappings.survey(pair);
        }
    }

    /// Writes one pair.
    pub fn pair(&mut self, pair: &RrPair) -> Piece {
        let mut path = String::new();
        let mut lost = Vec::new();
        let text = match &mut self.form {
            Form::JsonLines => {
                let line = jsonl::line(pair, jsonl::Extent::ALL);
                lost = check_line(pair, &line);
                line + "\n"
            }
            Form::Markdown(names) => {
                path = names.next(pair);
                let (text, found) = markdown::file(pair);
                lost = found;
                text
            }
            Form::WireMock(mappings) => mappings.mapping(pair, &mut lost),
            Form::Har(entries) => entries.entry(pair, &mut lost),
        };
        self.losses.of_pair(lost);
        Piece { path, bytes: text.into_bytes() }
    }

    /// The last piece of a single file, and the findings: one per kind of loss, with the number of pairs.
    #[must_use]
    pub fn finish(self) -> (Piece, Vec<Diagnostic>) {
        let end = match &self.form {
            Form::JsonLines | Form::Markdown(_) => String::new(),
            Form::WireMock(mappings) => mappings.end().to_owned(),
            Form::Har(entries) => entries.end(),
        };
        let end = Piece { path: String::new(), bytes: end.into_bytes() };
        (end, self.losses.into_findings())
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
