//! Takes the whitespace out of JSON.
//!
//! Strings, numbers, key order, escapes and repeated keys stay byte for byte.

use serde_json::value::RawValue;

/// Removes whitespace outside strings. Meaningful for JSON only; other text comes out mutilated.
pub(super) fn compact(json: &str) -> String {
    if !json.bytes().any(is_space) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    // What is kept is copied piece by piece; every end of a piece is an ASCII character, so that none lies within another character.
    let mut from = 0;
    for (at, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if is_space(byte) {
            out.push_str(json.get(from..at).unwrap_or_default());
            from = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.push_str(json.get(from..).unwrap_or_default());
    out
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The text without insignificant whitespace, if it is exactly one JSON value.
pub(super) fn compact_json(text: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok().map(|value| compact(value.get()))
}

/// Lays compact JSON out with two spaces a level; `None` when that takes more than `limit` bytes.
pub(super) fn indent(json: &str, limit: usize) -> Option<String> {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut level, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() > limit {
            return None;
        }
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                match chars.peek() {
                    Some(&close @ ('}' | ']')) => {
                        out.push(close);
                        chars.next();
                    }
                    _ => {
                        level += 1;
                        break_line(&mut out, level);
                    }
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                break_line(&mut out, level);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, level);
            }
            ':' => out.push_str(": "),
            _ => {
                out.push(c);
                in_string = c == '"';
            }
        }
    }
    Some(out)
}

fn break_line(out: &mut String, level: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", level));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_strings_numbers_order_and_repeats() {
        let text = "{\n  \"b\" : [ 1.50,\t-0, 1e3 ],\r\n  \"a\": \"x \\\" y\\\\\",\n  \"a\": \"\\u003c \"\n}\n";
        assert_eq!(
            compact_json(text).unwrap(),
            "{\"b\":[1.50,-0,1e3],\"a\":\"x \\\" y\\\\\",\"a\":\"\\u003c \"}"
        );
    }

    #[test]
    fn only_one_value_is_json() {
        for text in ["", "{} {}", "{\"a\":1}\n{\"b\":2}", "data: {}", "{", "nul"] {
            assert_eq!(compact_json(text), None, "{text}");
        }
    }

    #[test]
    fn lays_out_as_recorders_do() {
        assert_eq!(
            indent(r#"{"a":[1.50,{}],"b":"{\":,","c":[],"a":null}"#, 1000).unwrap(),
            "{\n  \"a\": [\n    1.50,\n    {}\n  ],\n  \"b\": \"{\\\":,\",\n  \"c\": [],\n  \"a\": null\n}"
        );
        assert_eq!(indent("12", 1000).unwrap(), "12");
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(indent(&deep, 1000), None);
    }

    proptest! {
        #[test]
        fn laying_out_and_compacting_is_the_identity(values in proptest::collection::vec(proptest::collection::btree_map(".*", ".*", 0..3), 0..4)) {
            let json = serde_json::to_string(&values).unwrap();
            prop_assert_eq!(compact(&indent(&json, usize::MAX).unwrap()), json);
        }

        #[test]
        fn never_changes_a_string(strings in proptest::collection::vec(".*", 0..5)) {
            let pretty = serde_json::to_string_pretty(&strings).unwrap();
            let compacted = compact_json(&pretty).unwrap();
            prop_assert_eq!(&compacted, &serde_json::to_string(&strings).unwrap());
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&compacted).unwrap(), strings);
        }
    }
}
