//! Calls of gRPC at the edge: what a client speaks, its deadline, and how an end is told.
//!
//! The engine works on plain gRPC. Here gRPC-Web is wrapped and unwrapped, and what would be an HTTP error of ours becomes a status that a
//! gRPC client understands.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use countersign_engine::grpc;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::{
    body::Outgoing,
    write::{self, Response},
};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The longest explanation in a status; clients bound their metadata.
const MAX_MESSAGE: usize = 1024;
/// The flag of a frame that holds trailers.
const TRAILERS: u8 = 0x80;
/// What a page may read of an answer, besides what browsers allow anyway.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin";

/// The status codes that we end calls with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    ResourceExhausted,
    FailedPrecondition,
    Unimplemented,
    Internal,
    Unavailable,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::NotFound => "5",
            Self::ResourceExhausted => "8",
            Self::FailedPrecondition => "9",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
        }
    }
}

/// A call, seen from its head.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    /// How long the client waits; an error when it says that in a way that nobody understands.
    pub(crate) deadline: Result<Option<Duration>, BadDeadline>,
    /// Whence the page comes that calls.
    origin: Option<HeaderValue>,
    /// The header fields that a page asks to send.
    asks: Option<HeaderValue>,
}

/// A deadline that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadDeadline;

/// What a client speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Native,
    /// gRPC-Web, in its text form or not, with its content type.
    Web {
        text: bool,
        content_type: HeaderValue,
    },
    /// A browser asks whether a page may call.
    Preflight,
}

impl Call {
    /// The call that a request begins; `None` when it is none.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Option<Self> {
        let headers = request.headers();
        let kind = match headers.get(header::CONTENT_TYPE) {
            Some(value) if grpc::is_grpc(value.as_bytes()) => match grpc::web(value.as_bytes()) {
                None if request.version() == Version::HTTP_2 => Kind::Native,
                None => return None,
                Some(text) => Kind::Web { text, content_type: value.clone() },
            },
            None if request.method() == Method::OPTIONS
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) =>
            {
                Kind::Preflight
            }
            _ => return None,
        };
        let deadline = headers.get(TIMEOUT).map_or(Ok(None), |value| {
            let text = value.to_str().map_err(|_| BadDeadline)?;
            deadline(text).map(Some).ok_or(BadDeadline)
        });
        let origin = headers.get(header::ORIGIN).cloned();
        let asks = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        Some(Self { kind, deadline, origin, asks })
    }

    /// Makes a response one that the client understands. `known` tells whether the method was recorded.
    pub(crate) fn finish(&self, response: Response, known: bool) -> Response {
        let response = match &self.kind {
            Kind::Preflight => return self.allowed(response, known),
            Kind::Native => as_status(response, known),
            Kind::Web { text, content_type } => {
                wrapped(as_status(response, known), *text, content_type)
            }
        };
        self.shared(response)
    }

    /// What was not recorded of a preflight is allowed where the method was.
    fn allowed(&self, response: Response, known: bool) -> Response {
        if response.status() != StatusCode::NOT_FOUND || !known {
            return response;
        }
        let mut allowed = self.shared(Response::new(Outgoing::whole(Bytes::new())));
        *allowed.status_mut() = StatusCode::NO_CONTENT;
        let headers = allowed.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        if let Some(asks) = &self.asks {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asks.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        allowed
    }

    /// Lets the page read the answer, unless the recording has its own say.
    fn shared(&self, mut response: Response) -> Response {
        let Some(origin) = &self.origin else { return response };
        let headers = response.headers_mut();
        if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            let credentials = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.entry(header::ACCESS_CONTROL_EXPOSE_HEADERS).or_insert(exposed);
        }
        response
    }
}

/// `<number><unit>`, at most eight digits.
fn deadline(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The fields that end a call.
pub(crate) fn end(code: Code, message: &str) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(3);
    fields.insert(STATUS, HeaderValue::from_static(code.as_str()));
    if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
        fields.insert(MESSAGE, message);
    }
    fields
}

