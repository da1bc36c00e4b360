//! The canonical form of a document, in one pass: each value is written as it is read, behind the one before.
//!
//! Members mostly come in an order of their own, so an object is put in order once it is written: its members are spans of the output, and
//! only the spans are sorted. What is canonical as it stands, plain strings and numbers, is copied and never taken apart.

use std::ops::Range;

use jiter::{Jiter, Peek};

use super::{MAX_DEPTH, NotJson, write_quoted};

/// The document without white space between values, its members sorted by name at each level, the last of a repeated name kept, numbers
/// as they were written and strings with the fewest escapes. Two documents mean the same exactly when these bytes are equal.
pub(crate) fn canonical(doc: &[u8]) -> Result<Vec<u8>, NotJson> {
    let mut out = Vec::with_capacity(doc.len());
    write_canonical(doc, &mut out)?;
    Ok(out)
}

/// Appends the canonical form. What stands behind `out` when it fails means nothing.
fn write_canonical(doc: &[u8], out: &mut Vec<u8>) -> Result<(), NotJson> {
    // Strings are looked at one by one whether they are UTF-8, and nothing else can be other than ASCII.
    let mut reader = Jiter::new(doc);
    let members = Vec::with_capacity(16);
    let mut writer = Writer { doc, out, members, names: Vec::new(), sorted: Vec::new() };
    writer.value(&mut reader, 0)?;
    Ok(reader.finish()?)
}

/// What is written, and the members of the objects that are open.
struct Writer<'d, 'o> {
    doc: &'d [u8],
    out: &'o mut Vec<u8>,
    members: Vec<Member>,
    /// Names that are written with escapes, as they are without.
    names: Vec<u8>,
    /// Where an object is put in order; kept for the next one.
    sorted: Vec<u8>,
}

/// A member of an object, by its places in what is written.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    /// Behind the closing quote of the name.
    colon: usize,
    end: usize,
    /// Where its name stands without escapes, if it has any.
    name: Option<(usize, usize)>,
}

impl Writer<'_, '_> {
    fn value(&mut self, reader: &mut Jiter<'_>, depth: usize) -> Result<(), NotJson> {
        let peek = reader.peek()?;
        if depth > MAX_DEPTH {
            return Err(NotJson { offset: reader.current_index() });
        }
        let start = reader.current_index();
        match peek {
            Peek::Object => self.object(reader, depth)?,
            Peek::Array => {
                self.out.push(b'[');
                let mut next = reader.known_array()?;
                while next.is_some() {
                    self.value(reader, depth + 1)?;
                    next = reader.array_step()?;
                    if next.is_some() {
                        self.out.push(b',');
                    }
                }
                self.out.push(b']');
            }
            Peek::String => {
                let length = reader.known_str()?.len();
                let written = reader.slice_to_current(start);
                // An escape is longer than what it stands for, so there is none in what is not longer.
                if written.len() == length + 2 {
                    self.out.extend_from_slice(written);
                } else {
                    write_quoted(Jiter::new(written).known_str()?, self.out);
                }
            }
            scalar => {
                reader.known_skip(scalar)?;
                self.out.extend_from_slice(reader.slice_to_current(start));
            }
        }
        Ok(())
    }

    fn object(&mut self, reader: &mut Jiter<'_>, depth: usize) -> Result<(), NotJson> {
        let (first, names) = (self.members.len(), self.names.len());
        self.out.push(b'{');
        let mut in_order = true;
        let mut before = reader.current_index();
        let mut key = reader.known_object()?.map(|name| self.write_name(name));
        while let Some((start, length)) = key {
            let name = self.escape_name(start, length, before..reader.current_index());
            let colon = self.out.len();
            self.out.push(b':');
            self.value(reader, depth + 1)?;
            let member = Member { start, colon, end: self.out.len(), name };
            in_order = in_order
                && self
                    .members
                    .get(first..)
                    .and_then(<[Member]>::last)
                    .is_none_or(|before| self.name(before) < self.name(&member));
            self.members.push(member);
            before = reader.current_index();
            key = reader.next_key()?.map(|name| {
                self.out.push(b',');
                self.write_name(name)
            });
        }
        if !in_order {
            self.sort(first);
        }
        self.members.truncate(first);
        self.names.truncate(names);
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a name as if nothing in it had to be escaped; returns where, and how long it is.
    fn write_name(&mut self, name: &str) -> (usize, usize) {
        let start = self.out.len();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
        (start, name.len())
    }

    /// Writes it with escapes if it was read with any, from a part of the document that ends with its colon; returns where it stands without.
    fn escape_name(
        &mut self,
        start: usize,
        length: usize,
        read: Range<usize>,
    ) -> Option<(usize, usize)> {
        // A comma or a brace, two quotes and a colon.
        if read.len() == length + 4 {
            return None;
        }
        let read = self.doc.get(read).unwrap_or_default();
        let quotes = read
            .iter()
            .position(|byte| *byte == b'"')
            .zip(read.iter().rposition(|byte| *byte == b'"'));
        if quotes.is_some_and(|(open, close)| close - open == length + 1) {
            return None;
        }
        let from = self.names.len();
        let name = self.out.get(start + 1..start + 1 + length).unwrap_or_default();
        self.names.extend_from_slice(name);
        let name = String::from_utf8_lossy(name).into_owned();
        self.out.truncate(start);
        write_quoted(&name, self.out);
        Some((from, from + length))
    }

    /// A member's name without escapes.
    fn name(&self, member: &Member) -> &[u8] {
        let name = match member.name {
            Some((from, to)) => self.names.get(from..to),
            None => self.out.get(member.start + 1..member.colon - 1),
        };
        name.unwrap_or_default()
    }

    /// Puts the members of the last object, from the `first` on, in order.
    fn sort(&mut self, first: usize) {
        let mut members = self.members.split_off(first);
        members.sort_unstable_by(|a, b| {
            self.name(a).cmp(self.name(b)).then_with(|| a.start.cmp(&b.start))
        });
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        let mut rest = members.iter().peekable();
        while let Some(member) = rest.next() {
            // Of a repeated name the last one written is the last of its run.
            if rest.peek().is_some_and(|next| self.name(next) == self.name(member)) {
                continue;
            }
            if !sorted.is_empty() {
                sorted.push(b',');
            }
            sorted.extend_from_slice(self.out.get(member.start..member.end).unwrap_or_default());
        }
        let begin = members.iter().map(|member| member.start).min().unwrap_or(self.out.len());
        self.out.truncate(begin);
        self.out.extend_from_slice(&sorted);
        self.sorted = sorted;
    }
}

#[cfg(test)]
mod tests;
