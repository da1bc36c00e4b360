//! Recording: from an exchange that went through a proxy of ours to a pair as an import takes it.
//!
//! Bodies are kept as they were on the wire; what only other recorders know is left out. The signature is the one that the pair is served
//! under when no template changes it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::{
    body,
    request::{Parts, without_port},
    signature::Signature,
    snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair},
};

/// What became of a request, as recorders call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A mock did not know it, and the real host answered.
    PassedThrough,
    /// Nobody was to answer but the real host.
    None,
}

/// One side of an exchange.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The header fields.
    pub headers: HeaderMap,
    /// The body as it was on the wire.
    pub body: Bytes,
    /// The fields behind the body.
    pub trailers: Option<HeaderMap>,
    /// There was more of the body than is kept.
    pub cut: bool,
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The id of the pair.
    pub uuid: [u8; 16],
    /// When the request began, in nanoseconds since the epoch.
    pub began: i64,
    /// How long it took until the whole answer was there, in nanoseconds.
    pub duration: u64,
    /// Which way it went.
    pub direction: Direction,
    /// What was recorded, for example the workload; the host when empty.
    pub service: String,
    /// The method.
    pub method: String,
    /// The host as the client named it.
    pub host: String,
    /// The path.
    pub path: String,
    /// The raw query.
    pub query: String,
    /// The version that the client spoke.
    pub version: http::Version,
    /// `host:port` of who answered.
    pub upstream: String,
    /// The real host was asked with TLS.
    pub tls: bool,
    /// HTTP/2 was spoken with the real host.
    pub h2: bool,
    /// The request.
    pub request: Message,
    /// The status.
    pub status: u16,
    /// The answer.
    pub response: Message,
    /// What became of it.
    pub verdict: Verdict,
    /// Its number in this recording.
    pub sequence: u64,
    /// More tags.
    pub tags: BTreeMap<String, String>,
}

impl Exchange {
    /// The exchange as a pair.
    #[must_use]
    pub fn into_pair(self) -> RrPair {
        let tech = tech(&self.response.headers);
        let extra_json = self.extra(&tech);
        let tags = self.tags();
        let text = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let mut pair = RrPair {
            uuid: Some(self.uuid),
            ts: Some(self.began),
            direction: self.direction,
            duration: self.duration,
            l7protocol: if self.tls { "https" } else { "http" }.to_owned(),
            service: if self.service.is_empty() {
                without_port(&self.host).to_owned()
            } else {
                self.service
            },
            cluster: "undefined".to_owned(),
            namespace: "undefined".to_owned(),
            tech,
            network_address: self.upstream,
            command: self.method.clone(),
            location: self.path.clone(),
            status: self.status.to_string(),
            tags,
            request: Some(HttpRequest {
                method: self.method,
                path: self.path,
                query: self.query,
                version: version(self.version).to_owned(),
                host: self.host,
                headers: fields(&self.request.headers),
                body: self.request.body,
            }),
            response: HttpResponse {
                status: self.status,
                status_message: text.map_or_else(
                    || self.status.to_string(),
                    |text| format!("{} {text}", self.status),
                ),
                headers: fields(&self.response.headers),
                body: self.response.body,
            },
            extra_json,
            ..RrPair::default()
        };
        let signature = Signature::of(&Parts::of_recorded(&pair), &[]);
        pair.signature = signature
            .entries()
            .map(|(key, value)| (key.to_owned(), Bytes::copy_from_slice(value)))
            .collect();
        pair
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        let mut tag =
            |name: &str, value: &str| drop(tags.insert(name.to_owned(), value.to_owned()));
        tag("source", "countersign");
        tag("captureMode", "proxy");
        tag("proxyLocation", if self.direction == Direction::In { "in" } else { "out" });
        tag("sequence", &self.sequence.to_string());
        if self.verdict == Verdict::PassedThrough {
            tag("match", "PASSTHROUGH");
        }
        for (name, message) in
            [("requestTruncated", &self.request), ("responseTruncated", &self.response)]
        {
            if message.cut {
                tag(name, "true");
            }
        }
        tags
    }

    /// What the model has no place for.
    fn extra(&self, tech: &str) -> String {
        let mut extra = Map::new();
        if self.tls {
            extra.insert("isTls".to_owned(), true.into());
        }
        if self.tls && self.h2 {
            extra.insert("alpn".to_owned(), "h2".into());
        }
        if self.verdict == Verdict::PassedThrough {
            extra.insert("responderMatch".to_owned(), "PASSTHROUGH".into());
        }
        extra.insert("detectedTech".to_owned(), json!([tech]));
        let mut http = Map::new();
        for (name, message) in [("req", &self.request), ("res", &self.response)] {
            let mut part = Map::new();
            if let Some(trailers) =
                message.trailers.as_ref().filter(|trailers| !trailers.is_empty())
            {
                part.insert("trailers".to_owned(), by_name(trailers));
            }
            if name == "res"
                && let Some(kind) = message.headers.get(http::header::CONTENT_TYPE)
            {
                part.insert(
                    "contentType".to_owned(),
                    String::from_utf8_lossy(kind.as_bytes()).into(),
                );
            }
            if !part.is_empty() {
                http.insert(name.to_owned(), Value::Object(part));
            }
        }
        if !http.is_empty() {
            extra.insert("http".to_owned(), Value::Object(http));
        }
        Value::Object(extra).to_string()
    }
}

