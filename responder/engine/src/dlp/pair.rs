//! Redacting a recorded pair: both messages, the recorded signature and whatever restates them.
//!
//! The invariant is that a live request still matches: redacting a request and then making its signature gives what the recorded
//! signature says after its pair was redacted.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Redactor, Tally, message, text::Fields, value::Pass};
use crate::{
    body::{self, BodyKey},
    json::{self, Kind},
    request::{joined, keys, same_json, sorted_query},
    snapshot::{Header, HttpRequest, RrPair, header},
};

/// What restates a message in the rest of a recording. It is emptied when the pair was changed.
const RESTATED: [&str; 7] = [
    "mutableSignature",
    "tokens",
    "tokenList",
    "http.req.cookies",
    "http.req.queryParams",
    "http.res.cookies",
    "http.sig",
];

/// Which parts of a recorded signature say what the request says, so that they are made anew; the others were edited by somebody.
struct Unedited {
    query: bool,
    body: bool,
}

impl Redactor {
    /// Redacts a pair; returns whether anything changed. A changed pair is marked `dlpModified`, and `dlpRule` names the config.
    pub fn redact_pair(&self, pair: &mut RrPair, tally: &mut Tally) -> bool {
        if self.config.is_empty() {
            return false;
        }
        tally.next_pair();
        let mut pass = Pass::new(self, tally);
        let mut changed = pass.requests(pair);
        changed |= pass.response(pair);
        changed |= pass.labels(pair);
        if changed {
            pass.rest(pair);
        }
        changed
    }
}

impl Pass<'_> {
    fn requests(&mut self, pair: &mut RrPair) -> bool {
        let from = self.enter("request");
        let mut changed = false;
        if self.config().requests {
            let unedited = Unedited::of(pair);
            let mut other_body = false;
            if let Some(request) = &mut pair.request {
                (changed, other_body) = self.request(request);
            }
            if let Some(new) = self.path(&pair.location) {
                pair.location = new;
                changed = true;
            }
            changed |= self.signature(pair, &unedited, other_body);
        }
        if let Some(request) = &mut pair.request {
            changed |= self.headers(&mut request.headers);
        }
        self.leave(from);
        changed
    }

    /// Path, query and body; whether any, and whether the body changed.
    fn request(&mut self, request: &mut HttpRequest) -> (bool, bool) {
        let mut changed = false;
        let from = self.enter("path");
        if let Some(new) = self.path(&request.path) {
            request.path = new;
            changed = true;
        }
        self.leave(from);
        let from = self.enter("query");
        if let Some(new) = self.urlencoded(Fields::Query, &request.query) {
            request.query = new;
            changed = true;
        }
        self.leave(from);
        let body = self.whole_body(&mut request.headers, &mut request.body);
        (changed || body, body)
    }

    fn response(&mut self, pair: &mut RrPair) -> bool {
        let from = self.enter("response");
        let response = &mut pair.response;
        let body = self.whole_body(&mut response.headers, &mut response.body);
        let headers = self.headers(&mut response.headers);
        self.leave(from);
        body || headers
    }

    fn headers(&mut self, headers: &mut [Header]) -> bool {
        let from = self.enter("headers");
        let mut changed = false;
        for Header { name, value } in headers {
            if let Some(new) = self.header(name, value) {
                *value = new;
                changed = true;
            }
        }
        self.leave(from);
        changed
    }

    fn whole_body(&mut self, headers: &mut Vec<Header>, body: &mut Bytes) -> bool {
        let content_type = header(headers, "content-type").cloned().unwrap_or_default();
        let from = self.enter("body");
        let new = self.body(&content_type, body);
        self.leave(from);
        let Some(new) = new else { return false };
        let recorded_length = body.len().to_string();
        headers.retain(|field| !message::is_digest(&field.name));
        for field in headers.iter_mut() {
            // Where the recorder kept a length that was not the body's, it stays wrong.
            if field.name.eq_ignore_ascii_case("content-length")
                && field.value == recorded_length.as_bytes()
            {
                field.value = new.len().to_string().into();
            }
        }
        *body = new.into();
        true
    }

    /// The recorded signature, which is laid over the request when a snapshot is compiled.
    fn signature(&mut self, pair: &mut RrPair, unedited: &Unedited, other_body: bool) -> bool {
        let from = self.enter("signature");
        let mut changed = false;
        for (key, value) in &mut pair.signature {
            let text = String::from_utf8_lossy(value).into_owned();
            let new = match key.as_str() {
                keys::METHOD | keys::HOST | keys::INSTANCE => None,
                keys::URL => self.path(&text).map(String::into_bytes),
                keys::QUERY if unedited.query => {
                    let query = pair.request.as_ref().map_or("", |request| request.query.as_str());
                    Some(joined(&sorted_query(query)).into_bytes())
                }
                keys::QUERY => self.combined_query(&text),
                keys::BODY_JSON | keys::BODY_HASH if unedited.body => {
                    other_body.then(|| body_value(pair.request.as_ref())).flatten()
                }
                keys::BODY_JSON => self
                    .document(value, 0)
                    .ok()
                    .filter(|edits| !edits.is_empty())
                    .map(|edits| json::replace(value, &edits)),
                key => match keys::query_name(key) {
                    Some(name) => self.field(Fields::Query, name, text.as_bytes()),
                    None if std::str::from_utf8(value).is_ok() => self.value(None, value),
                    None => None,
                },
            };
            if let Some(new) = new.filter(|new| *new != *value) {
                *value = new.into();
                changed = true;
            }
        }
        self.leave(from);
        changed
    }

    /// The combined form of a query that somebody edited: values are decoded, so that they hold no `&`.
    fn combined_query(&mut self, text: &str) -> Option<Vec<u8>> {
        let fields: Vec<String> = text
            .split('&')
            .map(|field| {
                let (name, value) = field.split_once('=')?;
                let new = self.field(Fields::Query, name, value.as_bytes())?;
                Some(format!("{name}={}", String::from_utf8_lossy(&new)))
            })
            .zip(text.split('&'))
            .map(|(new, old)| new.unwrap_or_else(|| old.to_owned()))
            .collect();
        Some(fields.join("&").into_bytes())
    }

    /// What the recorder noted beside the messages.
    fn labels(&mut self, pair: &mut RrPair) -> bool {
        let mut changed = false;
        let from = self.enter("tags");
        for text in pair.tags.values_mut().chain([&mut pair.session]) {
            if let Some(new) = self.value(None, text.as_bytes()) {
                *text = String::from_utf8_lossy(&new).into_owned();
                changed = true;
            }
        }
        self.leave(from);
        changed
    }

    /// Everything else that the recording held.
    fn rest(&mut self, pair: &mut RrPair) {
        let extra = match pair.extra_json.as_str() {
            "" => Cow::Borrowed("{}"),
            extra => Cow::Borrowed(extra),
        };
        let mut doc = extra.into_owned().into_bytes();
        for path in RESTATED {
            doc = emptied(&doc, path).unwrap_or(doc);
        }
        let from = self.enter("other");
        // Nested once, so that paths, which are meant for bodies, do not apply.
        if let Ok(edits) = self.document(&doc, 1) {
            doc = json::replace(&doc, &edits);
        }
        self.leave(from);
        let rule = json::quote(self.config().id());
        for (name, value) in [("dlpModified", &b"true"[..]), ("dlpRule", &rule)] {
            doc = set(&doc, name, value).unwrap_or(doc);
        }
        pair.extra_json = String::from_utf8(doc).unwrap_or_default();
    }
}

