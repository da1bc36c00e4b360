//! HAR 1.2: one entry per line.
//!
//! A HAR holds bodies without their content coding, and of a recording only the exchange itself. What was written is read again, so that
//! what is told to be lost is what an import of the HAR would lack.

use bytes::Bytes;

use crate::{
    body,
    diagnostic::Diagnostic,
    formats::{
        FileReader, Sink,
        fields::quoted,
        time,
        write::{
            TOO_LARGE, UNREADABLE,
            jsonl::path_and_query,
            loss::{self, Loss},
            object::{Members, array, base64, object, raw},
        },
    },
    snapshot::{Header, HttpRequest, RrPair, header},
};

const BEGIN: &str = concat!(
    "{\"log\":{\"version\":\"1.2\",\"creator\":{\"name\":\"countersign\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"},\"entries\":["
);
const END: &str = "\n]}}\n";

/// The order of all members that an entry has anywhere.
const ORDER: &[&str] = &[
    "startedDateTime",
    "time",
    "method",
    "url",
    "status",
    "statusText",
    "httpVersion",
    "cookies",
    "headers",
    "queryString",
    "postData",
    "content",
    "redirectURL",
    "headersSize",
    "bodySize",
    "request",
    "response",
    "cache",
    "timings",
    "size",
    "mimeType",
    "text",
    "encoding",
];

const NO_REQUEST: Loss = Loss::warning(
    "http.req",
    "a pair without a recorded request is left out, because every entry of a HAR has one",
);
const DIRECTION: Loss =
    Loss::warning("direction", "a HAR has no direction; read again, the pair is OUT");
const SIGNATURE: Loss = Loss::info("signature", "a HAR has no signatures; they are made anew");
const METADATA: Loss = Loss::info(
    "(metadata)",
    "a HAR has no place for ids, tags, workloads, sessions and other notes of the recorder",
);
const UPSTREAM: Loss =
    Loss::info("network_address", "a HAR has the URL only; it becomes the upstream");
const NO_TIME: Loss = Loss::info("ts", "an entry without a time is dated 1970");
const CODING: Loss =
    Loss::info("http.res.bodyBase64", "a HAR holds bodies without their content coding");
const REASON: Loss =
    Loss::info("http.res.statusMessage", "a HAR has a reason; the code is put before it");

/// Writes entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    written: bool,
}

impl Entries {
    /// An entry with what stands before it; nothing when the pair has no request.
    pub(super) fn entry(&mut self, pair: &RrPair, lost: &mut Vec<Loss>) -> String {
        let Some(request) = &pair.request else {
            lost.push(NO_REQUEST);
            return String::new();
        };
        let mut out = Members::new();
        let started = time::rfc3339(pair.ts.unwrap_or_default(), false);
        raw(&mut out, "startedDateTime", quoted(&started));
        let millis = time::milliseconds(pair.duration);
        raw(&mut out, "request", self::request(pair, request));
        raw(&mut out, "response", response(pair, &request.version));
        raw(&mut out, "cache", "{}");
        raw(&mut out, "timings", format!("{{\"send\":0,\"wait\":{millis},\"receive\":0}}"));
        raw(&mut out, "time", millis);
        let entry = object(out, ORDER);
        told(pair, &entry, lost);
        let begin = if self.written { "," } else { BEGIN };
        self.written = true;
        format!("{begin}\n{entry}")
    }

    /// What stands behind the last entry.
    pub(super) fn end(&self) -> String {
        if self.written { END.to_owned() } else { format!("{BEGIN}{END}") }
    }
}

