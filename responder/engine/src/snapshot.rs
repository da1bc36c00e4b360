//! Recorded traffic in the domain's own types: [`RrPair`], its request, response and recorded signature.
//!
//! Formats read users' files into these types; [`wire`] carries them between the planes; [`chunk`] cuts them into blobs; nothing here
//! knows JSON or protobuf.

pub mod chunk;
pub mod digest;
pub mod encoded;
pub mod ordinals;
pub mod stub;
pub mod told;
pub mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;

/// One recorded request and its response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RrPair {
    /// The recorded id.
    pub uuid: Option<[u8; 16]>,
    /// The start of the request, in nanoseconds since the Unix epoch; `None` when the recording has no readable time.
    pub ts: Option<i64>,
    /// Towards the recorded service or away from it.
    pub direction: Direction,
    /// How long the response took, in nanoseconds.
    pub duration: u64,
    /// The layer-7 protocol, `http` or `https`.
    pub l7protocol: String,
    /// The workload that was recorded.
    pub service: String,
    /// Its cluster.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// The detected technology.
    pub tech: String,
    /// `host:port` of the upstream.
    pub network_address: String,
    /// The HTTP method, as the recorder detected it.
    pub command: String,
    /// The URL path, as the recorder detected it.
    pub location: String,
    /// The status, as the recorder detected it.
    pub status: String,
    /// The recorder's tags.
    pub tags: BTreeMap<String, String>,
    /// The session id that the recorder assigned.
    pub session: String,
    /// The request; absent in responder-only recordings, which are matched by their recorded signature alone. Of a stub it is an example,
    /// as far as its conditions tell, which filters look at and lists name.
    pub request: Option<HttpRequest>,
    /// The response.
    pub response: HttpResponse,
    /// The recorded signature by key; empty when the recording has none.
    pub signature: BTreeMap<String, Bytes>,
    /// Everything else that the recording held, as the text of a JSON object; empty when there was nothing.
    pub extra_json: String,
    /// The position in the import, which is the recorded order.
    pub ordinal: u64,
    /// Which requests the pair answers; `None` when that is the recorded one.
    pub stub: Option<Box<stub::Stub>>,
}

/// Which way recorded traffic went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    /// Towards the recorded service.
    In,
    /// From the recorded service to a dependency.
    #[default]
    Out,
}

/// A recorded HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The path without query, as it was on the wire.
    pub path: String,
    /// The raw query without `?`.
    pub query: String,
    /// `1.0`, `1.1` or `2.0`.
    pub version: String,
    /// The host, with or without port.
    pub host: String,
    /// The headers in recorded order; a repeated name is repeated.
    pub headers: Vec<Header>,
    /// The body as it was on the wire, decompressed where the recorder did so.
    pub body: Bytes,
}

/// A recorded HTTP response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The status text, for example `200 OK`.
    pub status_message: String,
    /// The headers in recorded order; a repeated name is repeated.
    pub headers: Vec<Header>,
    /// The body as it was on the wire, decompressed where the recorder did so.
    pub body: Bytes,
}

/// One HTTP header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name in its recorded casing.
    pub name: String,
    /// The value; need not be UTF-8.
    pub value: Bytes,
}

/// The first value of a header, by case-insensitive name.
#[must_use]
pub fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a Bytes> {
    headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| &h.value)
}

/// Which recorded pairs a replay serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serve {
    /// What the recorded service asked of its dependencies.
    #[default]
    Out,
    /// What the recorded service answered at its own door.
    In,
    /// Both.
    All,
}

impl Serve {
    /// Whether pairs of this direction are served.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        matches!(
            (self, direction),
            (Self::All, _) | (Self::Out, Direction::Out) | (Self::In, Direction::In)
        )
    }
}