impl Unedited {
    fn of(pair: &RrPair) -> Self {
        let Some(request) = &pair.request else { return Self { query: false, body: false } };
        let query = pair.signature.get(keys::QUERY);
        let json = pair.signature.get(keys::BODY_JSON);
        let hash = pair.signature.get(keys::BODY_HASH);
        let own = (json.is_some() || hash.is_some()).then(|| body_key(request));
        Self {
            query: query.is_some_and(|query| *query == joined(&sorted_query(&request.query))),
            body: match own {
                Some(BodyKey::Json(own)) => json.is_some_and(|recorded| same_json(&own, recorded)),
                Some(BodyKey::Hash(own)) => hash.is_some_and(|recorded| *recorded == own),
                Some(BodyKey::None) | None => false,
            },
        }
    }
}

fn body_key(request: &HttpRequest) -> BodyKey {
    let content_type = header(&request.headers, "content-type").map_or(&[][..], |value| value);
    body::key(content_type, &request.body)
}

fn body_value(request: Option<&HttpRequest>) -> Option<Vec<u8>> {
    match body_key(request?) {
        BodyKey::Json(value) | BodyKey::Hash(value) => Some(value),
        BodyKey::None => None,
    }
}

/// A document with nothing in the value at a path.
pub(super) fn emptied(doc: &[u8], path: &str) -> Option<Vec<u8>> {
    let found = json::locate(doc, &json::Path::parse(path).ok()?).ok()?;
    let at = found.first()?;
    let nothing: &[u8] = match at.kind {
        Kind::Object => b"{}",
        Kind::Array => b"[]",
        _ => b"null",
    };
    Some(json::replace(doc, &[(at.span.clone(), nothing.to_vec())]))
}

/// A document with a member set.
pub(super) fn set(doc: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let path = json::Path::parse(name).ok()?;
    match json::locate(doc, &path).ok()?.first() {
        Some(at) => Some(json::replace(doc, &[(at.span.clone(), value.to_vec())])),
        None => json::insert(doc, &path, value).ok()?,
    }
}
