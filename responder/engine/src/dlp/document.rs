//! Redacting JSON by span: names, paths and patterns in one walk; everything that is not replaced stays byte for byte.

use std::ops::Range;

use super::{
    config::normal,
    value::{Edit, Pass},
};
use crate::json::{self, Event, Kind, NotJson, Segment};

/// What holds for a value: the rule that names it, and how far paths have come.
#[derive(Debug, Clone, Default)]
struct Standing {
    rule: Option<usize>,
    ignored: bool,
    /// Which paths lead here, and how many of their steps are done.
    paths: Vec<(usize, usize)>,
    /// Where to step back to behind the value.
    place: usize,
}

struct Walk<'w, 'p> {
    pass: &'w mut Pass<'p>,
    doc: &'w [u8],
    nested: u8,
    /// The objects and arrays around the current place.
    around: Vec<Standing>,
    /// What holds for the value that comes next.
    next: Standing,
    edits: Vec<Edit>,
}

impl Pass<'_> {
    /// Redacts the body of a message; `nested` is 0 for the document itself, to which alone paths apply.
    pub(super) fn document(&mut self, doc: &[u8], nested: u8) -> Result<Vec<Edit>, NotJson> {
        // Counted is only what is replaced, so that the document is known to be one first.
        json::visit(doc, &mut |_| {})?;
        let paths = if nested == 0 {
            (0..self.config().paths.len()).map(|at| (at, 0)).collect()
        } else {
            Vec::new()
        };
        let place = self.place.len();
        let mut walk = Walk {
            pass: self,
            doc,
            nested,
            around: Vec::new(),
            next: Standing { paths, place, ..Standing::default() },
            edits: Vec::new(),
        };
        json::visit(doc, &mut |event| walk.on(&event))?;
        Ok(walk.edits)
    }
}

impl Walk<'_, '_> {
    fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Open(_) => self.around.push(std::mem::take(&mut self.next)),
            Event::Name { name, span } => self.name(name, span),
            Event::Item(index) => {
                let mut next = self.inherited();
                self.follow(&mut next, &Step::Index(*index));
                next.place = self.pass.enter("#");
                self.next = next;
            }
            Event::Scalar { kind, span } => {
                self.scalar(*kind, span);
                self.pass.leave(self.next.place);
            }
            Event::Close => {
                if let Some(closed) = self.around.pop() {
                    self.pass.leave(closed.place);
                }
            }
        }
    }

    /// What a member or element has from what is around it.
    fn inherited(&self) -> Standing {
        let around = self.around.last();
        Standing {
            rule: around.and_then(|around| around.rule),
            ignored: around.is_some_and(|around| around.ignored),
            ..Standing::default()
        }
    }

    fn name(&mut self, name: &str, span: &Range<usize>) {
        let mut next = self.inherited();
        let config = self.pass.config();
        let known = normal(name);
        next.rule = config.keys.get(&known).copied().or(next.rule);
        next.ignored |= config.ignore.contains(&known);
        self.follow(&mut next, &Step::Name(name));
        let mut shown = None;
        // A name of letters is a name; one with digits or signs may be a value, as in a map from addresses to people.
        if !next.ignored && name.bytes().any(|b| !b.is_ascii_alphabetic() && b != b'_') {
            let edits = self.pass.loose(name.as_bytes(), u8::MAX);
            if !edits.is_empty() {
                shown = String::from_utf8(json::replace(name.as_bytes(), &edits)).ok();
                self.push(span, edits);
            }
        }
        next.place = self.pass.enter(shown.as_deref().unwrap_or(name));
        self.next = next;
    }

    /// Takes paths one step further.
    fn follow(&self, next: &mut Standing, step: &Step<'_>) {
        let config = self.pass.config();
        let Some(around) = self.around.last() else { return };
        for (path, done) in &around.paths {
            let Some((parsed, rule)) = config.paths.get(*path) else { continue };
            if !parsed.segments.get(*done).is_some_and(|segment| step.fits(segment)) {
                continue;
            }
            if done + 1 == parsed.segments.len() {
                next.rule = Some(*rule);
                next.ignored = false;
            } else {
                next.paths.push((*path, done + 1));
            }
        }
    }

    fn scalar(&mut self, kind: Kind, span: &Range<usize>) {
        if self.next.ignored {
            return;
        }
        let raw = self.doc.get(span.clone()).unwrap_or_default();
        match kind {
            Kind::String => {
                let text = Unescaped::of(raw);
                let edits = match self.next.rule {
                    Some(rule) => self.pass.named(rule, &text.bytes),
                    None => self.pass.loose(&text.bytes, self.nested),
                };
                self.push_mapped(span.start, &text, edits);
            }
            Kind::Number => {
                if let Some(new) = self.pass.number(self.next.rule, raw) {
                    self.edits.push((span.clone(), new));
                }
            }
            // Neither tells anything of a person.
            Kind::Null | Kind::Bool | Kind::Array | Kind::Object => {}
        }
    }

    fn push(&mut self, span: &Range<usize>, edits: Vec<Edit>) {
        let text = Unescaped::of(self.doc.get(span.clone()).unwrap_or_default());
        self.push_mapped(span.start, &text, edits);
    }

    /// Takes edits of a string's text over to its place in the document. What replaces needs no escape.
    fn push_mapped(&mut self, start: usize, text: &Unescaped, edits: Vec<Edit>) {
        for (span, new) in edits {
            self.edits.push((start + text.raw(span.start)..start + text.raw(span.end), new));
        }
    }
}

