//! The atoms of a message: the values in it that may come from elsewhere. Of a request each with its span, of a response each with the place
//! where a later answer has it, too.

use std::ops::Range;

use countersign_engine::{
    sending,
    snapshot::{Header, HttpRequest, HttpResponse},
};
use serde_json::Value;

use super::flow::{Piece, Place, Written};

/// Bodies that are larger are not looked into.
const MAX_BODY: usize = 1024 * 1024;
/// So many values of one message are looked at.
const MAX_ATOMS: usize = 2_000;
/// Longer texts are no values.
const MAX_TEXT: usize = 16 * 1024;
/// A shorter text is no credential.
pub(super) const MIN_STRONG: usize = 8;

/// A value in a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) piece: Piece,
    pub(super) span: Range<usize>,
    pub(super) written: Written,
    pub(super) value: String,
    /// It stands where credentials do.
    pub(super) strong: bool,
}

/// A value in a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) place: Place,
    pub(super) value: String,
}

/// Whether a text may be a value that was made by the service: an id, a token, a number; no word.
pub(super) fn may_be_carried(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if text.len() > MAX_TEXT || text.contains(char::is_whitespace) {
        return false;
    }
    let number = digits == text.len();
    (digits > 0 && (3..).contains(&text.len()) && !number)
        || (number && text.len() >= 4)
        || text.len() >= 24
}

/// The values of a request. Spans of the target count from its beginning, those of a header are within its value.
pub(super) fn of_request(
    target: &str,
    own: &[(http::HeaderName, http::HeaderValue)],
    request: &HttpRequest,
    body: &[u8],
) -> Vec<Sent> {
    let mut found = Vec::new();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut at = 0;
    for segment in path.split('/') {
        push(&mut found, Piece::Target, at..at + segment.len(), Written::Percent, segment, false);
        at += segment.len() + 1;
    }
    form(query, path.len() + 1, Piece::Target, &mut found);
    for (nth, (name, value)) in own.iter().enumerate() {
        let Ok(text) = value.to_str() else { continue };
        if name == http::header::COOKIE {
            cookies(text, nth, &mut found);
        } else {
            let start = text.rfind(' ').map_or(0, |at| at + 1);
            let word = text.get(start..).unwrap_or_default();
            push(&mut found, Piece::Header(nth), start..text.len(), Written::Plain, word, true);
        }
    }
    if body.is_empty() || body.len() > MAX_BODY {
        return found;
    }
    let Ok(text) = std::str::from_utf8(body) else { return found };
    if is_document(body) {
        strings(text, &mut found);
    } else if is_form(&request.headers) {
        form(text, 0, Piece::Body, &mut found);
    } else {
        for span in sending::tokens_in(body) {
            let token = text.get(span.clone()).unwrap_or_default();
            push(&mut found, Piece::Body, span, Written::Plain, token, true);
        }
    }
    found
}

fn push(
    found: &mut Vec<Sent>,
    piece: Piece,
    span: Range<usize>,
    written: Written,
    raw: &str,
    strong: bool,
) {
    let value = match written {
        Written::Percent => decoded(raw),
        Written::Plain | Written::Json => raw.to_owned(),
    };
    if found.len() < MAX_ATOMS && may_be_carried(&value) {
        let strong = strong && value.len() >= MIN_STRONG;
        found.push(Sent { piece, span, written, value, strong });
    }
}

/// A value without its percent-encoding.
pub(super) fn decoded(raw: &str) -> String {
    let spaced =
        if raw.contains('+') && raw.contains('%') { raw.replace('+', " ") } else { raw.to_owned() };
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn form(text: &str, begin: usize, piece: Piece, found: &mut Vec<Sent>) {
    let mut at = begin;
    for field in text.split('&') {
        if let Some((name, value)) = field.split_once('=') {
            let start = at + name.len() + 1;
            let lower = name.to_ascii_lowercase();
            let strong = ["csrf", "xsrf", "token"].iter().any(|word| lower.contains(word));
            push(found, piece, start..start + value.len(), Written::Percent, value, strong);
        }
        at += field.len() + 1;
    }
}

fn cookies(text: &str, nth: usize, found: &mut Vec<Sent>) {
    let mut at = 0;
    for cookie in text.split(';') {
        if let Some((name, value)) = cookie.split_once('=') {
            let start = at + name.len() + 1;
            let span = start..start + value.len();
            push(found, Piece::Header(nth), span, Written::Plain, value, true);
        }
        at += cookie.len() + 1;
    }
}

/// The strings of a JSON document that are no names of members, as far as they hold no escapes.
fn strings(text: &str, found: &mut Vec<Sent>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('"')).map(|found| at + found) {
        let mut end = open + 1;
        while let Some(byte) = bytes.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let Some(inner) = text.get(open + 1..end.min(text.len())) else { return };
        let rest = text.get(end + 1..).unwrap_or_default().trim_start();
        if !rest.starts_with(':') && !inner.contains('\\') {
            push(found, Piece::Body, open + 1..end, Written::Json, inner, false);
        }
        at = end + 1;
    }
}

fn is_document(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn is_form(headers: &[Header]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("content-type")
            && header.value.to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded")
    })
}

/// The values of a response.
pub(super) fn of_response(response: &HttpResponse, body: &[u8]) -> Vec<Told> {
    let mut found = Vec::new();
    for header in &response.headers {
        let Ok(text) = std::str::from_utf8(&header.value) else { continue };
        let name = header.name.to_ascii_lowercase();
        let (place, value) = match &*name {
            "set-cookie" => {
                let Some((name, value)) = cookie(text) else { continue };
                (Place::Cookie(name.into()), value)
            }
            "date" | "etag" | "last-modified" | "expires" | "content-length" => continue,
            _ => (Place::Header(name.into()), text.rsplit(' ').next().unwrap_or_default()),
        };
        if may_be_carried(value) {
            found.push(Told { place, value: value.to_owned() });
        }
    }
    if body.is_empty() || body.len() > MAX_BODY {
        return found;
    }
    if is_document(body) {
        if let Ok(document) = serde_json::from_slice::<Value>(body) {
            leaves(&document, &mut String::new(), &mut found);
        }
    } else if let Ok(text) = std::str::from_utf8(body) {
        let text = text.trim();
        if sending::claims(text.as_bytes()).is_some() {
            found.push(Told { place: Place::Whole, value: text.to_owned() });
        }
    }
    found
}

/// The name and the value of a cookie that is set.
pub(crate) fn cookie(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split(';').next()?.split_once('=')?;
    Some((name.trim(), value.trim()))
}

fn leaves(value: &Value, pointer: &mut String, found: &mut Vec<Told>) {
    if found.len() >= MAX_ATOMS {
        return;
    }
    let here = pointer.len();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                leaves(member, pointer, found);
                pointer.truncate(here);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&nth.to_string());
                leaves(item, pointer, found);
                pointer.truncate(here);
            }
        }
        Value::String(text) if may_be_carried(text) => {
            found.push(Told { place: Place::Json(pointer.as_str().into()), value: text.clone() });
        }
        Value::Number(number) => {
            let text = number.to_string();
            if may_be_carried(&text) {
                found.push(Told { place: Place::Json(pointer.as_str().into()), value: text });
            }
        }
        Value::String(_) | Value::Bool(_) | Value::Null => {}
    }
}
