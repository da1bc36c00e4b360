//! Takes the whitespace out of JSON.
//!
//! Strings, numbers, key order, escapes and repeated keys stay byte for byte.

use serde_json::value::RawValue;

/// Removes whitespace outside strings. Meaningful for JSON only; other text comes out mutilated.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
            in_string = c == '"';
        }
    }
    out
}

/// The text without insignificant whitespace, if it is exactly one JSON value.
pub(super) fn compact_json(text: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok().map(|value| compact(value.get()))
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

    proptest! {
        #[test]
        fn never_changes_a_string(strings in proptest::collection::vec(".*", 0..5)) {
            let pretty = serde_json::to_string_pretty(&strings).unwrap();
            let compacted = compact_json(&pretty).unwrap();
            prop_assert_eq!(&compacted, &serde_json::to_string(&strings).unwrap());
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&compacted).unwrap(), strings);
        }
    }
}
