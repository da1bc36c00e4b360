//! Requests: the live one as the data plane hands it in, and the normal form that live and recorded ones are compared in.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    body::{self, BodyKey},
    extra, grpc, json,
    snapshot::{Header, HttpRequest, RrPair},
};

/// A live request. Parts that most requests lack have a default: write `..Request::default()` behind those that you have.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority of the target or the `Host` header, with or without port.
    pub host: &'a str,
    /// The path as it was on the wire.
    pub path: &'a str,
    /// The raw query without `?`.
    pub query: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
    /// The fields behind the body, once it was read whole.
    pub trailers: Option<&'a HeaderMap>,
}

/// What a request without header fields refers to.
static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            host: "",
            path: "/",
            query: "",
            headers: &NO_FIELDS,
            body: &[],
            trailers: None,
        }
    }
}

impl<'a> Request<'a> {
    /// A recorded request as a live one would come in. Its trailers are left out.
    pub(crate) fn recorded(recorded: &'a HttpRequest, headers: &'a HeaderMap) -> Self {
        Self {
            method: &recorded.method,
            host: &recorded.host,
            path: &recorded.path,
            query: &recorded.query,
            headers,
            body: &recorded.body,
            trailers: None,
        }
    }
}

/// The parts of a request that chains may change and that a signature is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parts {
    pub(crate) method: String,
    /// As presented, with port if there was one.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Decoded query parameters, sorted.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) trailers: Vec<(String, Bytes)>,
    pub(crate) body: Bytes,
    /// A body that is known by its hash only.
    pub(crate) body_hash: Option<Bytes>,
    /// Keys of a recorded signature that cannot be recomputed, because the recording has no request.
    pub(crate) extra: BTreeMap<String, Bytes>,
    /// `host:port` that the request goes to; it is in no signature.
    pub(crate) upstream: String,
    /// The session that the recorder assigned; a live request has none of itself.
    pub(crate) session: String,
    /// Calls of this gRPC method have several messages, so a body's form is a list.
    pub(crate) listed: bool,
}

