//! Entries that are cut out of a file and not read yet, so that many can be read at the same time.

use std::sync::Arc;

use crate::formats::{
    Sink, document, foreign,
    reader::{tell, tell_at},
    rrpair_json, rrpair_markdown,
    splitter::{self, Piece, Place},
    verdict::Left,
};

/// An entry of a file.
#[derive(Debug)]
pub struct Entry {
    path: Arc<str>,
    at: Place,
    text: Vec<u8>,
    form: Form,
}

/// What its text is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A file of markdown.
    Markdown,
    /// An object of JSON; a `foreign` one need not be a pair.
    Json { foreign: bool },
    /// A line that looks like an object.
    Line { foreign: bool },
}

impl Entry {
    /// An entry that begins here in a file.
    pub(super) fn new(path: Arc<str>, at: Place, text: Vec<u8>, form: Form) -> Self {
        Self { path, at, text, form }
    }

    /// The bytes of its text.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Reads it; the sink hears what came of it.
    pub fn read<S: Sink>(self, sink: &mut S) {
        let Self { path, at, text, form } = self;
        match form {
            Form::Markdown => match rrpair_markdown::read(&text) {
                Ok(pair) => sink.pair(pair),
                Err((line, left)) => tell(sink, &path, line, left),
            },
            Form::Line { foreign } => match rrpair_json::read(&text) {
                Ok(pair) => sink.pair(pair),
                // It may be several, or broken somewhere.
                Err(_) => {
                    let mut found = |piece| match piece {
                        Piece::Entry { text, at, .. } => {
                            let path = Arc::clone(&path);
                            Self::new(path, at, text, Form::Json { foreign }).read(sink);
                        }
                        Piece::Broken { at, left } => tell_at(sink, &path, at, left),
                    };
                    splitter::check_line(&text, at, &mut found);
                }
            },
            Form::Json { foreign } => match rrpair_json::read(&text) {
                Ok(pair) => sink.pair(pair),
                Err(left) if left.why.code == foreign::DOCUMENT => {
                    document::read_json(&path, at.line, &text, sink);
                }
                Err(left) if foreign && left.why.code == foreign::UNKNOWN => {
                    tell_at(sink, &path, at, Left::skipped(foreign::UNKNOWN, "", left.why.message));
                }
                Err(left) => tell_at(sink, &path, at, left),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{diagnostic::Diagnostic, formats::FileReader, snapshot::RrPair};

    /// What came of a file, in order.
    #[derive(Debug, Default, PartialEq)]
    struct Heard(Vec<Result<RrPair, (bool, Diagnostic)>>);

    impl Sink for Heard {
        fn pair(&mut self, pair: RrPair) {
            self.0.push(Ok(pair));
        }

        fn skipped(&mut self, why: Diagnostic) {
            self.0.push(Err((true, why)));
        }

        fn refused(&mut self, why: Diagnostic) {
            self.0.push(Err((false, why)));
        }
    }

    fn heard(chunks: &[&[u8]]) -> Heard {
        let mut heard = Heard::default();
        let mut reader = FileReader::new("a.jsonl", &mut heard);
        chunks.iter().for_each(|chunk| reader.push(chunk));
        reader.finish();
        heard
    }

    /// Lines, and what may be wrong with them.
    const LINES: &[&str] = &[
        r#"{"msgType":"rrpair","http":{"req":{"method":"GET","url":"/a"},"res":{"statusCode":200,"body":"{}"}}}"#,
        r#"{"msgType":"event"}{"msgType":"event"}"#,
        r#"{"http":{"req":{"method":"GET"}}}"#,
        r#"{"a":{}"#,
        r#"{"a":[1,}"#,
        "{\"a\":\"\u{1}\"}",
        "{}}",
        "}",
        "oops",
        "{ ",
        " {} ",
        "",
    ];

    proptest! {
        /// A file that comes byte by byte is never taken for whole lines.
        #[test]
        fn whole_lines_are_read_like_bytes(
            lines in prop::collection::vec((prop::sample::select(LINES), prop::sample::select(vec!["\n", "\r\n"])), 0..6),
        ) {
            let text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            prop_assert_eq!(heard(&[text.as_bytes()]), heard(&bytes));
        }
    }
}
