//! Values that are more than text: ranges of time, samples, ids and hashes.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Part, Wrong};
use crate::snapshot::RrPair;

/// A span of time; both ends belong to it, and an end that is not given is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeRange {
    from: Option<i64>,
    to: Option<i64>,
    /// As written, for printing.
    pub(super) text: [String; 2],
}

/// A share of the pairs, chosen by their session or, for want of one, by themselves. The choice depends on nothing else, so that it is
/// the same on every machine, and a session is in it as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) keep: u32,
    pub(super) out_of: u32,
    /// Each pair is chosen for itself, whatever its session.
    pub(super) each: bool,
}

impl TimeRange {
    pub(super) fn new(start: &str, end: &str) -> Result<Self, Wrong> {
        let range =
            Self { from: moment(start)?, to: moment(end)?, text: [start.into(), end.into()] };
        match (range.from, range.to) {
            (None, None) => Err(wrong("the range has neither a start nor an end")
                .hint("write times like 2024-05-01T12:00:00Z")),
            (Some(from), Some(to)) if from > to => Err(wrong("the range ends before it starts")),
            _ => Ok(range),
        }
    }

    /// A pair without a readable time is in no range.
    pub(super) fn holds(&self, ts: Option<i64>) -> bool {
        ts.is_some_and(|ts| {
            self.from.is_none_or(|from| from <= ts) && self.to.is_none_or(|to| ts <= to)
        })
    }
}

fn moment(text: &str) -> Result<Option<i64>, Wrong> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let read = text.parse::<jiff::Timestamp>().ok();
    let nanos = read.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    nanos.map(Some).ok_or_else(|| {
        wrong(format!("`{text}` is no time")).hint("write times like 2024-05-01T12:00:00Z")
    })
}

impl Sample {
    pub(super) fn new(keep: &str, out_of: &str, each: bool) -> Result<Self, Wrong> {
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .map_err(|_| wrong(format!("`{text}` is no number that a sample can be made of")))
        };
        let sample = Self { keep: number(keep)?, out_of: number(out_of)?, each };
        if sample.out_of == 0 || sample.keep > sample.out_of {
            return Err(wrong(format!("there is no sample of {keep} out of {out_of}"))
                .hint("keep 1 out of 5, for example"));
        }
        Ok(sample)
    }

    /// Reads `1/5`.
    pub(super) fn parse(text: &str, each: bool) -> Result<Self, Wrong> {
        let (keep, out_of) = text.split_once('/').ok_or_else(|| {
            wrong(format!("`{text}` is no sample")).hint("write 1/5 to keep one out of five")
        })?;
        Self::new(keep, out_of, each)
    }

    /// Whether it is everything, or nothing.
    pub(super) fn is_whole(&self) -> Option<bool> {
        match self.keep {
            0 => Some(false),
            keep if keep == self.out_of => Some(true),
            _ => None,
        }
    }

    pub(super) fn holds(&self, pair: &RrPair) -> bool {
        let mut hash = blake3::Hasher::new();
        match pair.uuid {
            _ if !self.each && !pair.session.is_empty() => {
                hash.update(b"session\0").update(pair.session.as_bytes());
            }
            Some(id) => drop(hash.update(b"uuid\0").update(&id)),
            None => {
                hash.update(b"pair\0").update(&pair.ts.unwrap_or_default().to_le_bytes());
                hash.update(pair.command.as_bytes()).update(b"\0");
                hash.update(pair.location.as_bytes());
            }
        }
        let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) % u64::from(self.out_of) < u64::from(self.keep)
    }
}

/// An id in its dashed form, from that form or from base64 of its 16 bytes.
pub(super) fn uuid(text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    let dashed = uuid::Uuid::try_parse(text).ok();
    let bytes = || STANDARD.decode(text).ok().and_then(|bytes| uuid::Uuid::from_slice(&bytes).ok());
    dashed.or_else(bytes).map(|id| id.to_string()).ok_or_else(|| {
        wrong(format!("`{text}` is no id"))
            .hint("write it with dashes, or as base64 of its 16 bytes")
    })
}

/// A SHA-256 in hexadecimal, from that form or from base64 of its 32 bytes.
pub(super) fn hash(text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(hex(&bytes)),
        _ => Err(wrong("this is no SHA-256").hint("write base64 or hexadecimal of its 32 bytes")),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(message: impl Into<String>) -> Wrong {
    Wrong::new("bad_filter_value", Part::Value, message)
}
