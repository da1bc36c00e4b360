//! The small sections of a markdown recording: `SIGNATURE` and `METADATA`.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    formats::{
        markdown_sections::{Block, Error},
        rrpair_json, time,
        verdict::Left,
    },
    snapshot::{Direction, RrPair},
};

/// The tag that the visible section never shows.
const HIDDEN_TAG: &str = "proxyLocation";

/// Reads `key is value` lines. Where the visible text is how `known`, the exact signature, would be shown, the exact bytes are taken.
pub(super) fn signature(
    block: Block<'_>,
    known: &BTreeMap<String, Bytes>,
) -> Result<BTreeMap<String, Bytes>, Error> {
    if show_signature(known) == block.text {
        return Ok(known.clone());
    }
    let mut shown: Vec<(&str, String)> = Vec::new();
    for (line, number) in block.text.split('\n').zip(block.line..) {
        let line = line.trim_end_matches('\r');
        match line.split_once(" is ").or_else(|| line.strip_suffix(" is").map(|key| (key, ""))) {
            Some((key, value)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                shown.push((key, value.to_owned()));
            }
            // A value may have line breaks of its own.
            _ => match shown.last_mut() {
                Some((_, value)) => {
                    value.push('\n');
                    value.push_str(line);
                }
                None if line.trim().is_empty() => {}
                None => {
                    let left = Left::refused(
                        "signature_invalid",
                        "SIGNATURE",
                        "this line is not `key is value`",
                    )
                    .hint("an empty value is written `-NONE-`");
                    return Err((number, left));
                }
            },
        }
    }
    Ok(shown
        .into_iter()
        .map(|(key, value)| (key.to_owned(), exact(&value, known.get(key))))
        .collect())
}

/// How a signature is shown.
pub(super) fn show_signature(signature: &BTreeMap<String, Bytes>) -> String {
    let lines: Vec<String> = signature
        .iter()
        .map(|(key, value)| {
            let value = if value.is_empty() { "-NONE-".to_owned() } else { render(value) };
            format!("{} is {value}", render(key.as_bytes()))
        })
        .collect();
    lines.join("\n")
}

fn exact(shown: &str, known: Option<&Bytes>) -> Bytes {
    if shown == "-NONE-" {
        return Bytes::new();
    }
    let decoded = unescape(shown);
    match known {
        Some(known)
            if *known == shown.as_bytes() || *known == decoded || render(known) == shown =>
        {
            known.clone()
        }
        _ => decoded.into(),
    }
}

