//! JSON objects in the making: members by name, written in a given order.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use crate::formats::fields::quoted;

/// Members of an object by name, as JSON.
pub(super) type Members<'a> = BTreeMap<String, Cow<'a, str>>;

/// The members of an object; none where the text is no object.
pub(super) fn members(json: Option<&str>) -> Members<'_> {
    let members: BTreeMap<String, &RawValue> =
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    members.into_iter().map(|(name, value)| (name, Cow::Borrowed(value.get()))).collect()
}

/// Puts a member that is JSON already.
pub(super) fn raw<'a>(into: &mut Members<'a>, name: &str, json: impl Into<Cow<'a, str>>) {
    into.insert(name.to_owned(), json.into());
}

/// Puts a text, unless it is empty.
pub(super) fn text(into: &mut Members<'_>, name: &str, text: &str) {
    if !text.is_empty() {
        raw(into, name, quoted(text));
    }
}

/// Bytes as a JSON string of base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

/// An object: first the members that `order` lists, then the others by name.
pub(super) fn object(mut members: Members<'_>, order: &[&str]) -> String {
    let listed: Vec<_> =
        order.iter().filter_map(|name| Some((*name, members.remove(*name)?))).collect();
    let others = members.iter().map(|(name, json)| (name.as_str(), json));
    let mut out = String::from("{");
    for (name, json) in listed.iter().map(|(name, json)| (*name, json)).chain(others) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&quoted(name));
        out.push(':');
        out.push_str(json);
    }
    out.push('}');
    out
}

/// A JSON array.
pub(super) fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}
