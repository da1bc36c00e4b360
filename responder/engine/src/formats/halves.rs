//! Exchanges whose request and response lie in files of their own: `Req7.txt` and `Res7.txt`.
//!
//! A half waits for the other one of the same folder and number. What waits is bounded; what waits in vain is reported.

use std::collections::BTreeMap;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        exchange::Exchange,
        message::{Message, Start},
        reader::tell,
        verdict::Left,
    },
};

/// The most bytes that halves may hold while they wait.
const MAX_WAITING: usize = 256 * 1024 * 1024;

/// Half an exchange.
#[derive(Debug)]
pub struct Half {
    key: String,
    path: String,
    message: Message,
}

impl Half {
    /// A message out of the file at `path`; `key` is the same for both halves.
    pub(super) fn new(key: String, path: &str, message: Message) -> Self {
        Self { key, path: path.to_owned(), message }
    }

    /// What is said of it when its other half is not there.
    #[must_use]
    pub fn lone(&self) -> Diagnostic {
        let (is, lacks) = match self.message.start {
            Start::Request { .. } => ("request", "response"),
            Start::Response { .. } => ("response", "request"),
        };
        (*Left::skipped("half_missing", "", format!("this is a {is} without its {lacks}"))
            .hint("`Req7.txt` and `Res7.txt` of one folder belong together")
            .why)
            .subject(&self.path)
            .line(1)
    }
}

/// Brings halves together.
#[derive(Debug, Default)]
pub struct Joiner {
    waiting: BTreeMap<String, Half>,
    bytes: usize,
}

impl Joiner {
    /// Takes a half; when the other one is there already, the pair goes to the sink.
    pub fn join<S: Sink + ?Sized>(&mut self, half: Half, sink: &mut S) {
        let size = half.message.size();
        let Some(other) = self.waiting.remove(&half.key) else {
            if self.bytes.saturating_add(size) > MAX_WAITING {
                let left = super::verdict::limit(
                    "too many requests and responses wait for their other half".to_owned(),
                );
                return tell(sink, &half.path, 1, left);
            }
            self.bytes = self.bytes.saturating_add(size);
            self.waiting.insert(half.key.clone(), half);
            return;
        };
        self.bytes = self.bytes.saturating_sub(other.message.size());
        let (request, response) = match (&half.message.start, &other.message.start) {
            (Start::Request { .. }, Start::Response { .. }) => (half, other),
            (Start::Response { .. }, Start::Request { .. }) => (other, half),
            _ => {
                sink.skipped(other.lone());
                sink.skipped(half.lone());
                return;
            }
        };
        match Exchange::of_messages("wire", request.message, response.message).finish("") {
            Ok(pair) => sink.pair(pair),
            Err(left) => tell(sink, &request.path, 1, left),
        }
    }

    /// Reports what waits in vain.
    pub fn finish<S: Sink + ?Sized>(self, sink: &mut S) {
        for half in self.waiting.into_values() {
            sink.skipped(half.lone());
        }
    }
}
