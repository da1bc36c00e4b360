//! Cuts a stream of JSON into its top-level objects as the bytes arrive.
//!
//! Objects may stand one per line, pretty-printed over many lines, back to back without a newline, or in one top-level array. The
//! grammar is followed closely enough that a damaged entry is noticed where it is damaged; reading then goes on at the next line that
//! begins with `{`. At most one entry is held in memory, and never more than [`MAX_ENTRY`] of it.

use memchr::{memchr, memchr2_iter};

use crate::formats::{
    MAX_ENTRY,
    verdict::{self, Left},
};

/// Entries nested deeper than this are refused.
const MAX_DEPTH: usize = 128;

/// Where in a file something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The line, counted from one.
    pub(super) line: u32,
    /// The bytes before it.
    pub(super) offset: u64,
    /// Which record it is, counted from one; 0 where records are not counted.
    pub(super) record: u64,
}

impl Place {
    /// A line of which no more is known.
    pub(super) fn line(line: u32) -> Self {
        Self { line, ..Self::default() }
    }
}

/// What the splitter finds.
#[derive(Debug)]
pub(super) enum Piece {
    /// A complete top-level object.
    Entry {
        /// Its bytes.
        text: Vec<u8>,
        /// Where it begins.
        at: Place,
        /// It is a line that looks like one object. Whoever cannot read it finds out with a splitter what it is.
        unchecked: bool,
    },
    /// Something that is no JSON object, or a part of one.
    Broken {
        /// Where it begins.
        at: Place,
        /// What is wrong with it.
        left: Left,
    },
}

/// What the grammar allows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between entries.
    Between,
    /// After a damaged entry: looking for a line that begins with `{`.
    Lost,
    /// A value.
    Value,
    /// A value, or the end of an array that has just begun.
    ValueOrEnd,
    /// A key.
    Key,
    /// A key, or the end of an object that has just begun.
    KeyOrEnd,
    /// The colon after a key.
    Colon,
    /// A comma or the end of what is open.
    AfterValue,
    /// The inside of a string.
    Text { key: bool },
    /// The character after a backslash.
    Escape { key: bool },
    /// A number, `true`, `false` or `null`; the parser of the entry looks at it closely.
    Scalar,
}

/// The splitter of one file.
#[derive(Debug)]
pub(super) struct Splitter {
    /// One object per line is expected: a line that begins with `{` always begins an entry.
    lines: bool,
    state: State,
    /// The open objects (`true`) and arrays of the entry.
    open: Vec<bool>,
    buffer: Vec<u8>,
    /// The byte at hand begins an entry.
    begins: bool,
    /// The entry has outgrown the limit: it is read to its end and not kept.
    oversize: bool,
    in_array: bool,
    /// Only the inside of an array is read, up to its end.
    only_array: bool,
    ended: bool,
    line: u32,
    /// The bytes that came with earlier pushes.
    before: u64,
    /// How many bytes come before the one at hand.
    here: u64,
    /// How many records have begun.
    records: u64,
    begun: Place,
    line_start: bool,
    /// How many bytes of a byte order mark may still come.
    mark: usize,
}

impl Splitter {
    pub(super) fn new(lines: bool) -> Self {
        Self {
            lines,
            state: State::Between,
            open: Vec::new(),
            buffer: Vec::new(),
            begins: false,
            oversize: false,
            in_array: false,
            only_array: false,
            ended: false,
            line: 1,
            before: 0,
            here: 0,
            records: 0,
            begun: Place::line(1),
            line_start: true,
            mark: 0,
        }
    }

    /// A splitter of the objects of an array that has just begun on this line, behind so many bytes.
    pub(super) fn of_array(line: u32, before: u64) -> Self {
        let new = Self::new(false);
        Self { in_array: true, only_array: true, line, before, line_start: false, ..new }
    }

