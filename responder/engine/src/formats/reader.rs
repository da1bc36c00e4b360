//! Reads one file: chooses the reader by [`Kind`] and feeds it.
//!
//! Formats that consist of entries are read as the bytes arrive. Those that make sense only as a whole wait in memory, up to
//! [`MAX_ENTRY`].

use std::sync::Arc;

use crate::formats::{
    Half, MAX_ENTRY, Sink, archive, document,
    entry::{Entry, Form},
    foreign, goreplay, har,
    kind::{self, Kind, Named},
    messages,
    splitter::{Piece, Place, Splitter},
    verdict::{self, Left},
};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads one file. Its kind is told by its first bytes, else by the extension.
#[derive(Debug)]
pub struct FileReader<'s, S: Sink> {
    sink: &'s mut S,
    path: Arc<str>,
    named: Option<Kind>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No telling byte has come yet.
    Undecided(Vec<u8>),
    Json(Entries),
    Har(Box<har::Stream>),
    GoReplay(Box<goreplay::Stream>),
    Whole {
        kind: Kind,
        text: Vec<u8>,
        oversize: bool,
    },
}

impl State {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Json => Self::Json(Entries::new(false)),
            Kind::JsonLines => Self::Json(Entries::new(true)),
            Kind::Har => Self::Har(Box::new(har::Stream::new())),
            Kind::GoReplay => Self::GoReplay(Box::default()),
            Kind::Markdown | Kind::Messages | Kind::Yaml | Kind::Zip | Kind::BodyFile => {
                Self::Whole { kind, text: Vec::new(), oversize: false }
            }
        }
    }
}

impl<'s, S: Sink> FileReader<'s, S> {
    /// A reader of the file at `path`, which is only looked at for its name and named in findings.
    pub fn new(path: &str, sink: &'s mut S) -> Self {
        let named = Named::of(path).map(|named| named.kind);
        Self { sink, path: path.into(), named, state: State::Undecided(Vec::new()) }
    }

    /// Takes the next bytes of the file; entries that they complete go to the sink.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Undecided(seen) => {
                seen.extend_from_slice(bytes);
                if let Some(kind) = kind::sniff(seen, self.named) {
                    let seen = std::mem::take(seen);
                    self.state = State::new(kind);
                    self.push(&seen);
                }
            }
            State::Json(entries) => entries.push(bytes, &mut *self.sink, &self.path),
            State::Har(stream) => stream.push(bytes, &mut *self.sink, &self.path),
            State::GoReplay(stream) => stream.push(bytes, &mut *self.sink, &self.path),
            State::Whole { oversize: true, .. } => {}
            State::Whole { text, oversize, .. } => {
                if text.len().saturating_add(bytes.len()) > MAX_ENTRY {
                    *oversize = true;
                    *text = Vec::new();
                } else {
                    text.extend_from_slice(bytes);
                }
            }
        }
    }

    /// Says that the file has ended; what is still incomplete is refused.
    pub fn finish(mut self) {
        if let State::Undecided(seen) = &mut self.state {
            let mut seen = std::mem::take(seen);
            // A last line may lack its end.
            seen.push(b'\n');
            let kind = kind::sniff(&seen, self.named).or(self.named).unwrap_or(Kind::Markdown);
            seen.pop();
            self.state = State::new(kind);
            self.push(&seen);
        }
        let Self { sink, path, state, .. } = self;
        match state {
            State::Undecided(_) => {}
            State::Json(entries) => entries.finish(sink, &path),
            State::Har(stream) => stream.finish(sink, &path),
            State::GoReplay(stream) => stream.finish(sink, &path),
            State::Whole { kind, oversize: true, .. } => tell(sink, &path, 1, too_large(kind)),
            State::Whole { kind, text, .. } => whole(kind, text, sink, path),
        }
    }
}

fn too_large(kind: Kind) -> Left {
    let hint = match kind {
        Kind::Zip => "unpack the archive and import its directory",
        Kind::Messages => "split the dump into several files",
        _ => return verdict::too_large(),
    };
    let limit = MAX_ENTRY / (1024 * 1024);
    verdict::limit(format!("the file is larger than {limit} MiB")).hint(hint)
}