impl Parts {
    /// The parts of a live request.
    pub(crate) fn of_live(request: &Request<'_>) -> Self {
        let fields = |fields: &HeaderMap| {
            let field = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
            };
            fields.iter().map(field).collect()
        };
        Self {
            method: request.method.to_owned(),
            host: request.host.to_owned(),
            path: request.path.to_owned(),
            query: sorted_query(request.query),
            headers: fields(request.headers),
            trailers: request.trailers.map(fields).unwrap_or_default(),
            body: Bytes::copy_from_slice(&body::unfolded(request.body)),
            upstream: request.host.to_owned(),
            ..Self::default()
        }
        .with_frames()
    }

    /// The parts of a recorded request, with the recorded signature laid over it: a signature is used as written, so that a user may
    /// edit it, and differences in notation between recorder versions do not matter.
    pub(crate) fn of_recorded(pair: &RrPair) -> Self {
        let mut parts = pair.request.as_ref().map_or_else(Self::default, |request| Self {
            method: request.method.clone(),
            host: request.host.clone(),
            path: request.path.clone(),
            query: sorted_query(&request.query),
            headers: request
                .headers
                .iter()
                .map(|Header { name, value }| (name.clone(), value.clone()))
                .collect(),
            body: match body::unfolded(&request.body) {
                Cow::Borrowed(_) => request.body.clone(),
                Cow::Owned(unfolded) => unfolded.into(),
            },
            trailers: extra::trailers(pair, "req")
                .into_iter()
                .map(|Header { name, value }| (name, value))
                .collect(),
            ..Self::default()
        });
        parts.upstream.clone_from(&pair.network_address);
        parts.session.clone_from(&pair.session);
        if grpc::is_call(pair) && !parts.is_call() {
            parts.set_header("content-type", Bytes::from_static(b"application/grpc"));
        }
        parts = parts.with_frames();
        parts.overlay(pair);
        parts
    }

    /// Whether it is a call of gRPC.
    pub(crate) fn is_call(&self) -> bool {
        self.header("content-type").is_some_and(|value| grpc::is_grpc(value))
    }

    /// The same with plain frames in the body, whatever the shape of a call's body is.
    fn with_frames(mut self) -> Self {
        if self.is_call()
            && let Some(frames) = grpc::normal(&self.body)
        {
            self.body = frames;
        }
        self
    }

    fn overlay(&mut self, pair: &RrPair) {
        let text = |key: &str, own: &str| {
            let value = pair.signature.get(key).filter(|value| **value != *own.as_bytes());
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        if let Some(method) = text(keys::METHOD, &self.method) {
            self.method = method;
        }
        if let Some(path) = text(keys::URL, &self.path) {
            self.path = path;
        }
        if let Some(host) = text(keys::HOST, without_port(&self.host)) {
            self.host = host;
        }
        self.overlay_query(pair);
        self.overlay_body(pair);
        if pair.request.is_none() {
            let known = |key: &str| keys::KNOWN.contains(&key) || keys::query_name(key).is_some();
            self.extra = pair
                .signature
                .iter()
                .filter(|(key, _)| !known(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
        }
    }

    fn overlay_query(&mut self, pair: &RrPair) {
        let split: Vec<(String, String)> = pair
            .signature
            .iter()
            .filter_map(|(key, value)| {
                Some((
                    keys::query_name(key)?.to_owned(),
                    String::from_utf8_lossy(value).into_owned(),
                ))
            })
            .collect();
        if !split.is_empty() {
            // A repeated name has one key in the signature but several values in the request; only an edit is taken over.
            let edited = split.iter().any(|entry| !self.query.contains(entry))
                || self.query.iter().any(|(name, _)| !split.iter().any(|s| s.0 == *name));
            if edited {
                self.query = split;
                self.query.sort();
            }
        } else if let Some(combined) = pair.signature.get(keys::QUERY) {
            let combined = String::from_utf8_lossy(combined);
            if combined != joined(&self.query) {
                // Values are decoded already; a `&` or `=` inside one cannot be told from a separator any more.
                self.query = combined
                    .split('&')
                    .filter(|field| !field.is_empty())
                    .map(|field| field.split_once('=').unwrap_or((field, "")))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                self.query.sort();
            }
        }
    }

    fn overlay_body(&mut self, pair: &RrPair) {
        if self.is_call() {
            if let Some(recorded) = pair.signature.get(keys::BODY_JSON)
                && grpc::read(recorded).is_some()
                && grpc::key(recorded) != self.body_key()
            {
                self.body = grpc::normal(recorded).unwrap_or_else(|| recorded.clone());
            }
        } else if let Some(recorded) = pair.signature.get(keys::BODY_JSON) {
            let same = matches!(self.body_key(), BodyKey::Json(own) if same_json(&own, recorded));
            if !same {
                self.body = recorded.clone();
                self.body_hash = None;
                self.set_header("content-type", Bytes::from_static(b"application/json"));
            }
        } else if let Some(recorded) = pair.signature.get(keys::BODY_HASH)
            && self.body.is_empty()
        {
            self.body_hash = Some(recorded.clone());
        }
    }

    /// How the body takes part in the signature.
    pub(crate) fn body_key(&self) -> BodyKey {
        match &self.body_hash {
            Some(hash) => BodyKey::Hash(hash.to_vec()),
            None => body::key(
                self.header("content-type").map_or(&[], |value| value.as_ref()),
                &self.body,
            ),
        }
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&Bytes> {
        self.header_at(name, 0)
    }

    /// The n-th value of a header.
    pub(crate) fn header_at(&self, name: &str, index: usize) -> Option<&Bytes> {
        self.headers
            .iter()
            .filter(|header| header.0.eq_ignore_ascii_case(name))
            .nth(index)
            .map(|header| &header.1)
    }

    fn set_header(&mut self, name: &str, value: Bytes) {
        self.headers.retain(|header| !header.0.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value));
    }
}

/// The keys of a signature.
pub(crate) mod keys {
    pub(crate) const METHOD: &str = "http:method";
    pub(crate) const URL: &str = "http:url";
    pub(crate) const HOST: &str = "http:host";
    pub(crate) const QUERY: &str = "http:queryparams";
    pub(crate) const BODY_JSON: &str = "http:requestBodyJSON";
    pub(crate) const BODY_HASH: &str = "http:requestBodyHash";
    pub(crate) const INSTANCE: &str = "instance";
    /// Every key that is recomputed from a request, or not part of matching.
    pub(crate) const KNOWN: [&str; 7] = [METHOD, URL, HOST, QUERY, BODY_JSON, BODY_HASH, INSTANCE];

    /// The parameter that a key of the split form stands for.
    pub(crate) fn query_name(key: &str) -> Option<&str> {
        key.strip_prefix("http:queryparams:").or_else(|| key.strip_prefix("http:qp:"))
    }
}

/// A host as signatures name it: without port, in lower case.
#[must_use]
pub fn host_key(host: &str) -> Cow<'_, [u8]> {
    let host = without_port(host).as_bytes();
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// A host without its port; an IPv6 literal keeps its brackets.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// A path in the form that is compared: clients and recorders escape differently, so escapes are resolved, except those that would change
/// what the path means (`/` and `%`) or hide in it (control characters).
pub(crate) fn normal_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| tail.split_first_chunk::<2>()).flatten();
        let decoded = escaped.and_then(|(digits, after)| {
            let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            Some((byte, digits, after))
        });
        match decoded {
            Some((byte, digits, after))
                if byte == b'/' || byte == b'%' || byte.is_ascii_control() =>
            {
                out.push(b'%');
                out.extend(digits.iter().map(u8::to_ascii_uppercase));
                rest = after;
            }
            Some((byte, _, after)) => {
                out.push(byte);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    // Bytes that are no UTF-8 stay escaped as they were.
    String::from_utf8(out).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// Decoded query parameters, in their order.
pub fn query(raw: &str) -> impl Iterator<Item = (String, String)> + '_ {
    body::pairs(raw)
}

/// Decoded query parameters, sorted.
pub(crate) fn sorted_query(raw: &str) -> Vec<(String, String)> {
    let mut query: Vec<_> = query(raw).collect();
    query.sort();
    query
}

/// The combined form of a raw query, as [`joined`] makes it of [`sorted_query`].
#[inline]
pub(crate) fn combined(raw: &str) -> Cow<'_, str> {
    // No parameter, and one with a value and nothing to decode, are their own combined form: no allocation for what most queries are.
    let plain = !raw.bytes().any(|byte| matches!(byte, b'&' | b'+' | b'%'));
    if raw.is_empty() || plain && raw.contains('=') {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(sorted_and_joined(raw))
}

fn sorted_and_joined(raw: &str) -> String {
    let mut query: Vec<_> = body::fields(raw).collect();
    query.sort_unstable();
    let mut out = String::with_capacity(raw.len() + 1);
    join(query.iter().map(|(name, value)| (&**name, &**value)), &mut out);
    out
}

/// The combined form of a query: `k=v&k=v` of decoded, sorted parameters.
pub(crate) fn joined(query: &[(String, String)]) -> String {
    let mut out = String::new();
    join(query.iter().map(|(name, value)| (&**name, &**value)), &mut out);
    out
}

fn join<'q>(query: impl Iterator<Item = (&'q str, &'q str)>, out: &mut String) {
    for (nth, (name, value)) in query.enumerate() {
        if nth > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
}

/// Whether two documents mean the same, numbers compared by value: recorders have written `1` for `1.0`.
pub(crate) fn same_json(own: &[u8], recorded: &[u8]) -> bool {
    if json::canonical(recorded).is_ok_and(|recorded| recorded == own) {
        return true;
    }
    let value = |doc: &[u8]| serde_json::from_slice::<serde_json::Value>(doc).ok();
    matches!((value(own), value(recorded)), (Some(own), Some(recorded)) if loosely_equal(&own, &recorded))
}

fn loosely_equal(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| loosely_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| loosely_equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
