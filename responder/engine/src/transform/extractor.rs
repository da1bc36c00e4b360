//! Extractors: where a chain reads its value and writes the result.

use bytes::Bytes;

use super::{Node, Side, Step, did_you_mean};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    request::Parts,
    snapshot::{Header, HttpResponse},
};

/// Where a chain reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extractor {
    RequestBody,
    ResponseBody,
    RequestHeader { name: String, index: usize },
    ResponseHeader { name: String, index: usize },
    QueryParameter { name: String, index: usize },
    Url { index: Option<usize> },
    Empty,
}

const KNOWN: [&str; 9] = [
    "res_body",
    "http_res_body",
    "req_body",
    "http_req_body",
    "http_req_header",
    "http_res_header",
    "http_queryparam",
    "http_url",
    "empty",
];

impl Extractor {
    pub(super) fn parse(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Self> {
        let Some(node) = node else {
            found.push(Diagnostic::error("missing_field", path, "the chain has no `extractor`"));
            return None;
        };
        let mut step = Step::parse(node, path, found)?;
        let extractor = match step.kind.to_ascii_lowercase().as_str() {
            "res_body" | "http_res_body" => Self::ResponseBody,
            "req_body" | "http_req_body" => Self::RequestBody,
            "empty" => Self::Empty,
            "http_req_header" | "http_header" => {
                let (name, index) = Self::named(&mut step, path, found)?;
                Self::RequestHeader { name, index }
            }
            "http_res_header" => {
                let (name, index) = Self::named(&mut step, path, found)?;
                Self::ResponseHeader { name, index }
            }
            "http_queryparam" => {
                let (name, index) = Self::named(&mut step, path, found)?;
                Self::QueryParameter { name, index }
            }
            "http_url" => {
                let index = step.optional("index").or_else(|| step.optional("subdirIndex"));
                match index.map(|text| text.trim().parse::<usize>()) {
                    None => Self::Url { index: None },
                    Some(Ok(index)) => Self::Url { index: Some(index) },
                    Some(Err(_)) => {
                        found.push(Diagnostic::error(
                            "wrong_type",
                            format!("{path}.config.index"),
                            "`index` is a number from 0",
                        ));
                        return None;
                    }
                }
            }
            other => {
                found.push(
                    Diagnostic::error(
                        "unknown_extractor",
                        format!("{path}.type"),
                        format!("there is no extractor `{other}`"),
                    )
                    .hint(did_you_mean(other, &KNOWN)),
                );
                return None;
            }
        };
        step.optional("deleteIfEmpty");
        step.finish(path, found);
        Some(extractor)
    }

    fn named(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<(String, usize)> {
        let name = match step.optional("header") {
            Some(name) => name,
            None => step.required("name", path, found)?,
        };
        if name.is_empty() {
            found.push(Diagnostic::error(
                "missing_field",
                format!("{path}.config.name"),
                "the name is empty",
            ));
            return None;
        }
        Some((name, step.number("index", 0, path, found)?))
    }

    pub(super) fn side(&self) -> Side {
        match self {
            Self::ResponseBody | Self::ResponseHeader { .. } => Side::Response,
            Self::RequestBody
            | Self::RequestHeader { .. }
            | Self::QueryParameter { .. }
            | Self::Url { .. }
            | Self::Empty => Side::Request,
        }
    }

    /// Reads from a request; `None` when the place does not exist.
    pub(crate) fn read_request(&self, parts: &Parts) -> Option<Vec<u8>> {
        match self {
            Self::RequestBody => Some(parts.body.to_vec()),
            Self::RequestHeader { name, index } => {
                Some(parts.header_at(name, *index).map(|value| value.to_vec()).unwrap_or_default())
            }
            Self::QueryParameter { name, index } => parts
                .query
                .iter()
                .filter(|parameter| parameter.0 == *name)
                .nth(*index)
                .map(|parameter| parameter.1.clone().into_bytes()),
            Self::Url { index: None } => Some(parts.path.clone().into_bytes()),
            Self::Url { index: Some(index) } => {
                parts.path.split('/').nth(*index + 1).map(|segment| segment.as_bytes().to_vec())
            }
            Self::Empty => Some(Vec::new()),
            Self::ResponseBody | Self::ResponseHeader { .. } => None,
        }
    }

    /// Writes to a request.
    pub(crate) fn write_request(&self, parts: &mut Parts, value: Vec<u8>) {
        match self {
            Self::RequestBody => {
                parts.body = value.into();
                parts.body_hash = None;
            }
            Self::RequestHeader { name, index } => {
                let place = parts
                    .headers
                    .iter_mut()
                    .filter(|header| header.0.eq_ignore_ascii_case(name))
                    .nth(*index);
                match place {
                    Some(header) => header.1 = value.into(),
                    None => parts.headers.push((name.clone(), value.into())),
                }
            }
            Self::QueryParameter { name, index } => {
                if let Some(parameter) =
                    parts.query.iter_mut().filter(|parameter| parameter.0 == *name).nth(*index)
                {
                    parameter.1 = String::from_utf8_lossy(&value).into_owned();
                    parts.query.sort();
                }
            }
            Self::Url { index: None } => parts.path = String::from_utf8_lossy(&value).into_owned(),
            Self::Url { index: Some(index) } => {
                let value = String::from_utf8_lossy(&value);
                let segments: Vec<&str> = parts
                    .path
                    .split('/')
                    .enumerate()
                    .map(|(nth, segment)| if nth == *index + 1 { &value } else { segment })
                    .collect();
                parts.path = segments.join("/");
            }
            Self::Empty | Self::ResponseBody | Self::ResponseHeader { .. } => {}
        }
    }

    /// Reads from a response.
    pub(crate) fn read_response(&self, response: &HttpResponse) -> Option<Vec<u8>> {
        match self {
            Self::ResponseBody => Some(response.body.to_vec()),
            Self::ResponseHeader { name, index } => Some(
                nth_header(&response.headers, name, *index)
                    .map(|header| header.value.to_vec())
                    .unwrap_or_default(),
            ),
            _ => None,
        }
    }

    /// Writes to a response.
    pub(crate) fn write_response(&self, response: &mut HttpResponse, value: Vec<u8>) {
        match self {
            Self::ResponseBody => response.body = value.into(),
            Self::ResponseHeader { name, index } => {
                let place = response
                    .headers
                    .iter_mut()
                    .filter(|header| header.name.eq_ignore_ascii_case(name))
                    .nth(*index);
                match place {
                    Some(header) => header.value = value.into(),
                    None => response
                        .headers
                        .push(Header { name: name.clone(), value: Bytes::from(value) }),
                }
            }
            _ => {}
        }
    }
}

fn nth_header<'a>(headers: &'a [Header], name: &str, index: usize) -> Option<&'a Header> {
    headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).nth(index)
}
