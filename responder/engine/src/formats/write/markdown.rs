//! A pair as one markdown file: visible sections, and an internal one that holds what they cannot show.
//!
//! What is visible is not repeated: the internal section is a skeleton as newer recorders write it. Where the visible text does not lead
//! back to the exact value (a body with spacing of its own, a `Content-Length`, a binary body), the exact value stays there as well, and
//! the reader takes it as long as nobody has edited the text.

use serde_json::value::RawValue;

use crate::{
    formats::{
        MAX_ENTRY, markdown_body, markdown_notes, rrpair_markdown,
        write::{
            TOO_LARGE, UNREADABLE,
            jsonl::{self, Extent, Parts},
            loss::{self, Loss},
        },
    },
    snapshot::{Header, RrPair, header},
};

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Headers stay in the internal section.
    headers: bool,
    /// So do bodies.
    bodies: bool,
    /// Bodies are visible.
    shown: bool,
}

/// The usual layout, then more and more in the internal section.
const LAYOUTS: [Layout; 3] = [
    Layout { headers: false, bodies: false, shown: true },
    Layout { headers: true, bodies: true, shown: true },
    Layout { headers: true, bodies: true, shown: false },
];

/// The file of a pair, and what it cannot hold.
pub(super) fn file(pair: &RrPair) -> (String, Vec<Loss>) {
    let mut best: Option<(String, Vec<Loss>)> = None;
    for layout in LAYOUTS {
        let text = render(pair, layout);
        let lost = check(pair, &text);
        if lost.is_empty() {
            return (text, lost);
        }
        if best.as_ref().is_none_or(|(_, fewest)| weight(&lost) < weight(fewest)) {
            best = Some((text, lost));
        }
    }
    best.unwrap_or_default()
}

/// How bad losses are: an unreadable file is worse than any value that differs.
fn weight(lost: &[Loss]) -> usize {
    if lost.contains(&UNREADABLE) || lost.contains(&TOO_LARGE) { usize::MAX } else { lost.len() }
}

fn check(pair: &RrPair, text: &str) -> Vec<Loss> {
    if text.len() > MAX_ENTRY {
        return vec![TOO_LARGE];
    }
    match rrpair_markdown::read(text.as_bytes()) {
        Ok(back) => loss::compare(pair, &back),
        Err(_) => vec![UNREADABLE],
    }
}

fn render(pair: &RrPair, layout: Layout) -> String {
    let mut out = String::new();
    let mut extent = Extent { request: Parts::ALL, response: Parts::ALL, embedded: true };
    if let Some(request) = &pair.request {
        section(&mut out, "REQUEST");
        block(&mut out, &rrpair_markdown::show_request(request, pair, &extra(pair, "req")));
        let body = Body { bytes: &request.body, headers: &request.headers, is_request: true };
        extent.request = body.write(&mut out, layout);
    }
    section(&mut out, "RESPONSE");
    let version = pair.request.as_ref().map_or("1.1", |request| &request.version);
    let head = rrpair_markdown::show_response(
        i64::from(pair.response.status),
        &pair.response,
        &extra(pair, "res"),
    );
    block(&mut out, &format!("HTTP/{version} {head}"));
    let body =
        Body { bytes: &pair.response.body, headers: &pair.response.headers, is_request: false };
    extent.response = body.write(&mut out, layout);
    if !pair.signature.is_empty() {
        section(&mut out, "SIGNATURE");
        block(&mut out, &markdown_notes::show_signature(&pair.signature));
    }
    section(&mut out, "METADATA");
    block(&mut out, &markdown_notes::show_metadata(pair));
    section(&mut out, "INTERNAL - DO NOT MODIFY");
    block(&mut out, &format!("json: {}", jsonl::line(pair, extent)));
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// A message's body, to be shown.
struct Body<'a> {
    bytes: &'a bytes::Bytes,
    headers: &'a [Header],
    is_request: bool,
}

impl Body<'_> {
    /// Shows the body and says what stays in the internal section.
    fn write(&self, out: &mut String, layout: Layout) -> Parts {
        let content_type =
            header(self.headers, "content-type").map(AsRef::as_ref).unwrap_or_default();
        let mut parts = Parts { headers: layout.headers, body: layout.bodies };
        if layout.shown {
            let shown = markdown_body::show(self.bytes, content_type, self.is_request);
            block(out, &shown);
            parts.body |= markdown_body::restore(&shown, content_type, None) != self.bytes;
        }
        // A length is not shown, so that it can be kept only there.
        parts.headers |= header(self.headers, "content-length").is_some();
        parts
    }
}

/// The members of a message that reading did not model.
fn extra(pair: &RrPair, message: &str) -> Vec<(String, String)> {
    let object = |json: &str| -> Option<std::collections::BTreeMap<String, Box<RawValue>>> {
        serde_json::from_str(json).ok()
    };
    object(&pair.extra_json)
        .and_then(|top| object(top.get("http")?.get()))
        .and_then(|http| object(http.get(message)?.get()))
        .unwrap_or_default()
        .into_iter()
        .map(|(name, json)| (name, json.get().to_owned()))
        .collect()
}

fn section(out: &mut String, name: &str) {
    out.push_str("### ");
    out.push_str(name);
    out.push_str(" ###\n");
}

fn block(out: &mut String, text: &str) {
    out.push_str("```\n");
    if !text.is_empty() {
        out.push_str(text);
        out.push('\n');
    }
    out.push_str("```\n\n");
}
