//! A recorded pair as a stub: the conditions that say what its signature says.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    body::{self, BodyKey},
    compile::headers::settle_encoding,
    formats::write::loss::Loss,
    request::{Parts, without_port},
    snapshot::{
        HttpResponse, RrPair,
        stub::{Condition, Part, Test},
    },
};

/// Fields that belong to the recorded connection, and the length, which the server knows.
const NOT_WRITTEN: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "http2-settings",
];

/// The conditions of a recorded pair. The host is apart, because most mocks are reached under another name.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) conditions: Vec<Condition>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
}

/// What a recorded pair answers.
pub(super) fn asked(pair: &RrPair, lost: &mut Vec<Loss>) -> Asked {
    let parts = Parts::of_recorded(pair);
    let mut conditions =
        vec![equals(Part::Method, parts.method.clone()), equals(Part::Path, parts.path.clone())];
    conditions.extend(repeated(&parts.query, Part::Query));
    conditions.extend(of_body(&parts, lost));
    if !parts.extra.is_empty() {
        lost.push(Loss::warning(
            "signature",
            "keys of a recorded signature that are no part of a request are not asked for",
        ));
    }
    let host = without_port(&parts.host).to_ascii_lowercase();
    Asked { conditions, method: parts.method, path: parts.path, host }
}

fn equals(part: Part, value: String) -> Condition {
    Condition { part, test: Test::equals(value) }
}

/// A condition for each name; all values of a repeated name have to be there.
fn repeated(pairs: &[(String, String)], part: impl Fn(String) -> Part) -> Vec<Condition> {
    let mut names: Vec<&String> = pairs.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            let mut tests: Vec<Test> = pairs
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, value)| Test::equals(value.clone()))
                .collect();
            let test = match tests.pop() {
                Some(only) if tests.is_empty() => only,
                last => Test::Exactly(tests.into_iter().chain(last).collect()),
            };
            Condition { part: part(name.clone()), test }
        })
        .collect()
}

fn of_body(parts: &Parts, lost: &mut Vec<Loss>) -> Vec<Condition> {
    if parts.body_hash.is_some() {
        lost.push(Loss::warning(
            "signature.http:requestBodyHash",
            "a body that is known by its hash only is not asked for",
        ));
        return Vec::new();
    }
    let content_type = parts.header("content-type").map(AsRef::as_ref).unwrap_or_default();
    let one = |test| vec![Condition { part: Part::Body, test }];
    match body::key(content_type, &parts.body) {
        BodyKey::None => Vec::new(),
        BodyKey::Json(json) => {
            let text = String::from_utf8_lossy(&parts.body);
            if body::is_form(content_type)
                && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err()
            {
                let fields: Vec<_> = body::pairs(text.trim_ascii()).collect();
                return repeated(&fields, Part::Form);
            }
            one(Test::EqualsJson {
                expected: String::from_utf8_lossy(&json).into_owned(),
                ignore_array_order: false,
                ignore_extra: false,
            })
        }
        BodyKey::Hash(_) => one(match String::from_utf8(parts.body.to_vec()) {
            Ok(text) => Test::equals(text),
            Err(error) => Test::EqualsBytes(Bytes::from(error.into_bytes())),
        }),
    }
}

/// What a recorded pair answers with: without what belongs to the recorded connection, and with header fields that say what the body is.
pub(super) fn answer<'a>(pair: &'a RrPair, lost: &mut Vec<Loss>) -> Cow<'a, HttpResponse> {
    let mut response = pair.response.clone();
    settle_encoding(&mut response, pair, false);
    let is_written = |name: &str| !NOT_WRITTEN.iter().any(|other| name.eq_ignore_ascii_case(other));
    response.headers.retain(|field| is_written(&field.name));
    if response.headers.len() == pair.response.headers.len() {
        return Cow::Borrowed(&pair.response);
    }
    lost.push(Loss::info(
        "http.res.headers",
        "fields of the recorded connection, lengths and stale content codings are left out",
    ));
    Cow::Owned(response)
}
