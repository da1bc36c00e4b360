//! The canonical form beside one that is plain to see: members as a list of names and values, each written by itself.

use proptest::prelude::*;

use super::{super::quote, *};

/// The form, the long way.
fn plainly(doc: &[u8]) -> Result<Vec<u8>, NotJson> {
    std::str::from_utf8(doc).map_err(|error| NotJson { offset: error.valid_up_to() })?;
    let mut reader = Jiter::new(doc);
    let mut out = Vec::new();
    write_plainly(&mut reader, doc, &mut out, 0)?;
    reader.finish()?;
    Ok(out)
}

fn write_plainly(
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
                write_plainly(reader, doc, &mut value, depth + 1)?;
                members.push((name, value));
                key = reader.next_key()?.map(str::to_owned);
            }
            members.sort_by(|a, b| a.0.cmp(&b.0));
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
                write_plainly(reader, doc, out, depth + 1)?;
                next = reader.array_step()?;
            }
            out.push(b']');
        }
        Peek::String => out.extend_from_slice(&quote(reader.known_str()?)),
        other => {
            let start = reader.current_index();
            reader.known_skip(other)?;
            out.extend_from_slice(&doc[start..reader.current_index()]);
        }
    }
    Ok(())
}

fn check(doc: &[u8]) {
    let (ours, plain) = (canonical(doc), plainly(doc));
    assert_eq!(
        ours.as_ref().ok().map(|form| String::from_utf8_lossy(form)),
        plain.as_ref().ok().map(|form| String::from_utf8_lossy(form)),
        "{}",
        String::from_utf8_lossy(doc)
    );
    assert_eq!(ours.ok(), plain.ok());
}

#[test]
fn members_are_sorted_by_what_their_names_mean() {
    let canon = |doc: &str| String::from_utf8(canonical(doc.as_bytes()).unwrap()).unwrap();
    assert_eq!(canon(r#"{"\u0061":1,"a":2, "b":3}"#), r#"{"a":2,"b":3}"#);
    assert_eq!(canon(r##"{"#":1,"\"":2,"!":3}"##), r##"{"!":3,"\"":2,"#":1}"##);
    assert_eq!(
        canon(r#"{"b":{"d":1,"c":{"f":1,"e":2}},"a":[]}"#),
        r#"{"a":[],"b":{"c":{"e":2,"f":1},"d":1}}"#
    );
    assert_eq!(
        canon(r#"{"b":1,"a":2,"b":{"y":1,"x":2},"a":"\u00e9\n"}"#),
        "{\"a\":\"é\\n\",\"b\":{\"x\":2,\"y\":1}}"
    );
}

#[test]
fn what_is_no_json_is_none_in_either_way() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| r#"{"b":"#.repeat(depth) + "1" + &"}".repeat(depth);
    for depth in [1, 127, 128, 129, 130, 5000] {
        check(nested(depth).as_bytes());
        check(objects(depth).as_bytes());
    }
    for doc in [
        "",
        " ",
        "{",
        "[",
        "{}x",
        "[1,]",
        "{\"a\"}",
        "{\"a\":1,}",
        "{,}",
        "[01]",
        "[1.]",
        "[1e]",
        "[-]",
        "[NaN]",
        "[Infinity]",
        "nul",
        "-0",
        "1e400",
        "0.10",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\x\"",
        "\"a\nb\"",
        "\"\u{7f}\"",
        "\u{feff}{}",
        "{\"\\ud800\":1}",
        "{\"a\" :\t1\n,\r\"A\": 2}",
        "[\"\\u0000\\u001f\\b\\f\\/\"]",
        "\u{a0}1",
        "{\"a\":1 \"b\":2}",
        "'a'",
        "[1]]",
    ] {
        check(doc.as_bytes());
    }
    check(&[b"[".as_slice(), "9".repeat(4301).as_bytes(), b"]"].concat());
    check(&[b"[".as_slice(), "9".repeat(4299).as_bytes(), b"]"].concat());
    for broken in [
        b"\"\xff\"".as_slice(),
        b"\"\\n\xff\"",
        b"{\"\xc3\":1}",
        b"{\"a\":1}\xff",
        b"\xff",
        b"[\"\xed\xa0\x80\"]",
    ] {
        check(broken);
    }
}

/// Documents that are JSON, with names that repeat and escapes for no reason.
fn documents() -> impl Strategy<Value = String> {
    let texts = [
        "a",
        "b",
        "\\u0061",
        "ab",
        "",
        "\\n",
        "é",
        "\\u00e9",
        "\\\"",
        "!",
        "#",
        "\\\\",
        "\\/",
        "\u{7f}",
        "\\ud83d\\ude00",
        "😀",
        "\\u0000",
        "z\\tz",
    ];
    let string = prop::sample::select(texts.to_vec()).prop_map(|text| format!("\"{text}\""));
    let numbers = ["0", "-0", "1.50", "1e2", "12345678901234567890123", "true", "false", "null"];
    let leaf =
        prop_oneof![string.clone(), prop::sample::select(numbers.to_vec()).prop_map(str::to_owned)];
    let space = prop::sample::select(vec!["", " ", "\n\t"]);
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let members = prop::collection::vec((string.clone(), inner.clone(), space.clone()), 0..8);
        let elements = prop::collection::vec((inner, space.clone()), 0..4);
        prop_oneof![
            members.prop_map(|members| {
                let text = |(name, value, space): &(String, String, &str)| {
                    format!("{space}{name}{space}:{space}{value}{space}")
                };
                format!("{{{}}}", members.iter().map(text).collect::<Vec<_>>().join(","))
            }),
            elements.prop_map(|elements| {
                let text = |(value, space): &(String, &str)| format!("{space}{value}{space}");
                format!("[{}]", elements.iter().map(text).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn both_ways_lead_to_the_same_form(doc in documents()) {
        prop_assert!(plainly(doc.as_bytes()).is_ok());
        check(doc.as_bytes());
    }

    #[test]
    fn both_ways_refuse_the_same(doc in documents(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut doc = doc.into_bytes();
        let at = at.index(doc.len());
        doc[at] = byte;
        check(&doc);
        doc.truncate(at);
        check(&doc);
    }

    #[test]
    fn both_ways_agree_on_anything(doc in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u1ae0. -\xc3\xa9\n".to_vec()), 0..40)) {
        check(&doc);
    }
}
