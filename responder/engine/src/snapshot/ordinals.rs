//! The ordinals of a chunk's pairs, which lie beside it: whoever adds a pair to a recording moves all that come later, and would change
//! every chunk if each pair held its own.
//!
//! One varint a pair (base 128, as protobuf has them): how far it is from the one before, zigzag, where pairs that were recorded one after the other are 1 apart.

use prost::encoding::{decode_varint, encode_varint};

use super::wire::WireError;

/// Writes ordinals, in the order of their pairs.
#[must_use]
pub fn encode(ordinals: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ordinals.len() * 2);
    let mut before = 0_u64;
    for &ordinal in ordinals {
        let step = ordinal.wrapping_sub(before).cast_signed();
        encode_varint(((step << 1) ^ (step >> 63)).cast_unsigned(), &mut bytes);
        before = ordinal;
    }
    bytes
}

/// Reads the ordinals of so many pairs.
///
/// # Errors
/// When there are more or fewer.
pub fn decode(mut bytes: &[u8], pairs: usize) -> Result<Vec<u64>, WireError> {
    let malformed = || WireError::Range { what: "manifest.chunks.ordinals" };
    // Each takes a byte at least, so that a lie about their number costs no memory.
    let mut ordinals = Vec::with_capacity(pairs.min(bytes.len()));
    let mut before = 0_u64;
    while !bytes.is_empty() {
        let step = decode_varint(&mut bytes).map_err(|_| malformed())?;
        let step = (step >> 1).cast_signed() ^ -((step & 1).cast_signed());
        before = before.wrapping_add(step.cast_unsigned());
        ordinals.push(before);
    }
    if ordinals.len() == pairs { Ok(ordinals) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn ordinals_come_back(ordinals: Vec<u64>, dense in 0..1000_u64) {
            let dense: Vec<u64> = (dense..dense + 50).collect();
            for ordinals in [ordinals, dense] {
                proptest::prop_assert_eq!(&decode(&encode(&ordinals), ordinals.len()).unwrap(), &ordinals);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, pairs in 0..20_usize) {
            if let Ok(ordinals) = decode(&bytes, pairs) {
                proptest::prop_assert_eq!(ordinals.len(), pairs);
            }
        }
    }

    #[test]
    fn one_after_the_other_takes_a_byte_each() {
        assert_eq!(encode(&[5, 6, 7, 9, 8]), [10, 2, 2, 4, 1]);
        assert!(decode(&[10, 2], 3).is_err() && decode(&[10, 2], 1).is_err());
    }
}
