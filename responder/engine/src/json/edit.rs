//! Changes of a document: values replaced, inserted, deleted; everything else stays as it was written.

use std::ops::Range;

use jiter::{Jiter, Peek};

use super::{Kind, Located, MAX_DEPTH, NotJson, Path, Segment, locate, quote, reader};

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

/// Deletes every value that a path leads to, with its name and one comma. A path that leads nowhere deletes nothing.
pub(crate) fn delete(doc: &[u8], path: &Path) -> Result<Vec<u8>, NotJson> {
    let mut places = locate(doc, path)?;
    places.sort_by_key(|place| place.entry);
    let mut out = doc.to_vec();
    // From the last to the first, so that the places of those before stay.
    for place in places.iter().rev().filter(|place| !path.segments.is_empty() && place.entry > 0) {
        let span = with_comma(&out, place);
        out = replace(&out, &[(span, Vec::new())]);
    }
    Ok(out)
}

/// The span of an entry and of the comma that goes with it: the one behind it, or before the last entry the one before it.
fn with_comma(doc: &[u8], place: &Located) -> Range<usize> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let behind = doc.get(place.span.end..).unwrap_or_default();
    let spaces = behind.iter().take_while(|byte| is_space(byte)).count();
    if let Some(after) = behind.get(spaces..).and_then(|rest| rest.strip_prefix(b",")) {
        let more = after.iter().take_while(|byte| is_space(byte)).count();
        return place.entry..place.span.end + spaces + 1 + more;
    }
    let before = doc.get(..place.entry).unwrap_or_default().trim_ascii_end();
    match before.strip_suffix(b",") {
        Some(kept) => kept.len()..place.span.end,
        None => place.entry..place.span.end,
    }
}

/// Rewrites strings, wherever they stand. `new` is told the name of the member that a string is in, and the string; `None` keeps it.
/// Names of members are no strings here.
pub(crate) fn rewrite_strings(
    doc: &[u8],
    new: &mut dyn FnMut(&str, &str) -> Option<String>,
) -> Result<Vec<u8>, NotJson> {
    let mut reader = reader(doc)?;
    let mut edits = Vec::new();
    strings(&mut reader, "", 0, new, &mut edits)?;
    reader.finish()?;
    Ok(replace(doc, &edits))
}

fn strings(
    reader: &mut Jiter<'_>,
    name: &str,
    depth: usize,
    new: &mut dyn FnMut(&str, &str) -> Option<String>,
    edits: &mut Vec<(Range<usize>, Vec<u8>)>,
) -> Result<(), NotJson> {
    let peek = reader.peek()?;
    let start = reader.current_index();
    if depth > MAX_DEPTH {
        return Err(NotJson { offset: start });
    }
    match peek {
        Peek::Object => {
            let mut key = reader.known_object()?.map(str::to_owned);
            while let Some(member) = key {
                strings(reader, &member, depth + 1, new, edits)?;
                key = reader.next_key()?.map(str::to_owned);
            }
        }
        Peek::Array => {
            let mut next = reader.known_array()?;
            while next.is_some() {
                strings(reader, name, depth + 1, new, edits)?;
                next = reader.array_step()?;
            }
        }
        Peek::String => {
            let with = new(name, reader.known_str()?).map(|text| quote(&text));
            if let Some(with) = with {
                edits.push((start..reader.current_index(), with));
            }
        }
        other => reader.known_skip(other)?,
    }
    Ok(())
}

/// The new text as JSON of the kind that stood there. `None` keeps the old value: a boolean takes nothing but a boolean.
pub(crate) fn encode(kind: Kind, text: &[u8]) -> Option<Vec<u8>> {
    let as_is = || {
        let text = text.trim_ascii();
        serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok().then(|| text.to_vec())
    };
    let quoted = || quote(&String::from_utf8_lossy(text));
    let is_number = |text: &[u8]| matches!(text.trim_ascii().first(), Some(b'-' | b'0'..=b'9'));
    match kind {
        Kind::String => Some(quoted()),
        Kind::Number => {
            Some(as_is().filter(|text| is_number(text)).unwrap_or_else(|| b"0".to_vec()))
        }
        Kind::Bool => as_is().filter(|text| text == b"true" || text == b"false"),
        Kind::Null => {
            let scalar = as_is().filter(|text| {
                is_number(text) || text == b"true" || text == b"false" || text == b"null"
            });
            Some(scalar.unwrap_or_else(quoted))
        }
        Kind::Array | Kind::Object => Some(as_is().unwrap_or_else(quoted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deletes_an_entry_and_one_comma() {
        for (doc, path, left) in [
            (r#"{"a":1, "b":2}"#, "a", r#"{"b":2}"#),
            (r#"{"a":1, "b":2}"#, "b", r#"{"a":1}"#),
            (r#"{ "a" : 1 }"#, "a", r#"{  }"#),
            (r#"{"x":{"a":[1,2,3],"b":4}}"#, "x.a.1", r#"{"x":{"a":[1,3],"b":4}}"#),
            (r#"[1, 2, 3]"#, "2", r#"[1, 2]"#),
            (r#"[1, 2, 3]"#, "#", r#"[]"#),
            (r#"[{"a":1,"b":2},{"b":3},{"a":[]}]"#, "#.a", r#"[{"b":2},{"b":3},{}]"#),
            (r#"{"a":1,"a":2}"#, "a", r#"{"a":2}"#),
            (r#"{"q\"":1,"b":",\""}"#, "b", r#"{"q\"":1}"#),
            (r#"{"a":1}"#, "absent", r#"{"a":1}"#),
        ] {
            let out = delete(doc.as_bytes(), &Path::parse(path).unwrap()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), left, "{doc} {path}");
        }
        assert!(delete(b"{", &Path::parse("a").unwrap()).is_err());
    }

    #[test]
    fn rewrites_strings_and_nothing_else() {
        let doc = r#" {"s":"x\u0041", "n":1.50, "in":["x",{"s":"y"}], "x":null} "#;
        let mut names = Vec::new();
        let out = rewrite_strings(doc.as_bytes(), &mut |name, text| {
            names.push(name.to_owned());
            text.contains('x').then(|| "*".to_owned())
        });
        assert_eq!(
            String::from_utf8(out.unwrap()).unwrap(),
            r#" {"s":"*", "n":1.50, "in":["*",{"s":"y"}], "x":null} "#
        );
        assert_eq!(names, ["s", "in", "s"]);
        let mut keep = |_: &str, _: &str| None;
        assert!(rewrite_strings("[".repeat(5000).as_bytes(), &mut keep).is_err());
    }

    proptest! {
        #[test]
        fn what_is_left_after_a_deletion_is_json(
            members in prop::collection::vec(("[a-c]{1,2}", prop::sample::select(vec!["1", "\"x,y\"", "[ 1 , 2 ]", "{ }"])), 1..5),
            space in prop::sample::select(vec!["", " ", "\n\t"]),
            path in "[a-c]{1,2}",
        ) {
            let body: Vec<String> = members.iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{value}{space}")).collect();
            let doc = format!("{{{}}}", body.join(","));
            let parsed = Path::parse(&path).unwrap();
            let before = locate(doc.as_bytes(), &parsed).unwrap().len();
            let out = delete(doc.as_bytes(), &parsed).unwrap();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
            let names = members.iter().filter(|member| member.0 == path).count();
            prop_assert_eq!(before, names.min(1));
            let left = String::from_utf8(out).unwrap().matches(&format!("\"{path}\"")).count();
            prop_assert_eq!(left, names.saturating_sub(1));
        }
    }
}