    /// Whether the array has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The line that was reached.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8], found: &mut impl FnMut(Piece)) {
        self.push_array(bytes, found);
    }

    /// Takes the next bytes up to the end of the array; what follows comes back.
    pub(super) fn push_array<'b>(
        &mut self,
        bytes: &'b [u8],
        found: &mut impl FnMut(Piece),
    ) -> &'b [u8] {
        // What belongs to the entry is kept in as few copies as can be: when it ends, and at the end of these bytes.
        let (mut at, mut unkept) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            if self.ended {
                return bytes.get(at..).unwrap_or_default();
            }
            self.here = self.before.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
            if let Some(length) = self.whole_line(bytes.get(at..).unwrap_or_default()) {
                let text = bytes.get(at..at + length).unwrap_or_default().to_vec();
                let begun = self.record_begins();
                found(Piece::Entry { text, at: begun, unchecked: true });
                self.line = self.line.saturating_add(1);
                // The rest of the line is its end.
                at += memchr(b'\n', bytes.get(at + length..).unwrap_or_default())
                    .map_or(length, |end| length + end + 1);
                unkept = at;
                continue;
            }
            // Most of a recording is the inside of strings.
            if let State::Text { .. } = self.state {
                let plain = plain(bytes.get(at..).unwrap_or_default());
                if plain > 0 {
                    self.line_start = false;
                    at += plain;
                    continue;
                }
            }
            if byte == b'}' && self.open.len() == 1 {
                self.keep(bytes.get(unkept..=at).unwrap_or_default());
                unkept = at + 1;
            }
            self.begins = false;
            self.byte(byte, found);
            if self.begins {
                unkept = at;
            }
            if byte == b'\n' {
                self.line = self.line.saturating_add(1);
            }
            self.line_start = byte == b'\n';
            at += 1;
        }
        if !matches!(self.state, State::Between | State::Lost) {
            self.keep(bytes.get(unkept..).unwrap_or_default());
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.before = self.before.saturating_add(length);
        &[]
    }

    /// A record begins at the byte at hand.
    fn record_begins(&mut self) -> Place {
        // Where each line is to be one, its number is what people count by.
        self.records = if self.lines { self.line.into() } else { self.records.saturating_add(1) };
        self.begun = Place { line: self.line, offset: self.here, record: self.records };
        self.begun
    }

    /// The length of the entry that a line is, where that shows without following the grammar: it ends like an object, and the next line
    /// begins like one. It could not be nested too deeply.
    fn whole_line(&self, bytes: &[u8]) -> Option<usize> {
        let begins = self.lines && self.line_start && !self.in_array;
        if !begins || self.state != State::Between || bytes.first() != Some(&b'{') {
            return None;
        }
        let end = memchr(b'\n', bytes)?;
        let line = bytes.get(..end)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let whole = line.ends_with(b"}") && bytes.get(end + 1) == Some(&b'{');
        (whole && line.len() <= MAX_ENTRY && memchr2_iter(b'{', b'[', line).count() <= MAX_DEPTH)
            .then_some(line.len())
    }

    /// Says that the stream has ended.
    pub(super) fn finish(&mut self, found: &mut impl FnMut(Piece)) {
        match self.state {
            State::Between if self.in_array => {
                found(Piece::Broken {
                    at: Place::line(self.line),
                    left: Left::refused(
                        "truncated",
                        "",
                        "the file ends within its top-level array",
                    )
                    .hint("the pairs before are kept"),
                });
            }
            State::Between | State::Lost => {}
            _ => {
                let left = Left::refused("truncated", "", "the file ends within this entry")
                    .hint("the entries before it are kept; record or copy the file again");
                found(Piece::Broken { at: self.begun, left });
            }
        }
        *self = Self::new(self.lines);
    }

    fn byte(&mut self, byte: u8, found: &mut impl FnMut(Piece)) {
        let in_entry = !matches!(self.state, State::Between | State::Lost);
        if in_entry && self.lines && self.line_start && byte == b'{' {
            self.lose("the next entry begins before this one ends", found);
        }
        match self.state {
            State::Between => self.between(byte, found),
            State::Lost => {}
            _ => self.within(byte, found),
        }
        // The byte at which an entry turns out to be damaged may begin the next one.
        if self.state == State::Lost && self.line_start && byte == b'{' {
            self.begin();
        }
    }

    fn between(&mut self, byte: u8, found: &mut impl FnMut(Piece)) {
        match byte {
            b'{' => self.begin(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' if self.in_array => {}
            b']' if self.in_array => {
                self.in_array = false;
                self.ended = self.only_array;
            }
            b'[' if !self.in_array => self.in_array = true,
            0xEF if self.line == 1 && self.line_start => self.mark = 2,
            0xBB if self.mark == 2 => self.mark = 1,
            0xBF if self.mark == 1 => self.mark = 0,
            _ => {
                self.record_begins();
                self.lose("no JSON object begins here", found);
            }
        }
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.begins = true;
        self.oversize = false;
        self.open.clear();
        self.open.push(true);
        self.record_begins();
        self.state = State::KeyOrEnd;
    }

    fn within(&mut self, byte: u8, found: &mut impl FnMut(Piece)) {
        match (self.state, byte) {
            (State::Text { key }, b'"') => {
                self.state = if key { State::Colon } else { State::AfterValue }
            }
            (State::Text { key }, b'\\') => self.state = State::Escape { key },
            (State::Text { .. }, _) => self.lose("a string is not closed", found),
            (State::Escape { key }, _) => self.state = State::Text { key },
            (State::Scalar, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')
            | (_, b' ' | b'\t' | b'\r' | b'\n') => {
                if self.state == State::Scalar && byte.is_ascii_whitespace() {
                    self.state = State::AfterValue;
                }
            }
            (State::Key | State::KeyOrEnd, b'"') => self.state = State::Text { key: true },
            (State::Colon, b':') => self.state = State::Value,
            (State::Value | State::ValueOrEnd, _) if byte != b']' => self.value(byte, found),
            (State::AfterValue | State::Scalar, b',') => {
                self.state =
                    if self.open.last() == Some(&true) { State::Key } else { State::Value };
            }
            (State::AfterValue | State::Scalar | State::KeyOrEnd, b'}')
                if self.open.last() == Some(&true) =>
            {
                self.close(found);
            }
            (State::AfterValue | State::Scalar | State::ValueOrEnd, b']')
                if self.open.last() == Some(&false) =>
            {
                self.close(found);
            }
            _ => self.lose("this is not JSON", found),
        }
    }

    fn value(&mut self, byte: u8, found: &mut impl FnMut(Piece)) {
        match byte {
            b'"' => self.state = State::Text { key: false },
            b'{' | b'[' if self.open.len() >= MAX_DEPTH => {
                let left = Left::refused(
                    "limit_exceeded",
                    "",
                    format!("the entry is nested deeper than {MAX_DEPTH}"),
                );
                found(Piece::Broken { at: self.begun, left });
                self.drop_entry(State::Lost);
            }
            b'{' => {
                self.open.push(true);
                self.state = State::KeyOrEnd;
            }
            b'[' => {
                self.open.push(false);
                self.state = State::ValueOrEnd;
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.state = State::Scalar,
            _ => self.lose("this is not JSON", found),
        }
    }

    fn close(&mut self, found: &mut impl FnMut(Piece)) {
        self.open.pop();
        self.state = State::AfterValue;
        if self.open.is_empty() {
            if self.oversize {
                found(Piece::Broken { at: self.begun, left: verdict::too_large() });
            } else {
                let text = std::mem::take(&mut self.buffer);
                found(Piece::Entry { text, at: self.begun, unchecked: false });
            }
            self.drop_entry(State::Between);
        }
    }

    fn lose(&mut self, what: &str, found: &mut impl FnMut(Piece)) {
        let place = if self.line == self.begun.line {
            String::new()
        } else {
            format!(" at line {}", self.line)
        };
        let left = Left::refused("not_json", "", format!("{what}{place}"))
            .hint("reading goes on at the next line that begins with `{`");
        found(Piece::Broken { at: self.begun, left });
        self.drop_entry(State::Lost);
    }

    fn drop_entry(&mut self, next: State) {
        self.buffer = Vec::new();
        self.oversize = false;
        self.open.clear();
        self.state = next;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.oversize {
            return;
        }
        if self.buffer.len().saturating_add(bytes.len()) > MAX_ENTRY {
            self.oversize = true;
            self.buffer = Vec::new();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

/// Follows the grammar of a line that was taken for an entry unchecked.
pub(super) fn check_line(text: &[u8], at: Place, found: &mut impl FnMut(Piece)) {
    let mut splitter = Splitter { line: at.line, before: at.offset, ..Splitter::new(true) };
    splitter.push(text, found);
    // What came behind it was an entry of its own.
    splitter.push(b"\n{", found);
}

/// How many bytes come before the end of a string, an escape or a control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    // Eight bytes at a time; the lowest bit that is set belongs to the first byte below `limit`, if there is one.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    let mut done = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20)
            | below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1);
        if found != 0 {
            return done + usize::try_from(found.trailing_zeros() / 8).unwrap_or_default();
        }
        done += 8;
    }
    let rest = bytes.get(done..).unwrap_or_default();
    let special = |byte: &u8| matches!(*byte, b'"' | b'\\') || *byte < 0x20;
    done + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
