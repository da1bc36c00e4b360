//! Entries however they stand, and damage that costs one of them.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn eight_bytes_at_a_time_are_read_like_one(bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), 0x1e_u8..0x24, any::<u8>(), Just(b'x'), Just(0x80)], 0..40)) {
        let one = bytes.iter().position(|b| matches!(b, b'"' | b'\\') || *b < 0x20);
        prop_assert_eq!(plain(&bytes), one.unwrap_or(bytes.len()));
    }
}

/// Entries as they are, damage as `!line code`.
fn split(lines: bool, chunks: &[&[u8]]) -> Vec<String> {
    let mut splitter = Splitter::new(lines);
    let mut out = Vec::new();
    let name = |piece| match piece {
        Piece::Entry { text, at, .. } => format!("{} {}", at.line, String::from_utf8_lossy(&text)),
        Piece::Broken { at, left } => format!("!{} {}", at.line, left.why.code),
    };
    let mut found = |piece| match piece {
        Piece::Entry { text, at, unchecked: true } => {
            check_line(&text, at, &mut |piece| out.push(name(piece)));
        }
        piece => out.push(name(piece)),
    };
    for chunk in chunks {
        splitter.push(chunk, &mut found);
    }
    splitter.finish(&mut found);
    out
}

fn check(text: &str, expected: &[&str]) {
    for lines in [false, true] {
        assert_eq!(split(lines, &[text.as_bytes()]), expected, "{text:?}, lines: {lines}");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(lines, &bytes), expected, "byte by byte: {text:?}");
    }
}

#[test]
fn finds_objects_however_they_stand() {
    check("{\"a\":1}\n{\"b\":\"}{\\\"\"}\r\n", &["1 {\"a\":1}", "2 {\"b\":\"}{\\\"\"}"]);
    check("{}{\"a\":{}} {\"b\":[]}", &["1 {}", "1 {\"a\":{}}", "1 {\"b\":[]}"]);
    check(
        "[\n {\"a\":[1, true ,null]},\n {\"b\":-1.5e3}\n]\n",
        &["2 {\"a\":[1, true ,null]}", "3 {\"b\":-1.5e3}"],
    );
    check("\u{feff}{\n  \"a\": {\n  }\n}\n{}", &["1 {\n  \"a\": {\n  }\n}", "5 {}"]);
    check("", &[]);
    check("[]\n", &[]);
}

#[test]
fn damage_costs_one_entry() {
    check("{\"a\":1}\n{\"b\":2", &["1 {\"a\":1}", "!2 truncated"]);
    check("{\"a\":1}\n{\"b\":\"x\n{\"c\":3}\n", &["1 {\"a\":1}", "!2 not_json", "3 {\"c\":3}"]);
    check("{\"a\":{}\n{\"c\":3}\n", &["!1 not_json", "2 {\"c\":3}"]);
    check("oops\n{\"c\":3}", &["!1 not_json", "2 {\"c\":3}"]);
    check(
        "{\"a\" 1}\n{\"a\":1,}\n{1:2}\n{\"a\":[1}\n{}",
        &["!1 not_json", "!2 not_json", "!3 not_json", "!4 not_json", "5 {}"],
    );
    check("[{\"a\":1},", &["1 {\"a\":1}", "!1 truncated"]);
}

#[test]
fn a_line_that_begins_an_object_begins_an_entry_in_lines_only() {
    let text = "{\"a\":\n{\"b\":2}\n}\n";
    assert_eq!(split(false, &[text.as_bytes()]), ["1 {\"a\":\n{\"b\":2}\n}"]);
    assert_eq!(split(true, &[text.as_bytes()]), ["!1 not_json", "2 {\"b\":2}", "!3 not_json"]);
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| {
        format!("{{\"a\":{}{}}}\n{{}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    assert_eq!(split(true, &[nested(MAX_DEPTH).as_bytes()]).len(), 2);
    assert_eq!(split(true, &[nested(MAX_DEPTH + 1).as_bytes()]), ["!1 limit_exceeded", "2 {}"]);
}

#[test]
fn an_oversized_entry_is_read_over() {
    let mut splitter = Splitter::new(true);
    let mut out = Vec::new();
    let mut found = |piece| out.push(matches!(piece, Piece::Entry { .. }));
    splitter.push(b"{\"a\":\"", &mut found);
    let megabyte = vec![b'x'; 1024 * 1024];
    for _ in 0..65 {
        splitter.push(&megabyte, &mut found);
        assert!(splitter.buffer.len() <= MAX_ENTRY);
    }
    splitter.push(b"\"}\n{}", &mut found);
    splitter.finish(&mut found);
    assert_eq!(out, [false, true]);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(text in "[\\[\\]{}:,\"\\\\a1 \n\u{feff}]{0,60}", at in proptest::collection::vec(0_usize..60, 0..6), lines: bool) {
        let bytes = text.as_bytes();
        let mut at: Vec<usize> = at.into_iter().map(|i| i.min(bytes.len())).collect();
        at.sort_unstable();
        at.insert(0, 0);
        at.push(bytes.len());
        let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(split(lines, &chunks), split(lines, &[bytes]));
    }

    #[test]
    fn whatever_json_writes_comes_back(values in proptest::collection::vec(proptest::collection::btree_map(".*", ".*", 0..4), 0..5), pretty: bool) {
        let texts: Vec<String> = values
            .iter()
            .map(|v| if pretty { serde_json::to_string_pretty(v) } else { serde_json::to_string(v) }.unwrap())
            .collect();
        let found = split(false, &[texts.join("").as_bytes()]);
        prop_assert_eq!(found.len(), texts.len());
        for (found, text) in found.iter().zip(&texts) {
            prop_assert!(found.ends_with(text.as_str()));
        }
    }
}

#[test]
fn records_are_counted_and_their_beginnings_told() {
    let places = |lines: bool, piece: usize, text: &str| {
        let (mut splitter, mut out) = (Splitter::new(lines), Vec::new());
        let mut found = |piece| match piece {
            Piece::Entry { at, .. } | Piece::Broken { at, .. } => out.push((at.record, at.offset)),
        };
        text.as_bytes().chunks(piece).for_each(|chunk| splitter.push(chunk, &mut found));
        splitter.finish(&mut found);
        out
    };
    let text = "{\"a\":1}\n{\"b\":}\n{\"c\":3}\n";
    let array = "[{\"a\":1}, {\"b\":2},{\"c\":3}]";
    for piece in [1, 5, 100] {
        assert_eq!(places(true, piece, text), [(1, 0), (2, 8), (3, 15)]);
        assert_eq!(places(false, piece, array), [(1, 1), (2, 10), (3, 18)]);
    }
}
