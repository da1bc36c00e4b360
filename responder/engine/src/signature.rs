//! Signatures: the key–value map that a request is matched by, and its canonical bytes.
//!
//! Live and recorded requests go through the same function, so equal requests have equal bytes. The combined query form is used for both
//! recorded shapes; header order and query order do not matter.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    body::{self, BodyKey},
    grpc,
    identity::may_hold_token,
    request::{
        Parts, Request, combined, host_key, joined, keys, normal_path, same_json, without_port,
    },
    snapshot::{HttpRequest, RrPair, header},
};

/// A change that a chain makes to the signature itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Adds or overwrites a key; `None` numbers it.
    Store { key: Option<String>, value: Vec<u8> },
    /// Removes a key.
    Delete { key: String },
}

/// The map that a request is matched by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Signature {
    entries: BTreeMap<String, Vec<u8>>,
}

impl Signature {
    /// The signature of a request after its chains ran.
    pub(crate) fn of(parts: &Parts, edits: &[Edit]) -> Self {
        let mut query = parts.query.clone();
        for edit in edits {
            if let Edit::Delete { key } = edit
                && let Some(name) = keys::query_name(key)
            {
                query.retain(|parameter| parameter.0 != name);
            }
        }
        let mut entries = BTreeMap::from([
            (keys::METHOD.to_owned(), parts.method.clone().into_bytes()),
            (keys::URL.to_owned(), normal_path(&parts.path).into_owned().into_bytes()),
            (keys::HOST.to_owned(), host_key(&parts.host).into_owned()),
            (keys::QUERY.to_owned(), joined(&query).into_bytes()),
        ]);
        match parts.body_key() {
            BodyKey::None => {}
            BodyKey::Json(json) => drop(entries.insert(keys::BODY_JSON.to_owned(), json)),
            BodyKey::Hash(hash) => drop(entries.insert(keys::BODY_HASH.to_owned(), hash)),
        }
        entries.extend(parts.extra.iter().map(|(key, value)| (key.clone(), value.to_vec())));
        let mut signature = Self { entries };
        for edit in edits {
            signature.apply(edit);
        }
        signature
    }

    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Delete { key } => drop(self.entries.remove(key)),
            Edit::Store { key, value } => {
                let key = key.clone().unwrap_or_else(|| self.free_number());
                self.entries.insert(key, value.clone());
            }
        }
    }

    /// The lowest free number that is no less than the size of the map.
    fn free_number(&self) -> String {
        (self.entries.len()..)
            .map(|n| n.to_string())
            .find(|n| !self.entries.contains_key(n))
            .unwrap_or_default()
    }

    /// The same signature for another host.
    pub(crate) fn with_host(&self, host: &str) -> Self {
        let mut other = self.clone();
        if let Some(value) = other.entries.get_mut(keys::HOST) {
            *value = host.as_bytes().to_vec();
        }
        other
    }

    /// The host that it names.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        self.entries.get(keys::HOST).map(Vec::as_slice)
    }

    /// Puts what `new` makes of each value that a request chose in its place; tells whether there was any. Method, host and path stay.
    pub(crate) fn rewrite(&mut self, new: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
        let mut rewritten = false;
        for (key, value) in &mut self.entries {
            if ![keys::METHOD, keys::HOST, keys::URL, keys::BODY_HASH].contains(&key.as_str())
                && let Some(new) = new(value)
            {
                *value = new;
                rewritten = true;
            }
        }
        rewritten
    }

    /// The keys and values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Bytes that are equal exactly when the signatures are: every key and value in key order, none of which can be taken for another.
    pub(crate) fn to_bytes(&self) -> Box<[u8]> {
        let mut out =
            Vec::with_capacity(self.entries.iter().map(|(k, v)| k.len() + v.len() + 16).sum());
        for (key, value) in &self.entries {
            write_entry(key, value, &mut out);
        }
        out.into_boxed_slice()
    }

    /// The bytes of a live request that no chain works on: the same as [`Self::to_bytes`] of [`Self::of`], without making the map.
    pub(crate) fn write_live(request: &Request<'_>, out: &mut Vec<u8>) {
        let content_type = request
            .headers
            .get(http::header::CONTENT_TYPE)
            .map_or(&[][..], |value| value.as_bytes());
        let query = combined(request.query);
        let body = body::key(content_type, request.body);
        write_request(&host_key(request.host), request.method, &query, &body, request.path, out);
    }

    /// The bytes of a recorded request, and its host: the same as [`Self::to_bytes`] of [`Self::of`]. `None` where that needs the map:
    /// when chains edit it, or a token may be in it.
    pub(crate) fn write_recorded<'p>(
        parts: &'p Parts,
        edits: &[Edit],
        out: &mut Vec<u8>,
    ) -> Option<Cow<'p, [u8]>> {
        if !edits.is_empty() || !parts.extra.is_empty() {
            return None;
        }
        let (query, body) = (joined(&parts.query), parts.body_key());
        write_unmarked([&*parts.method, &parts.host, &parts.path], &query, &body, out)
    }

    /// The same of a pair that is matched by what its request does, and the request. `None` where its parts have to be worked out: without
    /// a request, for a call, or when the recorded signature says something else.
    pub(crate) fn write_pair<'p>(
        pair: &'p RrPair,
        out: &mut Vec<u8>,
    ) -> Option<(Cow<'p, [u8]>, &'p HttpRequest)> {
        let request = pair.request.as_ref().filter(|_| !grpc::is_call(pair))?;
        let content_type = header(&request.headers, "content-type").map_or(&[][..], |value| value);
        let (query, body) = (combined(&request.query), body::key(content_type, &request.body));
        let mut says = pair.signature.iter();
        let same = says.all(|(key, value)| match key.as_str() {
            keys::METHOD => *value == *request.method.as_bytes(),
            keys::URL => *value == *request.path.as_bytes(),
            keys::HOST => *value == *without_port(&request.host).as_bytes(),
            keys::QUERY => *value == *query.as_bytes(),
            keys::BODY_JSON => matches!(&body, BodyKey::Json(own) if same_json(own, value)),
            keys::BODY_HASH => body != BodyKey::None,
            other => keys::query_name(other).is_none(),
        });
        let line = [&*request.method, &request.host, &request.path];
        let host = same.then(|| write_unmarked(line, &query, &body, out)).flatten()?;
        Some((host, request))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = PartsOf(bytes);
        let mut entries = BTreeMap::new();
        while let Some(key) = parts.key() {
            entries.insert(key.to_owned(), parts.part()?.to_vec());
        }
        Some(Self { entries })
    }
}

