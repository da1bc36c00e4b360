//! Cuts a snapshot into chunks: pairs in endpoint order, boundaries chosen by content, so that an edit of one endpoint changes few chunks.
//!
//! The order inside a chunk does not matter to a reader: each pair carries its ordinal.

use prost::{
    Message as _,
    encoding::{DecodeContext, WireType},
};
use rapidhash::v3::rapidhash_v3;

use super::{RrPair, wire};
use countersign_proto::snapshot::v1 as proto;

/// A chunk is not closed below this size.
const MIN: usize = 32 * 1024;
/// A chunk is closed at this size at the latest, unless one pair alone is larger.
const MAX: usize = 256 * 1024;
/// Above `MIN`, a pair whose hash has these bits zero closes the chunk.
const BOUNDARY_MASK: u64 = 0b0001_1111;

/// An encoded chunk.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// How many pairs it holds.
    pub pairs: u64,
}

/// A pair as it lies in a chunk, before its ordinal is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Compares as bytes like the pairs compare by endpoint.
    pub endpoint: Vec<u8>,
    /// The pair without its ordinal.
    pub pair: Vec<u8>,
}

/// Encodes a pair, leaving its ordinal out.
#[must_use]
pub fn encode(pair: RrPair) -> Encoded {
    let (host, path, method) = endpoint(&pair);
    let mut key = Vec::with_capacity(host.len() + path.len() + method.len() + 6);
    for part in [host, path, method] {
        push_ordered(&mut key, part.as_bytes());
    }
    let pair = wire::encode_pair(RrPair { ordinal: 0, ..pair }).encode_to_vec();
    Encoded { endpoint: key, pair }
}

/// Decodes a pair that was encoded; its ordinal is zero.
///
/// # Errors
/// When the bytes are no pair.
pub fn decode(pair: &[u8]) -> Result<RrPair, wire::WireError> {
    let pair = proto::RrPair::decode(pair)
        .map_err(|source| wire::WireError::Decode { what: "pair", source })?;
    wire::decode_pair(pair)
}

/// Appends a part of a key such that keys compare as bytes like the lists of their parts compare.
pub fn push_ordered(key: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        key.push(byte);
        // A zero within a part is more than the end of the part, which is two of them.
        if byte == 0 {
            key.push(1);
        }
    }
    key.extend([0, 0]);
}

/// Sorts the pairs by endpoint and recorded order.
pub fn sort_by_endpoint(pairs: &mut [RrPair]) {
    pairs.sort_by(|a, b| (endpoint(a), a.ordinal).cmp(&(endpoint(b), b.ordinal)));
}

fn endpoint(pair: &RrPair) -> (&str, &str, &str) {
    let request = pair.request.as_ref();
    (
        request.map_or("", |r| r.host.as_str()),
        request.map_or(pair.location.as_str(), |r| r.path.as_str()),
        request.map_or(pair.command.as_str(), |r| r.method.as_str()),
    )
}