/// A response that is nothing but the end of a call.
pub(crate) fn ended(code: Code, message: &str) -> Response {
    let mut response = Response::new(Outgoing::whole(Bytes::new()));
    *response.headers_mut() = end(code, message);
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A message as it may stand in a header field: everything but printable ASCII is percent-encoded.
fn escaped(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        if out.len() > MAX_MESSAGE {
            out.push_str("...");
            break;
        }
        if matches!(c, ' '..='~') && c != '%' {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
        }
    }
    out
}

/// An error of ours as a status; anything else stays as it is.
fn as_status(response: Response, known: bool) -> Response {
    let code = match response.status().as_u16() {
        404 if known => Code::NotFound,
        404 | 501 => Code::Unimplemented,
        400 => Code::InvalidArgument,
        408 => Code::DeadlineExceeded,
        412 => Code::FailedPrecondition,
        413 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => Code::Internal,
    };
    if response.extensions().get::<write::Ours>().is_none() {
        return response;
    }
    let missed = response.headers().get(write::MISS_HEADER).cloned();
    let text = match response.into_body().into_whole() {
        Ok((text, _)) => text,
        Err(_) => Bytes::new(),
    };
    let mut response = ended(code, String::from_utf8_lossy(&text).trim());
    if let Some(missed) = missed {
        response.headers_mut().insert(write::MISS_HEADER, missed);
    }
    response
}

/// An answer of gRPC as one of gRPC-Web: trailers are a last frame.
fn wrapped(response: Response, text: bool, content_type: &HeaderValue) -> Response {
    let recorded = response.headers().get(header::CONTENT_TYPE);
    if !recorded.is_some_and(|value| grpc::is_grpc(value.as_bytes())) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.insert(header::CONTENT_TYPE, content_type.clone());
    head.headers.remove(header::TRAILER);
    let (body, trailers) = match body.into_whole() {
        Ok(whole) => whole,
        // Nobody makes these for calls of gRPC-Web.
        Err(body) => return Response::from_parts(head, body),
    };
    let mut out = body.to_vec();
    if let Some(trailers) = trailers {
        let mut fields = Vec::new();
        for (name, value) in &trailers {
            fields.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        out.push(TRAILERS);
        out.extend(u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(fields);
    }
    let out = if text { STANDARD.encode(out).into() } else { Bytes::from(out) };
    Response::from_parts(head, Outgoing::whole(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_by_their_unit() {
        for (text, millis) in [
            ("100m", Some(100)),
            ("2S", Some(2000)),
            ("1M", Some(60_000)),
            ("1H", Some(3_600_000)),
            ("2000u", Some(2)),
            ("99999999n", Some(99)),
            ("123456789n", None),
            ("m", Some(0)),
            ("", None),
            ("-1S", None),
            ("1x", None),
            ("1\u{e9}", None),
        ] {
            let read = deadline(text).map(|time| time.as_millis());
            let millis = if text == "m" { None } else { millis };
            assert_eq!(read, millis, "{text}");
        }
    }

    #[test]
    fn messages_are_escaped_and_bounded() {
        assert_eq!(escaped("50% \u{e9}\n~"), "50%25 %C3%A9%0A~");
        assert!(escaped(&"x".repeat(5000)).len() < MAX_MESSAGE + 8);
    }

    #[test]
    fn trailers_become_a_frame_of_grpc_web() {
        let frames = Bytes::from_static(b"\0\0\0\0\x02\x08\x01");
        let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
        for text in [false, true] {
            let body = Outgoing::trailed(frames.clone(), Some(Box::new(trailers.clone())));
            let mut response = Response::new(body);
            let native = HeaderValue::from_static("application/grpc+proto");
            response.headers_mut().insert(header::CONTENT_TYPE, native);
            let content_type = HeaderValue::from_static("application/grpc-web-text");
            let wrapped = wrapped(response, text, &content_type);
            assert_eq!(wrapped.headers()[header::CONTENT_TYPE], content_type);
            let (body, _) = wrapped.into_body().into_whole().unwrap();
            let body = if text { STANDARD.decode(body).unwrap().into() } else { body };
            assert_eq!(body, [&frames[..], b"\x80\0\0\0\x10grpc-status: 0\r\n"].concat());
        }
    }
}
