//! HTTP/1 messages as text: start line, header fields, body. Lines may end in CRLF or LF.
//!
//! Written by recorders and edited by people, so lengths are checked against what is there: a body never loses bytes to a stale
//! `Content-Length`, and a chunked body is put together.

use bytes::Bytes;

use crate::{
    formats::{
        MAX_HEADERS,
        verdict::{self, Left},
    },
    snapshot::{Header, header},
};

/// The longest start line or header field.
const MAX_LINE: usize = 256 * 1024;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) start: Start,
    pub(super) headers: Vec<Header>,
    pub(super) body: Bytes,
}

/// A start line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// A request line.
    Request { method: String, target: String, version: String },
    /// A status line.
    Response { version: String, status: i64, reason: String },
}

/// How far a message without a usable length goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// It is the only one: to the end.
    Alone,
    /// Others may follow: to the next start line.
    Among,
}

impl Message {
    /// Reads one message; the rest comes back.
    pub(super) fn read(text: &[u8], extent: Extent) -> Result<(Self, &[u8]), Left> {
        let (first, rest) = line(text);
        if first.len() > MAX_LINE {
            return Err(verdict::limit("the start line is too long".to_owned()));
        }
        let start = Start::parse(first).ok_or_else(|| {
            Left::refused("not_http", "", "no HTTP message begins here")
                .hint("a message begins with `GET /path HTTP/1.1` or `HTTP/1.1 200 OK`")
        })?;
        let (headers, rest) = fields(rest)?;
        let (body, rest) = body(&start, &headers, rest, extent);
        Ok((Self { start, headers, body }, rest))
    }

    /// How much memory it takes, roughly.
    pub(super) fn size(&self) -> usize {
        let fields: usize = self
            .headers
            .iter()
            .map(|field| field.name.len().saturating_add(field.value.len()).saturating_add(64))
            .sum();
        fields.saturating_add(self.body.len()).saturating_add(256)
    }
}

impl Start {
    /// A start line, if it is one.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
        if line.starts_with("HTTP/") {
            let (version, rest) = line.split_once(' ')?;
            let rest = rest.trim_start();
            let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let digits = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
            return digits.then(|| status.parse().ok()).flatten().map(|status| Self::Response {
                version: version.to_owned(),
                status,
                reason: reason.to_owned(),
            });
        }
        let (method, rest) = line.split_once(' ')?;
        let (target, version) = rest.rsplit_once(' ')?;
        let target = target.trim();
        let token = !method.is_empty()
            && method.len() <= 32
            && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
        (token && !target.is_empty() && version.starts_with("HTTP/")).then(|| Self::Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
        })
    }
}

