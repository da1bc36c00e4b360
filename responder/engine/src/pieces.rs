//! The pieces of a stream: events of `text/event-stream`, messages of gRPC. Where time is kept they are sent one by one, spread over the time
//! that the recorded response took.

use bytes::Bytes;

use crate::{answer::Hit, grpc};

impl Hit {
    /// Whether it is sent piece by piece: it takes its time, and is a stream.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        // Chaos holds back what it touches as a whole.
        !self.delay.is_zero() && self.touched.is_none() && (self.is_events() || self.is_stream())
    }

    /// Its pieces.
    #[must_use]
    pub fn pieces(&self) -> Vec<Bytes> {
        if self.is_call() { grpc::split(&self.body) } else { events(&self.body) }
    }

    fn is_events(&self) -> bool {
        const EVENTS: &[u8] = b"text/event-stream";
        let start = self.content_type().split_at_checked(EVENTS.len());
        start.is_some_and(|(start, _)| start.eq_ignore_ascii_case(EVENTS))
    }

    fn is_call(&self) -> bool {
        grpc::is_grpc(self.content_type())
    }

    /// Whether it is a call with several answers. A single one is held back, so that a deadline can end the call before it.
    fn is_stream(&self) -> bool {
        self.is_call() && grpc::split(&self.body).len() > 1
    }

    fn content_type(&self) -> &[u8] {
        self.headers.get(http::header::CONTENT_TYPE).map_or(&[], |value| value.as_bytes())
    }
}

/// The empty lines that end an event.
const ENDS: [&[u8]; 3] = [b"\r\n\r\n", b"\n\n", b"\r\r"];

/// Events with the empty line behind each.
fn events(body: &Bytes) -> Vec<Bytes> {
    let mut events = Vec::new();
    let (mut rest, mut at) = (body.clone(), 0);
    while at < rest.len() {
        let tail = rest.get(at..).unwrap_or_default();
        match ENDS.iter().find(|end| tail.starts_with(end)).map(|end| end.len()) {
            Some(end) => {
                events.push(rest.split_to(at + end));
                at = 0;
            }
            None => at += 1,
        }
    }
    if !rest.is_empty() {
        events.push(rest);
    }
    events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn hit(content_type: &'static str, body: &'static str) -> Hit {
        let content_type = HeaderValue::from_static(content_type);
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, content_type)]);
        let delay = Duration::from_secs(1);
        Hit { delay, ..Hit::new(200, headers, Bytes::from_static(body.as_bytes())) }
    }

    #[test]
    fn events_end_with_an_empty_line() {
        let body = "data: 1\n\nevent: x\r\ndata: 2\r\n\r\ndata: 3\r\rdata: 4";
        let hit = hit("Text/Event-Stream; charset=utf-8", body);
        assert!(hit.is_paced());
        let expected = ["data: 1\n\n", "event: x\r\ndata: 2\r\n\r\n", "data: 3\r\r", "data: 4"];
        assert_eq!(hit.pieces(), expected);
        assert!(!Hit { delay: Duration::ZERO, ..hit }.is_paced());
    }

    #[test]
    fn messages_are_pieces_and_other_bodies_are_whole() {
        let call = hit("application/grpc", "\0\0\0\0\u{2}ab\0\0\0\0\u{1}c");
        assert!(call.is_paced());
        assert_eq!(call.pieces(), ["\0\0\0\0\u{2}ab", "\0\0\0\0\u{1}c"]);
        assert!(!hit("text/plain", "a\n\nb").is_paced());
    }
}
