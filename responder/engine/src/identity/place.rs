//! Where a request presents a credential: a header, a cookie, the query, a form, a member of a JSON body.
//!
//! The recording is searched through once, for every place; a live request is asked for those places only that the recording knows.

use std::{borrow::Cow, fmt};

use super::credential::{self, Credential, is_jwt, names_credential};
use crate::{body, grpc, json, request::Request};

/// Bodies that are larger present nothing.
const MAX_BODY: usize = 1024 * 1024;
/// So many credentials of one request are looked at.
const MAX_FOUND: usize = 32;
/// A shorter text in query or body is no credential.
const MIN_OPAQUE: usize = 8;

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A header field, by its name in lower case.
    Header(String),
    Cookie(String),
    Query(String),
    Form(String),
    Json(json::Path),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query {name}"),
            Self::Form(name) => write!(f, "form {name}"),
            Self::Json(path) => write!(f, "body {}", path.leaf()),
        }
    }
}

impl Place {
    /// Who presents himself by name only comes after this one.
    pub(super) fn authorization() -> Self {
        Self::Header("authorization".to_owned())
    }

    /// The credential that a request presents here.
    pub(super) fn find<'r>(&self, request: &Request<'r>) -> Option<Credential<'r>> {
        match self {
            Self::Header(name) => request
                .headers
                .get_all(name.as_str())
                .into_iter()
                .find_map(|value| in_header(name, value.as_bytes())),
            Self::Cookie(wanted) => {
                cookies(request).find(|(name, _)| name == wanted).and_then(|(name, value)| {
                    credential::named(value.as_bytes(), names_credential(name))
                })
            }
            Self::Query(wanted) => body::pairs(request.query)
                .find(|(name, _)| name == wanted)
                .and_then(|(name, value)| in_field(&name, &value)),
            Self::Form(wanted) => {
                let form = form(request)?;
                body::pairs(&form)
                    .find(|(name, _)| name == wanted)
                    .and_then(|(name, value)| in_field(&name, &value))
            }
            Self::Json(path) => {
                let doc = document(request)?;
                let found = json::locate(&doc, path).ok()?;
                let at = found.first().filter(|at| at.kind == json::Kind::String)?;
                in_field(path.leaf(), std::str::from_utf8(&json::text(&doc, at)).ok()?)
            }
        }
    }
}

/// Tells of every credential that a request presents.
pub(super) fn all(request: &Request<'_>, on: &mut dyn FnMut(Place, Credential<'_>)) {
    let mut left = MAX_FOUND;
    let mut on = |place: Place, credential: Credential<'_>| {
        if left > 0 {
            left -= 1;
            on(place, credential);
        }
    };
    for (name, value) in request.headers {
        if name != http::header::COOKIE
            && let Some(found) = in_header(name.as_str(), value.as_bytes())
        {
            on(Place::Header(name.as_str().to_owned()), found);
        }
    }
    for (name, value) in cookies(request) {
        if let Some(found) = credential::named(value.as_bytes(), names_credential(name)) {
            on(Place::Cookie(name.to_owned()), found);
        }
    }
    for (name, value) in body::pairs(request.query) {
        if let Some(found) = in_field(&name, &value) {
            on(Place::Query(name), found);
        }
    }
    if let Some(form) = form(request) {
        for (name, value) in body::pairs(&form) {
            if let Some(found) = in_field(&name, &value) {
                on(Place::Form(name), found);
            }
        }
    } else if let Some(doc) = document(request) {
        in_document(&doc, &mut on);
    }
}

fn in_header<'v>(name: &str, value: &'v [u8]) -> Option<Credential<'v>> {
    match name {
        "authorization" => credential::authorization(value),
        // It authenticates towards a proxy, which we are not.
        "proxy-authorization" => None,
        name => credential::named(value, names_credential(name)),
    }
}

/// A field of a query or form, or a member of a document.
fn in_field(name: &str, value: &str) -> Option<Credential<'static>> {
    let found = credential::named(value.as_bytes(), names_credential(name))?;
    match &found {
        Credential::Opaque(text) if text.len() < MIN_OPAQUE => None,
        _ => Some(found.into_owned()),
    }
}

fn cookies<'r>(request: &Request<'r>) -> impl Iterator<Item = (&'r str, &'r str)> {
    request
        .headers
        .get_all(http::header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .map(|(name, value)| (name, value.trim_matches('"')))
}

fn form(request: &Request<'_>) -> Option<String> {
    let content_type = request.headers.get(http::header::CONTENT_TYPE)?;
    if !body::is_form(content_type.as_bytes()) || is_document(request.body) {
        return None;
    }
    text(request).map(Cow::into_owned)
}

fn document<'r>(request: &Request<'r>) -> Option<Cow<'r, [u8]>> {
    if request.body.is_empty() || request.body.len() > MAX_BODY {
        return None;
    }
    let doc = grpc::text_of(request);
    (doc.len() <= MAX_BODY && is_document(&doc)).then_some(doc)
}

fn text<'r>(request: &Request<'r>) -> Option<Cow<'r, str>> {
    if request.body.is_empty() || request.body.len() > MAX_BODY {
        return None;
    }
    match body::unfolded(request.body) {
        Cow::Borrowed(text) => std::str::from_utf8(text.trim_ascii()).ok().map(Cow::Borrowed),
        Cow::Owned(text) => String::from_utf8(text).ok().map(Cow::Owned),
    }
}

fn is_document(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The credentials in members of objects; what stands in a list has no fixed place.
fn in_document(doc: &[u8], on: &mut dyn FnMut(Place, Credential<'_>)) {
    let mut names: Vec<Option<String>> = vec![None];
    let mut lists = 0_usize;
    let mut open: Vec<json::Kind> = Vec::new();
    let visited = json::visit(doc, &mut |event| match event {
        json::Event::Open(kind) => {
            lists += usize::from(kind == json::Kind::Array);
            open.push(kind);
            names.push(None);
        }
        json::Event::Close => {
            lists -= usize::from(open.pop() == Some(json::Kind::Array));
            names.pop();
        }
        json::Event::Name { name, .. } => {
            if let Some(last) = names.last_mut() {
                *last = Some(name.to_owned());
            }
        }
        json::Event::Scalar { kind: json::Kind::String, span } if lists == 0 => {
            let leaf = names.last().and_then(Option::as_deref).unwrap_or_default();
            let raw = doc.get(span).unwrap_or_default();
            let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
            let plain = std::str::from_utf8(inner).ok().filter(|text| !text.contains('\\'));
            let worth = names_credential(leaf) || is_jwt(inner) || inner.contains(&b' ');
            if let Some(found) = plain.filter(|_| worth).and_then(|text| in_field(leaf, text)) {
                let path = json::Path::of_names(names.iter().flatten().cloned());
                on(Place::Json(path), found);
            }
        }
        json::Event::Item(_) | json::Event::Scalar { .. } => {}
    });
    // What is no JSON after all has been looked at in part, which does no harm: it never takes part as a document again.
    drop(visited);
}