/// Turns `\xHH` into bytes. A doubled backslash is JSON's own and stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' {
            if let [b'\\', after @ ..] = rest {
                out.push(byte);
                rest = after;
            } else if let [b'x', high, low, after @ ..] = rest
                && let (Some(high), Some(low)) = (hex(*high), hex(*low))
            {
                out.push(high * 16 + low);
                rest = after;
                continue;
            }
        }
        out.push(byte);
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// How exact bytes are shown: text as it is, other bytes and control characters as `\xHH`.
fn render(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_control() {
                out.push_str(&format!("\\x{:02X}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out
}

/// Lays the visible metadata over a pair.
pub(super) fn metadata(block: Block<'_>, pair: &mut RrPair) -> Result<(), Error> {
    let (mut millis, mut elapsed) = (None, None);
    for (line, number) in block.text.split('\n').zip(block.line..) {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let wrong = |what: &str| {
            (
                number,
                Left::refused(
                    "metadata_invalid",
                    format!("METADATA.{}", key.trim()),
                    format!("this is not {what}"),
                ),
            )
        };
        match key.trim() {
            "direction" => {
                pair.direction =
                    rrpair_json::direction(value).ok_or_else(|| wrong("`IN` or `OUT`"))?;
            }
            // An emptied id asks for a new one.
            "uuid" if value.is_empty() => pair.uuid = None,
            "uuid" => {
                pair.uuid =
                    Some(uuid::Uuid::try_parse(value).map_err(|_| wrong("a UUID"))?.into_bytes());
            }
            "ts" => {
                pair.ts = Some(time::timestamp(value).ok_or_else(|| wrong("an RFC 3339 time"))?);
            }
            "duration" => millis = Some(time::duration(value).ok_or_else(|| wrong("a duration"))?),
            "elapsed" => elapsed = Some(time::duration(value).ok_or_else(|| wrong("a duration"))?),
            "tags" if show_tags(&pair.tags).trim() == value => {}
            "tags" => {
                let hidden = pair.tags.remove_entry(HIDDEN_TAG);
                pair.tags = hidden.into_iter().chain(tags(value)).collect();
            }
            _ => {}
        }
    }
    // The internal duration may be finer than the visible milliseconds; it yields only to an edit.
    match (elapsed, millis) {
        (Some(exact), _) => pair.duration = exact,
        (None, Some(shown)) if pair.duration.abs_diff(shown) >= 1_000_000 => pair.duration = shown,
        (None, _) => {}
    }
    Ok(())
}

/// How the metadata of a pair are shown.
pub(super) fn show_metadata(pair: &RrPair) -> String {
    let mut out =
        format!("direction: {}", if pair.direction == Direction::In { "IN" } else { "OUT" });
    let mut line = |name: &str, value: &str| {
        out.push('\n');
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
    };
    if let Some(uuid) = pair.uuid {
        line("uuid", &uuid::Uuid::from_bytes(uuid).to_string());
    }
    if let Some(ts) = pair.ts {
        line("ts", &time::rfc3339(ts, false));
    }
    if pair.duration >= 1_000_000 {
        line("duration", &format!("{}ms", pair.duration / 1_000_000));
    }
    if !pair.duration.is_multiple_of(1_000_000) {
        line("elapsed", &format!("{}ms", time::milliseconds(pair.duration)));
    }
    let tags = show_tags(&pair.tags);
    if !tags.is_empty() {
        line("tags", &tags);
    }
    out
}

fn show_tags(tags: &BTreeMap<String, String>) -> String {
    let shown: Vec<String> = tags
        .iter()
        .filter(|(key, _)| *key != HIDDEN_TAG)
        .map(|(key, value)| render(format!("{key}={value}").as_bytes()))
        .collect();
    shown.join(", ")
}

/// Reads `k=v, k=v`; a value may hold commas, so that only a comma before a further `k=` separates.
fn tags(text: &str) -> BTreeMap<String, String> {
    let mut tags: Vec<(String, String)> = Vec::new();
    for part in text.split(", ") {
        match part.split_once('=') {
            Some((key, value)) if !key.is_empty() && !key.contains([' ', ',']) => {
                tags.push((key.to_owned(), value.to_owned()));
            }
            _ => {
                if let Some((_, value)) = tags.last_mut() {
                    value.push_str(", ");
                    value.push_str(part);
                }
            }
        }
    }
    tags.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Block<'_> {
        Block { line: 1, text }
    }

    #[test]
    fn reads_signatures() {
        let known = BTreeMap::new();
        let found = signature(
            block(
                "http:method is GET\nhttp:queryparams is -NONE-\nhttp:url is /a is b\r\nempty is",
            ),
            &known,
        )
        .unwrap();
        let found: Vec<(&str, &[u8])> =
            found.iter().map(|(k, v)| (k.as_str(), v.as_ref())).collect();
        assert_eq!(
            found,
            [
                ("empty", &b""[..]),
                ("http:method", b"GET"),
                ("http:queryparams", b""),
                ("http:url", b"/a is b")
            ]
        );
        assert_eq!(signature(block("oops"), &known).unwrap_err().0, 1);
    }

    #[test]
    fn binary_values_come_back_exactly() {
        let raw = Bytes::from_static(b"\x9e\x1b,\xcc\x89\\x41?");
        let known = BTreeMap::from([("hash".to_owned(), raw.clone())]);
        let shown = render(&raw);
        assert_eq!(shown, "\\x9E\\x1B,\u{309}\\x41?");
        assert_eq!(signature(block(&format!("hash is {shown}")), &known).unwrap(), known);
        let edited = signature(block("hash is \\x9e\\x1B\\xZZ"), &known).unwrap();
        assert_eq!(edited.get("hash").unwrap(), &b"\x9e\x1b\\xZZ"[..]);
    }

    #[test]
    fn json_escapes_are_not_byte_escapes() {
        let found = signature(block(r#"http:requestBodyJSON is {"re":"\\x41"}"#), &BTreeMap::new())
            .unwrap();
        assert_eq!(found.get("http:requestBodyJSON").unwrap(), r#"{"re":"\\x41"}"#);
    }

    #[test]
    fn metadata_overrides() {
        let mut pair = RrPair { duration: 3_200_000, ..RrPair::default() };
        pair.tags = [("proxyLocation", "in"), ("gone", "x")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let text = "direction: IN\nuuid: 6e17d25a-2f07-42a4-8eed-b86cf9df3b17\nts: 1970-01-01T00:00:01Z\nduration: 3ms\ntags: a=1, 2, b=x=y, c=\n";
        metadata(block(text), &mut pair).unwrap();
        let tags: Vec<(&str, &str)> =
            pair.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(tags, [("a", "1, 2"), ("b", "x=y"), ("c", ""), ("proxyLocation", "in")]);
        assert_eq!((pair.ts, pair.duration), (Some(1_000_000_000), 3_200_000));
        metadata(block("duration: 5ms"), &mut pair).unwrap();
        assert_eq!(pair.duration, 5_000_000);
        metadata(block("duration: 5ms\nelapsed: 2.105ms"), &mut pair).unwrap();
        assert_eq!(pair.duration, 2_105_000);
        assert_eq!(metadata(block("a: b\nts: today"), &mut pair).unwrap_err().0, 2);
    }

    proptest! {
        #[test]
        fn what_is_shown_leads_back_to_the_bytes(bytes: Vec<u8>) {
            let known = BTreeMap::from([("k".to_owned(), Bytes::from(bytes))]);
            let shown = render(&known["k"]);
            prop_assume!(shown != "-NONE-");
            prop_assert_eq!(&signature(block(&format!("k is {shown}")), &known).unwrap(), &known);
        }
    }
}
