//! The names of markdown files: `<host>/<time>.md`.
//!
//! Within a directory the names sort as the pairs were recorded, because that is the order in which a directory is imported.

use std::collections::HashMap;

use crate::{
    formats::time,
    request::without_port,
    snapshot::{Direction, RrPair},
};

/// Directories that an import does not enter.
const NOT_ENTERED: &str = "secrets";
/// A host name has at most 253 characters, but a recorded text may be anything.
const MAX_HOST: usize = 200;

/// The names given so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By directory: the last time in a name, and how many pairs came after it that were not later.
    last: HashMap<String, (String, u64)>,
}

impl Names {
    /// The name of the next pair.
    pub(super) fn next(&mut self, pair: &RrPair) -> String {
        let directory = directory(pair);
        let stem = pair.ts.map(stem).unwrap_or_default();
        let (last, more) = self.last.entry(directory.clone()).or_insert_with(|| (String::new(), 0));
        if stem > *last {
            *more = 0;
            *last = stem;
            return format!("{directory}/{last}.md");
        }
        *more += 1;
        // An underscore sorts behind the dot of the name without it.
        format!("{directory}/{last}_{more:09}.md")
    }
}

/// A time as a file name can hold it, with all its digits, so that names sort by time.
fn stem(ts: i64) -> String {
    let text = time::rfc3339(ts, false);
    let text = text.trim_end_matches('Z');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{}.{fraction:0<9}Z", whole.replace('T', "_").replace(':', "-"))
}

fn directory(pair: &RrPair) -> String {
    let host = match (&pair.request, pair.direction) {
        (_, Direction::In) => "localhost",
        (Some(request), Direction::Out) => without_port(&request.host),
        (None, Direction::Out) => without_port(&pair.network_address),
    };
    let safe: String = host
        .chars()
        .take(MAX_HOST)
        .map(|c| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '.' | '-' | '_') => c,
            _ => '_',
        })
        .collect();
    if safe.is_empty() || safe.starts_with('.') || safe == NOT_ENTERED {
        return format!("_{safe}");
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::HttpRequest;

    fn pair(host: &str, ts: Option<i64>) -> RrPair {
        let request = HttpRequest { host: host.to_owned(), ..HttpRequest::default() };
        RrPair { ts, request: Some(request), ..RrPair::default() }
    }

    #[test]
    fn names_are_host_and_time() {
        let mut names = Names::default();
        let mut out = pair("API.test:8443", Some(1_764_093_990_703_560_000));
        assert_eq!(names.next(&out), "api.test/2025-11-25_18-06-30.703560000Z.md");
        out.direction = Direction::In;
        assert_eq!(names.next(&out), "localhost/2025-11-25_18-06-30.703560000Z.md");
    }

    #[test]
    fn names_sort_as_the_pairs_came() {
        let mut names = Names::default();
        let times = [Some(5), Some(5), None, Some(3), Some(1_000_000_000), Some(7)];
        let given: Vec<String> = times.map(|ts| names.next(&pair("h", ts))).into();
        let mut sorted = given.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted, given);
        assert_eq!(Names::default().next(&pair("h", None)), "h/_000000001.md");
    }

    #[test]
    fn no_name_leaves_the_directory_or_hides_from_an_import() {
        for (host, directory) in [
            ("../etc", "_.._etc"),
            ("a/b\\c", "a_b_c"),
            ("secrets", "_secrets"),
            ("", "_"),
            ("[::1]:80", "___1_"),
        ] {
            let name = Names::default().next(&pair(host, Some(0)));
            assert_eq!(name.split('/').next().unwrap(), directory, "{host}");
            assert_eq!(name.split('/').count(), 2);
        }
    }
}
