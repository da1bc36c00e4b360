//! A walk over a whole document: every name and every scalar with its span, in the order written.
//!
//! Unlike [`super::locate`], which looks for one path, a visitor sees everything, repeated names included.

use std::ops::Range;

use jiter::{Jiter, Peek};

use super::{Kind, MAX_DEPTH, NotJson, kind, reader};

/// What a visitor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<'n> {
    /// An object or array begins.
    Open(Kind),
    /// The member that comes next has this name. The span covers the quotes.
    Name { name: &'n str, span: Range<usize> },
    /// The element that comes next has this index.
    Item(usize),
    /// A value that is neither object nor array. The span of a string covers its quotes.
    Scalar { kind: Kind, span: Range<usize> },
    /// The object or array that was opened last ends.
    Close,
}

/// Tells `on` of everything in the document. When the document turns out to be no JSON, `on` has been told of a part of it.
pub(crate) fn visit(doc: &[u8], on: &mut dyn FnMut(Event<'_>)) -> Result<(), NotJson> {
    let mut reader = reader(doc)?;
    value(&mut reader, doc, on, 0)?;
    reader.finish()?;
    Ok(())
}

fn value(
    reader: &mut Jiter<'_>,
    doc: &[u8],
    on: &mut dyn FnMut(Event<'_>),
    depth: usize,
) -> Result<(), NotJson> {
    let peek = reader.peek()?;
    let start = reader.current_index();
    if depth > MAX_DEPTH {
        return Err(NotJson { offset: start });
    }
    match peek {
        Peek::Object => {
            on(Event::Open(Kind::Object));
            let mut from = start + 1;
            let mut next = reader.known_object()?;
            while let Some(name) = next {
                on(Event::Name { name, span: string_from(doc, from) });
                value(reader, doc, on, depth + 1)?;
                from = reader.current_index();
                next = reader.next_key()?;
            }
            on(Event::Close);
        }
        Peek::Array => {
            on(Event::Open(Kind::Array));
            let mut next = reader.known_array()?;
            let mut index = 0;
            while next.is_some() {
                on(Event::Item(index));
                value(reader, doc, on, depth + 1)?;
                index += 1;
                next = reader.array_step()?;
            }
            on(Event::Close);
        }
        scalar => {
            reader.known_skip(scalar)?;
            on(Event::Scalar { kind: kind(scalar), span: start..reader.current_index() });
        }
    }
    Ok(())
}

/// The span of the first string at or after a place, which only a comma and white space can stand before.
fn string_from(doc: &[u8], from: usize) -> Range<usize> {
    let rest = doc.get(from..).unwrap_or_default();
    let start = from + rest.iter().position(|byte| *byte == b'"').unwrap_or_default();
    let mut escaped = false;
    let inside = doc.get(start + 1..).unwrap_or_default();
    let length = inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    start..start + 2 + length.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(doc: &str) -> Vec<String> {
        let mut seen = Vec::new();
        visit(doc.as_bytes(), &mut |event| {
            seen.push(match event {
                Event::Open(kind) => format!("{kind:?}"),
                Event::Name { name, span } => format!("{name}={}", doc.get(span).unwrap()),
                Event::Item(index) => format!("#{index}"),
                Event::Scalar { span, .. } => doc.get(span).unwrap().to_owned(),
                Event::Close => "end".to_owned(),
            });
        })
        .unwrap();
        seen
    }

    #[test]
    fn sees_everything_in_order() {
        assert_eq!(
            events(r#" { "a\"\\" : 1.50 , "b":[true,"x\"",{}],"a\"\\":null} "#),
            [
                "Object",
                r#"a"\="a\"\\""#,
                "1.50",
                r#"b="b""#,
                "Array",
                "#0",
                "true",
                "#1",
                r#""x\"""#,
                "#2",
                "Object",
                "end",
                "end",
                r#"a"\="a\"\\""#,
                "null",
                "end"
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        for doc in ["", "{", "{}x", "[1,]", "{\"a\"}", &"[".repeat(4000)] {
            assert!(visit(doc.as_bytes(), &mut |_| {}).is_err(), "{doc:.20}");
        }
        assert!(visit(b"\"\xff\"", &mut |_| {}).is_err());
    }

    proptest! {
        #[test]
        fn spans_are_within_the_document(doc in prop::collection::vec(prop::sample::select(br#"{}[]",:\1ae "#.to_vec()), 0..40)) {
            let end = doc.len();
            let _outcome = visit(&doc, &mut |event| if let Event::Name { span, .. } | Event::Scalar { span, .. } = event {
                assert!(span.start < span.end && span.end <= end);
            });
        }
    }
}
