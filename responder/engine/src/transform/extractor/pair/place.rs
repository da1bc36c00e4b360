//! The places of a pair by their paths in an RRPair.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::names;
use crate::{
    json::Segment,
    request::{Parts, keys, sorted_query},
    signature::{Edit, Signature},
    transform::{
        Side,
        extractor::{cookie, not_found},
        message::{Fields, Message},
        op::StepError,
        world::Scope,
    },
};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Method,
    /// The path without query.
    Url,
    /// Path and query.
    Uri,
    Host,
    Query {
        name: String,
        index: usize,
    },
    Field {
        side: Side,
        of: Fields,
        name: String,
        index: usize,
    },
    Cookie {
        side: Side,
        index: usize,
        name: bool,
    },
    Body(Side),
    /// The body as base64 text.
    BodyBase64(Side),
    Status,
    StatusMessage,
    Session,
    Upstream,
    /// A value of the signature.
    Signature(String),
    /// Something that only the recording knows.
    About(String),
}

/// What only the recording knows.
const ABOUT: [&str; 10] = [
    "service",
    "cluster",
    "namespace",
    "tech",
    "l7protocol",
    "status",
    "direction",
    "duration",
    "ts",
    "uuid",
];

impl Place {
    /// The place that a path begins with, and the rest of the path.
    pub(super) fn parse(segments: &[Segment]) -> Option<(Self, &[Segment])> {
        let names = names(segments);
        let (place, taken) = match names.as_slice() {
            ["http", "req", rest @ ..] => Self::of_request(rest).map(|(p, n)| (p, n + 2))?,
            ["http", "res", rest @ ..] => Self::of_response(rest).map(|(p, n)| (p, n + 2))?,
            ["signature" | "mutableSignature", key, ..] => (Self::signature(key), 2),
            ["tags", tag, ..] => (Self::About(format!("tags.{tag}")), 2),
            ["session", ..] => (Self::Session, 1),
            ["network_address", ..] => (Self::Upstream, 1),
            ["command", ..] => (Self::Method, 1),
            ["location", ..] => (Self::Url, 1),
            [name, ..] if ABOUT.contains(name) => (Self::About((*name).to_owned()), 1),
            [key, ..] if key.starts_with("http:") => (Self::signature(key), 1),
            _ => return None,
        };
        Some((place, segments.get(taken..).unwrap_or_default()))
    }

    fn of_request(names: &[&str]) -> Option<(Self, usize)> {
        Some(match names {
            ["method", ..] => (Self::Method, 1),
            ["url", ..] => (Self::Url, 1),
            ["uri", ..] => (Self::Uri, 1),
            ["host", ..] => (Self::Host, 1),
            ["version", ..] => (Self::About("http.req.version".to_owned()), 1),
            ["queryParams", name, rest @ ..] => {
                let (index, taken) = index(rest);
                (Self::Query { name: (*name).to_owned(), index }, 2 + taken)
            }
            _ => return Self::of_message(Side::Request, names),
        })
    }

    fn of_response(names: &[&str]) -> Option<(Self, usize)> {
        Some(match names {
            ["statusCode", ..] => (Self::Status, 1),
            ["statusMessage", ..] => (Self::StatusMessage, 1),
            ["contentType", ..] => {
                let (side, of) = (Side::Response, Fields::Headers);
                (Self::Field { side, of, name: "Content-Type".to_owned(), index: 0 }, 1)
            }
            _ => return Self::of_message(Side::Response, names),
        })
    }

    /// What requests and responses have alike.
    fn of_message(side: Side, names: &[&str]) -> Option<(Self, usize)> {
        Some(match names {
            ["headers", name, rest @ ..] => {
                let (index, taken) = index(rest);
                let of = Fields::Headers;
                (Self::Field { side, of, name: (*name).to_owned(), index }, 2 + taken)
            }
            ["trailers", name, rest @ ..] => {
                let (index, taken) = index(rest);
                let of = Fields::Trailers;
                (Self::Field { side, of, name: (*name).to_owned(), index }, 2 + taken)
            }
            ["cookies", nth, "value", ..] => {
                (Self::Cookie { side, index: nth.parse().ok()?, name: false }, 3)
            }
            ["cookies", nth, "name", ..] => {
                (Self::Cookie { side, index: nth.parse().ok()?, name: true }, 3)
            }
            ["body", ..] => (Self::Body(side), 1),
            ["bodyBase64", ..] => (Self::BodyBase64(side), 1),
            _ => return None,
        })
    }

    fn signature(key: &str) -> Self {
        match keys::query_name(key) {
            // Parameters are matched together, whichever form a recorder has written.
            Some(name) => Self::Query { name: name.to_owned(), index: 0 },
            None => Self::Signature(key.to_owned()),
        }
    }

    /// The place for a path that goes further: into the body itself, not into its base64.
    pub(super) fn opened(self, further: bool) -> Self {
        match self {
            Self::BodyBase64(side) if further => Self::Body(side),
            place => place,
        }
    }

    pub(super) fn side(&self) -> Side {
        match self {
            Self::Field { side, .. }
            | Self::Cookie { side, .. }
            | Self::Body(side)
            | Self::BodyBase64(side) => *side,
            Self::Status | Self::StatusMessage | Self::About(_) => Side::Response,
            Self::Method
            | Self::Url
            | Self::Uri
            | Self::Host
            | Self::Query { .. }
            | Self::Session
            | Self::Upstream
            | Self::Signature(_) => Side::Request,
        }
    }

