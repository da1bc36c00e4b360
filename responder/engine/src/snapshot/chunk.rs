//! Cuts a snapshot into chunks: pairs in endpoint order, boundaries chosen by content, so that an edit of one endpoint changes few chunks.
//!
//! Ordinals lie beside the chunks, see [`ordinals`](super::ordinals). How large chunks are depends on the size of the recording, so that an edit costs about the same
//! part of each.

use std::mem;

use prost::{Message as _, encoding::WireType};
use rapidhash::v3::rapidhash_v3;

use super::{RrPair, wire};
use countersign_proto::snapshot::v1 as proto;

/// The sizes below which a chunk is not closed, of the smallest and the largest recordings.
const LEAST: (usize, usize) = (2 * 1024, 32 * 1024);
/// A recording of middle size has a quarter to half as many chunks.
const COUNT: u64 = 1024;
/// A chunk is closed at so many times its least size at the latest, unless one pair alone is larger.
const MOST: usize = 8;

/// An encoded chunk.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// The ordinals of its pairs.
    pub ordinals: Vec<u64>,
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
    let parts: [&str; PARTS] = [host, path, method];
    let mut key = Vec::with_capacity(host.len() + path.len() + method.len() + 2 * PARTS);
    for part in parts {
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

/// The endpoint at the front of a key to which more was appended.
#[must_use]
pub fn endpoint_of(key: &[u8]) -> &[u8] {
    let mut ends = key.windows(2).enumerate().filter(|(_, two)| *two == [0, 0]);
    // A zero within a part has a one behind it, and after the end of a part the next one begins at once.
    let mut from = 0;
    for _ in 0..PARTS {
        let Some((at, _)) = ends.find(|(at, _)| *at >= from) else { return key };
        from = at + 2;
    }
    key.get(..from).unwrap_or(key)
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
pub fn cut<E>(pairs: Vec<RrPair>, mut emit: impl FnMut(Chunk) -> Result<(), E>) -> Result<(), E> {
    let encoded: Vec<(u64, Encoded)> =
        pairs.into_iter().map(|pair| (pair.ordinal, encode(pair))).collect();
    let total: usize = encoded.iter().map(|(_, encoded)| encoded.pair.len()).sum();
    let mut cutter = Cutter::of(u64::try_from(total).unwrap_or(u64::MAX));
    for (ordinal, Encoded { endpoint, pair }) in encoded {
        cutter.push(&endpoint, &pair, ordinal).into_iter().flatten().try_for_each(&mut emit)?;
    }
    cutter.finish().map_or(Ok(()), emit)
}

/// Cuts encoded pairs, which come in endpoint order, into chunks. Holds one chunk.
///
/// Where a chunk ends depends on what lies near the end alone, so that the chunks of two versions are soon the same again after an edit. It ends with an
/// endpoint rather than within it, so that an edit of an endpoint seldom changes chunks of its neighbours.
#[derive(Debug)]
pub struct Cutter {
    least: usize,
    open: Vec<u8>,
    ordinals: Vec<u64>,
    endpoint: Vec<u8>,
    /// Where in the open chunk the endpoint begins.
    begins: usize,
}

impl Cutter {
    /// Cuts a recording whose pairs have about so many bytes in all.
    #[must_use]
    pub fn of(total: u64) -> Self {
        // A power of two, so that what is added to a recording seldom cuts all of it anew.
        let share = usize::try_from(total / COUNT).unwrap_or(LEAST.1).min(LEAST.1);
        let least = share.next_power_of_two().clamp(LEAST.0, LEAST.1);
        let (open, ordinals, endpoint) = (Vec::new(), Vec::new(), Vec::new());
        Self { least, open, ordinals, endpoint, begins: 0 }
    }

    /// Takes the next pair; returns the chunks that it closes, one that ends before it and one that ends with it.
    pub fn push(&mut self, endpoint: &[u8], pair: &[u8], ordinal: u64) -> [Option<Chunk>; 2] {
        let before = (self.endpoint != endpoint).then(|| self.begin(endpoint)).flatten();
        prost::encoding::encode_key(PAIRS, WireType::LengthDelimited, &mut self.open);
        let size = u64::try_from(pair.len()).unwrap_or(u64::MAX);
        prost::encoding::encode_varint(size, &mut self.open);
        self.open.extend_from_slice(pair);
        self.ordinals.push(ordinal);
        // Where a chunk ends is no matter of trust, so that a quick hash does. The chance is one in `least` bytes, so that it grows with the pair.
        let closes = || {
            let chance = u64::MAX / u64::try_from(self.least).unwrap_or(u64::MAX);
            rapidhash_v3(pair) < chance.saturating_mul(size)
        };
        let length = self.open.len();
        let full = length >= self.least * MOST || (length >= self.least && closes());
        [before, full.then(|| self.close())]
    }

    /// Comes to the next endpoint.
    fn begin(&mut self, endpoint: &[u8]) -> Option<Chunk> {
        let length = self.open.len();
        let own = length.saturating_sub(self.begins);
        // If all ended a chunk, one that is a little longer than before would move all ends after it.
        let ends = own >= self.least || rapidhash_v3(&self.endpoint) & 1 == 0;
        let chunk = (length >= self.least && ends).then(|| self.close());
        self.endpoint.clear();
        self.endpoint.extend_from_slice(endpoint);
        self.begins = self.open.len();
        chunk
    }

    /// The last chunk, if there is anything in it.
    #[must_use]
    pub fn finish(mut self) -> Option<Chunk> {
        (!self.ordinals.is_empty()).then(|| self.close())
    }

    fn close(&mut self) -> Chunk {
        let (bytes, ordinals) = (mem::take(&mut self.open), mem::take(&mut self.ordinals));
        self.begins = 0;
        Chunk { bytes, ordinals }
    }
}

/// The number of `Chunk.pairs`.
const PAIRS: u32 = 1;
/// What an endpoint consists of: host, path and method.
const PARTS: usize = 3;

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
        let without = |pair: &RrPair| wire::encode_pair(RrPair { ordinal: 0, ..pair.clone() });
        let message = proto::Chunk { pairs: all.iter().map(without).collect() }.encode_to_vec();
        let mut cutter = Cutter::of(0);
        for pair in all {
            let ordinal = pair.ordinal;
            let Encoded { endpoint, pair } = encode(pair);
            assert!(matches!(cutter.push(&endpoint, &pair, ordinal), [None, None]));
        }
        let chunk = cutter.finish().unwrap();
        assert_eq!((chunk.bytes, chunk.ordinals), (message, vec![0, 1, 300, 7]));
        assert!(Cutter::of(0).finish().is_none());
    }

    proptest::proptest! {
        #[test]
        fn the_endpoint_of_a_key_is_found(parts in ["[\0a]{0,4}", "[\0a]{0,4}", "[\0a]{0,4}"], rest: Vec<u8>) {
            let endpoint = key(&parts.each_ref().map(String::as_str));
            let longer = [&endpoint[..], &rest].concat();
            proptest::prop_assert_eq!(endpoint_of(&longer), &endpoint[..]);
        }

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
        let number = |chunk: &Chunk| {
            let pairs = wire::decode_chunk(&chunk.bytes).expect("our own chunk decodes");
            let number = |(pair, ordinal): (RrPair, &u64)| RrPair { ordinal: *ordinal, ..pair };
            pairs.into_iter().zip(&chunk.ordinals).map(number).collect::<Vec<_>>()
        };
        let mut back: Vec<RrPair> = cut_all(pairs(1000)).iter().flat_map(number).collect();
        back.sort_by_key(|pair| pair.ordinal);
        assert_eq!(back, pairs(1000));
    }

    /// The bytes of chunks that are not among the chunks before.
    fn changed(before: &[Chunk], after: &[Chunk]) -> usize {
        let new = after.iter().filter(|chunk| before.iter().all(|old| old.bytes != chunk.bytes));
        new.map(|chunk| chunk.bytes.len()).sum()
    }

    #[test]
    fn an_edit_leaves_most_chunks_alone() {
        for count in [200, 5000, 50_000] {
            let before = cut_all(pairs(count));
            let total: usize = before.iter().map(|chunk| chunk.bytes.len()).sum();
            let mut edited = pairs(count);
            edited[42].response.body = "edited".into();
            // One that is added moves all that come later.
            let mut more = pairs(count);
            more.insert(
                43,
                RrPair { tags: [("new".into(), String::new())].into(), ..more[42].clone() },
            );
            let mut fewer = pairs(count);
            fewer.remove(42);
            for edited in [edited, more, fewer] {
                let numbered = edited.into_iter().zip(0..);
                let numbered = numbered.map(|(pair, ordinal)| RrPair { ordinal, ..pair });
                let changed = changed(&before, &cut_all(numbered.collect()));
                assert!(changed > 0 && changed < total / 40 + 4096, "{changed} of {total}");
            }
        }
    }
}
