//! Follows the framing of HTTP/1 requests as they arrive, and spoils what two readers could understand differently before anybody reads it.
//!
//! hyper takes a bare line feed for the end of a line, and of a request with both `Content-Length` and `Transfer-Encoding` it believes the
//! latter; a proxy in between may do neither, and then sees other requests than we do. Putting a NUL, which is allowed nowhere, into such a
//! head makes hyper refuse it with 400 and close, after it has answered what came before; only in a chunk's extension it would take the NUL, and
//! refuses a bare line feed by itself. Everything else is for hyper to judge: once it has refused something, nothing that follows is read.

use memchr::memchr;

/// What is kept of a line that has not ended yet: enough to know the fields that matter.
const KEPT: usize = 128;

/// Where in a connection's bytes we are.
#[derive(Debug, Default)]
pub(super) struct Framing {
    place: Place,
    head: Head,
    /// The beginning of a line that has not ended yet.
    line: Vec<u8>,
    /// The byte before, where a line has not ended yet.
    last: u8,
    /// The first line of all has been seen.
    begun: bool,
    /// It was none of HTTP.
    foreign: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a request; empty lines may stand here.
    #[default]
    Start,
    /// In the fields of a head.
    Fields,
    /// In a body, with so many bytes left.
    Body(u64),
    /// In a line that tells a chunk's size.
    Size,
    /// In a chunk, with so many bytes left.
    Chunk(u64),
    /// In the line end behind a chunk.
    ChunkEnd,
    /// In the fields behind the last chunk.
    Trailers,
    /// In what is not HTTP, or has been refused.
    Beyond,
}

/// What a head says of the body.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    connect: bool,
}

impl Framing {
    /// Looks at bytes in the order in which they arrive.
    pub(super) fn look(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self.place {
                Place::Beyond => return,
                Place::Body(left) => self.skip(left, bytes.len(), Place::Body, Place::Start),
                Place::Chunk(left) => self.skip(left, bytes.len(), Place::Chunk, Place::ChunkEnd),
                _ => self.look_at_line(bytes),
            };
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }

    /// Whether the connection began with what looks like a request line of another protocol, such as a wrong preface of HTTP/2, whose peers
    /// are to be left without a word (RFC 9113, section 3.4).
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Passes over content; tells how much of it there was.
    fn skip(&mut self, left: u64, here: usize, inside: fn(u64) -> Place, behind: Place) -> usize {
        let taken = usize::try_from(left).map_or(here, |left| left.min(here));
        let left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        self.place = if left == 0 { behind } else { inside(left) };
        taken
    }

    /// Looks at the rest of a line; tells how long it was.
    fn look_at_line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = memchr(b'\n', bytes) else {
            self.keep(bytes);
            return bytes.len();
        };
        let (rest, _) = bytes.split_at(end);
        let before = rest.last().copied().unwrap_or(self.last);
        let good = before == b'\r' && {
            if self.line.is_empty() {
                self.take(rest.strip_suffix(b"\r").unwrap_or(rest))
            } else {
                self.keep(rest);
                let mut line = std::mem::take(&mut self.line);
                let good = self.take(line.strip_suffix(b"\r").unwrap_or(&line));
                line.clear();
                self.line = line;
                good
            }
        };
        self.last = 0;
        if !good {
            // In an extension hyper takes all but a bare line feed.
            let bare_in_extension = self.place == Place::Size && before != b'\r';
            if let Some(end) = bytes.get_mut(end).filter(|_| !bare_in_extension) {
                *end = 0;
            }
            self.place = Place::Beyond;
        }
        end + 1
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend(bytes.iter().take(room));
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// Takes a whole line, or what was kept of it; tells whether it is good.
    fn take(&mut self, line: &[u8]) -> bool {
        match self.place {
            Place::Start if line.is_empty() => {}
            Place::Start => {
                self.foreign = !self.begun && is_foreign(line);
                self.begun = true;
                self.head = Head { connect: line.starts_with(b"CONNECT "), ..Head::default() };
                self.place = Place::Fields;
            }
            Place::Fields if line.is_empty() => return self.end_of_head(),
            Place::Fields => return self.field(line),
            Place::Size => match size(line) {
                Some(place) => self.place = place,
                None => return false,
            },
            Place::ChunkEnd if line.is_empty() => self.place = Place::Size,
            Place::Trailers if line.is_empty() => self.place = Place::Start,
            Place::Trailers => {}
            Place::ChunkEnd | Place::Body(_) | Place::Chunk(_) | Place::Beyond => {
                self.place = Place::Beyond;
            }
        }
        true
    }

