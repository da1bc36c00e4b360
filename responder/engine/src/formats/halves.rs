//! Exchanges whose request and response lie in files of their own: `Req7.txt` and `Res7.txt`.
//!
//! A half waits for the other one of the same folder and number. What waits is bounded; what waits in vain is reported. A pair and the file
//! that its body lies in are brought together in the same way, by the [`Shelf`].

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        body_files::{self, Shelf, Waiting},
        exchange::Exchange,
        message::{Message, Start},
        reader::tell,
        verdict::Left,
        wiremock::BodyFile,
    },
    snapshot::RrPair,
};

/// The most bytes that halves may hold while they wait.
const MAX_WAITING: usize = 256 * 1024 * 1024;

/// Half an exchange.
#[derive(Debug)]
pub struct Half {
    key: String,
    path: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Message(Box<Message>),
    BodyFile(Bytes),
    ForBodyFile(Box<Waiting>),
}

impl Half {
    /// A message out of the file at `path`; `key` is the same for both halves.
    pub(super) fn new(key: String, path: &str, message: Message) -> Self {
        Self { key, path: path.to_owned(), what: What::Message(Box::new(message)) }
    }

    /// The file at `path`, which is nothing but a body.
    pub(super) fn body_file(path: &str, content: Bytes) -> Self {
        let key = body_files::own_key(path);
        Self { key, path: path.to_owned(), what: What::BodyFile(content) }
    }

    /// A pair out of the file at `path` whose body lies in another; `None` when its name leads elsewhere.
    pub(super) fn for_body_file(
        pair: RrPair,
        file: &BodyFile,
        path: &str,
        line: u32,
        place: &str,
    ) -> Option<Self> {
        let key = body_files::key(path, &file.name)?;
        let (path, place) = (path.to_owned(), place.to_owned());
        let templated = file.templated;
        let waiting = Waiting { pair, templated, path: path.clone(), line, place };
        Some(Self { key, path, what: What::ForBodyFile(Box::new(waiting)) })
    }

    /// About how many bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.what {
            What::Message(message) => message.size(),
            What::BodyFile(content) => content.len(),
            What::ForBodyFile(waiting) => waiting.pair.extra_json.len(),
        }
    }

    /// What is said of it when its other half is not there.
    #[must_use]
    pub fn lone(&self) -> Diagnostic {
        match &self.what {
            What::Message(message) => self.lone_message(message),
            What::BodyFile(_) => body_files::unused(&self.path),
            What::ForBodyFile(waiting) => {
                let left = body_files::missing().within(&waiting.place);
                (*left.why).subject(&waiting.path).line(waiting.line)
            }
        }
    }

    fn lone_message(&self, message: &Message) -> Diagnostic {
        let (is, lacks) = match message.start {
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
    waiting: BTreeMap<String, Lone>,
    bytes: usize,
    shelf: Shelf,
}

/// A message that waits.
#[derive(Debug)]
struct Lone {
    path: String,
    message: Box<Message>,
}

impl Joiner {
    /// Takes a half; when the other one is there already, the pair goes to the sink.
    pub fn join<S: Sink + ?Sized>(&mut self, half: Half, sink: &mut S) {
        let Half { key, path, what } = half;
        match what {
            What::Message(message) => self.join_messages(key, Lone { path, message }, sink),
            What::BodyFile(content) => self.shelf.file(key, &path, content, sink),
            What::ForBodyFile(waiting) => self.shelf.pair(key, *waiting, sink),
        }
    }

    fn join_messages<S: Sink + ?Sized>(&mut self, key: String, half: Lone, sink: &mut S) {
        let size = half.message.size();
        let Some(other) = self.waiting.remove(&key) else {
            if self.bytes.saturating_add(size) > MAX_WAITING {
                let left = super::verdict::limit(
                    "too many requests and responses wait for their other half".to_owned(),
                );
                return tell(sink, &half.path, 1, left);
            }
            self.bytes = self.bytes.saturating_add(size);
            self.waiting.insert(key, half);
            return;
        };
        self.bytes = self.bytes.saturating_sub(other.message.size());
        let (request, response) = match (&half.message.start, &other.message.start) {
            (Start::Request { .. }, Start::Response { .. }) => (half, other),
            (Start::Response { .. }, Start::Request { .. }) => (other, half),
            _ => {
                for lone in [other, half] {
                    sink.skipped(lone.told());
                }
                return;
            }
        };
        match Exchange::of_messages("wire", *request.message, *response.message).finish("") {
            Ok(pair) => sink.pair(pair),
            Err(left) => tell(sink, &request.path, 1, left),
        }
    }

    /// Reports what waits in vain.
    pub fn finish<S: Sink + ?Sized>(self, sink: &mut S) {
        for lone in self.waiting.into_values() {
            sink.skipped(lone.told());
        }
        self.shelf.finish(sink);
    }
}

impl Lone {
    fn told(self) -> Diagnostic {
        Half { key: String::new(), path: self.path, what: What::Message(self.message) }.lone()
    }
}
