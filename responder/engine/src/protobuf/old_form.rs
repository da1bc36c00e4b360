//! The JSON form of older recorders, which is read and never written:
//! `{"fieldsMap":{"1":{"fields":[{"asString":"4","id":"1","type":"PROTOBUF_FIELD_TYPE_LENGTH_DELIM"}]}}}`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json};

use super::{Wire, form, write_key, write_length, write_varint};

/// The fields of a message in this form; `None` when it is another form.
pub(super) fn fields(members: &Map<String, Json>) -> Option<&Map<String, Json>> {
    members.get("fieldsMap")?.as_object()
}

/// The message of these fields.
pub(super) fn message(fields: &Map<String, Json>, depth: usize) -> Option<Vec<u8>> {
    let depth = depth.checked_sub(1)?;
    let mut sorted = Vec::with_capacity(fields.len());
    for (number, field) in fields {
        let number: u32 = number.parse().ok().filter(|number| (1..1 << 29).contains(number))?;
        sorted.push((number, field.get("fields")?.as_array()?));
    }
    sorted.sort_by_key(|field| field.0);
    let mut out = Vec::new();
    for (number, values) in sorted {
        for value in values {
            let value = value.as_object()?;
            let kind = value.get("type").and_then(Json::as_str).unwrap_or_default();
            let content = value.iter().find(|member| member.0.starts_with("as"));
            write_value(number, kind, content, depth, &mut out)?;
        }
    }
    Some(out)
}

fn write_value(
    field: u32,
    kind: &str,
    content: Option<(&String, &Json)>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let wire = match kind.trim_start_matches("PROTOBUF_FIELD_TYPE_") {
        "VARINT" => Wire::Varint,
        "FIXED64" | "FIXED_64" | "I64" => Wire::Fixed64,
        "FIXED32" | "FIXED_32" | "I32" => Wire::Fixed32,
        "LENGTH_DELIM" | "LENGTH_DELIMITED" | "LEN" => Wire::Length,
        _ => return None,
    };
    write_key(field, wire, out);
    // A zero value is left out.
    let zero = Json::from(0);
    match wire {
        Wire::Varint => {
            write_varint(form::number(content.map_or(&zero, |content| content.1), wire)?, out);
        }
        Wire::Fixed64 => {
            let number = form::number(content.map_or(&zero, |content| content.1), wire)?;
            out.extend_from_slice(&number.to_le_bytes());
        }
        Wire::Fixed32 => {
            let number = form::number(content.map_or(&zero, |content| content.1), wire)?;
            out.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
        }
        Wire::Length | Wire::Group => match content {
            None => write_length(&[], out),
            Some((name, Json::String(text))) if name == "asBytes" => {
                write_length(&STANDARD.decode(text).ok()?, out);
            }
            Some((_, Json::String(text))) => write_length(text.as_bytes(), out),
            Some((_, Json::Object(members))) => {
                write_length(&message(fields(members)?, depth)?, out);
            }
            Some(_) => return None,
        },
    }
    Some(())
}
