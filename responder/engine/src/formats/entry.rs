//! Entries that are cut out of a file and not read yet, so that many can be read at the same time.

use std::sync::Arc;

use crate::formats::{
    Sink, document, foreign, reader::tell, rrpair_json, rrpair_markdown, verdict::Left,
};

/// An entry of a file.
#[derive(Debug)]
pub struct Entry {
    path: Arc<str>,
    line: u32,
    text: Vec<u8>,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Markdown,
    Json {
        /// It need not be a pair.
        foreign: bool,
    },
}

impl Entry {
    /// A file of markdown.
    pub(super) fn markdown(path: Arc<str>, text: Vec<u8>) -> Self {
        Self { path, line: 1, text, form: Form::Markdown }
    }

    /// An object of JSON; a `foreign` one need not be a pair.
    pub(super) fn json(path: Arc<str>, line: u32, text: Vec<u8>, foreign: bool) -> Self {
        Self { path, line, text, form: Form::Json { foreign } }
    }

    /// The bytes of its text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Reads it; the sink hears what came of it.
    pub fn read<S: Sink>(self, sink: &mut S) {
        let Self { path, line, text, form } = self;
        match form {
            Form::Markdown => match rrpair_markdown::read(&text) {
                Ok(pair) => sink.pair(pair),
                Err((line, left)) => tell(sink, &path, line, left),
            },
            Form::Json { foreign } => match rrpair_json::read(&text) {
                Ok(pair) => sink.pair(pair),
                Err(left) if left.why.code == foreign::DOCUMENT => {
                    document::read_json(&path, line, &text, sink);
                }
                Err(left) if foreign && left.why.code == foreign::UNKNOWN => {
                    tell(sink, &path, line, Left::skipped(foreign::UNKNOWN, "", left.why.message));
                }
                Err(left) => tell(sink, &path, line, left),
            },
        }
    }
}
