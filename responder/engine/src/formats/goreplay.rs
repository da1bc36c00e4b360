//! GoReplay's `.gor` files: payloads of requests and responses, each with a line of kind, id and time before it.
//!
//! Payloads are split as the bytes arrive. A request waits for its response, which need not be the next one; what waits is bounded, and
//! the oldest gives way. A replayed response (kind 3) counts only where there is no original one (kind 2).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::formats::{
    MAX_ENTRY, Sink,
    exchange::Exchange,
    kind::is_goreplay,
    message::{self, Extent, Message, Start},
    reader::tell,
    verdict::{self, Left},
};

/// What stands between payloads, with a line end on either side.
const SEPARATOR: &[u8] = "🐵🙈🙉".as_bytes();

/// The most bytes that messages may hold while they wait.
const MAX_WAITING: usize = MAX_ENTRY;
/// How many ids of finished pairs are remembered.
const MAX_SETTLED: usize = 100_000;

/// The stream of one file.
#[derive(Debug, Default)]
pub(super) struct Stream {
    buffer: Vec<u8>,
    oversize: bool,
    line: u32,
    waiting: HashMap<String, Waiting>,
    /// Ids by the order in which they came.
    order: BTreeMap<u64, String>,
    bytes: usize,
    /// Ids of pairs that are handed over already, as far as remembered.
    settled: HashSet<String>,
    seen: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    nth: u64,
    line: u32,
    ts: Option<i64>,
    request: Option<Message>,
    original: Option<Answer>,
    replayed: Option<Answer>,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    message: Message,
    ts: Option<i64>,
    latency: u64,
}

/// The line before a payload.
struct Head {
    kind: u8,
    id: String,
    ts: Option<i64>,
    latency: u64,
}

