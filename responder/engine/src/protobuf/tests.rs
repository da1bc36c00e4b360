//! Messages, their form, and the way back.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{form::Purpose, *};

/// The form of a message.
pub(crate) fn shown(message: &[u8], purpose: Purpose) -> Json {
    let mut out = Vec::new();
    form::write(&read(message).unwrap(), purpose, &mut out);
    serde_json::from_slice(&out).unwrap()
}

/// A message from its form.
pub(crate) fn made(form: &Json) -> Vec<u8> {
    form::encode(form).unwrap()
}

#[test]
fn each_kind_of_field_is_shown_and_read() {
    // The example of the encoding's documentation, and one field of each other kind.
    let message = [
        &b"\x08\x96\x01"[..],
        b"\x12\x07testing",
        b"\x1a\x03\x08\x96\x01",
        b"\x21\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\x2d\x02\x00\x00\x00",
        b"\x32\x02\xff\xfe",
        b"\x3b\x08\x01\x3c",
        b"\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x12\x00",
    ]
    .concat();
    let form = json!({
        "1:VARINT": 150, "2:LEN": ["testing", ""], "3:LEN": {"1:VARINT": 150}, "4:I64": 1, "5:I32": 2,
        "6:LEN": {"bytes": "//4="}, "7:SGROUP": {"1:VARINT": 1}, "8:VARINT": "18446744073709551615",
    });
    assert_eq!(shown(&message, Purpose::Edit), form);
    assert_eq!(shown(&made(&form), Purpose::Edit), form);
    assert_eq!(made(&json!({"1:VARINT": -1})), b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_eq!(made(&json!({"1:I64": 1.5, "2:I32": 1.5, "3:VARINT": true})).len(), 16);
}

#[test]
fn the_form_of_older_recorders_is_read() {
    let old = json!({"fieldsMap": {"1": {"fields": [{"asString": "4", "id": "1", "type": "PROTOBUF_FIELD_TYPE_LENGTH_DELIM"}]},
        "2": {"fields": [{"asVarint": "7", "type": "PROTOBUF_FIELD_TYPE_VARINT"}]},
        "3": {"fields": [{"asMessage": {"fieldsMap": {"1": {"fields": [{"type": "PROTOBUF_FIELD_TYPE_VARINT"}]}}}, "type": "PROTOBUF_FIELD_TYPE_LENGTH_DELIM"}]}}});
    assert_eq!(
        shown(&made(&old), Purpose::Edit),
        json!({"1:LEN": "4", "2:VARINT": 7, "3:LEN": {"1:VARINT": 0}})
    );
}

#[test]
fn order_counts_among_fields_of_one_number_only() {
    let a = b"\x08\x01\x12\x01a\x12\x01b";
    let b = b"\x12\x01a\x08\x01\x12\x01b";
    let c = b"\x08\x01\x12\x01b\x12\x01a";
    assert_eq!(shown(a, Purpose::Compare), shown(b, Purpose::Compare));
    assert_ne!(shown(a, Purpose::Compare), shown(c, Purpose::Compare));
}

#[test]
fn maps_have_no_order() {
    let entry = |key: &str, value: u8| json!({"1:LEN": key, "2:VARINT": value});
    let one = made(&json!({"4:LEN": [entry("a", 1), entry("b", 2)]}));
    let other = made(&json!({"4:LEN": [entry("b", 2), entry("a", 1)]}));
    assert_eq!(shown(&one, Purpose::Compare), shown(&other, Purpose::Compare));
    assert_ne!(shown(&one, Purpose::Edit), shown(&other, Purpose::Edit));
    // With a key twice it is no map.
    let list = made(&json!({"4:LEN": [entry("a", 1), entry("a", 2)]}));
    let turned = made(&json!({"4:LEN": [entry("a", 2), entry("a", 1)]}));
    assert_ne!(shown(&list, Purpose::Compare), shown(&turned, Purpose::Compare));
}

#[test]
fn what_is_no_message_is_none() {
    for bytes in [
        &b"\x00"[..],
        b"\x07\x01",
        b"\x08",
        b"\x0a\x05abc",
        b"\x0b\x08\x01",
        b"\x0b\x08\x01\x14",
        b"\x0c",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
    ] {
        assert_eq!(read(bytes), None, "{bytes:x?}");
    }
}

#[test]
fn depth_and_number_of_fields_are_bounded() {
    let mut deep = vec![0x08, 0x01];
    for _ in 0..1000 {
        let mut outer = vec![0x0a];
        write_length(&deep, &mut outer);
        deep = outer;
    }
    // Deeper down there are bytes, and they come back as they were.
    assert_eq!(made(&shown(&deep, Purpose::Edit)), deep);
    assert_eq!(read(&[0x0b].repeat(100_000)), None);
    assert_eq!(read(&[0x08, 0x01].repeat(MAX_FIELDS + 1)), None);
}

fn any_form() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(|number| json!({"1:VARINT": number})),
        "[a-z ]{0,9}".prop_map(|text| json!({"2:LEN": text})),
        prop::collection::vec(any::<u64>().prop_map(|n| json!(n.to_string())), 2..4)
            .prop_map(|numbers| json!({"3:I64": numbers})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop::collection::vec(inner, 1..3).prop_map(|items| json!({"4:LEN": items, "5:I32": 7}))
    })
}

proptest! {
    #[test]
    fn forms_come_back(form in any_form()) {
        let message = made(&form);
        prop_assert_eq!(made(&shown(&message, Purpose::Edit)), message);
    }

    #[test]
    fn any_bytes_end_and_keep_their_meaning(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if read(&bytes).is_some() {
            let again = made(&shown(&bytes, Purpose::Edit));
            prop_assert_eq!(made(&shown(&again, Purpose::Edit)), again);
        }
    }
}
