//! The `response` of a mapping.

use base64::Engine as _;
use bytes::Bytes;

use super::{Findings, matcher::shown};
use crate::{
    formats::{
        compact::compact,
        fields::Fields,
        node::Node,
        verdict::{self, Left},
    },
    snapshot::{Header, HttpResponse},
};

/// Delays longer than this are a mistake.
const MAX_DELAY_MILLIS: u64 = 24 * 60 * 60 * 1000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// What a mapping answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: HttpResponse,
    pub(super) status: i64,
    /// How long the answer is held back, in nanoseconds.
    pub(super) delay: u64,
    pub(super) body_file: Option<BodyFile>,
    /// Members that are not modelled, as JSON.
    pub(super) rest: Vec<(String, String)>,
}

/// A body that lies in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::formats) struct BodyFile {
    /// Its name within `__files`.
    pub(in crate::formats) name: String,
    /// The mapping asks for its body to be rendered as a template.
    pub(in crate::formats) templated: bool,
}

/// Reads a response; `mapping` is the text that it lies in.
pub(super) fn read(node: &Node, mapping: &str, found: &mut Findings) -> Answer {
    if !node.is_map() {
        found.problems.push(verdict::missing("response"));
    }
    let status = match node.get("status") {
        Node::Null => 200,
        status => status.integer().unwrap_or(-1),
    };
    let reason = node.get("statusMessage").word().into_owned();
    let mut answer = Answer {
        response: HttpResponse {
            status: 0,
            status_message: if reason.is_empty() {
                String::new()
            } else {
                format!("{status} {reason}")
            },
            headers: headers(node.get("headers"), found),
            body: body(node, mapping, found),
        },
        status,
        delay: 0,
        body_file: None,
        rest: Vec::new(),
    };
    let templated = transformers(node.get("transformers"), found);
    let has_body = ["body", "jsonBody", "base64Body"].iter().any(|key| !node.get(key).is_null());
    if let Some(name) = node.get("bodyFileName").text().filter(|_| !has_body) {
        answer.body_file = Some(BodyFile { name: name.to_owned(), templated });
    }
    let headers = answer.response.headers.iter().map(|header| &header.value);
    let name = answer.body_file.as_ref().map(|file| Bytes::copy_from_slice(file.name.as_bytes()));
    if headers.chain([&answer.response.body]).chain(&name).any(|text| is_template(text)) {
        if templated {
            found.problems.push(templated_body());
        } else {
            found.note(
                "templating_off",
                "response",
                "`{{` is served as written, as no `response-template` is asked for",
            );
        }
    }
    for (name, value) in node.members() {
        member(name, value, &mut answer, found);
    }
    answer
}

/// What the other members mean.
fn member(name: &str, value: &Node, answer: &mut Answer, found: &mut Findings) {
    let path = format!("response.{}", shown(name));
    match name {
        "status" | "statusMessage" | "headers" | "body" | "jsonBody" | "base64Body"
        | "bodyFileName" => return,
        _ if value.is_null() => return,
        "fixedDelayMilliseconds" => {
            answer.delay = answer.delay.saturating_add(millis(value, &path, found));
            return;
        }
        "delayDistribution" if value.get("type").text() == Some("fixed") => {
            let delay = millis(value.get("milliseconds"), &path, found);
            answer.delay = answer.delay.saturating_add(delay);
            return;
        }
        "delayDistribution" | "chunkedDribbleDelay" => {
            found.note(
                "delay_not_kept",
                path,
                "only fixed delays are kept; it is answered at once",
            );
        }
        "fault" => found.problem("fault_unsupported", path, "faults are not served"),
        "proxyBaseUrl" => found.problem(
            "proxy_unsupported",
            path,
            "the mapping hands requests on; record what comes back and import that",
        ),
        // Reported where they are looked at, or without effect on what is answered.
        "transformers" | "transformerParameters" | "fromConfiguredStub" => {}
        _ => found.note("field_not_used", path, "kept, and without effect on what is answered"),
    }
    answer.rest.push((name.to_owned(), value.to_json()));
}

/// Whether the mapping asks for templates; every other transformer is code that we do not have.
fn transformers(node: &Node, found: &mut Findings) -> bool {
    let mut templated = false;
    for (nth, item) in node.items().iter().enumerate() {
        match item.text() {
            Some("response-template") => templated = true,
            other => found.problem(
                "transformer_unsupported",
                format!("response.transformers[{nth}]"),
                format!("the transformer `{}` is not supported", shown(other.unwrap_or_default())),
            ),
        }
    }
    templated
}

/// Whether a text has an expression of WireMock's templates in it.
pub(super) fn is_template(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"{{")
}

fn templated_body() -> Left {
    templated("response.transformers")
}

/// Why a body that is a template is refused.
pub(super) fn templated(path: &str) -> Left {
    Left::refused("templating_unsupported", path, "the answer is a template, which is not rendered")
        .hint("use a transform template for what depends on the request")
}

fn millis(node: &Node, path: &str, found: &mut Findings) -> u64 {
    match node.integer().and_then(|millis| u64::try_from(millis).ok()) {
        Some(millis) if millis <= MAX_DELAY_MILLIS => millis.saturating_mul(NANOS_PER_MILLI),
        _ => {
            found.note(
                "delay_not_kept",
                path,
                "not a delay of at most a day; it is answered at once",
            );
            0
        }
    }
}

fn headers(node: &Node, found: &mut Findings) -> Vec<Header> {
    let mut headers = Vec::new();
    for (name, value) in node.members() {
        let values = if matches!(value, Node::List(_)) {
            value.items()
        } else {
            std::slice::from_ref(value)
        };
        for value in values {
            match value.scalar() {
                Some(text) => headers.push(Header {
                    name: name.clone(),
                    value: Bytes::copy_from_slice(text.as_bytes()),
                }),
                None => found.problem(
                    "header_invalid",
                    format!("response.headers.{}", shown(name)),
                    "a header is a text or a list of texts",
                ),
            }
        }
    }
    headers
}

/// The body that stands in the mapping, in the order in which WireMock looks for it.
fn body(node: &Node, mapping: &str, found: &mut Findings) -> Bytes {
    match node.get("body") {
        Node::Null => {}
        body => match body.scalar() {
            Some(text) => return Bytes::copy_from_slice(text.as_bytes()),
            None => {
                found.problem(
                    "invalid_field",
                    "response.body",
                    "`body` is not a text; write JSON into `jsonBody`",
                );
                return Bytes::new();
            }
        },
    }
    if !node.get("jsonBody").is_null() {
        // Taken from the text, so that numbers and repeated members stay as they are written.
        let raw = Fields::parse(mapping).ok().and_then(|mut top| top.raw("response"));
        let raw = raw.and_then(|response| Fields::parse(response).ok()?.peek("jsonBody"));
        return raw.map(compact).unwrap_or_default().into();
    }
    match node
        .get("base64Body")
        .text()
        .map(|text| base64::engine::general_purpose::STANDARD.decode(text.trim()))
    {
        None => Bytes::new(),
        Some(Ok(bytes)) => bytes.into(),
        Some(Err(_)) => {
            found.problem("invalid_field", "response.base64Body", "`base64Body` is not base64");
            Bytes::new()
        }
    }
}
