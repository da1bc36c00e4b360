//! Protobuf without a schema: a message as a tree of numbered fields, as JSON keyed by number and wire type (see [`form`]), and back.
//!
//! What has a length may be text, bytes or a message, and nothing says which. Text without control characters is text; else what reads as
//! a message is one; the rest is text or bytes. Whatever it is taken for, the same bytes are written back, except that fields are put in
//! order and numbers in their shortest form.

pub(crate) mod form;
mod old_form;

/// Messages within messages that are looked into.
pub(crate) const MAX_DEPTH: usize = 24;
/// Fields of a message and of those inside it; a message with more is bytes.
const MAX_FIELDS: usize = 200_000;

/// How a field's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Length,
    Group,
    Fixed32,
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<'m> {
    pub(crate) number: u32,
    pub(crate) wire: Wire,
    pub(crate) value: Value<'m>,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'m> {
    Number(u64),
    Text(&'m str),
    Bytes(&'m [u8]),
    Message(Vec<Field<'m>>),
}

/// Reads a message; `None` when it is none, or is too large or too deep to be looked into.
pub(crate) fn read(message: &[u8]) -> Option<Vec<Field<'_>>> {
    Reader { fields_left: MAX_FIELDS }.message(message, MAX_DEPTH)
}

struct Reader {
    fields_left: usize,
}

impl Reader {
    fn message<'m>(&mut self, mut bytes: &'m [u8], depth: usize) -> Option<Vec<Field<'m>>> {
        let fields = self.fields(&mut bytes, depth, None)?;
        bytes.is_empty().then_some(fields)
    }

    /// Fields up to the end, or up to the end of this group.
    fn fields<'m>(
        &mut self,
        bytes: &mut &'m [u8],
        depth: usize,
        group: Option<u32>,
    ) -> Option<Vec<Field<'m>>> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            self.fields_left = self.fields_left.checked_sub(1)?;
            let key = varint(bytes)?;
            let number = u32::try_from(key >> 3).ok().filter(|n| (1..1 << 29).contains(n))?;
            let (wire, value) = match key & 7 {
                0 => (Wire::Varint, Value::Number(varint(bytes)?)),
                1 => (Wire::Fixed64, Value::Number(u64::from_le_bytes(take(bytes)?))),
                2 => {
                    let length = usize::try_from(varint(bytes)?).ok()?;
                    let (inner, rest) = bytes.split_at_checked(length)?;
                    *bytes = rest;
                    (Wire::Length, self.with_length(inner, depth))
                }
                3 => {
                    let depth = depth.checked_sub(1)?;
                    (Wire::Group, Value::Message(self.fields(bytes, depth, Some(number))?))
                }
                4 if group == Some(number) => return Some(fields),
                5 => (Wire::Fixed32, Value::Number(u32::from_le_bytes(take(bytes)?).into())),
                _ => return None,
            };
            fields.push(Field { number, wire, value });
        }
        group.is_none().then_some(fields)
    }

    fn with_length<'m>(&mut self, bytes: &'m [u8], depth: usize) -> Value<'m> {
        let text = std::str::from_utf8(bytes).ok();
        // Text that begins with a line break is more likely the first field of a message, which begins with the same byte.
        let plain = |text: &&str| {
            !text.starts_with('\n')
                && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
        };
        if let Some(text) = text.filter(plain) {
            return Value::Text(text);
        }
        if let Some(fields) = depth.checked_sub(1).and_then(|depth| self.message(bytes, depth)) {
            return Value::Message(fields);
        }
        text.map_or(Value::Bytes(bytes), Value::Text)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(bytes)?;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Writes a number in its shortest form.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Writes what stands before a field's value.
pub(crate) fn write_key(number: u32, wire: Wire, out: &mut Vec<u8>) {
    let wire = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Length => 2,
        Wire::Group => 3,
        Wire::Fixed32 => 5,
    };
    write_varint(u64::from(number) << 3 | wire, out);
}

/// Writes a value with its length before it.
pub(crate) fn write_length(value: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::try_from(value.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(value);
}

#[cfg(test)]
pub(crate) mod tests;