impl Stream {
    /// Takes the next bytes.
    pub(super) fn push<S: Sink>(&mut self, bytes: &[u8], sink: &mut S, path: &str) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut search = buffer.len().saturating_sub(SEPARATOR.len());
        buffer.extend_from_slice(bytes);
        let mut from = 0_usize;
        while let Some(at) = find(&buffer, search) {
            self.payload(buffer.get(from..at).unwrap_or_default(), sink, path);
            from = at.saturating_add(SEPARATOR.len());
            search = from;
        }
        buffer.drain(..from);
        if buffer.len() > MAX_ENTRY {
            self.oversize = true;
            let passed = buffer.len().saturating_sub(SEPARATOR.len());
            self.line =
                self.line.saturating_add(lines_in(buffer.get(..passed).unwrap_or_default()));
            buffer.drain(..passed);
        }
        self.buffer = buffer;
    }

    /// Says that the file has ended.
    pub(super) fn finish<S: Sink>(mut self, sink: &mut S, path: &str) {
        let last = std::mem::take(&mut self.buffer);
        if !last.trim_ascii().is_empty() {
            self.payload(&last, sink, path);
        }
        while self.give_way(sink, path) {}
        if self.seen == 0 {
            tell(sink, path, 1, Left::skipped("empty_file", "", "the file holds nothing"));
        }
    }

    fn payload<S: Sink>(&mut self, payload: &[u8], sink: &mut S, path: &str) {
        let blank = payload.len().saturating_sub(payload.trim_ascii_start().len());
        let line = self
            .line
            .saturating_add(1)
            .saturating_add(lines_in(payload.get(..blank).unwrap_or_default()));
        self.line = self.line.saturating_add(lines_in(payload));
        let text = payload.trim_ascii_start();
        if text.is_empty() && !self.oversize {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        if std::mem::take(&mut self.oversize) {
            return tell(sink, path, line, verdict::too_large());
        }
        match read(text.strip_suffix(b"\n").unwrap_or(text)) {
            Ok((head, message)) => self.take(&head, message, line, sink, path),
            Err(left) => tell(sink, path, line, left),
        }
    }

    fn take<S: Sink>(
        &mut self,
        head: &Head,
        message: Message,
        line: u32,
        sink: &mut S,
        path: &str,
    ) {
        if head.kind == b'3' && self.settled.contains(&head.id) {
            let left = Left::skipped(
                "replayed_response",
                "",
                "this response was replayed; the original one is taken",
            );
            return tell(sink, path, line, left);
        }
        let size = message.size();
        let nth = self.seen;
        let waiting = self.waiting.entry(head.id.clone()).or_insert_with(|| Waiting {
            nth,
            line,
            ..Waiting::default()
        });
        self.order.insert(waiting.nth, head.id.clone());
        waiting.bytes = waiting.bytes.saturating_add(size);
        self.bytes = self.bytes.saturating_add(size);
        let answer = |message| Some(Answer { message, ts: head.ts, latency: head.latency });
        let repeated = match head.kind {
            b'1' if waiting.request.is_none() => {
                waiting.request = Some(message);
                waiting.ts = head.ts;
                false
            }
            b'2' if waiting.original.is_none() => {
                waiting.original = answer(message);
                false
            }
            b'3' if waiting.replayed.is_none() => {
                waiting.replayed = answer(message);
                false
            }
            _ => true,
        };
        if repeated {
            tell(
                sink,
                path,
                line,
                Left::skipped("repeated_entry", "", "another payload has the same kind and id"),
            );
        }
        if waiting.request.is_some() && waiting.original.is_some() {
            self.settle(&head.id, sink, path);
        }
        while self.bytes > MAX_WAITING && self.give_way(sink, path) {}
    }

    /// Ends the waiting of the oldest.
    fn give_way<S: Sink>(&mut self, sink: &mut S, path: &str) -> bool {
        let Some((_, id)) = self.order.pop_first() else { return false };
        self.settle(&id, sink, path);
        true
    }

    fn settle<S: Sink>(&mut self, id: &str, sink: &mut S, path: &str) {
        let Some(waiting) = self.waiting.remove(id) else { return };
        self.order.remove(&waiting.nth);
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        let (request, answer) = match (waiting.request, waiting.original.or(waiting.replayed)) {
            (Some(request), Some(answer)) => (request, answer),
            (Some(_), None) => {
                let left =
                    Left::skipped("half_missing", "", "this is a request without its response");
                return tell(
                    sink,
                    path,
                    waiting.line,
                    left.hint("record with `--input-raw-track-response`"),
                );
            }
            (None, _) => {
                let left =
                    Left::skipped("half_missing", "", "this is a response without its request");
                return tell(sink, path, waiting.line, left);
            }
        };
        let mut exchange = Exchange::of_messages("goreplay", request, answer.message);
        exchange.ts = waiting.ts;
        let between = waiting
            .ts
            .zip(answer.ts)
            .and_then(|(from, to)| u64::try_from(to.checked_sub(from)?).ok());
        exchange.duration =
            if answer.latency > 0 { answer.latency } else { between.unwrap_or_default() };
        if self.settled.len() >= MAX_SETTLED {
            self.settled.clear();
        }
        self.settled.insert(id.to_owned());
        match exchange.finish("") {
            Ok(pair) => sink.pair(pair),
            Err(left) => tell(sink, path, waiting.line, left),
        }
    }
}

/// Where the first separator begins that does not begin before `from`.
fn find(buffer: &[u8], from: usize) -> Option<usize> {
    let first = *SEPARATOR.first()?;
    let mut at = from;
    loop {
        let rest = buffer.get(at..)?;
        let next = rest.iter().position(|byte| *byte == first)?;
        at = at.saturating_add(next);
        if buffer.get(at..)?.starts_with(SEPARATOR) {
            return Some(at);
        }
        at = at.saturating_add(1);
    }
}

fn read(text: &[u8]) -> Result<(Head, Message), Left> {
    let (first, rest) = message::line(text);
    let head = head(first).ok_or_else(|| {
        Left::refused("not_goreplay", "", "no payload of GoReplay begins here")
            .hint("a payload begins with its kind (1, 2 or 3), id and time")
    })?;
    let (message, _) = Message::read(rest, Extent::Alone)?;
    if (head.kind == b'1') == matches!(message.start, Start::Request { .. }) {
        return Ok((head, message));
    }
    Err(Left::refused("not_goreplay", "", "the kind of the payload and its start line disagree"))
}

