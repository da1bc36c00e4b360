//! `json_path`: works on a value inside a JSON document, which otherwise stays byte for byte.

use std::{borrow::Cow, ops::Range, sync::Arc};

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Kind, Located, Path},
    json_query::Query,
    jwt::key::SecretRef,
    transform::{Scope, Step, materials::Required, text::Text},
};

#[derive(Debug)]
struct JsonPath {
    written: Text,
    /// The path, when it is known beforehand.
    known: Option<Way>,
    create: bool,
}

/// A path in one of its two notations.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// gjson's: `a.0.b`.
    Path(Path),
    /// RFC 9535: `$.a[0].b`.
    Query(Query),
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.path");
    let written = Text::parse(&step.required("path", path, found)?, &at, found)?;
    let create = step.optional("create").is_none_or(|text| !text.eq_ignore_ascii_case("false"));
    let known = match written.plain().map(Way::parse) {
        None => None,
        Some(Ok(way)) => Some(way),
        Some(Err(why)) => {
            let message = format!("`{}`: {why}", written.written());
            found.push(Diagnostic::error("bad_json_path", at, message));
            return None;
        }
    };
    Some(Arc::new(JsonPath { written, known, create }))
}

impl Way {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "$" || text.starts_with("$.") || text.starts_with("$[") {
            return Query::parse(text).map(Self::Query).map_err(|why| why.to_string());
        }
        Path::parse(text).map(Self::Path).map_err(str::to_owned)
    }

    fn locate(&self, doc: &[u8]) -> Result<Vec<Located>, StepError> {
        let not_json =
            |why: &dyn std::fmt::Display| StepError::new("not_json", format!("json_path: {why}"));
        match self {
            Self::Path(path) => json::locate(doc, path).map_err(|why| not_json(&why)),
            Self::Query(query) => {
                let document = serde_json::from_slice(doc)
                    .map_err(|why| not_json(&format_args!("no JSON in line {}", why.line())))?;
                let ways = query.ways(&document);
                if ways.len() > MAX_FOUND {
                    let message = "json_path: the query finds too many values";
                    return Err(StepError::new("transform_budget", message));
                }
                let mut places = Vec::with_capacity(ways.len());
                for names in ways {
                    let found = json::locate(doc, &Path::of_names(names));
                    places.extend(found.map_err(|why| not_json(&why))?);
                }
                Ok(places)
            }
        }
    }

    /// The names by which a missing value is put in.
    fn to_insert(&self) -> Option<Path> {
        match self {
            Self::Path(path) => Some(path.clone()),
            Self::Query(query) => query.names().map(Path::of_names),
        }
    }

    /// The last name of the path.
    fn leaf(&self) -> Cow<'_, str> {
        match self {
            Self::Path(path) => Cow::Borrowed(path.leaf()),
            Self::Query(query) => {
                Cow::Owned(query.names().and_then(|mut names| names.pop()).unwrap_or_default())
            }
        }
    }
}

/// A query that finds more values than this is not worked on: each of them is looked for in the document once more.
const MAX_FOUND: usize = 1000;

impl Transform for JsonPath {
    fn apply(
        &self,
        doc: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let way = self.way(effects.scope())?;
        let places = way.locate(doc)?;
        if places.is_empty() && !self.create {
            return Err(StepError::new("path_not_found", "json_path: the path value is not found"));
        }
        if places.is_empty() {
            // The chain gets an empty value, and only something that it made of it is put in. A document without `access_token` therefore
            // stays as it is.
            let made = apply(rest, b"", effects)?;
            let way = self.way(effects.scope())?;
            return if made.is_empty() { Ok(doc.to_vec()) } else { put(doc, &way, &made) };
        }
        let mut edits: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        for place in places {
            let before = json::text(doc, &place);
            let signed = effects.resigned();
            let after = apply(rest, &before, effects)?;
            if effects.resigned() > signed {
                edits.extend(validity_edits(&way.leaf(), doc, &place, effects));
            }
            // Variables may have changed on the way, and the path with them.
            let back = self.way(effects.scope())?;
            if *back != *way {
                return put(doc, &back, &after);
            }
            if after != before
                && let Some(with) = json::encode(place.kind, &after)
            {
                edits.push((place.span, with));
            }
        }
        edits.sort_by_key(|edit| edit.0.start);
        edits.dedup_by(|later, earlier| later.0.start < earlier.0.end);
        Ok(json::replace(doc, &edits))
    }

    fn nature(&self) -> Nature {
        self.written.nature()
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        self.written.require(required, secrets);
    }
}

impl JsonPath {
    /// The path, its placeholders resolved now.
    fn way(&self, scope: &mut Scope) -> Result<Cow<'_, Way>, StepError> {
        match &self.known {
            Some(way) => Ok(Cow::Borrowed(way)),
            None => Way::parse(&self.written.resolve_string(scope)).map(Cow::Owned).map_err(|_| {
                StepError::new("bad_json_path", "json_path: the resolved path is none")
            }),
        }
    }
}

/// The document with a value at the end of a path, whether or not there was one.
fn put(doc: &[u8], way: &Way, value: &[u8]) -> Result<Vec<u8>, StepError> {
    if let Some(place) = way.locate(doc)?.into_iter().next() {
        return Ok(match json::encode(place.kind, value) {
            Some(with) => json::replace(doc, &[(place.span, with)]),
            None => doc.to_vec(),
        });
    }
    let value = json::quote(&String::from_utf8_lossy(value));
    let path = way.to_insert();
    path.and_then(|path| json::insert(doc, &path, &value).ok().flatten()).ok_or_else(|| {
        StepError::new("path_not_found", "json_path: the path meets a value that is no object")
    })
}

/// What stands beside a re-signed token and tells how long it is valid has to follow it.
fn validity_edits(
    leaf: &str,
    doc: &[u8],
    token: &Located,
    effects: &mut dyn Effects,
) -> Vec<(Range<usize>, Vec<u8>)> {
    let Some(object) = token.parent else { return Vec::new() };
    let mut edits = Vec::new();
    for name in validity_names(leaf) {
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