/// The keys and values in what [`Signature::to_bytes`] wrote, in key order.
pub(crate) fn entries_of(bytes: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut parts = PartsOf(bytes);
    std::iter::from_fn(move || Some((parts.key()?, parts.part()?)))
}

/// What stands before and behind the host, and its length, in what [`Signature::to_bytes`] wrote.
pub(crate) fn around_host(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = PartsOf(bytes);
    loop {
        let key = parts.key()?;
        let before = bytes.len() - parts.0.len();
        parts.part()?;
        if key == keys::HOST {
            return Some((bytes.get(..before)?, parts.0));
        }
    }
}

/// Keys and values, each with its length before it.
struct PartsOf<'b>(&'b [u8]);

impl<'b> PartsOf<'b> {
    fn key(&mut self) -> Option<&'b str> {
        let (code, rest) = self.0.split_first()?;
        self.0 = rest;
        match usize::from(*code).checked_sub(1) {
            Some(code) => CODES.get(code).copied(),
            None => std::str::from_utf8(self.part()?).ok(),
        }
    }

    fn part(&mut self) -> Option<&'b [u8]> {
        let (short, rest) = self.0.split_first()?;
        let (length, rest) = if *short < LONG {
            (usize::from(*short), rest)
        } else {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_le_bytes(*length)).ok()?, rest)
        };
        let (part, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }
}

/// The keys that nearly all signatures consist of. They are written as their places here, from one on; a zero stands before any other.
const CODES: [&str; 6] =
    [keys::METHOD, keys::URL, keys::HOST, keys::QUERY, keys::BODY_JSON, keys::BODY_HASH];
/// The codes themselves.
mod code {
    pub(super) const METHOD: u8 = 1;
    pub(super) const URL: u8 = 2;
    pub(super) const HOST: u8 = 3;
    pub(super) const QUERY: u8 = 4;
    pub(super) const BODY_JSON: u8 = 5;
    pub(super) const BODY_HASH: u8 = 6;
}
/// What stands before a length of eight bytes. Shorter ones have one.
const LONG: u8 = u8::MAX;

/// Writes the signature of a method, host and path with these; returns its host. `None` when a token may be in it.
fn write_unmarked<'p>(
    [method, host, path]: [&'p str; 3],
    query: &str,
    body: &BodyKey,
    out: &mut Vec<u8>,
) -> Option<Cow<'p, [u8]>> {
    let host = host_key(host);
    write_request(&host, method, query, body, path, out);
    let marked = may_hold_token(query.as_bytes())
        || match body {
            BodyKey::None => false,
            BodyKey::Json(body) | BodyKey::Hash(body) => may_hold_token(body),
        };
    (!marked).then_some(host)
}

/// Writes what every request has, in key order.
#[inline]
fn write_request(
    host: &[u8],
    method: &str,
    query: &str,
    body: &BodyKey,
    path: &str,
    out: &mut Vec<u8>,
) {
    write_coded(code::HOST, host, out);
    write_coded(code::METHOD, method.as_bytes(), out);
    write_coded(code::QUERY, query.as_bytes(), out);
    match body {
        BodyKey::None => {}
        BodyKey::Json(json) => write_coded(code::BODY_JSON, json, out),
        BodyKey::Hash(hash) => write_coded(code::BODY_HASH, hash, out),
    }
    write_coded(code::URL, normal_path(path).as_bytes(), out);
}

