//! JSON by byte span: find a value, replace it, insert one, and bring a document into its canonical form.
//!
//! Nothing here re-serialises what it does not have to change: bytes outside a replaced span stay as they were recorded. The scanning
//! itself is jiter's; this is the only module that knows it.

mod visit;

use std::ops::Range;

use jiter::{Jiter, JiterError, Peek};

pub(crate) use visit::{Event, visit};

/// Documents nested deeper than this are not JSON to us.
const MAX_DEPTH: usize = 128;

/// One step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// A member of an object; all digits also mean an element of an array.
    Name(String),
    /// Every element of an array.
    Each,
}

/// A gjson-style path: `a.b`, `a.0`, `#.x`; a dot inside a name is written `\.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<Segment>,
}

impl Path {
    /// Parses a path; the error says what is not supported.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the path is empty");
        }
        let mut segments = Vec::new();
        let mut name = String::new();
        let mut chars = text.chars();
        let mut escaped = false;
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    name.push(chars.next().ok_or("the path ends in a backslash")?);
                    escaped = true;
                }
                '.' => segments.push(Self::segment(&mut name, &mut escaped)?),
                '|' | '@' | '*' | '?' | '(' if !escaped && (c != '@' || name.is_empty()) => {
                    return Err(
                        "queries, modifiers and wildcards are not supported: use names, indexes and `#`",
                    );
                }
                other => name.push(other),
            }
        }
        segments.push(Self::segment(&mut name, &mut escaped)?);
        Ok(Self { segments })
    }

    fn segment(name: &mut String, escaped: &mut bool) -> Result<Segment, &'static str> {
        let escaped = std::mem::take(escaped);
        let name = std::mem::take(name);
        match name.as_str() {
            "" => Err("the path has an empty segment"),
            "#" if !escaped => Ok(Segment::Each),
            _ => Ok(Segment::Name(name)),
        }
    }

    /// The last name of the path, without array steps.
    pub(crate) fn leaf(&self) -> &str {
        self.segments
            .iter()
            .rev()
            .find_map(|s| if let Segment::Name(name) = s { Some(name.as_str()) } else { None })
            .unwrap_or_default()
    }
}

/// What kind of value stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A value in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// Where it stands.
    pub(crate) span: Range<usize>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where the object begins that it is a member of.
    pub(crate) parent: Option<usize>,
}

/// The document is not JSON, or is nested too deeply.
#[derive(Debug, thiserror::Error)]
#[error("no JSON at byte {offset}")]
pub(crate) struct NotJson {
    /// Where reading stopped.
    pub(crate) offset: usize,
}

impl From<JiterError> for NotJson {
    fn from(error: JiterError) -> Self {
        Self { offset: error.index }
    }
}

/// Finds every value that a path leads to: none when it leads nowhere, several only through `#`.
pub(crate) fn locate(doc: &[u8], path: &Path) -> Result<Vec<Located>, NotJson> {
    let mut found = Vec::new();
    let mut reader = reader(doc)?;
    walk(&mut reader, &path.segments, None, &mut found)?;
    reader.finish()?;
    Ok(found)
}

/// Finds a member of the object that begins at `start`.
pub(crate) fn member(doc: &[u8], start: usize, name: &str) -> Option<Located> {
    let object = doc.get(start..)?;
    let mut found = Vec::new();
    let path = [Segment::Name(name.to_owned())];
    walk(&mut Jiter::new(object), &path, None, &mut found).ok()?;
    let found = found.into_iter().next()?;
    Some(Located {
        span: found.span.start + start..found.span.end + start,
        kind: found.kind,
        parent: Some(start),
    })
}

fn reader(doc: &[u8]) -> Result<Jiter<'_>, NotJson> {
    std::str::from_utf8(doc).map_err(|e| NotJson { offset: e.valid_up_to() })?;
    Ok(Jiter::new(doc))
}

