//! A pair as one RRPair JSON object, with the members in the order that recorders write.
//!
//! What reading did not model comes back at its place as it was; zero values are left out, as protobuf's JSON leaves them out.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    formats::{
        fields::quoted,
        time,
        write::object::{Members, base64, members, object, raw, text},
    },
    snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair, stub::Stub, wire},
};

/// The order of the members of a pair. What is not listed comes last.
const TOP: &[&str] = &[
    "msgType",
    "version",
    "resource",
    "ts",
    "isTls",
    "l7protocol",
    "duration",
    "elapsed",
    "alpn",
    "tags",
    "meta",
    "uuid",
    "direction",
    "cluster",
    "namespace",
    "service",
    "tech",
    "detectedTech",
    "network_address",
    "command",
    "location",
    "status",
    "dlpModified",
    "dlpRule",
    "http",
    "tokens",
    "tokenList",
    "session",
    "responderMatch",
    "signature",
    "mutableSignature",
    "events",
    "netinfo",
];
const HTTP: &[&str] = &["req", "res", "sig"];
const REQUEST: &[&str] =
    &["url", "uri", "version", "method", "host", "headers", "queryParams", "cookies", "bodyBase64"];
const RESPONSE: &[&str] =
    &["contentType", "statusCode", "statusMessage", "headers", "cookies", "bodyBase64"];

/// Which parts of a message are written: markdown shows some of them elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) headers: bool,
    pub(super) body: bool,
}

impl Parts {
    pub(super) const ALL: Self = Self { headers: true, body: true };
}

/// How much of a pair is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) request: Parts,
    pub(super) response: Parts,
    /// The object stands in a markdown file, whose request line shows an upstream even where none was recorded: say that there was none.
    pub(super) embedded: bool,
}

impl Extent {
    pub(super) const ALL: Self =
        Self { request: Parts::ALL, response: Parts::ALL, embedded: false };
}

/// The pair on one line, without the line break.
pub(super) fn line(pair: &RrPair, extent: Extent) -> String {
    let mut top = members(Some(&pair.extra_json));
    let http = top.remove("http");
    raw(&mut top, "msgType", "\"rrpair\"");
    if let Some(ts) = pair.ts {
        raw(&mut top, "ts", quoted(&time::rfc3339(ts, true)));
    }
    text(&mut top, "l7protocol", &pair.l7protocol);
    if pair.duration >= 1_000_000 {
        raw(&mut top, "duration", (pair.duration / 1_000_000).to_string());
    }
    if !pair.duration.is_multiple_of(1_000_000) {
        raw(&mut top, "elapsed", quoted(&time::seconds(pair.duration)));
    }
    // Without tags of its own, a reader would take the older map for them.
    if !pair.tags.is_empty() || top.contains_key("meta") {
        let tags = pair.tags.iter().map(|(name, value)| (name.clone(), quoted(value).into()));
        raw(&mut top, "tags", object(tags.collect(), &[]));
    }
    if let Some(uuid) = &pair.uuid {
        raw(&mut top, "uuid", base64(uuid));
    }
    let direction = if pair.direction == Direction::In { "\"IN\"" } else { "\"OUT\"" };
    raw(&mut top, "direction", direction);
    for (name, value) in [
        ("cluster", &pair.cluster),
        ("namespace", &pair.namespace),
        ("service", &pair.service),
        ("tech", &pair.tech),
        ("network_address", &pair.network_address),
        ("command", &pair.command),
        ("location", &pair.location),
        ("status", &pair.status),
        ("session", &pair.session),
    ] {
        text(&mut top, name, value);
    }
    if extent.embedded && pair.network_address.is_empty() {
        raw(&mut top, "network_address", "\"\"");
    }
    raw(&mut top, "http", message(pair, http.as_deref(), extent));
    if !pair.signature.is_empty() {
        let entries = pair.signature.iter().map(|(key, value)| (key.clone(), base64(value).into()));
        raw(&mut top, "signature", object(entries.collect(), &[]));
    }
    // The recorder knows no stubs, and no reader minds a member that it does not know.
    if let Some(stub) = &pair.stub {
        raw(&mut top, "stub", base64(&wire::stub_to_bytes(Stub::clone(stub))));
    }
    object(top, TOP)
}

fn message(pair: &RrPair, extra: Option<&str>, extent: Extent) -> String {
    let mut http = members(extra);
    let (req, res) = (http.remove("req"), http.remove("res"));
    if let Some(recorded) = &pair.request {
        raw(&mut http, "req", request(recorded, req.as_deref(), extent.request));
    }
    raw(&mut http, "res", response(&pair.response, res.as_deref(), extent.response));
    object(http, HTTP)
}

