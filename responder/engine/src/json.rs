//! JSON by byte span: find a value, replace it, insert one, and bring a document into its canonical form.
//!
//! Nothing here re-serialises what it does not have to change: bytes outside a replaced span stay as they were recorded. The scanning
//! itself is jiter's; this is the only module that knows it.

mod canonical;
mod edit;
mod path;
mod select;
mod visit;

use std::ops::Range;

use jiter::{Jiter, JiterError, Peek};

pub(crate) use canonical::canonical;
pub(crate) use edit::{delete, encode, insert, replace, rewrite_strings};
pub(crate) use path::{Path, Segment};
pub(crate) use select::{Wanted, select};
pub(crate) use visit::{Event, visit};

/// Documents nested deeper than this are not JSON to us.
const MAX_DEPTH: usize = 128;

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
    /// Where its entry begins: with the name of a member, or with the value itself.
    entry: usize,
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
    let mut reader = reader(doc)?;
    let mut walk = Walk { doc, base: 0, found: Vec::new() };
    walk.value(&mut reader, &path.segments, None, None)?;
    reader.finish()?;
    Ok(walk.found)
}

/// Finds a member of the object that begins at `start`.
pub(crate) fn member(doc: &[u8], start: usize, name: &str) -> Option<Located> {
    let path = [Segment::Name(name.to_owned())];
    let mut walk = Walk { doc, base: start, found: Vec::new() };
    walk.value(&mut Jiter::new(doc.get(start..)?), &path, None, None).ok()?;
    walk.found.into_iter().next()
}

fn reader(doc: &[u8]) -> Result<Jiter<'_>, NotJson> {
    std::str::from_utf8(doc).map_err(|e| NotJson { offset: e.valid_up_to() })?;
    Ok(Jiter::new(doc))
}

/// A search: readers read from the byte `base` of the document.
struct Walk<'d> {
    doc: &'d [u8],
    base: usize,
    found: Vec<Located>,
}

impl Walk<'_> {
    fn value(
        &mut self,
        reader: &mut Jiter<'_>,
        path: &[Segment],
        parent: Option<usize>,
        entry: Option<usize>,
    ) -> Result<(), NotJson> {
        let peek = reader.peek()?;
        let start = self.base + reader.current_index();
        let Some((step, rest)) = path.split_first() else {
            reader.known_skip(peek)?;
            let span = start..self.base + reader.current_index();
            let entry = entry.unwrap_or(start);
            self.found.push(Located { span, kind: kind(peek), parent, entry });
            return Ok(());
        };
        match (peek, step) {
            (Peek::Object, Segment::Name(_) | Segment::Like(_)) => {
                self.member_of(reader, step, rest, start)
            }
            (Peek::Array, Segment::Find { test, all }) => {
                self.first_that(reader, *all, rest, |element| test.holds(element))
            }
            (Peek::Array, Segment::Name(_) | Segment::Each) => self.elements(reader, step, rest),
            _ => Ok(reader.known_skip(peek)?),
        }
    }

    /// The first member that a step means.
    fn member_of(
        &mut self,
        reader: &mut Jiter<'_>,
        step: &Segment,
        rest: &[Segment],
        object: usize,
    ) -> Result<(), NotJson> {
        let mut taken = false;
        let mut from = object + 1;
        let mut key = reader.known_object()?.map(|key| step.names(key));
        while let Some(hit) = key {
            if hit && !taken {
                taken = true;
                let entry = next_quote(self.doc, from);
                self.value(reader, rest, Some(object), Some(entry))?;
            } else {
                reader.next_skip()?;
            }
            from = self.base + reader.current_index();
            key = reader.next_key()?.map(|key| step.names(key));
        }
        Ok(())
    }

    fn elements(
        &mut self,
        reader: &mut Jiter<'_>,
        step: &Segment,
        rest: &[Segment],
    ) -> Result<(), NotJson> {
        let wanted = match step {
            Segment::Name(name) => Some(name.parse::<usize>().unwrap_or(usize::MAX)),
            _ => None,
        };
        let mut next = reader.known_array()?;
        let mut index = 0;
        while let Some(peek) = next {
            if wanted.is_none_or(|wanted| wanted == index) {
                self.value(reader, rest, None, None)?;
            } else {
                reader.known_skip(peek)?;
            }
            index += 1;
            next = reader.array_step()?;
        }
        Ok(())
    }

    /// The elements that pass a test, or the first of them.
    fn first_that(
        &mut self,
        reader: &mut Jiter<'_>,
        all: bool,
        rest: &[Segment],
        holds: impl Fn(&[u8]) -> bool,
    ) -> Result<(), NotJson> {
        let mut taken = false;
        let mut next = reader.known_array()?;
        while let Some(peek) = next {
            let start = self.base + reader.current_index();
            reader.known_skip(peek)?;
            let span = start..self.base + reader.current_index();
            let doc = self.doc;
            let element = doc.get(span).unwrap_or_default();
            if (all || !taken) && holds(element) {
                taken = true;
                let base = std::mem::replace(&mut self.base, start);
                self.value(&mut Jiter::new(element), rest, None, None)?;
                self.base = base;
            }
            next = reader.array_step()?;
        }
        Ok(())
    }
}

/// Where the next string begins at or behind a byte.
fn next_quote(doc: &[u8], from: usize) -> usize {
    let tail = doc.get(from..).unwrap_or_default();
    from + tail.iter().position(|byte| *byte == b'"').unwrap_or_default()
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

/// Appends a string as JSON text, escaping only what must be.
pub(crate) fn write_quoted(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    drop(serde_json::to_writer(out, text));
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
    fn finds_by_query_and_wildcard() {
        let doc = r#"{"list":[{"n":"a","v":1},{"n":"b","v":2.0,"t":true},{"n":"b","v":30}],"tags":["x","y"],"child2":[7]}"#;
        for (path, expected) in [
            (r#"list.#(n=="b").v"#, &["2.0"][..]),
            (r#"list.#(n=="b")#.v"#, &["2.0", "30"]),
            ("list.#(v>=2)#.n", &["b", "b"]),
            ("list.#(v==2).n", &["b"]),
            ("list.#(t).n", &["b"]),
            ("list.#(t==true).n", &["b"]),
            (r#"list.#(n!="a").v"#, &["2.0"]),
            (r#"list.#(n%"?").v"#, &["1"]),
            (r#"list.#(n!%"a*").v"#, &["2.0"]),
            (r#"tags.#(=="y")"#, &["y"]),
            (r#"list.#(n=="none").v"#, &[]),
            ("ch?ld*.0", &["7"]),
            ("t*.1", &["y"]),
            (r"ch\?ld", &[]),
        ] {
            assert_eq!(find(doc, path), expected, "{path}");
        }
    }

    #[test]
    fn refuses_paths_that_it_would_misread() {
        for path in ["", "a..b", "a.#(x==1", "a.#(x==1)y", "a|b", "@this", "a\\"] {
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
