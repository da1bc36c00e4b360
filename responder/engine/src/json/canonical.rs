//! The canonical form of a document, in one pass: each value is written as it is read, behind the one before.
//!
//! Members mostly come in an order of their own, so an object is put in order once it is written: its members are spans of the output, and
//! only the spans are sorted. What is canonical as it stands, plain strings and numbers, is copied and never taken apart.

use jiter::{Jiter, Peek};

use super::{MAX_DEPTH, NotJson, quote};

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
    let mut writer = Writer { out, members: Vec::new(), names: Vec::new(), sorted: Vec::new() };
    writer.value(&mut reader, 0)?;
    Ok(reader.finish()?)
}

/// What is written, and the members of the objects that are open.
struct Writer<'o> {
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

impl Writer<'_> {
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
            Peek::String => drop(quote_into(reader.known_str()?, self.out)),
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
        let mut key = reader.known_object()?;
        while let Some(name) = key {
            let start = self.out.len();
            let escaped = quote_into(name, self.out);
            let colon = self.out.len();
            let from = self.names.len();
            let name = escaped.then(|| {
                self.names.extend_from_slice(name.as_bytes());
                (from, self.names.len())
            });
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
            key = reader.next_key()?;
            if key.is_some() {
                self.out.push(b',');
            }
        }
        if !in_order {
            self.sort(first);
        }
        self.members.truncate(first);
        self.names.truncate(names);
        self.out.push(b'}');
        Ok(())
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

/// Appends a string as JSON text, escaping only what must be; tells whether anything had to.
pub(super) fn quote_into(text: &str, out: &mut Vec<u8>) -> bool {
    // Without a way out early this is done for many bytes at once.
    let must = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    let escaped = text.bytes().fold(false, |escaped, byte| escaped | must(byte));
    if escaped {
        out.extend_from_slice(&quote(text));
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
    escaped
}

#[cfg(test)]
mod tests;