fn walk(
    reader: &mut Jiter<'_>,
    path: &[Segment],
    parent: Option<usize>,
    found: &mut Vec<Located>,
) -> Result<(), NotJson> {
    let peek = reader.peek()?;
    let start = reader.current_index();
    let Some((step, rest)) = path.split_first() else {
        reader.known_skip(peek)?;
        found.push(Located { span: start..reader.current_index(), kind: kind(peek), parent });
        return Ok(());
    };
    match (peek, step) {
        (Peek::Object, Segment::Name(name)) => {
            let mut taken = false;
            let mut key = reader.known_object()?.map(|key| key == name);
            while let Some(hit) = key {
                if hit && !taken {
                    taken = true;
                    walk(reader, rest, Some(start), found)?;
                } else {
                    reader.next_skip()?;
                }
                key = reader.next_key()?.map(|key| key == name);
            }
        }
        (Peek::Array, step) => {
            let wanted = match step {
                Segment::Each => None,
                Segment::Name(name) => Some(name.parse::<usize>().unwrap_or(usize::MAX)),
            };
            let mut next = reader.known_array()?;
            let mut index = 0;
            while let Some(peek) = next {
                if wanted.is_none_or(|wanted| wanted == index) {
                    walk(reader, rest, None, found)?;
                } else {
                    reader.known_skip(peek)?;
                }
                index += 1;
                next = reader.array_step()?;
            }
        }
        _ => reader.known_skip(peek)?,
    }
    Ok(())
}

fn kind(peek: Peek) -> Kind {
    match peek {
        Peek::Null => Kind::Null,
        Peek::True | Peek::False => Kind::Bool,
        Peek::String => Kind::String,
        Peek::Array => Kind::Array,
        Peek::Object => Kind::Object,
        _ => Kind::Number,
    }
}

/// The text of a located value as a chain sees it: a string without quotes and escapes, everything else as it stands.
pub(crate) fn text(doc: &[u8], at: &Located) -> Vec<u8> {
    let raw = doc.get(at.span.clone()).unwrap_or_default();
    match at.kind {
        Kind::String => {
            serde_json::from_slice::<String>(raw).map_or_else(|_| raw.to_vec(), String::into_bytes)
        }
        _ => raw.to_vec(),
    }
}

/// A string as JSON text, escaping only what must be.
pub(crate) fn quote(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).unwrap_or_default()
}

/// The document with some spans replaced. Spans are in order and do not overlap.
pub(crate) fn replace(doc: &[u8], edits: &[(Range<usize>, Vec<u8>)]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|(_, with)| with.len()).sum();
    let mut out = Vec::with_capacity(doc.len() + grown);
    let mut from = 0;
    for (span, with) in edits {
        out.extend_from_slice(doc.get(from..span.start).unwrap_or_default());
        out.extend_from_slice(with);
        from = span.end;
    }
    out.extend_from_slice(doc.get(from..).unwrap_or_default());
    out
}

/// Inserts a value where the path leads nowhere yet, creating objects on the way. `None` when the path meets something that is no object.
pub(crate) fn insert(doc: &[u8], path: &Path, value: &[u8]) -> Result<Option<Vec<u8>>, NotJson> {
    for depth in (0..path.segments.len()).rev() {
        let (existing, missing) = path.segments.split_at(depth);
        let found = locate(doc, &Path { segments: existing.to_vec() })?;
        let [container] = found.as_slice() else { continue };
        if container.kind != Kind::Object {
            return Ok(None);
        }
        let mut member = value.to_vec();
        for (nth, segment) in missing.iter().enumerate().rev() {
            let Segment::Name(name) = segment else { return Ok(None) };
            let mut wrapped = quote(name);
            wrapped.push(b':');
            wrapped.append(&mut member);
            member = if nth == 0 { wrapped } else { [b"{", wrapped.as_slice(), b"}"].concat() };
        }
        let closing = container.span.end.saturating_sub(1);
        let body = doc.get(container.span.start + 1..closing).unwrap_or_default();
        let at = container.span.start + 1 + body.trim_ascii_end().len();
        if !body.trim_ascii().is_empty() {
            member.insert(0, b',');
        }
        return Ok(Some(replace(doc, &[(at..at, member)])));
    }
    Ok(None)
}

/// The document without white space between values, its members sorted by name at each level, the last of a repeated name kept, numbers
/// as they were written and strings with the fewest escapes. Two documents mean the same exactly when these bytes are equal.
pub(crate) fn canonical(doc: &[u8]) -> Result<Vec<u8>, NotJson> {
    let mut reader = reader(doc)?;
    let mut out = Vec::with_capacity(doc.len());
    write_canonical(&mut reader, doc, &mut out, 0)?;
    reader.finish()?;
    Ok(out)
}