fn whole<S: Sink>(kind: Kind, mut text: Vec<u8>, sink: &mut S, path: Arc<str>) {
    if kind == Kind::Zip {
        return archive::read(&path, &text, sink);
    }
    if kind == Kind::BodyFile {
        return sink.half(Half::body_file(&path, text.into()));
    }
    if let Some(what) = packing(&text) {
        let message = format!("the file is {what}, which is not read");
        let left = Left::refused("packed_file", "", message);
        return tell(
            sink,
            &path,
            1,
            left.hint("unpack it, or make a zip archive of the recording"),
        );
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len());
    }
    match kind {
        Kind::Messages => messages::read(&path, &text, sink),
        Kind::Yaml => document::read_yaml(&path, &text, sink),
        Kind::Zip
        | Kind::BodyFile
        | Kind::Markdown
        | Kind::Json
        | Kind::JsonLines
        | Kind::Har
        | Kind::GoReplay => {
            sink.entry(Entry::new(path, Place::line(1), text, Form::Markdown));
        }
    }
}

/// How a file is packed that begins so.
fn packing(text: &[u8]) -> Option<&'static str> {
    let begins = |mark: &[u8]| text.starts_with(mark);
    match text {
        _ if begins(b"\x1f\x8b") => Some("compressed with gzip"),
        _ if begins(b"\x28\xb5\x2f\xfd") => Some("compressed with zstd"),
        _ if begins(b"BZh") => Some("compressed with bzip2"),
        _ if begins(b"\xfd7zXZ\0") => Some("compressed with xz"),
        _ if text.get(257..262) == Some(b"ustar") => Some("a tar archive"),
        _ => None,
    }
}

/// The entries of a JSON file.
#[derive(Debug)]
struct Entries {
    splitter: Splitter,
    /// The file should hold one pair per line.
    lines: bool,
    seen: u64,
}

impl Entries {
    fn new(lines: bool) -> Self {
        Self { splitter: Splitter::new(lines), lines, seen: 0 }
    }

    fn push<S: Sink>(&mut self, bytes: &[u8], sink: &mut S, path: &Arc<str>) {
        let Self { splitter, lines, seen } = self;
        splitter.push(bytes, &mut |piece| {
            // A lone object that shows no sign of a pair is somebody else's file, not a damaged recording.
            let foreign = (*seen == 0 && !*lines) || foreign::is_side_file(path);
            *seen = seen.saturating_add(1);
            deliver(sink, path, piece, foreign);
        });
    }

    fn finish<S: Sink>(mut self, sink: &mut S, path: &Arc<str>) {
        let mut broken = 0_u64;
        self.splitter.finish(&mut |piece| {
            broken += 1;
            deliver(sink, path, piece, false);
        });
        // Snapshots hold empty side files of lines; an empty file of any other kind is worth a word.
        if self.seen == 0 && broken == 0 && !self.lines {
            tell(sink, path, 1, Left::skipped("empty_file", "", "the file holds nothing"));
        }
    }
}

fn deliver<S: Sink>(sink: &mut S, path: &Arc<str>, piece: Piece, foreign: bool) {
    match piece {
        Piece::Entry { text, at, unchecked } => {
            let path = Arc::clone(path);
            let form = if unchecked { Form::Line { foreign } } else { Form::Json { foreign } };
            sink.entry(Entry::new(path, at, text, form));
        }
        Piece::Broken { at, left } => tell_at(sink, path, at, left),
    }
}

/// Hands a finding to the sink, with file and line.
pub(super) fn tell<S: Sink + ?Sized>(sink: &mut S, path: &str, line: u32, left: Left) {
    tell_at(sink, path, Place::line(line), left);
}

/// The same with which record it is, and where that begins.
pub(super) fn tell_at<S: Sink + ?Sized>(sink: &mut S, path: &str, at: Place, left: Left) {
    let mut why = (*left.why).subject(path).line(at.line);
    (why.record, why.offset) = (at.record, at.offset);
    if left.skipped {
        sink.skipped(why);
    } else {
        sink.refused(why);
    }
}