fn by_name(fields: &HeaderMap) -> Value {
    let values = |name: &http::HeaderName| {
        let all = fields.get_all(name).iter();
        all.map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect::<Vec<Value>>()
    };
    Value::Object(
        fields.keys().map(|name| (canonical(name.as_str()), values(name).into())).collect(),
    )
}

fn fields(headers: &HeaderMap) -> Vec<Header> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| Header {
        name: canonical(name.as_str()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.iter().map(field).collect()
}

/// A field's name as recorders write it, `Content-Type`.
fn canonical(name: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let out = if first { c.to_ascii_uppercase() } else { c };
        first = c == '-';
        out
    };
    name.chars().map(letter).collect()
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2.0",
        _ => "1.1",
    }
}

fn tech(headers: &HeaderMap) -> String {
    let kind = headers.get(http::header::CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
    let tech = if body::mentions(kind, b"grpc") {
        "gRPC"
    } else if body::mentions(kind, b"json") {
        "JSON"
    } else {
        "HTTP"
    };
    tech.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{
        FileReader, Sink,
        write::{Target, Writer},
    };

    #[derive(Default)]
    struct Read(Vec<RrPair>);

    impl Sink for Read {
        fn pair(&mut self, pair: RrPair) {
            self.0.push(pair);
        }
        fn skipped(&mut self, why: crate::diagnostic::Diagnostic) {
            panic!("{why}");
        }
        fn refused(&mut self, why: crate::diagnostic::Diagnostic) {
            panic!("{why}");
        }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn exchange() -> Exchange {
        Exchange {
            uuid: [7; 16],
            began: 1_764_093_990_703_567_803,
            duration: 2_105_000,
            direction: Direction::Out,
            service: String::new(),
            method: "POST".to_owned(),
            host: "api.example:8443".to_owned(),
            path: "/orders".to_owned(),
            query: "b=2&a=1".to_owned(),
            version: http::Version::HTTP_2,
            upstream: "api.example:8443".to_owned(),
            tls: true,
            h2: true,
            request: Message {
                headers: headers(&[("content-type", "application/json"), ("te", "trailers")]),
                body: Bytes::from_static(br#"{"b":1,"a":2}"#),
                ..Message::default()
            },
            status: 200,
            response: Message {
                headers: headers(&[
                    ("content-type", "application/json"),
                    ("x-b", "1"),
                    ("x-b", "2"),
                ]),
                body: Bytes::from_static(b"[1,2"),
                trailers: Some(headers(&[("grpc-status", "0")])),
                cut: true,
            },
            verdict: Verdict::PassedThrough,
            sequence: 3,
            tags: BTreeMap::from([("mine".to_owned(), "x".to_owned())]),
        }
    }

    #[test]
    fn a_pair_comes_back_from_every_form_as_it_was_recorded() {
        let pair = exchange().into_pair();
        assert_eq!(pair.tags["match"], "PASSTHROUGH");
        assert_eq!(pair.tags["responseTruncated"], "true");
        assert!(!pair.tags.contains_key("requestTruncated"));
        assert_eq!((pair.service.as_str(), pair.tech.as_str()), ("api.example", "JSON"));
        assert_eq!(crate::extra::trailers(&pair, "res")[0].value, "0");
        let signature: Vec<_> =
            pair.signature.iter().map(|(key, value)| (key.as_str(), &**value)).collect();
        assert_eq!(
            signature,
            [
                ("http:host", &b"api.example"[..]),
                ("http:method", b"POST"),
                ("http:queryparams", b"a=1&b=2"),
                ("http:requestBodyJSON", br#"{"a":2,"b":1}"#),
                ("http:url", b"/orders"),
            ]
        );
        for (target, name) in [(Target::JsonLines, "a.jsonl"), (Target::Markdown, "a.md")] {
            let mut writer = Writer::new(target);
            let piece = writer.pair(&pair);
            let mut read = Read::default();
            let mut reader = FileReader::new(name, &mut read);
            reader.push(&piece.bytes);
            reader.finish();
            let [back] = read.0.as_slice() else { panic!("{}", read.0.len()) };
            assert_eq!(back.signature, pair.signature, "{name}");
            // Members are written in another order.
            let extra = |pair: &RrPair| serde_json::from_str::<Value>(&pair.extra_json).unwrap();
            assert_eq!(extra(back), extra(&pair), "{name} holds everything");
            assert_eq!(
                (&back.response, &back.tags, back.ts),
                (&pair.response, &pair.tags, pair.ts),
                "{name}"
            );
            assert_eq!(crate::extra::trailers(back, "res"), crate::extra::trailers(&pair, "res"));
        }
    }
}