fn write_canonical(
    reader: &mut Jiter<'_>,
    doc: &[u8],
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), NotJson> {
    let peek = reader.peek()?;
    if depth > MAX_DEPTH {
        return Err(NotJson { offset: reader.current_index() });
    }
    match peek {
        Peek::Object => {
            let mut members: Vec<(String, Vec<u8>)> = Vec::new();
            let mut key = reader.known_object()?.map(str::to_owned);
            while let Some(name) = key {
                let mut value = Vec::new();
                write_canonical(reader, doc, &mut value, depth + 1)?;
                members.push((name, value));
                key = reader.next_key()?.map(str::to_owned);
            }
            members.sort_by(|a, b| a.0.cmp(&b.0));
            // The sort is stable, so of a repeated name the last one written is the last of its run.
            members.reverse();
            members.dedup_by(|later, kept| later.0 == kept.0);
            out.push(b'{');
            for (nth, (name, value)) in members.iter().rev().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&quote(name));
                out.push(b':');
                out.extend_from_slice(value);
            }
            out.push(b'}');
        }
        Peek::Array => {
            out.push(b'[');
            let mut next = reader.known_array()?;
            let mut first = true;
            while next.is_some() {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write_canonical(reader, doc, out, depth + 1)?;
                next = reader.array_step()?;
            }
            out.push(b']');
        }
        Peek::String => out.extend_from_slice(&quote(reader.known_str()?)),
        other => {
            let start = reader.current_index();
            reader.known_skip(other)?;
            out.extend_from_slice(doc.get(start..reader.current_index()).unwrap_or_default());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(doc: &str, path: &str) -> Vec<String> {
        let found = locate(doc.as_bytes(), &Path::parse(path).unwrap()).unwrap();
        found.iter().map(|at| String::from_utf8(text(doc.as_bytes(), at)).unwrap()).collect()
    }

    #[test]
    fn finds_names_indexes_and_each_element() {
        let doc = r#" { "a" : {"b.c": "x\u00e9", "n": 1.50}, "list":[{"x":1},{"y":2},{"x":[3]}], "a":{"b.c":"second"} } "#;
        assert_eq!(find(doc, r"a.b\.c"), ["xé"]);
        assert_eq!(find(doc, "a.n"), ["1.50"]);
        assert_eq!(find(doc, "list.0.x"), ["1"]);
        assert_eq!(find(doc, "list.#.x"), ["1", "[3]"]);
        assert_eq!(find(doc, "list.9.x"), [""; 0]);
        assert_eq!(find(doc, "nowhere.x"), [""; 0]);
    }

    #[test]
    fn refuses_paths_that_it_would_misread() {
        for path in ["", "a..b", "a.#(x==1).y", "a|b", "@this", "a.*", "a\\"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn inserts_where_nothing_was() {
        let put = |doc: &str, path: &str| {
            insert(doc.as_bytes(), &Path::parse(path).unwrap(), b"1")
                .unwrap()
                .map(|d| String::from_utf8(d).unwrap())
        };
        assert_eq!(put("{}", "a").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(put("{ \"x\": 2 }", "a.b").as_deref(), Some("{ \"x\": 2,\"a\":{\"b\":1} }"));
        assert_eq!(put(r#"{"a":{"c":3}}"#, "a.b").as_deref(), Some(r#"{"a":{"c":3,"b":1}}"#));
        assert_eq!(put(r#"{"a":5}"#, "a.b"), None);
        assert_eq!(put("[1]", "a"), None);
    }

    #[test]
    fn canonical_form_is_blind_to_order_and_space_only() {
        let canon = |doc: &str| String::from_utf8(canonical(doc.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            canon(r#" {"b":1.0,"a":[ {"z":"<é>","y":null} ], "a2":1e2} "#),
            r#"{"a":[{"y":null,"z":"<é>"}],"a2":1e2,"b":1.0}"#
        );
        assert_eq!(canon(r#"{"k":1,"k":2}"#), r#"{"k":2}"#);
        assert_eq!(canon("\"\\u0041\\/\""), "\"A/\"");
        assert!(canonical(b"{").is_err());
        assert!(canonical(b"{} x").is_err());
        assert!(canonical(b"\"\xff\"").is_err());
        assert!(canonical("[".repeat(5000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent_and_never_panics(doc in ".*") {
            if let Ok(once) = canonical(doc.as_bytes()) {
                prop_assert_eq!(canonical(&once).unwrap(), once);
            }
        }

        #[test]
        fn replacing_spans_leaves_the_rest(head in "[a-z]{0,9}", old in "[0-9]{0,9}", tail in "[a-z]{0,9}", new in ".{0,9}") {
            let doc = format!("{head}{old}{tail}");
            let span = head.len()..head.len() + old.len();
            prop_assert_eq!(replace(doc.as_bytes(), &[(span, new.clone().into_bytes())]), format!("{head}{new}{tail}").into_bytes());
        }
    }
}
