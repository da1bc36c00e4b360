//! Redacting a message: header fields and bodies, alike for recorded and live ones.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};

use super::{
    config::normal,
    text::Fields,
    value::{Edit, Pass},
};
use crate::{body, json, request::Parts};

/// Header fields that tell how a message is carried, and nothing of anybody. They are not looked through for patterns.
const CARRIERS: [&str; 22] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "host",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "last-modified",
    "server",
    "traceparent",
    "transfer-encoding",
    "user-agent",
    "vary",
];

/// Hashes of a body, which are not true of a changed one and tell something of the recorded one.
const DIGESTS: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// Whether a header field is to go when its body was changed.
pub(super) fn is_digest(name: &str) -> bool {
    DIGESTS.iter().any(|digest| digest.eq_ignore_ascii_case(name))
}

impl Pass<'_> {
    /// The parts of a request.
    pub(super) fn parts(&mut self, parts: &mut Parts) {
        if let Some(new) = self.path(&parts.path) {
            parts.path = new;
        }
        let mut changed = false;
        for (name, value) in &mut parts.query {
            if let Some(new) = self.field(Fields::Query, name, value.as_bytes()) {
                *value = String::from_utf8_lossy(&new).into_owned();
                changed = true;
            }
        }
        if changed {
            parts.query.sort();
        }
        let content_type = parts.header("content-type").cloned().unwrap_or_default();
        if let Some(new) = self.body(&content_type, &parts.body) {
            parts.body = new.into();
        }
        for (name, value) in &mut parts.headers {
            if let Some(new) = self.header(name, value) {
                *value = new;
            }
        }
    }

    /// A header field's value.
    pub(super) fn header(&mut self, name: &str, value: &[u8]) -> Option<Bytes> {
        let from = self.enter(name);
        let new = self.header_value(&name.to_ascii_lowercase(), value);
        self.leave(from);
        // What was no field value before cannot become one, and nothing that replaces has control characters.
        new.map(Bytes::from)
    }

    fn header_value(&mut self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        if let Some(rule) = self.config().headers.get(&normal(name)).copied() {
            return self.value(Some(rule), value);
        }
        if CARRIERS.contains(&name) || self.config().ignore.contains(&normal(name)) {
            return None;
        }
        let text = std::str::from_utf8(value).ok();
        let new = match (name, text) {
            ("cookie" | "set-cookie", Some(text)) => self.cookies(text, name == "set-cookie"),
            ("location" | "referer" | "content-location", Some(text)) => self.reference(text),
            _ => return self.value(None, value),
        };
        new.map(String::into_bytes)
    }

    /// A body. `None` when nothing changes.
    pub(super) fn body(&mut self, content_type: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        if body.is_empty() {
            return None;
        }
        if !body::is_gzip(body) {
            return self.plain(content_type, body);
        }
        match body::unfolded(body) {
            std::borrow::Cow::Borrowed(_) => {
                self.tally.unread(&self.place);
                None
            }
            std::borrow::Cow::Owned(plain) => {
                self.plain(content_type, &plain).and_then(|new| fold(&new))
            }
        }
    }

    /// A body that is not compressed. What it is, is told as it is for signatures: see [`body::key`].
    fn plain(&mut self, content_type: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let mentions = |what: &str| body::mentions(content_type, what.as_bytes());
        let structured = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        if (structured || mentions("json"))
            && let Ok(edits) = self.document(body, 0)
        {
            return edited(body, &edits);
        }
        if body::is_form(content_type)
            && let Ok(form) = std::str::from_utf8(body)
        {
            let fields = form.trim_ascii();
            let new = self.urlencoded(Fields::Form, fields)?;
            let start = form.len() - form.trim_ascii_start().len();
            return Some(json::replace(body, &[(start..start + fields.len(), new.into_bytes())]));
        }
        let begins_with_tag = body.trim_ascii_start().starts_with(b"<");
        if mentions("xml") || mentions("html") || begins_with_tag {
            let edits = self.xml(body);
            return edited(body, &edits);
        }
        if std::str::from_utf8(body).is_err() && !mentions("text/") {
            self.tally.unread(&self.place);
            return None;
        }
        if structured || mentions("json") || mentions("event-stream") {
            let edits = self.lines(body);
            return edited(body, &edits);
        }
        let edits = self.loose(body, u8::MAX);
        edited(body, &edits)
    }

    /// A text of which each line may be a document, as in event streams and JSON lines.
    fn lines(&mut self, text: &[u8]) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let data = line.strip_prefix(b"data:").unwrap_or(line);
            let blank = data.len() - data.trim_ascii_start().len();
            let offset = start + (line.len() - data.len()) + blank;
            let data = data.trim_ascii();
            let document = matches!(data.first(), Some(b'{' | b'['));
            let own = match self.document(data, 0) {
                Ok(own) if document => own,
                _ => {
                    if document {
                        self.tally.unread(&self.place);
                    }
                    self.loose(data, u8::MAX)
                }
            };
            edits.extend(
                own.into_iter().map(|(span, new)| (offset + span.start..offset + span.end, new)),
            );
            start += line.len();
        }
        edits
    }
}

fn edited(body: &[u8], edits: &[Edit]) -> Option<Vec<u8>> {
    (!edits.is_empty()).then(|| json::replace(body, edits))
}

/// Compresses; the same bytes give the same bytes.
pub(super) fn fold(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