/// A step of the walk.
enum Step<'n> {
    Name(&'n str),
    Index(usize),
}

impl Step<'_> {
    fn fits(&self, segment: &Segment) -> bool {
        match (self, segment) {
            (Self::Name(name), wanted) => wanted.names(name),
            (Self::Index(index), Segment::Name(wanted)) => wanted.parse() == Ok(*index),
            // A walk knows an element only when it is through it: better too many are redacted.
            (Self::Index(_), Segment::Each | Segment::Find { .. }) => true,
            (Self::Index(_), Segment::Like(_)) => false,
        }
    }
}

/// The text of a JSON string, and where in the raw string each of its bytes comes from.
struct Unescaped {
    bytes: Vec<u8>,
    /// Empty when there are no escapes: then the text stands one byte behind the opening quote.
    origins: Vec<usize>,
}

impl Unescaped {
    /// Of a raw string with its quotes.
    fn of(raw: &[u8]) -> Self {
        let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        if !inside.contains(&b'\\') {
            return Self { bytes: inside.to_vec(), origins: Vec::new() };
        }
        let mut text = Self { bytes: Vec::with_capacity(inside.len()), origins: Vec::new() };
        let mut at = 0;
        while let Some(rest) = inside.get(at..).filter(|rest| !rest.is_empty()) {
            let (c, length) = unescape(rest);
            let from = text.bytes.len();
            match c {
                Some(c) => text.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => text.bytes.extend(rest.first()),
            }
            text.origins.resize(text.bytes.len(), at + 1);
            debug_assert!(from < text.bytes.len(), "every step yields a byte");
            at += length;
        }
        text.origins.push(inside.len() + 1);
        text
    }

    /// Where a byte of the text stands in the raw string.
    fn raw(&self, at: usize) -> usize {
        if self.origins.is_empty() {
            at + 1
        } else {
            self.origins.get(at).copied().unwrap_or(at + 1)
        }
    }
}

/// The character that an escape at the beginning stands for, and its length; no character where there is no escape.
fn unescape(text: &[u8]) -> (Option<char>, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4).and_then(|digits| std::str::from_utf8(digits).ok())?;
        u32::from_str_radix(digits, 16).ok()
    };
    match (text.first(), text.get(1)) {
        (Some(b'\\'), Some(b'u')) => {
            let high = unit(2).unwrap_or_default();
            if let (0xd800..=0xdbff, Some(b"\\u"), Some(low @ 0xdc00..=0xdfff)) =
                (high, text.get(6..8), unit(8))
            {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return (Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)), 12);
            }
            (Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)), 6)
        }
        (Some(b'\\'), Some(escaped)) => {
            let c = match escaped {
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                other => char::from(*other),
            };
            (Some(c), 2)
        }
        _ => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unescaping_agrees_with_serde_and_knows_where_it_came_from(text in ".{0,20}", escape in any::<bool>()) {
            let raw = if escape {
                let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{units}\"")
            } else {
                serde_json::to_string(&text).unwrap()
            };
            let unescaped = Unescaped::of(raw.as_bytes());
            prop_assert_eq!(std::str::from_utf8(&unescaped.bytes).unwrap(), &text);
            prop_assert_eq!(unescaped.raw(0), 1);
            prop_assert_eq!(unescaped.raw(unescaped.bytes.len()), raw.len() - 1);
            for (at, _) in text.char_indices() {
                let rest = format!("\"{}", raw.get(unescaped.raw(at)..).unwrap());
                prop_assert_eq!(serde_json::from_str::<String>(&rest).unwrap(), text.get(at..).unwrap());
            }
        }
    }
}