fn write_entry(key: &str, value: &[u8], out: &mut Vec<u8>) {
    match (1..).zip(CODES).find(|(_, known)| *known == key) {
        Some((code, _)) => out.push(code),
        None => {
            out.push(0);
            write_part(key.as_bytes(), out);
        }
    }
    write_part(value, out);
}

#[inline]
fn write_coded(code: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(code);
    write_part(value, out);
}

/// Appends a key or a value with its length before it.
#[inline]
pub(crate) fn write_part(part: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(part.len()) {
        Ok(short) if short < LONG => out.push(short),
        _ => {
            out.push(LONG);
            out.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        }
    }
    out.extend_from_slice(part);
}

/// A number that a signature has wherever it is served, whatever its bytes look like here.
pub(crate) fn number_of(bytes: &[u8], hash: impl Fn(&[u8]) -> u64) -> u64 {
    let mut wide = Vec::with_capacity(bytes.len() * 2);
    for (key, value) in entries_of(bytes) {
        for part in [key.as_bytes(), value] {
            wide.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            wide.extend_from_slice(part);
        }
    }
    hash(&wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::sorted_query;
    use proptest::prelude::*;

    fn parts(query: &str) -> Parts {
        Parts {
            method: "GET".into(),
            host: "Api:80".into(),
            path: "/p".into(),
            query: sorted_query(query),
            ..Parts::default()
        }
    }

    #[test]
    fn edits_delete_and_store() {
        let edits = [
            Edit::Delete { key: "http:method".into() },
            Edit::Delete { key: "http:qp:b".into() },
            Edit::Store { key: Some("tenant".into()), value: b"acme".to_vec() },
            Edit::Store { key: None, value: b"x".to_vec() },
        ];
        let signature = Signature::of(&parts("b=2&a=1"), &edits);
        let entries: Vec<_> = signature
            .entries()
            .map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v)))
            .collect();
        assert_eq!(
            entries,
            ["4=x", "http:host=api", "http:queryparams=a=1", "http:url=/p", "tenant=acme"]
        );
    }

    #[test]
    fn is_blind_to_query_order() {
        assert_eq!(Signature::of(&parts("a=1&b=2"), &[]), Signature::of(&parts("b=2&a=1"), &[]));
        assert_ne!(Signature::of(&parts("a=1"), &[]), Signature::of(&parts("a=2"), &[]));
    }

    #[test]
    fn the_number_of_a_signature_does_not_depend_on_how_it_is_written_here() {
        let long = "v".repeat(300);
        let entries = [("http:host", "api"), ("http:url", "/p"), ("tenant", long.as_str())];
        let mut wide = Vec::new();
        for part in entries.iter().flat_map(|(key, value)| [key, value]) {
            wide.extend_from_slice(&u64::try_from(part.len()).unwrap().to_le_bytes());
            wide.extend_from_slice(part.as_bytes());
        }
        let entries = entries.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let bytes = Signature { entries: entries.into() }.to_bytes();
        assert_ne!(*bytes, *wide);
        let sum = |bytes: &[u8]| {
            bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(*byte))
        };
        assert_eq!(number_of(&bytes, sum), sum(&wide));
    }

    proptest! {
        #[test]
        fn the_short_way_writes_the_same_bytes(
            host in "[A-Za-z]{1,5}(:[0-9]{2})?",
            query in "[a-c=&+%0-9]{0,12}",
            json in any::<bool>(),
            body in prop::sample::select(vec!["", "{\"b\":1, \"a\":[]}", "[1", "a=1&b=%20", "x"]),
        ) {
            let content_type = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            let headers = http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, content_type.parse().unwrap())]);
            let request = Request { method: "POST", host: &host, path: "/p%20q", query: &query, headers: &headers, body: body.as_bytes(), ..Request::default() };
            let mut short = Vec::new();
            Signature::write_live(&request, &mut short);
            prop_assert_eq!(short.as_slice(), &*Signature::of(&Parts::of_live(&request), &[]).to_bytes());
        }

        #[test]
        fn another_host_fits_into_the_bytes(entries in prop::collection::btree_map("[a-z]{1,9}|http:host", prop::collection::vec(any::<u8>(), 0..9), 0..6), host in "[a-z]{0,9}") {
            let signature = Signature { entries };
            let bytes = signature.to_bytes();
            let other = around_host(&bytes).map(|(before, behind)| {
                let mut other = before.to_vec();
                write_part(host.as_bytes(), &mut other);
                [other.as_slice(), behind].concat()
            });
            prop_assert_eq!(other, signature.host().map(|_| signature.with_host(&host).to_bytes().into_vec()));
        }

        #[test]
        fn bytes_come_back(entries in prop::collection::btree_map(".{0,9}", prop::collection::vec(any::<u8>(), 0..9), 0..6)) {
            let signature = Signature { entries };
            prop_assert_eq!(Signature::from_bytes(&signature.to_bytes()), Some(signature));
        }
    }
}
