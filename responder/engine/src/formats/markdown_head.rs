//! The head of a message in markdown: request line or status line, then header fields.
//!
//! A comma within a value is written `\,` and a backslash `\\`; an unescaped `, ` separates values of the same name.

use std::collections::BTreeMap;

use crate::{
    formats::{
        markdown_sections::Error,
        target::{self, split_target},
        verdict::Left,
    },
    snapshot::{Header, HttpRequest},
};

/// Fields of one value whose value has commas by nature: a file written by hand need not escape them.
const SINGLE: &[&str] = &[
    "authorization",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "last-modified",
    "location",
    "referer",
    "retry-after",
    "server",
    "user-agent",
];

/// A request line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a str,
    /// The scheme, in lower case; empty when the target is a bare path.
    pub(super) scheme: String,
    /// `host[:port]`; empty when the target is a bare path.
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) version: String,
}

/// Reads `METHOD scheme://host[:port]/path?query HTTP/x.y`.
pub(super) fn request_line(text: &str) -> Option<RequestLine<'_>> {
    let (method, rest) = text.trim().split_once(' ')?;
    let (target, version) = match rest.rsplit_once(' ') {
        Some((target, version)) if version.starts_with("HTTP/") => (target, version),
        _ => (rest, ""),
    };
    let target = target.trim();
    let (scheme, authority) = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            (scheme.to_ascii_lowercase(), authority_of(rest))
        }
        _ => (String::new(), ""),
    };
    let (path, query) = split_target(target);
    let is_path = path.starts_with('/') || path == "*";
    (is_path && !method.is_empty()).then(|| RequestLine {
        method,
        scheme,
        authority,
        path,
        query,
        version: target::version(version),
    })
}

/// `host[:port]` at the start of what follows a scheme.
fn authority_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The code and message of `HTTP/x.y CODE Message`: `None` when it is no status line, an inner `None` when the code is no number.
pub(super) fn status_line(text: &str) -> Option<(Option<i64>, &str)> {
    let rest = text.trim().strip_prefix("HTTP/")?;
    let (_, message) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = message.split(' ').next().unwrap_or_default();
    Some((code.parse().ok(), message))
}

/// Header fields, and those that the `Trailer` field names as trailers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) headers: Vec<Header>,
    pub(super) trailers: Vec<Header>,
}

/// Reads `Name: value` lines, the first of which is line `line` of the file. `Content-Length` is left out: it is recomputed.
pub(super) fn fields<'a>(
    lines: impl Iterator<Item = &'a str>,
    line: u32,
    section: &str,
) -> Result<Fields, Error> {
    let mut out = Fields::default();
    // Once a `Trailer` field has come: the names that it lists.
    let mut announced: Option<Vec<String>> = None;
    for (text, number) in lines.zip(line..) {
        let text = text.trim_end_matches('\r');
        if text.trim().is_empty() {
            continue;
        }
        let Some((name, value)) =
            text.split_once(':').filter(|(name, _)| !name.contains([' ', '\t']))
        else {
            let left = Left::refused("header_invalid", section, "this line is not `Name: value`");
            return Err((number, left));
        };
        if name.eq_ignore_ascii_case("content-length") {
            continue;
        }
        let values = values(name, value.trim());
        let is_trailer = announced.as_ref().is_some_and(|names| {
            names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(name))
        });
        if name.eq_ignore_ascii_case("trailer") {
            announced = Some(
                values
                    .iter()
                    .flat_map(|v| v.split(','))
                    .map(|n| n.trim().to_owned())
                    .filter(|n| !n.is_empty())
                    .collect(),
            );
        }
        let into = if is_trailer { &mut out.trailers } else { &mut out.headers };
        into.extend(
            values.into_iter().map(|value| Header { name: name.to_owned(), value: value.into() }),
        );
    }
    Ok(out)
}

/// How header fields are shown: sorted by name, the values of one name on one line, the trailers behind them where they are announced.
pub(super) fn show_fields(headers: &[Header], trailers: &[Header]) -> String {
    let announced = headers.iter().any(|header| header.name.eq_ignore_ascii_case("trailer"));
    let mut out = String::new();
    for fields in [headers, trailers].into_iter().take(if announced { 2 } else { 1 }) {
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for field in fields.iter().filter(|f| !f.name.eq_ignore_ascii_case("content-length")) {
            let value = String::from_utf8_lossy(&field.value);
            let value = value.replace('\\', "\\\\").replace(',', "\\,");
            by_name.entry(&field.name).or_default().push(value);
        }
        for (name, values) in by_name {
            out.push_str(&format!("\n{name}: {}", values.join(", ")));
        }
    }
    out
}