/// Cuts pairs, which are in endpoint order, into chunks and hands each to `emit`.
///
/// # Errors
/// The first error of `emit`.
pub fn cut<E>(
    pairs: impl IntoIterator<Item = RrPair>,
    mut emit: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<(), E> {
    let mut cutter = Cutter::default();
    for pair in pairs {
        let ordinal = pair.ordinal;
        if let Some(chunk) = cutter.push(&encode(pair).pair, ordinal) {
            emit(chunk)?;
        }
    }
    cutter.finish().map_or(Ok(()), emit)
}

/// Cuts encoded pairs, which come in endpoint order, into chunks. Holds one chunk.
#[derive(Debug, Default)]
pub struct Cutter {
    open: Vec<u8>,
    pairs: u64,
    size: usize,
}

impl Cutter {
    /// Takes the next pair; returns the chunk that it closes.
    pub fn push(&mut self, pair: &[u8], ordinal: u64) -> Option<Chunk> {
        let (before, after) = pair.split_at_checked(ordinal_place(pair)).unwrap_or((pair, &[]));
        let ordinal = proto::RrPair { ordinal, ..proto::RrPair::default() }.encode_to_vec();
        let size = before.len() + ordinal.len() + after.len();
        prost::encoding::encode_key(PAIRS, WireType::LengthDelimited, &mut self.open);
        prost::encoding::encode_varint(u64::try_from(size).unwrap_or(u64::MAX), &mut self.open);
        let start = self.open.len();
        for part in [before, &ordinal, after] {
            self.open.extend_from_slice(part);
        }
        self.pairs += 1;
        self.size += size;
        let encoded = self.open.get(start..).unwrap_or_default();
        // Where a chunk ends is no matter of trust, so that a quick hash does.
        let closes = || rapidhash_v3(encoded) & BOUNDARY_MASK == 0;
        let full = self.size >= MAX || (self.size >= MIN && closes());
        full.then(|| self.close())
    }

    /// The last chunk, if there is anything in it.
    #[must_use]
    pub fn finish(mut self) -> Option<Chunk> {
        (self.pairs > 0).then(|| self.close())
    }

    fn close(&mut self) -> Chunk {
        let Self { open: bytes, pairs, .. } = std::mem::take(self);
        Chunk { bytes, pairs }
    }
}

/// The number of `Chunk.pairs`.
const PAIRS: u32 = 1;
/// The number of `RrPair.ordinal`.
const ORDINAL: u32 = 20;

/// Where the ordinal belongs in a pair that was encoded without: fields lie in the order of their numbers.
fn ordinal_place(pair: &[u8]) -> usize {
    let mut rest = pair;
    while !rest.is_empty() {
        let here = pair.len() - rest.len();
        let Ok((number, kind)) = prost::encoding::decode_key(&mut rest) else { return here };
        if number > ORDINAL
            || prost::encoding::skip_field(kind, number, &mut rest, DecodeContext::default())
                .is_err()
        {
            return here;
        }
    }
    pair.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::HttpRequest;

    fn pairs(count: u64) -> Vec<RrPair> {
        (0..count)
            .map(|n| RrPair {
                request: Some(HttpRequest {
                    path: format!("/item/{:03}", n % 97),
                    body: vec![7; 500].into(),
                    ..HttpRequest::default()
                }),
                ordinal: n,
                ..RrPair::default()
            })
            .collect()
    }

    fn cut_all(mut all: Vec<RrPair>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        sort_by_endpoint(&mut all);
        cut(all, |chunk| {
            chunks.push(chunk);
            Ok::<(), std::convert::Infallible>(())
        })
        .unwrap();
        chunks
    }

    /// Keys in parts, as a sort by endpoint sees them.
    fn key(parts: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        parts.iter().for_each(|part| push_ordered(&mut key, part.as_bytes()));
        key
    }

    #[test]
    fn chunks_are_encoded_messages() {
        let pair = |ordinal| RrPair {
            location: "/a".into(),
            tags: [("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())].into(),
            extra_json: "{}".into(),
            stub: Some(Box::default()),
            ordinal,
            ..RrPair::default()
        };
        let all = [pair(0), pair(1), pair(300), RrPair { stub: None, ..pair(7) }];
        let pairs = all.iter().cloned().map(wire::encode_pair).collect();
        let message = proto::Chunk { pairs }.encode_to_vec();
        let mut cutter = Cutter::default();
        for pair in all {
            let ordinal = pair.ordinal;
            assert!(cutter.push(&encode(pair).pair, ordinal).is_none());
        }
        let chunk = cutter.finish().unwrap();
        assert_eq!((chunk.bytes, chunk.pairs), (message, 4));
        assert!(Cutter::default().finish().is_none());
    }

    proptest::proptest! {
        #[test]
        fn keys_compare_like_their_parts(a: [String; 3], b: [String; 3], common: String) {
            let parts = |p: &[String; 3]| [p[0].clone(), format!("{common}\0{}", p[1]), p[2].clone()];
            let (a, b) = (parts(&a), parts(&b));
            let borrow = |p: &[String; 3]| key(&p.each_ref().map(String::as_str));
            proptest::prop_assert_eq!(borrow(&a).cmp(&borrow(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn every_pair_comes_back_in_recorded_order() {
        let mut back: Vec<RrPair> = cut_all(pairs(1000))
            .iter()
            .flat_map(|chunk| wire::decode_chunk(&chunk.bytes).expect("our own chunk decodes"))
            .collect();
        back.sort_by_key(|pair| pair.ordinal);
        assert_eq!(back, pairs(1000));
    }

    #[test]
    fn an_edit_of_one_pair_leaves_most_chunks_alone() {
        let before = cut_all(pairs(5000));
        let mut edited = pairs(5000);
        edited[42].response.body = "edited".into();
        let after = cut_all(edited);
        let kept =
            after.iter().filter(|chunk| before.iter().any(|old| old.bytes == chunk.bytes)).count();
        assert!(after.len() > 10, "{} chunks", after.len());
        assert!(
            after.len() - kept <= 2,
            "{} of {} chunks changed",
            after.len() - kept,
            after.len()
        );
    }
}
