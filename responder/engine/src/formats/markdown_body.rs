//! The body of a message in markdown: from how it is shown back to the bytes that were on the wire.
//!
//! Bodies are shown for reading: JSON indented, forms as JSON objects. Where the internal section still has the exact bytes and the
//! visible text says the same, the exact bytes are taken; where they differ, the user has edited the text, and the text wins.

use bytes::Bytes;
use serde::{Deserializer as _, de};
use serde_json::value::RawValue;

use crate::{
    body::{self, BodyKey},
    formats::{
        compact::{compact_json, indent},
        fields::{object_json, quoted, scalar},
        target::form_escape,
    },
    json,
};

/// A form with more fields is shown as it is.
const MAX_FIELDS: usize = 1000;

/// The bytes behind a visible body.
pub(super) fn restore(shown: &str, content_type: &[u8], exact: Option<&Bytes>) -> Bytes {
    let exact = exact.filter(|exact| !exact.is_empty());
    if let Some(exact) = exact
        && says_the_same(shown, content_type, exact)
    {
        return exact.clone();
    }
    if body::is_form(content_type)
        && let Some(form) = form(shown)
    {
        return form.into();
    }
    match compact_json(shown) {
        Some(compact) if announces_json(content_type) || is_indented(shown) => compact.into(),
        _ => Bytes::copy_from_slice(shown.as_bytes()),
    }
}

/// How a body is shown: a form of a request and JSON for reading, other text as it is, binary bodies not at all. Only what leads back to
/// the bytes, with the internal section at hand, is shown in another way than as it is.
pub(super) fn show(body: &Bytes, content_type: &[u8], is_request: bool) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return String::new() };
    let form = if is_request && body::is_form(content_type) { form_as_json(text) } else { None };
    let leads_back = |shown: &String| restore(shown, content_type, Some(body)) == body;
    form.into_iter()
        .chain(indented(text, content_type))
        .find(leads_back)
        .unwrap_or_else(|| text.to_owned())
}

fn indented(text: &str, content_type: &[u8]) -> Option<String> {
    if !announces_json(content_type) && !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    // Deep nesting can make a body many times larger; it is then shown as it is.
    let limit = text.len().saturating_mul(8).saturating_add(4096);
    indent(&compact_json(text)?, limit)
}

/// A form as an object of strings; a repeated name has an array.
fn form_as_json(text: &str) -> Option<String> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in body::pairs(text) {
        if let Some(field) = fields.iter_mut().find(|field| field.0 == name) {
            field.1.push(value);
        } else if fields.len() < MAX_FIELDS {
            fields.push((name, vec![value]));
        } else {
            return None;
        }
    }
    let members: Vec<(String, String)> = fields
        .into_iter()
        .map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            let value = values.join(",");
            (name, if values.len() == 1 { value } else { format!("[{value}]") })
        })
        .collect();
    indent(&object_json(&members), usize::MAX)
}

fn says_the_same(shown: &str, content_type: &[u8], exact: &Bytes) -> bool {
    // Binary bodies have no visible form.
    let Ok(text) = std::str::from_utf8(exact) else { return true };
    if shown.trim_end() == text.trim_end() {
        return true;
    }
    if contains(content_type, b"html")
        && shown.split_ascii_whitespace().eq(text.split_ascii_whitespace())
    {
        return true;
    }
    if let (Some(shown), Some(text)) = (compact_json(shown), compact_json(text)) {
        return shown == text
            || matches!((json::canonical(shown.as_bytes()), json::canonical(text.as_bytes())), (Ok(a), Ok(b)) if a == b);
    }
    if !body::is_form(content_type) {
        return false;
    }
    let as_json = json::canonical(shown.as_bytes()).ok().map(BodyKey::Json);
    as_json.is_some_and(|shown| shown == body::key(content_type, exact))
        || form(shown).is_some_and(|form| sorted(&form) == sorted(text))
}

fn sorted(form: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = body::pairs(form).collect();
    pairs.sort();
    pairs
}

fn announces_json(content_type: &[u8]) -> bool {
    contains(content_type, b"json")
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Whether the text is laid out as recorders lay JSON out, whatever its content type says.
fn is_indented(shown: &str) -> bool {
    shown.starts_with("{\n  ") || shown.starts_with("[\n  ")
}

/// A form from a JSON object of strings, in the order of its members; `None` when it is something else.
fn form(shown: &str) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(shown);
    let members = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    let mut pairs = Vec::new();
    for (name, raw) in members {
        let values = match raw.get() {
            "null" => vec![String::new()],
            array if array.starts_with('[') => {
                let items: Vec<&RawValue> = serde_json::from_str(array).ok()?;
                items.into_iter().map(|item| scalar(item.get())).collect::<Option<_>>()?
            }
            one => vec![scalar(one)?],
        };
        for value in values {
            pairs.push(format!("{}={}", form_escape(&name), form_escape(&value)));
        }
    }
    Some(pairs.join("&"))
}

/// The members of an object in the order written, which no map of ours keeps.
struct Members;

