//! Views of a body: what compression hides, and the form in which a body takes part in a signature.

use std::{
    borrow::Cow,
    io::{Read, Write as _},
};

use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::GzEncoder,
};

use crate::{grpc, json};

/// The most that a compressed body may unfold to.
const MAX_UNFOLDED: u64 = 64 * 1024 * 1024;
/// How many times its size a compressed body may unfold to, once it is larger than a megabyte.
const MAX_RATIO: u64 = 200;
/// Below this size the ratio does not matter.
const RATIO_FREE: u64 = 1024 * 1024;

/// How a body takes part in a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyKey {
    /// There is no body.
    None,
    /// JSON, or a form read as JSON, in canonical form.
    Json(Vec<u8>),
    /// Anything else, by its SHA-256.
    Hash(Vec<u8>),
}

/// Whether these bytes are a gzip member. The header fields of a recording cannot be trusted here: with the tag `decoded` they still
/// announce gzip for a body that is none.
pub(crate) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b, 0x08])
}

/// The body behind gzip, within bounds; the body itself when it is not compressed or does not unfold.
pub(crate) fn unfolded(body: &[u8]) -> Cow<'_, [u8]> {
    unfold(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// What a gzip holds; `None` when it is none, is damaged, or holds too much.
pub(crate) fn unfold(body: &[u8]) -> Option<Vec<u8>> {
    if !is_gzip(body) {
        return None;
    }
    bounded(MultiGzDecoder::new(body), body.len())
}

/// What a zlib stream holds; `None` when it is none, is damaged, or holds too much.
pub(crate) fn unfold_zlib(body: &[u8]) -> Option<Vec<u8>> {
    bounded(ZlibDecoder::new(body), body.len())
}

/// What a decoder makes of so many bytes.
fn bounded(decoder: impl Read, size: usize) -> Option<Vec<u8>> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let limit = size.saturating_mul(MAX_RATIO).clamp(RATIO_FREE, MAX_UNFOLDED);
    let mut out = Vec::new();
    let read = decoder.take(limit + 1).read_to_end(&mut out).ok()?;
    u64::try_from(read).is_ok_and(|read| read <= limit).then_some(out)
}

/// A gzip of some bytes. The same bytes always make the same gzip: it names no time.
pub(crate) fn fold(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// How a body takes part in a signature. What looks like a JSON object or array is JSON whatever its content type says; a JSON scalar is
/// only JSON when its content type says so.
pub(crate) fn key(content_type: &[u8], body: &[u8]) -> BodyKey {
    if grpc::is_grpc(content_type) {
        return grpc::key(body);
    }
    let body = unfolded(body);
    if body.is_empty() {
        return BodyKey::None;
    }
    let structured = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    if (structured || mentions(content_type, b"json"))
        && let Ok(canonical) = json::canonical(&body)
    {
        return BodyKey::Json(canonical);
    }
    if is_form(content_type)
        && let Some(object) = form_as_json(&body)
    {
        return BodyKey::Json(object);
    }
    BodyKey::Hash(sha256(&body))
}

/// Whether a content type announces an urlencoded form.
pub(crate) fn is_form(content_type: &[u8]) -> bool {
    mentions(content_type, b"application/x-www-form-urlencoded")
}

/// Whether a content type has these words in it, in any case.
pub(crate) fn mentions(content_type: &[u8], what: &[u8]) -> bool {
    content_type.windows(what.len()).any(|window| window.eq_ignore_ascii_case(what))
}

/// The SHA-256 of a body.
pub(crate) fn sha256(body: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref().to_vec()
}

/// An urlencoded form as a canonical JSON object of strings; values of a repeated name are joined with commas.
fn form_as_json(body: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?.trim_ascii();
    let mut fields: Vec<(Cow<'_, str>, Cow<'_, str>)> = fields(text).collect();
    // The sort is stable, so values of one name stay in the order written.
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = Vec::with_capacity(body.len() * 2);
    out.push(b'{');
    for run in fields.chunk_by(|a, b| a.0 == b.0) {
        let [(name, value), others @ ..] = run else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_quoted(name, &mut out);
        out.push(b':');
        let joined = |mut all: String, value: &str| {
            all.push(',');
            all.push_str(value);
            all
        };
        match others {
            [] => json::write_quoted(value, &mut out),
            others => {
                let values = others.iter().map(|field| &*field.1);
                json::write_quoted(&values.fold(value.clone().into_owned(), joined), &mut out);
            }
        }
    }
    out.push(b'}');
    Some(out)
}

/// The decoded pairs of a form or query, in the order written. A bare name has an empty value.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    fields(text).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// The same without a copy of what has nothing to decode.
pub(crate) fn fields(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split('&').filter(|field| !field.is_empty()).map(|field| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        fold(body).unwrap()
    }

    #[test]
    fn json_is_known_by_its_look() {
        let json = BodyKey::Json(br#"{"a":1}"#.to_vec());
        for content_type in
            ["application/json", "text/plain", "", "application/x-www-form-urlencoded"]
        {
            assert_eq!(key(content_type.as_bytes(), b" {\"a\": 1}\n"), json, "{content_type}");
        }
        assert_eq!(key(b"", &gzip(br#"{"a":1}"#)), json);
    }

    #[test]
    fn scalars_are_json_only_when_announced() {
        assert_eq!(key(b"application/json", b"12"), BodyKey::Json(b"12".to_vec()));
        assert!(matches!(key(b"text/plain", b"12"), BodyKey::Hash(_)));
    }

    #[test]
    fn forms_become_objects_of_strings() {
        let form = key(
            b"Application/X-WWW-Form-Urlencoded; charset=utf-8",
            b"scope=read+write&grant_type=client%5Fcredentials&b&scope=x",
        );
        assert_eq!(
            form,
            BodyKey::Json(
                br#"{"b":"","grant_type":"client_credentials","scope":"read write,x"}"#.to_vec()
            )
        );
    }

    #[test]
    fn values_of_a_repeated_name_are_joined_in_the_order_written() {
        for (form, object) in [
            ("b=2&a=%22&b=1&&b=", r#"{"a":"\"","b":"2,1,"}"#),
            ("a%62=1&ab=2", r#"{"ab":"1,2"}"#),
            ("=&=x", r#"{"":",x"}"#),
            (" a=1 ", r#"{"a":"1"}"#),
            ("&", "{}"),
        ] {
            let key = key(b"application/x-www-form-urlencoded", form.as_bytes());
            assert_eq!(key, BodyKey::Json(object.into()), "{form}");
        }
    }

    #[test]
    fn other_bodies_are_hashed_and_none_is_none() {
        let BodyKey::Hash(hash) = key(b"application/xml", b"abc") else { panic!("not hashed") };
        assert_eq!(
            hash.get(..4),
            Some(&[0xba, 0x78, 0x16, 0xbf][..]),
            "FIPS 180-2, SHA-256 of abc"
        );
        assert_eq!(key(b"application/json", b""), BodyKey::None);
    }

    #[test]
    fn a_bomb_stays_folded() {
        let bomb = gzip(&vec![0; 80 * 1024 * 1024]);
        assert_eq!(unfolded(&bomb).len(), bomb.len());
    }
}