fn head(line: &[u8]) -> Option<Head> {
    if !is_goreplay(line) {
        return None;
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    Some(Head {
        kind: *words.next()?.as_bytes().first()?,
        id: words.next()?.chars().take(128).collect(),
        ts: words.next()?.parse().ok().filter(|ts| *ts > 0),
        latency: words.next().and_then(|word| word.trim().parse().ok()).unwrap_or_default(),
    })
}

fn lines_in(text: &[u8]) -> u32 {
    u32::try_from(text.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::formats::tests::{Seen, read};

    const FILE: &str = "1 aa 1000000000 0\nPOST /a?x=1 HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody\n🐵🙈🙉\n\
        1 bb 2000000000 0\nGET /b HTTP/1.1\r\nHost: api.test\r\n\r\n\n🐵🙈🙉\n\
        2 bb 2000500000 0\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbb\r\n0\r\n\r\n\n🐵🙈🙉\n\
        3 aa 1000900000 700\nHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n\n🐵🙈🙉\n\
        2 aa 1000700000 42\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok\n🐵🙈🙉\n\
        3 aa 1000900000 700\nHTTP/1.1 500 Oops\r\n\r\n\n🐵🙈🙉\n\
        1 cc 3000000000 0\nGET /c HTTP/1.1\r\n\r\n\n🐵🙈🙉\n\
        3 cc 3000000001 9\nHTTP/1.1 204 No Content\r\n\r\n\n🐵🙈🙉\n\
        1 dd 4 0\nGET /d HTTP/1.1\r\n\r\n\n🐵🙈🙉\n";

    fn summary(seen: &Seen) -> Vec<(String, u16, String, Option<i64>, u64)> {
        let line = |pair: &crate::snapshot::RrPair| {
            let body = String::from_utf8_lossy(&pair.response.body).into_owned();
            (pair.location.clone(), pair.response.status, body, pair.ts, pair.duration)
        };
        seen.pairs.iter().map(line).collect()
    }

    #[test]
    fn payloads_are_joined_by_id() {
        let seen = read("x.gor", &[FILE.as_bytes()]);
        assert_eq!(
            summary(&seen),
            [
                ("/b".to_owned(), 200, "bb".to_owned(), Some(2_000_000_000), 500_000),
                ("/a".to_owned(), 201, "ok".to_owned(), Some(1_000_000_000), 42),
                ("/c".to_owned(), 204, String::new(), Some(3_000_000_000), 9),
            ]
        );
        assert_eq!(seen.pairs[1].request.as_ref().unwrap().body, "body");
        let left: Vec<_> = seen.skipped.iter().map(|why| (why.code, why.line)).collect();
        assert_eq!(left, [("replayed_response", 36), ("half_missing", 51)]);
        assert!(seen.refused.is_empty());
    }

    #[test]
    fn damage_costs_one_payload() {
        let file = "1 aa x 0\nGET / HTTP/1.1\r\n\r\n\n🐵🙈🙉\n1 aa 1 0\nGET /ok HTTP/1.1\r\n\r\n\n🐵🙈🙉\n\
            2 aa 1 0\nhello\n🐵🙈🙉\n2 aa 1 0\nGET / HTTP/1.1\r\n\r\n\n🐵🙈🙉\n2 aa 2 0\nHTTP/1.1 200 OK\r\n\r\nx\n";
        let seen = read("x.gor", &[file.as_bytes()]);
        assert_eq!(summary(&seen).len(), 1);
        assert_eq!(seen.pairs[0].response.body, "x");
        let codes: Vec<_> = seen.refused.iter().map(|why| why.code).collect();
        assert_eq!(codes, ["not_goreplay", "not_http", "not_goreplay"]);
        assert_eq!(read("x.gor", &[b"\n"]).skipped[0].code, "empty_file");
    }

    #[test]
    fn a_compressed_body_stays_compressed() {
        let mut file = b"1 a 1 0\nGET / HTTP/1.1\r\n\r\n\n\xf0\x9f\x90\xb5\xf0\x9f\x99\x88\xf0\x9f\x99\x89\n2 a 1 0\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
        file.extend_from_slice(b"\x1f\x8b\x08\n\x00\xff\n");
        let seen = read("x.gor", &[&file]);
        assert_eq!(seen.pairs[0].response.body, &b"\x1f\x8b\x08\n\x00\xff"[..]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0_usize..900, 0..6), damage in proptest::option::of((0_usize..900, any::<u8>()))) {
            let mut text = FILE.as_bytes().to_vec();
            if let Some((at, byte)) = damage && let Some(place) = text.get_mut(at) {
                *place = byte;
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read("x.gor", &chunks), read("x.gor", &[&text]));
        }
    }
}
