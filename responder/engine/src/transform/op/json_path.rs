//! `json_path`: works on a value inside a JSON document, which otherwise stays byte for byte.

use std::{ops::Range, sync::Arc};

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Kind, Located, Path},
    transform::Step,
};

#[derive(Debug)]
struct JsonPath {
    path: Path,
    create: bool,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.path");
    let text = Step::plain(step.required("path", path, found)?, &at, found)?;
    let create = step.optional("create").is_none_or(|text| !text.eq_ignore_ascii_case("false"));
    match Path::parse(&text) {
        Ok(path) => Some(Arc::new(JsonPath { path, create })),
        Err(why) => {
            found.push(Diagnostic::error("bad_json_path", at, format!("`{text}`: {why}")));
            None
        }
    }
}

impl Transform for JsonPath {
    fn apply(
        &self,
        doc: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let places = json::locate(doc, &self.path)
            .map_err(|why| StepError::new("not_json", format!("json_path: {why}")))?;
        if places.is_empty() {
            return self.apply_missing(doc, rest, effects);
        }
        let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        for place in places {
            let before = json::text(doc, &place);
            let signed = effects.resigned();
            let after = apply(rest, &before, effects)?;
            if effects.resigned() > signed {
                edits.extend(self.validity_edits(doc, &place, effects));
            }
            if after != before
                && let Some(with) = encode(place.kind, &after)
            {
                edits.push((place.span, with));
            }
        }
        edits.sort_by_key(|edit| edit.0.start);
        edits.dedup_by(|later, earlier| later.0.start < earlier.0.end);
        Ok(json::replace(doc, &edits))
    }
}

impl JsonPath {
    /// The path leads nowhere: the chain gets an empty value, and only something that it made of it is put in. A document without
    /// `access_token` therefore stays as it is.
    fn apply_missing(
        &self,
        doc: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        if !self.create {
            return Err(StepError::new("path_not_found", "json_path: the path value is not found"));
        }
        let made = apply(rest, b"", effects)?;
        if made.is_empty() {
            return Ok(doc.to_vec());
        }
        let value = json::quote(&String::from_utf8_lossy(&made));
        json::insert(doc, &self.path, &value).ok().flatten().ok_or_else(|| {
            StepError::new("path_not_found", "json_path: the path meets a value that is no object")
        })
    }

    /// What stands beside a re-signed token and tells how long it is valid has to follow it.
    fn validity_edits(
        &self,
        doc: &[u8],
        token: &Located,
        effects: &mut dyn Effects,
    ) -> Vec<(Range<usize>, Vec<u8>)> {
        let Some(object) = token.parent else { return Vec::new() };
        let mut edits = Vec::new();
        for name in validity_names(self.path.leaf()) {
            let Some(place) = json::member(doc, object, name) else { continue };
            let text = String::from_utf8_lossy(&json::text(doc, &place)).into_owned();
            let new = match place.kind {
                Kind::Number | Kind::String => effects.validity(name, &text),
                _ => None,
            };
            match new {
                Some(new) if place.kind == Kind::String => {
                    edits.push((place.span, json::quote(&String::from_utf8_lossy(&new))));
                }
                Some(new) => edits.push((place.span, new)),
                None => {}
            }
        }
        edits
    }
}

/// The members that tell the validity of the token of this name: OAuth 2.0's `expires_in` (RFC 6749, section 5.1) and what common
/// identity providers put beside it.
fn validity_names(token: &str) -> &'static [&'static str] {
    match token {
        "refresh_token" | "refreshToken" => &[
            "refresh_expires_in",
            "refresh_token_expires_in",
            "refreshExpiresIn",
            "refresh_expires_at",
            "refresh_token_expires_at",
        ],
        "id_token" | "idToken" => &["id_token_expires_in"],
        _ => &[
            "expires_in",
            "expiresIn",
            "ext_expires_in",
            "expires_on",
            "expiresOn",
            "expires_at",
            "expiresAt",
            "not_before",
        ],
    }
}

/// The new text as JSON of the kind that stood there. `None` keeps the old value: a boolean takes nothing but a boolean.
fn encode(kind: Kind, text: &[u8]) -> Option<Vec<u8>> {
    let as_is = || {
        let text = text.trim_ascii();
        serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok().then(|| text.to_vec())
    };
    let quoted = || json::quote(&String::from_utf8_lossy(text));
    let is_number = |text: &[u8]| matches!(text.trim_ascii().first(), Some(b'-' | b'0'..=b'9'));
    match kind {
        Kind::String => Some(quoted()),
        Kind::Number => {
            Some(as_is().filter(|text| is_number(text)).unwrap_or_else(|| b"0".to_vec()))
        }
        Kind::Bool => as_is().filter(|text| text == b"true" || text == b"false"),
        Kind::Null => {
            let scalar = as_is().filter(|text| {
                is_number(text) || text == b"true" || text == b"false" || text == b"null"
            });
            Some(scalar.unwrap_or_else(quoted))
        }
        Kind::Array | Kind::Object => Some(as_is().unwrap_or_else(quoted)),
    }
}