/// The first line without its end, and what follows.
pub(super) fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end.and_then(|at| text.split_at_checked(at)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

/// Header fields up to the empty line.
fn fields(mut text: &[u8]) -> Result<(Vec<Header>, &[u8]), Left> {
    let mut headers: Vec<Header> = Vec::new();
    while !text.is_empty() {
        let (field, rest) = line(text);
        text = rest;
        if field.is_empty() {
            break;
        }
        if field.len() > MAX_LINE || headers.len() >= MAX_HEADERS {
            return Err(verdict::limit(format!(
                "there are more than {MAX_HEADERS} header fields, or a field is too long"
            )));
        }
        if field.starts_with(b" ") || field.starts_with(b"\t") {
            // A folded line goes on with the field before it (RFC 9112, section 5.2).
            if let Some(last) = headers.last_mut() {
                last.value = [last.value.as_ref(), b" ", field.trim_ascii()].concat().into();
            }
            continue;
        }
        let Some(colon) = field.iter().skip(1).position(|byte| *byte == b':') else {
            return Err(Left::refused("header_invalid", "headers", "a header line has no colon")
                .hint("an empty line ends the header fields"));
        };
        let (name, value) = field.split_at_checked(colon.saturating_add(1)).unwrap_or((field, &[]));
        headers.push(Header {
            name: String::from_utf8_lossy(name.trim_ascii()).into_owned(),
            value: Bytes::copy_from_slice(value.get(1..).unwrap_or_default().trim_ascii()),
        });
    }
    Ok((headers, text))
}

fn body<'t>(
    start: &Start,
    headers: &[Header],
    rest: &'t [u8],
    extent: Extent,
) -> (Bytes, &'t [u8]) {
    let chunked = header(headers, "transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().ends_with(b"chunked"));
    if chunked && let Some((body, rest)) = unchunked(rest) {
        return (body.into(), rest);
    }
    let length = header(headers, "content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok());
    let bodiless = match start {
        Start::Request { .. } => length.is_none() && !chunked,
        Start::Response { status, .. } => matches!(status, 100..=199 | 204 | 304),
    };
    let (body, after) = match (extent, length) {
        (Extent::Among, _) if bodiless => (&[][..], rest),
        (Extent::Among, Some(length)) => match rest.split_at_checked(length) {
            // A message that is followed by anything but the next one has outgrown its length.
            Some((body, after)) if next_start(after) == 0 || after.trim_ascii().is_empty() => {
                (body, after)
            }
            _ => rest.split_at_checked(next_start(rest)).unwrap_or((rest, &[])),
        },
        (Extent::Among, None) => rest.split_at_checked(next_start(rest)).unwrap_or((rest, &[])),
        (Extent::Alone, Some(length)) => match rest.split_at_checked(length) {
            Some((body, after)) if after.trim_ascii().is_empty() => (body, &[][..]),
            _ => (rest, &[][..]),
        },
        (Extent::Alone, None) if bodiless && rest.trim_ascii().is_empty() => (&[][..], &[][..]),
        (Extent::Alone, None) => (rest, &[][..]),
    };
    (Bytes::copy_from_slice(body), after)
}

/// Where the next start line begins, not counting empty lines before it; the end when there is none.
fn next_start(text: &[u8]) -> usize {
    let mut at = 0_usize;
    let mut rest = text;
    let mut blank = true;
    while !rest.is_empty() {
        let (first, after) = line(rest);
        if !first.is_empty() && first.len() <= MAX_LINE && Start::parse(first).is_some() {
            return if blank { 0 } else { at };
        }
        blank = blank && first.is_empty();
        at = text.len().saturating_sub(after.len());
        rest = after;
    }
    text.len()
}

/// A chunked body put together, and what follows; `None` when it is not chunked after all.
fn unchunked(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = line(text);
        let size = size.split(|byte| *byte == b';').next()?.trim_ascii();
        if size.is_empty() || size.len() > 8 {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            text = rest;
            break;
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        let (end, rest) = line(rest);
        if !end.is_empty() {
            return None;
        }
        text = rest;
    }
    // Trailer fields, which nobody serves.
    while !text.is_empty() {
        let (field, rest) = line(text);
        if !field.is_empty() && (Start::parse(field).is_some() || !field.contains(&b':')) {
            break;
        }
        text = rest;
        if field.is_empty() {
            break;
        }
    }
    Some((body, text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alone(text: &str) -> Message {
        Message::read(text.as_bytes(), Extent::Alone).unwrap().0
    }

    #[test]
    fn start_lines_are_told_from_text() {
        for (line, is) in [
            ("GET / HTTP/1.1", true),
            ("M-SEARCH * HTTP/1.1", true),
            ("GET /a b HTTP/1.1", true),
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.1 200", true),
            ("HTTP/2 404 ", true),
            ("get / HTTP/1.1", false),
            ("GET /", false),
            ("HTTP/1.1 20 OK", false),
            ("hello", false),
            ("", false),
        ] {
            assert_eq!(Start::parse(line.as_bytes()).is_some(), is, "{line}");
        }
    }

    #[test]
    fn a_message_may_have_either_line_end() {
        let crlf =
            "POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n  2\r\nContent-Length: 4\r\n\r\nbody";
        let message = alone(crlf);
        assert_eq!(message, alone(&crlf.replace("\r\n", "\n")));
        assert_eq!(message.body, "body");
        assert_eq!(header(&message.headers, "x-a").unwrap(), "1 2");
    }

    #[test]
    fn a_body_ends_where_it_ends() {
        for (text, body) in [
            ("HTTP/1.1 200 OK\n\nall of it\n", "all of it\n"),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok\n", "ok"),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\nedited", "edited"),
            ("HTTP/1.1 200 OK\nContent-Length: 200\n\ncut", "cut"),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
                "abcde",
            ),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nnot chunked", "not chunked"),
            ("GET / HTTP/1.1\n\n\n", ""),
            ("GET / HTTP/1.1", ""),
        ] {
            assert_eq!(alone(text).body, body, "{text}");
        }
    }

    #[test]
    fn among_others_a_message_leaves_the_next_one() {
        for (first, body) in [
            ("GET / HTTP/1.1\n\n", ""),
            ("PUT / HTTP/1.1\nContent-Length: 3\n\nabc\n\n", "abc"),
            ("PUT / HTTP/1.1\nContent-Length: 1\n\nabc\n", "abc\n"),
            ("HTTP/1.1 200 OK\n\nabc\n", "abc\n"),
            ("HTTP/1.1 304 Not Modified\n\n", ""),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\na\n0\n\n", "a"),
        ] {
            let text = format!("{first}GET /next HTTP/1.1\n\n");
            let (message, rest) = Message::read(text.as_bytes(), Extent::Among).unwrap();
            assert_eq!(message.body, body, "{first}");
            assert_eq!(rest.trim_ascii(), b"GET /next HTTP/1.1", "{first}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let many = format!("GET / HTTP/1.1\n{}\n", "A: b\n".repeat(MAX_HEADERS + 1));
        for (text, code) in [
            ("hello", "not_http"),
            ("", "not_http"),
            ("GET / HTTP/1.1\nno colon\n\n", "header_invalid"),
            (many.as_str(), "limit_exceeded"),
        ] {
            assert_eq!(Message::read(text.as_bytes(), Extent::Alone).unwrap_err().why.code, code);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "(GET / HTTP/1.1\r?\n)?(transfer-encoding: chunked\n)?\n[0-9a-f\r\n;:]{0,30}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                for extent in [Extent::Alone, Extent::Among] {
                    let _ = Message::read(bytes, extent).is_ok();
                }
            }
        }
    }
}
