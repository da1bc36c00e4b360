//! HTTP messages as text, in a file of their own or in a dump of many.
//!
//! `Req7.txt` and `Res7.txt` hold half an exchange each. Any other file is read as requests and responses in turn.

use crate::formats::{
    Sink,
    exchange::Exchange,
    halves::Half,
    kind::half_name,
    message::{Extent, Message, Start},
    reader::tell,
    verdict::Left,
};

/// Reads a file.
pub(super) fn read<S: Sink>(path: &str, text: &[u8], sink: &mut S) {
    if text.trim_ascii().is_empty() {
        return tell(sink, path, 1, Left::skipped("empty_file", "", "the file holds nothing"));
    }
    match half_name(path) {
        Some((key, request)) => match half(text, request) {
            Ok(message) => sink.half(Half::new(key, path, message)),
            Err(left) => tell(sink, path, 1, left),
        },
        None => dump(path, text, sink),
    }
}

fn half(text: &[u8], request: bool) -> Result<Message, Left> {
    let (message, _) = Message::read(text.trim_ascii_start(), Extent::Alone)?;
    if request == matches!(message.start, Start::Request { .. }) {
        return Ok(message);
    }
    let (named, is) = if request { ("request", "response") } else { ("response", "request") };
    Err(Left::refused("not_http", "", format!("the file is named as a {named} and holds a {is}")))
}

fn dump<S: Sink>(path: &str, text: &[u8], sink: &mut S) {
    let mut rest = text;
    let mut open: Option<(Message, u32)> = None;
    let mut counted = 0;
    let mut line = 1_u32;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            break;
        }
        let at = text.len().saturating_sub(rest.len());
        line = line.saturating_add(lines_in(text.get(counted..at).unwrap_or_default()));
        counted = at;
        match Message::read(rest, Extent::Among) {
            Ok((message, after)) => {
                rest = after;
                take(path, message, line, &mut open, sink);
            }
            Err(left) => {
                tell(sink, path, line, left);
                break;
            }
        }
    }
    if let Some((_, line)) = open {
        tell(sink, path, line, unanswered());
    }
}

fn take<S: Sink>(
    path: &str,
    message: Message,
    line: u32,
    open: &mut Option<(Message, u32)>,
    sink: &mut S,
) {
    match (&message.start, open.take()) {
        (Start::Request { .. }, before) => {
            if let Some((_, line)) = before {
                tell(sink, path, line, unanswered());
            }
            *open = Some((message, line));
        }
        // `100 Continue` and its like are followed by the response proper.
        (Start::Response { status: 100..=199, .. }, before) => *open = before,
        (Start::Response { .. }, Some((request, begun))) => {
            match Exchange::of_messages("wire", request, message).finish("") {
                Ok(pair) => sink.pair(pair),
                Err(left) => tell(sink, path, begun, left),
            }
        }
        (Start::Response { .. }, None) => {
            let left = Left::skipped("half_missing", "", "this is a response without its request");
            tell(
                sink,
                path,
                line,
                left.hint(
                    "a request line such as `GET /path HTTP/1.1` comes before the status line",
                ),
            );
        }
    }
}

fn lines_in(text: &[u8]) -> u32 {
    u32::try_from(text.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}

fn unanswered() -> Left {
    Left::skipped("half_missing", "", "this is a request without its response")
}

#[cfg(test)]
mod tests {
    use crate::formats::tests::read as read_file;

    #[test]
    fn a_dump_holds_requests_and_responses_in_turn() {
        let dump = "POST /a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n\r\n\
            GET http://other.test:81/b?c HTTP/1.1\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nno such thing\r\n";
        for text in [dump.to_owned(), dump.replace("\r\n", "\n")] {
            let seen = read_file("dump.txt", &[text.as_bytes()]);
            assert!(seen.skipped.is_empty() && seen.refused.is_empty(), "{seen:?}");
            let [first, second] = seen.pairs.as_slice() else { panic!("{seen:?}") };
            let request = first.request.as_ref().unwrap();
            assert_eq!((request.host.as_str(), request.body.as_ref()), ("api.test", &b"{}"[..]));
            assert_eq!((first.response.status, first.response.body.as_ref()), (200, &b"ok"[..]));
            assert_eq!(second.network_address, "other.test:81");
            assert_eq!(second.request.as_ref().unwrap().query, "c");
            assert!(second.response.body.starts_with(b"no such thing"));
        }
    }

    #[test]
    fn what_is_alone_is_reported_with_its_line() {
        let dump = "HTTP/1.1 200 OK\nContent-Length: 1\n\nx\n\nGET /1 HTTP/1.1\n\nGET /2 HTTP/1.1\n\nHTTP/1.1 204 No Content\n\nGET /3 HTTP/1.1\n\n";
        let seen = read_file("dump.txt", &[dump.as_bytes()]);
        assert_eq!(seen.pairs.len(), 1);
        let lines: Vec<_> = seen.skipped.iter().map(|why| (why.code, why.line)).collect();
        assert_eq!(lines, [("half_missing", 1), ("half_missing", 6), ("half_missing", 12)]);
        let damaged = "GET /1 HTTP/1.1\n\nHTTP/1.1 204 No Content\n\ngarbage\nmore\n";
        let seen = read_file("dump.txt", &[damaged.as_bytes()]);
        assert_eq!(
            (seen.pairs.len(), seen.refused[0].code, seen.refused[0].line),
            (1, "not_http", 5)
        );
        assert_eq!(read_file("Req1.txt", &[b"HTTP/1.1 200 OK\n\n"]).refused[0].code, "not_http");
        assert_eq!(read_file("Req1.txt", &[b" \n"]).skipped[0].code, "empty_file");
    }

    #[test]
    fn halves_come_together_whatever_their_order() {
        let files = [
            ("d/Req1.txt", "GET /1 HTTP/1.1\nHost: a.test\n\n"),
            ("d/Req10.txt", "GET /10 HTTP/1.1\nHost: a.test\n\n"),
            ("d/Res1.txt", "HTTP/1.1 200 OK\nContent-Length: 999\n\n{\"edited\": true}"),
            ("e/Res10.txt", "HTTP/1.1 200 OK\n\n"),
            ("d/Res10.txt", "HTTP/1.1 201 Created\n\n10"),
        ];
        let mut seen = crate::formats::tests::Seen::default();
        for (path, text) in files {
            let mut reader = crate::formats::FileReader::new(path, &mut seen);
            reader.push(text.as_bytes());
            reader.finish();
        }
        let seen = seen.joined();
        let answers: Vec<_> = seen
            .pairs
            .iter()
            .map(|pair| (pair.location.as_str(), pair.response.status, pair.response.body.as_ref()))
            .collect();
        assert_eq!(answers, [("/1", 200, &b"{\"edited\": true}"[..]), ("/10", 201, b"10")]);
        assert_eq!((seen.skipped.len(), seen.skipped[0].subject.as_str()), (1, "e/Res10.txt"));
    }
}
