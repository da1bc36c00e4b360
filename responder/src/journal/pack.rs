//! An entry as it is kept: what is known of a request beside its head, packed into one piece of memory.

use bytes::Bytes;
use countersign_engine::{answer::Origin, near_miss::NearMiss, request::Request};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Messages, Outcome};

/// What is kept of a head; header fields behind it are left out.
const MAX_HEAD: usize = 16 * 1024;
/// What an entry takes beside its text, roughly.
const OWN: usize = 256;
/// What an explanation takes, roughly.
const EXPLAINED: usize = 4 * 1024;

/// The request line and the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'r> {
    pub(crate) method: &'r str,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
}

impl<'r> Line<'r> {
    /// That of a request.
    pub(super) fn of(request: &Request<'r>) -> Self {
        let Request { method, host, path, query, .. } = *request;
        Self { method, host, path, query }
    }
}

/// An entry.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) at: i64,
    pub(super) micros: u64,
    pub(super) outcome: Outcome,
    pub(super) status: u16,
    pub(super) replay: Option<u64>,
    pub(super) origin: Option<Origin>,
    pub(super) nearest: Option<Box<NearMiss>>,
    pub(super) request_bytes: usize,
    pub(super) messages: Option<Messages>,
    /// Fields, each with its length before it: the line, names and values of header fields, the bodies. Never shown.
    text: Text,
    headers: usize,
    /// Header fields were left out.
    pub(super) cut: bool,
}

#[derive(Clone, Default)]
struct Text(Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A head that was unpacked.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The type and text of the answer's body.
    pub(super) answer: Option<(Bytes, Bytes)>,
}

impl Default for Packed {
    fn default() -> Self {
        Self {
            at: 0,
            micros: 0,
            outcome: Outcome::Miss,
            status: 0,
            replay: None,
            origin: None,
            nearest: None,
            request_bytes: 0,
            messages: None,
            text: Text::default(),
            headers: 0,
            cut: false,
        }
    }
}

/// Packs a head and bodies into an entry, whose memory is used again.
pub(super) fn pack(
    packed: &mut Packed,
    line: &Line<'_>,
    headers: Option<&HeaderMap>,
    body: &[u8],
    answer: Option<(&[u8], &[u8])>,
) {
    let text = &mut packed.text.0;
    text.clear();
    for part in [line.method, line.host, line.path, line.query] {
        let part = part.as_bytes();
        push(text, part.get(..MAX_HEAD).unwrap_or(part));
    }
    packed.headers = 0;
    packed.cut = false;
    for (name, value) in headers.into_iter().flatten() {
        if text.len() + name.as_str().len() + value.len() > MAX_HEAD {
            packed.cut = true;
            break;
        }
        push(text, name.as_str().as_bytes());
        push(text, value.as_bytes());
        packed.headers += 1;
    }
    push(text, body);
    if let Some((kind, body)) = answer {
        push(text, kind);
        push(text, body);
    }
}

fn push(text: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or_default();
    text.extend_from_slice(&length.to_le_bytes());
    text.extend_from_slice(part);
}

impl Packed {
    /// What it takes of memory.
    pub(super) fn size(&self) -> usize {
        let explained = self.nearest.as_ref().map_or(0, |_| EXPLAINED);
        OWN + explained + self.text.0.capacity()
    }

    /// Gives memory back when an entry had much more than others need.
    pub(super) fn trim(&mut self) {
        self.nearest = None;
        if self.text.0.capacity() > 2 * MAX_HEAD {
            self.text.0 = Vec::new();
        }
    }

    pub(super) fn unpack(&self) -> Unpacked {
        let mut rest = self.text.0.as_slice();
        let mut next = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (part, after) = after.split_at_checked(length)?;
            rest = after;
            Some(part)
        };
        let mut text = || String::from_utf8_lossy(next().unwrap_or_default()).into_owned();
        let (method, host, path, query) = (text(), text(), text(), text());
        let mut headers = HeaderMap::new();
        for _ in 0..self.headers {
            let (Some(name), Some(value)) = (next(), next()) else { break };
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                headers.append(name, value);
            }
        }
        let body = Bytes::copy_from_slice(next().unwrap_or_default());
        let answer = next().map(Bytes::copy_from_slice).zip(next().map(Bytes::copy_from_slice));
        Unpacked { method, host, path, query, headers, body, answer }
    }
}

impl Unpacked {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
            ..Request::default()
        }
    }
}