fn request(pair: &RrPair, request: &HttpRequest) -> String {
    let mut out = Members::new();
    raw(&mut out, "method", quoted(&request.method));
    let url = format!("{}://{}{}", pair.l7protocol, request.host, path_and_query(request));
    raw(&mut out, "url", quoted(&url));
    raw(&mut out, "queryString", array(body::pairs(&request.query).map(|(n, v)| field(&n, &v))));
    message(&mut out, &request.version, &request.headers);
    if !request.body.is_empty() {
        let mut post = Members::new();
        let mime = header(&request.headers, "content-type").cloned().unwrap_or_default();
        raw(&mut post, "mimeType", quoted(&String::from_utf8_lossy(&mime)));
        text(&mut post, &request.body);
        raw(&mut out, "postData", object(post, ORDER));
    }
    raw(&mut out, "bodySize", request.body.len().to_string());
    object(out, ORDER)
}

fn response(pair: &RrPair, version: &str) -> String {
    let response = &pair.response;
    let mut out = Members::new();
    let code = response.status.to_string();
    let reason = response.status_message.strip_prefix(&code).unwrap_or(&response.status_message);
    raw(&mut out, "statusText", quoted(reason.trim()));
    raw(&mut out, "status", code);
    message(&mut out, version, &response.headers);
    let plain = body::unfolded(&response.body);
    let mut content = Members::new();
    raw(&mut content, "size", plain.len().to_string());
    let mime = header(&response.headers, "content-type").cloned();
    let mime = mime.unwrap_or_else(|| Bytes::from_static(b"x-unknown"));
    raw(&mut content, "mimeType", quoted(&String::from_utf8_lossy(&mime)));
    if !plain.is_empty() {
        text(&mut content, &plain);
    }
    raw(&mut out, "content", object(content, ORDER));
    let location = header(&response.headers, "location").cloned().unwrap_or_default();
    raw(&mut out, "redirectURL", quoted(&String::from_utf8_lossy(&location)));
    raw(&mut out, "bodySize", response.body.len().to_string());
    object(out, ORDER)
}

/// What both messages have.
fn message(out: &mut Members<'_>, version: &str, headers: &[Header]) {
    raw(out, "httpVersion", quoted(&format!("HTTP/{version}")));
    // Cookies stand in the header fields.
    raw(out, "cookies", "[]");
    raw(out, "headersSize", "-1");
    let fields =
        headers.iter().map(|header| field(&header.name, &String::from_utf8_lossy(&header.value)));
    raw(out, "headers", array(fields));
}

fn field(name: &str, value: &str) -> String {
    format!("{{\"name\":{},\"value\":{}}}", quoted(name), quoted(value))
}

fn text(out: &mut Members<'_>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => raw(out, "text", quoted(text)),
        Err(_) => {
            raw(out, "text", base64(bytes));
            raw(out, "encoding", "\"base64\"");
        }
    }
}

/// Tells what the entry leaves behind.
fn told(pair: &RrPair, entry: &str, lost: &mut Vec<Loss>) {
    if entry.len() > crate::formats::MAX_ENTRY {
        return lost.push(TOO_LARGE);
    }
    let Some(back) = read(entry) else { return lost.push(UNREADABLE) };
    lost.extend(loss::compare(pair, &back).into_iter().map(|loss| match loss.path {
        "direction" => DIRECTION,
        "ts" => NO_TIME,
        "signature" => SIGNATURE,
        "network_address" => UPSTREAM,
        "http.res.statusMessage" => REASON,
        "http.res.bodyBase64" if *body::unfolded(&pair.response.body) == back.response.body => {
            CODING
        }
        path if path.starts_with("http.") || matches!(path, "duration" | "l7protocol" | "stub") => {
            loss
        }
        _ => METADATA,
    }));
}

/// Takes the pair of an entry.
#[derive(Debug, Default)]
struct Back(Option<RrPair>);

impl Sink for Back {
    fn pair(&mut self, pair: RrPair) {
        self.0 = Some(pair);
    }
    fn skipped(&mut self, _: Diagnostic) {}
    fn refused(&mut self, _: Diagnostic) {}
}

fn read(entry: &str) -> Option<RrPair> {
    let mut back = Back::default();
    let mut reader = FileReader::new("x.har", &mut back);
    for part in [BEGIN, entry, END] {
        reader.push(part.as_bytes());
    }
    reader.finish();
    back.0
}
