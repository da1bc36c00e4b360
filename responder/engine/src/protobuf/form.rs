//! The JSON form of a message: `{"1:LEN":"text","2:VARINT":7,"3:LEN":[{"1:I64":1},"x"]}`.
//!
//! A member's name is `<number>:<wire type>`; a field that is there more than once is a list. Bytes that are no text are
//! `{"bytes":"<base64>"}`. Numbers that JavaScript cannot hold are strings. The form of older recorders, [`super::old_form`], is read as well.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;

use super::{Field, MAX_DEPTH, Value, Wire, old_form, write_key, write_length, write_varint};
use crate::json;

/// The largest number that is written as a number.
const MAX_EXACT: u64 = 1 << 53;
/// The member that holds bytes.
const BYTES: &str = "bytes";

const NAMES: [(&str, Wire); 5] = [
    ("VARINT", Wire::Varint),
    ("I64", Wire::Fixed64),
    ("LEN", Wire::Length),
    ("SGROUP", Wire::Group),
    ("I32", Wire::Fixed32),
];

/// What the form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be changed and written back: fields of one number keep their order.
    Edit,
    /// To be compared: the entries of what looks like a map are sorted, because senders write maps in any order.
    Compare,
}

/// Appends the form of a message. Members are sorted by name, so equal messages have equal forms.
pub(crate) fn write(fields: &[Field<'_>], purpose: Purpose, out: &mut Vec<u8>) {
    let mut sorted: Vec<(String, &Field<'_>)> =
        fields.iter().map(|field| (name(field.number, field.wire), field)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    for (nth, same) in sorted.chunk_by(|a, b| a.0 == b.0).enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        match same {
            [] => {}
            [(name, field)] => {
                out.extend_from_slice(&json::quote(name));
                out.push(b':');
                write_value(&field.value, purpose, out);
            }
            [(name, _), ..] => {
                out.extend_from_slice(&json::quote(name));
                out.push(b':');
                write_list(same, purpose, out);
            }
        }
    }
    out.push(b'}');
}

fn write_list(same: &[(String, &Field<'_>)], purpose: Purpose, out: &mut Vec<u8>) {
    let mut items: Vec<Vec<u8>> = same
        .iter()
        .map(|(_, field)| {
            let mut item = Vec::new();
            write_value(&field.value, purpose, &mut item);
            item
        })
        .collect();
    if purpose == Purpose::Compare && is_map(same) {
        items.sort();
    }
    out.push(b'[');
    out.extend_from_slice(&items.join(&b','));
    out.push(b']');
}

/// Whether these may be the entries of a map: messages of a key, which differs in each, and at most one value.
fn is_map(entries: &[(String, &Field<'_>)]) -> bool {
    let mut keys = Vec::with_capacity(entries.len());
    for (_, entry) in entries {
        let Value::Message(fields) = &entry.value else { return false };
        let key = match fields.as_slice() {
            [key] if key.number == 1 => key,
            [key, value] if key.number == 1 && value.number == 2 => key,
            [value, key] if key.number == 1 && value.number == 2 => key,
            _ => return false,
        };
        match &key.value {
            Value::Number(number) => keys.push(number.to_string()),
            Value::Text(text) => keys.push(format!("{text:?}")),
            Value::Bytes(_) | Value::Message(_) => return false,
        }
    }
    keys.sort();
    keys.windows(2).all(|pair| pair.first() != pair.last())
}

fn write_value(value: &Value<'_>, purpose: Purpose, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) if *number <= MAX_EXACT => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Number(number) => out.extend_from_slice(&json::quote(&number.to_string())),
        Value::Text(text) => out.extend_from_slice(&json::quote(text)),
        Value::Bytes(bytes) => write_bytes(bytes, out),
        Value::Message(fields) => write(fields, purpose, out),
    }
}

/// Appends the form of bytes that are neither message nor text.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#"{{"{BYTES}":"{}"}}"#, STANDARD.encode(bytes)).as_bytes());
}

fn name(number: u32, wire: Wire) -> String {
    let name = NAMES.iter().find(|name| name.1 == wire).map_or("", |name| name.0);
    format!("{number}:{name}")
}

/// The message behind a form, in either generation; `None` when it is none.
pub(crate) fn encode(form: &Json) -> Option<Vec<u8>> {
    // What lies deeper down than messages are read is bytes, which are a level of their own.
    message(form, MAX_DEPTH + 2)
}

fn message(form: &Json, depth: usize) -> Option<Vec<u8>> {
    let depth = depth.checked_sub(1)?;
    let Json::Object(members) = form else { return None };
    if let Some(fields) = old_form::fields(members) {
        return old_form::message(fields, depth);
    }
    if let Some(bytes) = bytes(form) {
        return Some(bytes);
    }
    let mut fields = Vec::with_capacity(members.len());
    for (name, value) in members {
        let (number, wire) = name.split_once(':')?;
        let number = number.parse().ok().filter(|number| (1..1 << 29).contains(number))?;
        let wire = NAMES.iter().find(|name| name.0.eq_ignore_ascii_case(wire))?.1;
        fields.push((number, wire, value));
    }
    fields.sort_by_key(|field| (field.0, field.1));
    let mut out = Vec::new();
    for (number, wire, value) in fields {
        match value {
            Json::Array(items) => {
                for item in items {
                    encode_field(number, wire, item, depth, &mut out)?;
                }
            }
            one => encode_field(number, wire, one, depth, &mut out)?,
        }
    }
    Some(out)
}

fn encode_field(
    field: u32,
    wire: Wire,
    value: &Json,
    depth: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    write_key(field, wire, out);
    match wire {
        Wire::Varint => write_varint(number(value, wire)?, out),
        Wire::Fixed64 => out.extend_from_slice(&number(value, wire)?.to_le_bytes()),
        Wire::Fixed32 => {
            out.extend_from_slice(&u32::try_from(number(value, wire)?).ok()?.to_le_bytes());
        }
        Wire::Length => match value {
            Json::String(text) => write_length(text.as_bytes(), out),
            Json::Object(_) => write_length(&message(value, depth)?, out),
            _ => return None,
        },
        Wire::Group => {
            out.extend_from_slice(&message(value, depth)?);
            write_varint(u64::from(field) << 3 | 4, out);
        }
    }
    Some(())
}

fn bytes(form: &Json) -> Option<Vec<u8>> {
    let Json::Object(members) = form else { return None };
    let text = members.get(BYTES).filter(|_| members.len() == 1)?.as_str()?;
    STANDARD.decode(text).ok()
}

/// A number as it is on the wire. Fractions are floats, negative numbers have their two's complement.
pub(crate) fn number(value: &Json, wire: Wire) -> Option<u64> {
    let signed = |number: i64| match wire {
        Wire::Fixed32 => i32::try_from(number).ok().map(|number| number.cast_unsigned().into()),
        _ => Some(number.cast_unsigned()),
    };
    match value {
        Json::Bool(value) => Some(u64::from(*value)),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Some(number),
            (_, Some(number), _) => signed(number),
            (_, _, Some(float)) => match wire {
                Wire::Fixed64 => Some(float.to_bits()),
                Wire::Fixed32 => float.to_string().parse::<f32>().ok().map(|f| f.to_bits().into()),
                _ => None,
            },
            _ => None,
        },
        Json::String(text) => {
            text.parse().ok().or_else(|| text.parse::<i64>().ok().and_then(signed))
        }
        _ => None,
    }
}