    pub(super) fn read(
        &self,
        message: &Message<'_>,
        scope: &mut Scope,
    ) -> Result<Vec<u8>, StepError> {
        let value = match (self, message) {
            (Self::Field { of, name, index, .. }, message) => {
                message.field(*of, name, *index).map(|value| value.to_vec())
            }
            (Self::Cookie { index, name, .. }, message) => {
                cookie::Place::all(message).get(*index).map(|cookie| {
                    let span = if *name { &cookie.name } else { &cookie.value };
                    cookie.read(message, span).to_vec()
                })
            }
            (Self::Body(_), message) => Some(message.body().to_vec()),
            (Self::BodyBase64(_), message) => Some(STANDARD.encode(message.body()).into_bytes()),
            (Self::Status, Message::Response(reply)) => {
                Some(reply.response.status.to_string().into_bytes())
            }
            (Self::StatusMessage, Message::Response(reply)) => {
                Some(reply.response.status_message.clone().into_bytes())
            }
            (Self::About(name), Message::Response(reply)) => {
                let known = reply.about.iter().find(|known| known.0 == *name);
                known.map(|known| known.1.clone().into_bytes())
            }
            (Self::Session, Message::Request(parts)) => {
                let recorded = || parts.session.clone().into_bytes();
                Some(scope.session.clone().unwrap_or_else(recorded))
            }
            (Self::Signature(key), Message::Request(parts)) => {
                let signature = Signature::of(parts, &scope.edits);
                signature.entries().find(|entry| entry.0 == key).map(|entry| entry.1.to_vec())
            }
            (_, Message::Request(parts)) => self.read_request(parts),
            (_, Message::Response(_)) => None,
        };
        value.ok_or_else(|| not_found("the place of the path"))
    }

    fn read_request(&self, parts: &Parts) -> Option<Vec<u8>> {
        match self {
            Self::Method => Some(parts.method.clone().into_bytes()),
            Self::Url => Some(parts.path.clone().into_bytes()),
            Self::Uri => Some(uri(parts).into_bytes()),
            Self::Host => Some(parts.host.clone().into_bytes()),
            Self::Upstream => Some(parts.upstream.clone().into_bytes()),
            Self::Query { name, index } => parts
                .query
                .iter()
                .filter(|parameter| parameter.0 == *name)
                .nth(*index)
                .map(|parameter| parameter.1.clone().into_bytes()),
            _ => None,
        }
    }

    pub(super) fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        scope: &mut Scope,
    ) -> Result<(), StepError> {
        match (self, message) {
            (Self::Field { of, name, index, .. }, message) => {
                message.set_field(*of, name, *index, Some(value.into()));
            }
            (Self::Cookie { index, name, .. }, message) => {
                let cookies = cookie::Place::all(message);
                let cookie = cookies.get(*index).ok_or_else(|| not_found("cookie"))?;
                let span = if *name { &cookie.name } else { &cookie.value };
                cookie.write(message, span, value);
            }
            (Self::Body(_), message) => message.set_body(value.into()),
            (Self::BodyBase64(_), message) => {
                let body = STANDARD
                    .decode(&value)
                    .map_err(|_| StepError::new("not_writable", "json_path: this is no base64"))?;
                message.set_body(body.into());
            }
            (Self::Status, message) => super::super::status::set(message, &value)?,
            (Self::StatusMessage, Message::Response(reply)) => {
                reply.response.status_message = text(value)?;
            }
            (Self::Session, _) => scope.session = Some(value),
            (Self::Signature(key), _) => {
                scope.edits.push(Edit::Store { key: Some(key.clone()), value });
            }
            (Self::About(_), _) => {
                return Err(StepError::new(
                    "not_writable",
                    "json_path: this only tells what was recorded; nothing that is sent depends on it",
                ));
            }
            (_, Message::Request(parts)) => self.write_request(parts, text(value)?),
            (_, Message::Response(_)) => return Err(not_found("the place of the path")),
        }
        Ok(())
    }

    fn write_request(&self, parts: &mut Parts, value: String) {
        match self {
            Self::Method => parts.method = value,
            Self::Url => parts.path = value,
            Self::Host => parts.host = value,
            Self::Upstream => parts.upstream = value,
            Self::Uri => {
                let (path, query) = value.split_once('?').unwrap_or((&value, ""));
                parts.query = sorted_query(query);
                parts.path = path.to_owned();
            }
            Self::Query { name, index } => {
                let mut named = parts.query.iter_mut().filter(|parameter| parameter.0 == *name);
                if let Some(parameter) = named.nth(*index) {
                    parameter.1 = value;
                }
                parts.query.sort();
            }
            _ => {}
        }
    }
}

/// An index that may be left out where there is one value, and how many names it took.
fn index(names: &[&str]) -> (usize, usize) {
    names.first().and_then(|name| name.parse().ok()).map_or((0, 0), |index| (index, 1))
}

/// Path and query, the query's parameters in their order of comparison.
fn uri(parts: &Parts) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query: Vec<String> = parts
        .query
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", parts.path, query.join("&"))
}

fn text(value: Vec<u8>) -> Result<String, StepError> {
    String::from_utf8(value)
        .map_err(|_| StepError::new("not_writable", "json_path: the result is no UTF-8"))
}