impl<'de> de::Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = "application/json; charset=utf-8";
    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn restores_bodies() {
        for (shown, content_type, exact, expected) in [
            ("", JSON, None, ""),
            ("{\n  \"b\": 1.0,\n  \"a\": \"x  y\"\n}", JSON, None, "{\"b\":1.0,\"a\":\"x  y\"}"),
            ("{\n  \"b\": 1\n}", JSON, Some("{ \"b\": 1 }\n"), "{ \"b\": 1 }\n"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}", JSON, Some("{\"b\":2,\"a\":1}"), "{\"b\":2,\"a\":1}"),
            ("{\n  \"b\": 2\n}", JSON, Some("{ \"b\": 1 }"), "{\"b\":2}"),
            ("{\n  \"b\": 2\n}", "text/plain", None, "{\"b\":2}"),
            ("{ \"b\": 2 }", "text/plain", None, "{ \"b\": 2 }"),
            ("{\"a\":1}\n{\"a\":2}", JSON, None, "{\"a\":1}\n{\"a\":2}"),
            ("{oops", JSON, None, "{oops"),
            ("data: {}\n\n", "text/event-stream", None, "data: {}\n\n"),
            ("text", "text/plain", Some("text\n"), "text\n"),
            ("", "text/plain", Some("text"), ""),
            ("<p>\n  a\n</p>", "text/html", Some("<p> a </p>"), "<p> a </p>"),
            (
                "{\n  \"grant_type\": \"client_credentials\",\n  \"scope\": \"read write+é\"\n}",
                FORM,
                None,
                "grant_type=client_credentials&scope=read+write%2B%C3%A9",
            ),
            ("{\n  \"a\": \"1\",\n  \"b\": [\"x\", \"y\"]\n}", FORM, None, "a=1&b=x&b=y"),
            ("{\n  \"a\": \"1\",\n  \"b\": \"x y\"\n}", FORM, Some("b=x%20y&a=1"), "b=x%20y&a=1"),
            ("{\n  \"a\": \"2\",\n  \"b\": \"x y\"\n}", FORM, Some("b=x%20y&a=1"), "a=2&b=x+y"),
            ("a=1&b=2", FORM, None, "a=1&b=2"),
        ] {
            let exact = exact.map(|text| Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(
                restore(shown, content_type.as_bytes(), exact.as_ref()),
                expected,
                "{shown}"
            );
        }
    }

    #[test]
    fn binary_bodies_live_in_the_internal_section() {
        let exact = Bytes::from_static(b"\x1f\x8b\x08\xff");
        assert_eq!(restore("", b"application/json", Some(&exact)), exact);
    }

    #[test]
    fn shows_bodies_as_recorders_do() {
        for (body, content_type, shown) in [
            ("{\"b\":1.0,\"a\":[]}", JSON, "{\n  \"b\": 1.0,\n  \"a\": []\n}"),
            ("{ \"b\": 1 }\n", "text/plain", "{\n  \"b\": 1\n}"),
            ("12", JSON, "12"),
            ("{oops", JSON, "{oops"),
            ("<p> a </p>", "text/html", "<p> a </p>"),
            (
                "a=1&b=x+y&b=%26",
                FORM,
                "{\n  \"a\": \"1\",\n  \"b\": [\n    \"x y\",\n    \"&\"\n  ]\n}",
            ),
            ("", FORM, ""),
            ("a&b", "text/plain", "a&b"),
        ] {
            let body = Bytes::copy_from_slice(body.as_bytes());
            assert_eq!(show(&body, content_type.as_bytes(), true), shown);
        }
        assert_eq!(show(&Bytes::from_static(b"a=1"), FORM.as_bytes(), false), "a=1");
        assert_eq!(show(&Bytes::from_static(b"\xff"), b"", true), "");
    }

    proptest! {
        #[test]
        fn what_is_shown_leads_back(
            body in prop_oneof![
                "[\\[\\]{}:,\"a1 \n=&%+]{0,40}",
                proptest::collection::btree_map(".*", ".*", 0..4).prop_map(|map| serde_json::to_string(&map).unwrap()),
                proptest::collection::btree_map(".*", ".*", 0..4).prop_map(|map| serde_json::to_string_pretty(&map).unwrap()),
            ],
            content_type in proptest::sample::select(&[JSON, FORM, "text/plain", "text/html"][..]),
            is_request: bool,
        ) {
            let body = Bytes::from(body);
            let shown = show(&body, content_type.as_bytes(), is_request);
            prop_assert_eq!(restore(&shown, content_type.as_bytes(), Some(&body)), body);
        }

        #[test]
        fn forms_round_trip(pairs in proptest::collection::btree_map(".+", ".*", 1..5)) {
            let encoded = form(&serde_json::to_string_pretty(&pairs).unwrap()).unwrap();
            let decoded: Vec<_> = body::pairs(&encoded).collect();
            prop_assert_eq!(decoded, pairs.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_text_panics(shown in ".*", content_type in ".*", exact: Vec<u8>) {
            restore(&shown, content_type.as_bytes(), Some(&Bytes::from(exact)));
        }
    }
}