fn request(request: &HttpRequest, extra: Option<&str>, parts: Parts) -> String {
    let mut out = members(extra);
    text(&mut out, "url", &request.path);
    text(&mut out, "uri", &path_and_query(request));
    text(&mut out, "version", &request.version);
    text(&mut out, "method", &request.method);
    text(&mut out, "host", &request.host);
    headers_and_body(&mut out, &request.headers, &request.body, parts);
    object(out, REQUEST)
}

fn response(response: &HttpResponse, extra: Option<&str>, parts: Parts) -> String {
    let mut out = members(extra);
    raw(&mut out, "statusCode", response.status.to_string());
    text(&mut out, "statusMessage", &response.status_message);
    headers_and_body(&mut out, &response.headers, &response.body, parts);
    object(out, RESPONSE)
}

fn headers_and_body(out: &mut Members<'_>, headers: &[Header], body: &[u8], parts: Parts) {
    if parts.headers && !headers.is_empty() {
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for header in headers {
            let value = quoted(&String::from_utf8_lossy(&header.value));
            by_name.entry(&header.name).or_default().push(value);
        }
        let members = by_name
            .into_iter()
            .map(|(name, values)| (name.to_owned(), format!("[{}]", values.join(",")).into()));
        raw(out, "headers", object(members.collect(), &[]));
    }
    if parts.body && !body.is_empty() {
        raw(out, "bodyBase64", base64(body));
    }
}

/// The path and query of a request, as a request line has them.
pub(super) fn path_and_query(request: &HttpRequest) -> Cow<'_, str> {
    if request.query.is_empty() {
        Cow::Borrowed(&request.path)
    } else {
        format!("{}?{}", request.path, request.query).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::rrpair_json;

    const LINE: &str = r#"{"msgType":"rrpair","version":"0.0.1","resource":"shop","ts":"2025-11-25T18:06:30.703560Z","isTls":true,"l7protocol":"https","duration":2,"elapsed":"0.002105s","alpn":"h2","tags":{"decoded":"true","sequence":"7"},"uuid":"AAECAwQFBgcICQoLDA0ODw==","direction":"IN","cluster":"undefined","namespace":"n","service":"s","tech":"JSON","detectedTech":["JSON"],"network_address":"api.test:443","command":"POST","location":"/a","status":"201","dlpModified":true,"http":{"req":{"url":"/a","uri":"/a?x=1&y","version":"2.0","method":"POST","host":"api.test","headers":{"Accept":["a, b"],"X-B":["1","2"]},"cookies":[{"name":"k"}],"bodyBase64":"eyJhIjogMX0="},"res":{"contentType":"text/plain","statusCode":201,"statusMessage":"201 Created","headers":{"Content-Length":["3"],"Content-Type":["text/plain"]},"bodyBase64":"aMOp"},"sig":{"host":"api.test"}},"tokenList":{"JWT:x":{"id":"JWT:x"}},"session":"JWT:x","signature":{"http:hash":"/wA=","http:method":"UE9TVA==","http:queryparams":""},"mutableSignature":{"http:method":"POST"},"events":[],"netinfo":{"id":"1","downstream":{"bytesSent":"703"}},"bytes":12345678901234567890,"unknown":[1.50]}"#;

    #[test]
    fn a_line_comes_back_as_it_was() {
        let pair = rrpair_json::read(LINE.as_bytes()).unwrap();
        assert_eq!(line(&pair, Extent::ALL), LINE);
    }

    #[test]
    fn what_is_zero_or_unknown_stays_as_it_was() {
        for text in [
            r#"{"msgType":"rrpair","ts":"then","l7protocol":"http","tags":{},"meta":{"a":"b"},"direction":"OUT","http":{"res":{"statusCode":200},"sig":{"url":"/"}},"signature":{"http:url":"Lw=="}}"#,
            r#"{"msgType":"rrpair","l7protocol":"http","direction":"OUT","http":{"req":{"url":"/","uri":"/","version":"1.1","method":"GET","host":"h"},"res":{"statusCode":200}}}"#,
        ] {
            let pair = rrpair_json::read(text.as_bytes()).unwrap();
            assert_eq!(line(&pair, Extent::ALL), text);
        }
    }

    #[test]
    fn extras_that_are_no_object_are_left_out() {
        let mut pair = rrpair_json::read(LINE.as_bytes()).unwrap();
        pair.extra_json = "[1]".to_owned();
        assert!(line(&pair, Extent::ALL).starts_with(r#"{"msgType":"rrpair","ts""#));
    }
}
