//! Fields of an encoded message, one after the other, without copies.
//!
//! Only what ordinary messages are made of is read: varints and length-delimited fields. Whoever meets anything else leaves the message to
//! the generated decoder.

use prost::encoding::decode_varint;

/// A field.
pub(super) struct Field<'b> {
    pub(super) number: u64,
    pub(super) value: Value<'b>,
}

/// The value of a field.
#[derive(Clone, Copy)]
pub(super) enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// What the lower three bits of a key say.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

impl<'b> Field<'b> {
    /// The next field; `Some(None)` at the end, `None` when the generated decoder has to look.
    #[inline]
    pub(super) fn next(rest: &mut &'b [u8]) -> Option<Option<Self>> {
        if rest.is_empty() {
            return Some(None);
        }
        let key = varint(rest)?;
        let number = key >> 3;
        if number == 0 || key > u64::from(u32::MAX) {
            return None;
        }
        let value = match key & 7 {
            VARINT => Value::Number(varint(rest)?),
            LENGTH_DELIMITED => {
                let len = usize::try_from(varint(rest)?).ok()?;
                let (value, behind) = rest.split_at_checked(len)?;
                *rest = behind;
                Value::Bytes(value)
            }
            _ => return None,
        };
        Some(Some(Self { number, value }))
    }
}

/// A number. Nearly all have one or two bytes.
#[inline(always)]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    match **rest {
        [one, ref behind @ ..] if one < 0x80 => {
            *rest = behind;
            Some(u64::from(one))
        }
        [one, two, ref behind @ ..] if two < 0x80 => {
            *rest = behind;
            Some(u64::from(one & 0x7f) | u64::from(two) << 7)
        }
        _ => decode_varint(rest).ok(),
    }
}

impl<'b> Value<'b> {
    #[inline]
    pub(super) fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    #[inline]
    pub(super) fn bytes(&self) -> Option<&'b [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// Puts a text in the place of another, which is mostly the same.
    #[inline]
    pub(super) fn text(&self, into: &mut String) -> Option<()> {
        let bytes = self.bytes()?;
        if into.as_bytes() == bytes {
            return Some(());
        }
        let text = std::str::from_utf8(bytes).ok()?;
        into.clear();
        into.push_str(text);
        Some(())
    }
}