/// How the request line is shown. A target that is no path, or a host that is none, is shown without the rest of a URL.
pub(super) fn show_request_line(request: &HttpRequest, protocol: &str, upstream: &str) -> String {
    let query = if request.query.is_empty() { "" } else { "?" };
    let target = format!("{}{query}{}", request.path, request.query);
    let authority = [upstream, request.host.as_str()].into_iter().find(|text| is_authority(text));
    let url = match authority {
        Some(authority) if target.starts_with('/') => format!("{protocol}://{authority}{target}"),
        _ => target,
    };
    format!("{} {url} HTTP/{}", request.method, request.version)
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

/// How what follows the version in a status line is shown.
pub(super) fn show_status(status: i64, message: &str) -> String {
    let code = status.to_string();
    if message.split(' ').next() == Some(&code) {
        message.to_owned()
    } else if message.is_empty() {
        code
    } else {
        format!("{code} {message}")
    }
}

/// The values of one line, unescaped.
fn values(name: &str, text: &str) -> Vec<String> {
    let single = SINGLE.iter().any(|single| name.eq_ignore_ascii_case(single));
    let mut values = Vec::new();
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next @ ('\\' | ','))) => {
                value.push(next);
                chars.next();
            }
            (',', Some(' ')) if !single => {
                chars.next();
                values.push(std::mem::take(&mut value));
            }
            _ => value.push(c),
        }
    }
    values.push(value);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escape(value: &str) -> String {
        value.replace('\\', "\\\\").replace(',', "\\,")
    }

    #[test]
    fn reads_request_lines() {
        let line = request_line("POST HTTPS://api.test:8443/v1/a?x=1&y=a:// HTTP/2.0").unwrap();
        assert_eq!(
            (line.method, line.scheme.as_str(), line.authority),
            ("POST", "https", "api.test:8443")
        );
        assert_eq!((line.path, line.query, line.version.as_str()), ("/v1/a", "x=1&y=a://", "2.0"));
        for (text, path, authority, version) in [
            ("GET http://a.test HTTP/1.1", "/", "a.test", "1.1"),
            ("GET http://u:p@a.test HTTP/1.1", "/", "a.test", "1.1"),
            ("GET http://a.test?q=1 HTTP/1.0", "/", "a.test", "1.0"),
            ("GET /x?u=http://y/z", "/x", "", "1.1"),
            ("OPTIONS * HTTP/1.1", "*", "", "1.1"),
        ] {
            let line = request_line(text).unwrap();
            assert_eq!(
                (line.path, line.authority, line.version.as_str()),
                (path, authority, version),
                "{text}"
            );
        }
        for text in ["", "GET", "Host: x", "GET x HTTP/1.1"] {
            assert_eq!(request_line(text), None, "{text}");
        }
    }

    #[test]
    fn reads_status_lines() {
        assert_eq!(status_line("HTTP/1.1 404 Not Found"), Some((Some(404), "404 Not Found")));
        assert_eq!(status_line("HTTP/2.0 200"), Some((Some(200), "200")));
        assert_eq!(status_line("HTTP/1.1"), Some((None, "")));
        assert_eq!(status_line("Content-Type: x"), None);
    }

    #[test]
    fn unescapes_and_splits_values() {
        for (name, text, expected) in [
            ("Accept", "gzip\\, deflate", vec!["gzip, deflate"]),
            ("Vary", "Origin, Accept", vec!["Origin", "Accept"]),
            ("Vary", "a,b", vec!["a,b"]),
            ("X", "a\\\\, b", vec!["a\\", "b"]),
            ("X", "\\\"q\\\"\\", vec!["\\\"q\\\"\\"]),
            ("X", "", vec![""]),
            ("Date", "Fri, 19 Jun 2026 20:27:28 GMT", vec!["Fri, 19 Jun 2026 20:27:28 GMT"]),
            ("Date", "Fri\\, 19 Jun 2026 20:27:28 GMT", vec!["Fri, 19 Jun 2026 20:27:28 GMT"]),
        ] {
            assert_eq!(values(name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn content_length_goes_and_trailers_are_told_apart() {
        let head = "A: 1\ncontent-length: 5\nTrailer: Grpc-Status\nGrpc-Status: 0\nVary: x";
        let fields = fields(head.lines(), 1, "RESPONSE").unwrap();
        let names = |headers: &[Header]| headers.iter().map(|h| h.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&fields.headers), ["A", "Trailer", "Vary"]);
        assert_eq!(names(&fields.trailers), ["Grpc-Status"]);
    }

    #[test]
    fn a_line_that_is_no_field_is_refused_where_it_stands() {
        assert_eq!(fields(["A: 1", "oops"].into_iter(), 3, "REQUEST").unwrap_err().0, 4);
    }

    proptest! {
        #[test]
        fn escaping_round_trips(recorded in proptest::collection::vec("[ -~]{0,20}", 1..4)) {
            let written: Vec<String> = recorded.iter().map(|v| escape(v)).collect();
            prop_assert_eq!(values("X-Any", &written.join(", ")), recorded);
        }
    }
}
