//! Cuts a snapshot into chunks: pairs in endpoint order, boundaries chosen by content, so that an edit of one endpoint changes few chunks.
//!
//! The order inside a chunk does not matter to a reader: each pair carries its ordinal.

use prost::Message as _;

use super::{RrPair, digest::Digest, wire};
use countersign_proto::snapshot::v1 as proto;

/// A chunk is not closed below this size.
const MIN: usize = 32 * 1024;
/// A chunk is closed at this size at the latest, unless one pair alone is larger.
const MAX: usize = 256 * 1024;
/// Above `MIN`, a pair whose digest starts with this many zero bits closes the chunk.
const BOUNDARY_MASK: u8 = 0b0001_1111;

/// An encoded chunk.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its address.
    pub digest: Digest,
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// How many pairs it holds.
    pub pairs: u64,
}

/// Sorts the pairs by endpoint and recorded order.
pub fn sort_by_endpoint(pairs: &mut [RrPair]) {
    pairs.sort_by(|a, b| endpoint(a).cmp(&endpoint(b)));
}

fn endpoint(pair: &RrPair) -> (&str, &str, &str, u64) {
    let request = pair.request.as_ref();
    (
        request.map_or("", |r| r.host.as_str()),
        request.map_or(pair.location.as_str(), |r| r.path.as_str()),
        request.map_or(pair.command.as_str(), |r| r.method.as_str()),
        pair.ordinal,
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
    let mut open = proto::Chunk::default();
    let mut size = 0;
    for pair in pairs {
        let pair = wire::encode_pair(pair);
        let encoded = pair.encode_to_vec();
        let closes =
            Digest::of(&encoded).hash().first().is_some_and(|byte| byte & BOUNDARY_MASK == 0);
        size += encoded.len();
        open.pairs.push(pair);
        if size >= MAX || (size >= MIN && closes) {
            emit(close(&std::mem::take(&mut open)))?;
            size = 0;
        }
    }
    if !open.pairs.is_empty() {
        emit(close(&open))?;
    }
    Ok(())
}

fn close(open: &proto::Chunk) -> Chunk {
    let bytes = open.encode_to_vec();
    Chunk {
        digest: Digest::of(&bytes),
        pairs: u64::try_from(open.pairs.len()).unwrap_or(u64::MAX),
        bytes,
    }
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
        let kept = after
            .iter()
            .filter(|chunk| before.iter().any(|old| old.digest == chunk.digest))
            .count();
        assert!(after.len() > 10, "{} chunks", after.len());
        assert!(
            after.len() - kept <= 2,
            "{} of {} chunks changed",
            after.len() - kept,
            after.len()
        );
    }
}
