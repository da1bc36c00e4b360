//! HAR 1.1 and 1.2, entry by entry as the bytes arrive.
//!
//! Browsers and proxies write HAR with fields left out, with fields of their own and with bodies left out; what is missing is made up for
//! where that is certain (a `Cookie` field from the cookies), and reported where it is not.

mod body;
mod entry;

use crate::formats::{
    Sink,
    reader::{tell, tell_at},
    splitter::{Piece, Splitter},
    verdict::Left,
};

/// How deep the parts around the entries may be nested.
const MAX_DEPTH: usize = 128;

/// The stream of one HAR: everything around `log.entries` is passed over.
#[derive(Debug)]
pub(super) struct Stream {
    state: State,
    /// The open objects (`true`) and arrays around the current byte.
    open: Vec<bool>,
    in_string: bool,
    escaped: bool,
    /// The last string at depth one or two, which may be a key.
    word: Vec<u8>,
    key: Option<Vec<u8>>,
    in_log: bool,
    entries: Splitter,
    seen: u64,
    line: u32,
    /// The bytes that were taken so far.
    before: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Around,
    Entries,
    Broken,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            state: State::Around,
            open: Vec::new(),
            in_string: false,
            escaped: false,
            word: Vec::new(),
            key: None,
            in_log: false,
            entries: Splitter::of_array(1, 0),
            seen: 0,
            line: 1,
            before: 0,
        }
    }

    /// Takes the next bytes.
    pub(super) fn push<S: Sink>(&mut self, mut bytes: &[u8], sink: &mut S, path: &str) {
        while !bytes.is_empty() {
            let length = bytes.len();
            match self.state {
                State::Around => bytes = self.around(bytes, sink, path),
                State::Entries => bytes = self.within(bytes, sink, path),
                State::Broken => return,
            }
            let taken = length.saturating_sub(bytes.len());
            self.before = self.before.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        }
    }

    /// Says that the file has ended.
    pub(super) fn finish<S: Sink>(mut self, sink: &mut S, path: &str) {
        match self.state {
            State::Entries => {
                let seen = &mut self.seen;
                self.entries.finish(&mut |piece| deliver(piece, seen, sink, path));
            }
            State::Around if !self.open.is_empty() => {
                let left = Left::refused("truncated", "", "the file ends within the HAR");
                tell(sink, path, self.line, left.hint("the entries before are kept"));
            }
            State::Around if self.seen == 0 => {
                tell(
                    sink,
                    path,
                    1,
                    Left::skipped("empty_file", "log.entries", "the HAR holds no entries"),
                );
            }
            State::Around | State::Broken => {}
        }
    }

    fn within<'b, S: Sink>(&mut self, bytes: &'b [u8], sink: &mut S, path: &str) -> &'b [u8] {
        let seen = &mut self.seen;
        let rest = self.entries.push_array(bytes, &mut |piece| deliver(piece, seen, sink, path));
        if self.entries.has_ended() {
            self.line = self.entries.line();
            self.state = State::Around;
        }
        rest
    }

    /// Passes over what is around the entries; comes back where they begin.
    fn around<'b, S: Sink>(&mut self, bytes: &'b [u8], sink: &mut S, path: &str) -> &'b [u8] {
        for (at, &byte) in bytes.iter().enumerate() {
            self.line = self.line.saturating_add(u32::from(byte == b'\n'));
            if self.in_string {
                self.string(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.word.clear();
                }
                b':' => self.key = Some(std::mem::take(&mut self.word)),
                b',' => self.key = None,
                b'{' | b'[' => {
                    if self.is_key(1, b"log") {
                        self.in_log = byte == b'{';
                    }
                    if byte == b'[' && self.in_log && self.is_key(2, b"entries") {
                        self.key = None;
                        self.state = State::Entries;
                        let taken = u64::try_from(at.saturating_add(1)).unwrap_or(u64::MAX);
                        let before = self.before.saturating_add(taken);
                        self.entries = Splitter::of_array(self.line, before);
                        return bytes.get(at.saturating_add(1)..).unwrap_or_default();
                    }
                    if self.open.len() >= MAX_DEPTH {
                        return self.give_up("the HAR is nested too deeply", sink, path);
                    }
                    self.open.push(byte == b'{');
                    self.key = None;
                }
                b'}' | b']' => {
                    if self.open.pop() != Some(byte == b'}') {
                        return self.give_up("the HAR is not JSON", sink, path);
                    }
                    self.in_log = self.in_log && self.open.len() >= 2;
                }
                _ => {}
            }
        }
        &[]
    }

    fn give_up<S: Sink>(&mut self, what: &str, sink: &mut S, path: &str) -> &'static [u8] {
        self.state = State::Broken;
        tell(
            sink,
            path,
            self.line,
            Left::refused("not_json", "", what).hint("the entries before are kept"),
        );
        &[]
    }

    fn is_key(&self, depth: usize, name: &[u8]) -> bool {
        self.open.len() == depth && self.key.as_deref() == Some(name)
    }

    fn string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return;
        }
        // Longer than any key that is looked for.
        if self.word.len() < 16 {
            self.word.push(byte);
        }
    }
}

fn deliver<S: Sink>(piece: Piece, seen: &mut u64, sink: &mut S, path: &str) {
    let place = format!("log.entries[{seen}]");
    *seen = seen.saturating_add(1);
    match piece {
        Piece::Entry { text, at, .. } => match entry::read(&text, &place) {
            Ok(pair) => sink.pair(pair),
            Err(left) => tell_at(sink, path, at, left),
        },
        Piece::Broken { at, left } => tell_at(sink, path, at, left.within(&place)),
    }
}

#[cfg(test)]
mod tests;
