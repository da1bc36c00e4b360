//! What a target format could not hold: one finding per kind, with the number of pairs that it concerns.
//!
//! For the formats that are read here too, nothing is guessed: what was written is read again and compared.

use std::collections::BTreeMap;

use crate::{
    diagnostic::{Diagnostic, Severity},
    snapshot::{Header, RrPair},
};

/// The code of every finding of this module.
pub const CODE: &str = "not_representable";

/// Findings by kind.
#[derive(Debug, Default, Clone)]
pub struct Losses {
    found: BTreeMap<(&'static str, &'static str), (Severity, u64)>,
}

/// One kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) severity: Severity,
    /// The field.
    pub(super) path: &'static str,
    pub(super) message: &'static str,
}

impl Loss {
    /// Something that matters is gone.
    pub(super) const fn warning(path: &'static str, message: &'static str) -> Self {
        Self { severity: Severity::Warning, path, message }
    }

    /// Something that no request depends on is gone.
    pub(super) const fn info(path: &'static str, message: &'static str) -> Self {
        Self { severity: Severity::Info, path, message }
    }
}

impl Losses {
    /// Counts the losses of one pair, each kind once.
    pub(super) fn of_pair(&mut self, mut lost: Vec<Loss>) {
        lost.sort_by_key(|loss| (loss.path, loss.message));
        lost.dedup();
        for loss in lost {
            self.found.entry((loss.path, loss.message)).or_insert((loss.severity, 0)).1 += 1;
        }
    }

    /// The findings: warnings first, then by field.
    #[must_use]
    pub fn into_findings(self) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> = self
            .found
            .into_iter()
            .map(|((path, message), (severity, count))| {
                let mut finding = Diagnostic::warning(CODE, path, message);
                finding.severity = severity;
                finding.count = count;
                finding
            })
            .collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        found
    }
}

const CHANGED: &str = "the format has no way to write this value; it reads back differently";

/// What is not the same after a pair was written and read again. The ordinal is the importer's.
pub(super) fn compare(pair: &RrPair, back: &RrPair) -> Vec<Loss> {
    let mut lost = Vec::new();
    let mut check = |same: bool, path| {
        if !same {
            lost.push(Loss::warning(path, CHANGED));
        }
    };
    check(pair.uuid == back.uuid, "uuid");
    check(pair.ts == back.ts, "ts");
    check(pair.direction == back.direction, "direction");
    check(pair.duration == back.duration, "duration");
    check(pair.l7protocol == back.l7protocol, "l7protocol");
    check(pair.service == back.service, "service");
    check(pair.cluster == back.cluster, "cluster");
    check(pair.namespace == back.namespace, "namespace");
    check(pair.tech == back.tech, "tech");
    check(pair.network_address == back.network_address, "network_address");
    check(pair.command == back.command, "command");
    check(pair.location == back.location, "location");
    check(pair.status == back.status, "status");
    check(pair.tags == back.tags, "tags");
    check(pair.session == back.session, "session");
    check(pair.signature == back.signature, "signature");
    check(pair.extra_json == back.extra_json, "(other members)");
    check(pair.stub == back.stub, "stub");
    check(pair.request.is_some() == back.request.is_some(), "http.req");
    if let (Some(request), Some(read)) = (&pair.request, &back.request) {
        check(request.method == read.method, "http.req.method");
        check(request.path == read.path && request.query == read.query, "http.req.uri");
        check(request.version == read.version, "http.req.version");
        check(request.host == read.host, "http.req.host");
        check(request.body == read.body, "http.req.bodyBase64");
        lost.extend(compare_headers(&request.headers, &read.headers, "http.req.headers"));
    }
    let (response, read) = (&pair.response, &back.response);
    let mut check = |same: bool, path| {
        if !same {
            lost.push(Loss::warning(path, CHANGED));
        }
    };
    check(response.status == read.status, "http.res.statusCode");
    check(response.status_message == read.status_message, "http.res.statusMessage");
    check(response.body == read.body, "http.res.bodyBase64");
    lost.extend(compare_headers(&response.headers, &read.headers, "http.res.headers"));
    lost
}

fn compare_headers(recorded: &[Header], read: &[Header], path: &'static str) -> Option<Loss> {
    if recorded == read {
        return None;
    }
    let sorted = |headers: &[Header]| {
        let mut headers = headers.to_vec();
        headers.sort_by(|a, b| a.name.cmp(&b.name));
        headers
    };
    if sorted(recorded) == sorted(read) {
        return Some(Loss::info(path, "header fields are written in the order of their names"));
    }
    let text = recorded.iter().all(|header| std::str::from_utf8(&header.value).is_ok());
    Some(Loss::warning(
        path,
        if text {
            CHANGED
        } else {
            "a header value that is not UTF-8 is written with replacement characters"
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_and_warnings_come_first() {
        let mut losses = Losses::default();
        for _ in 0..3 {
            let (a, b) = (Loss::info("a", "x"), Loss::warning("b", "y"));
            losses.of_pair(vec![a, b, a]);
        }
        let found: Vec<_> =
            losses.into_findings().into_iter().map(|d| (d.severity, d.path, d.count)).collect();
        assert_eq!(
            found,
            [(Severity::Warning, "b".to_owned(), 3), (Severity::Info, "a".to_owned(), 3)]
        );
    }

    #[test]
    fn the_order_of_header_names_is_no_warning() {
        let field = |name: &str| Header { name: name.to_owned(), value: "x".into() };
        let mut pair = RrPair::default();
        pair.response.headers = vec![field("b"), field("a")];
        let mut back = pair.clone();
        back.response.headers.reverse();
        assert_eq!(compare(&pair, &back).first().unwrap().severity, Severity::Info);
        back.response.headers.pop();
        assert_eq!(compare(&pair, &back).first().unwrap().severity, Severity::Warning);
        assert_eq!(compare(&pair, &pair), []);
    }
}