    fn field(&mut self, line: &[u8]) -> bool {
        let value_of = |name: &str| {
            let (head, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            head.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        };
        match line.first() {
            Some(b'c' | b'C') => {
                let Some(value) = value_of("content-length") else { return true };
                let first = self.head.length.is_none();
                self.head.length = decimal(value);
                // Anything but one number is refused, also where two would agree.
                first && self.head.length.is_some() && line.len() < KEPT
            }
            Some(b't' | b'T') => {
                let Some(value) = value_of("transfer-encoding") else { return true };
                let first = !self.head.chunked;
                self.head.chunked = true;
                first && line.len() < KEPT && value.eq_ignore_ascii_case(b"chunked")
            }
            _ => true,
        }
    }

    fn end_of_head(&mut self) -> bool {
        let Head { length, chunked, connect } = self.head;
        self.place = match (length, chunked) {
            // What follows is the tunnel's; whoever takes it for content sees another tunnel (RFC 9110, section 9.3.6).
            (None | Some(0), false) if connect => Place::Beyond,
            _ if connect => return false,
            (Some(_), true) => return false,
            (None, true) => Place::Size,
            (None | Some(0), false) => Place::Start,
            (Some(length), false) => Place::Body(length),
        };
        true
    }
}

fn is_foreign(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (_, _, third) = (words.next(), words.next(), words.next());
    words.next().is_none()
        && third.is_some_and(|version| !version.starts_with(b"HTTP/"))
        && line.len() < KEPT
}

/// What follows the line of a chunk's size: digits, and perhaps extensions (RFC 9112, section 7.1).
fn size(line: &[u8]) -> Option<Place> {
    let whole = (line.len() < KEPT).then_some(line.len());
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).or(whole)?;
    let (digits, behind) = line.split_at_checked(end)?;
    if !behind.is_empty() && !behind.trim_ascii_start().starts_with(b";") {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    Some(match u64::from_str_radix(digits, 16).ok()? {
        0 => Place::Trailers,
        size => Place::Chunk(size),
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of these bytes, fed in pieces of this size.
    fn fed(text: &str, piece: usize) -> (String, Place) {
        let mut framing = Framing::default();
        let mut bytes = text.as_bytes().to_vec();
        for piece in bytes.chunks_mut(piece) {
            framing.look(piece);
        }
        (String::from_utf8(bytes).unwrap(), framing.place)
    }

    #[test]
    fn good_requests_pass_as_they_are_however_they_are_cut() {
        let text = "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\nc\
                    POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
                    3;x=\"y\"\r\n\n\n\n\r\n1 ;x\r\na\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n\
                    GET /d HTTP/1.1\r\ncontent-type: x\r\nTE: trailers\r\n\r\n";
        for piece in 1..text.len() {
            assert_eq!(fed(text, piece), (text.to_owned(), Place::Start), "{piece}");
        }
    }

    #[test]
    fn what_is_not_plain_is_spoiled_however_it_is_cut() {
        for head in [
            "GET /a HTTP/1.1\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            &format!(
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked{:200}, gzip, chunked\r\n\r\n",
                ""
            ),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
            &format!(
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:0200}\r\nhello\r\n0\r\n\r\n",
                5
            ),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\nZ: z\r\n\r\n",
        ] {
            for piece in 1..head.len() {
                let (left, place) = fed(head, piece);
                assert!(
                    left.contains('\0') && place == Place::Beyond,
                    "{head:?} by {piece}: {left:?}"
                );
            }
        }
    }

    #[test]
    fn a_bare_line_feed_in_an_extension_stays_since_hyper_takes_anything_else() {
        let text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;x\n0\r\n\r\n\n";
        for piece in 1..text.len() {
            assert_eq!(fed(text, piece), (text.to_owned(), Place::Beyond), "{piece}");
        }
    }

    #[test]
    fn other_protocols_are_known_by_the_first_line() {
        let foreign = |text: &str| {
            let mut framing = Framing::default();
            framing.look(&mut text.as_bytes().to_vec());
            framing.is_foreign()
        };
        assert!(foreign("INVALID CONNECTION PREFACE\r\n\r\n"));
        for line in ["GET /a HTTP/1.1", "GET /a HTTP/9", "GET /a", "GET", "GET /a b HTTP/1.1"] {
            assert!(!foreign(&format!("{line}\r\n")), "{line}");
        }
        assert!(!foreign("GET /a HTTP/1.1\r\n\r\nA B C\r\n"), "hyper has to judge");
    }

    #[test]
    fn nothing_behind_a_tunnel_s_head_is_looked_at() {
        for field in ["Host: a:1", "Content-Length: 0"] {
            let text = format!("CONNECT a:1 HTTP/1.1\r\n{field}\r\n\r\n\nanything\n");
            assert_eq!(fed(&text, 7), (text, Place::Beyond));
        }
    }
}
