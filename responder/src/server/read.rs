//! Reads a request whole, within bounds. What is not read whole is refused, and the connection closed.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use countersign_engine::{grpc, request::Request};
use http::{HeaderMap, Method, Version, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::{error::Elapsed, timeout};

use super::{
    bodies::{Bodies, Held},
    route::is_authority_form,
};
use crate::{config::Limits, fields::takes_trailers, pin::Selection};

/// What is read of a body that was refused, so that the client reads our answer before it meets a closed connection.
const DISCARDED: usize = 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Received {
    parts: Parts,
    body: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// What it wants answered by whom.
    pub(crate) selection: Selection,
    /// The body's memory, where it is counted.
    _held: Option<Held>,
}

/// A body, read whole.
#[derive(Debug, Default)]
struct Whole {
    bytes: Bytes,
    trailers: Option<Box<HeaderMap>>,
    held: Option<Held>,
}

/// What becomes of a response's trailers (RFC 9110, section 6.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trailing {
    Sent,
    /// They are named in a header field first.
    Announced,
    Dropped,
}

/// Stands in a request of which one message of gRPC is enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OneMessage {
    /// How long its end is waited for once the message is there.
    pub(crate) grace: Duration,
}

impl OneMessage {
    /// How long the message is, and what has come of it.
    fn measured(body: &[u8]) -> Option<(usize, &[u8])> {
        let ([_, length @ ..], rest) = body.split_first_chunk::<5>()?;
        Some((usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX), rest))
    }

    /// Whether the message is there.
    fn is_whole(body: &[u8]) -> bool {
        Self::measured(body).is_some_and(|(length, rest)| rest.len() >= length)
    }

    /// Whether all of a body is messages. No server of gRPC takes a part of one.
    fn are_whole(mut body: &[u8]) -> bool {
        while !body.is_empty() {
            let next = Self::measured(body).and_then(|(length, rest)| rest.get(length..));
            let Some(next) = next else { return false };
            body = next;
        }
        true
    }
}

/// Why a request was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Larger than this.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body paused for too long.
    #[error("the body did not come in time")]
    TooSlow,
    /// The connection broke or the framing is wrong.
    #[error("the body could not be read")]
    Broken,
    /// All that is there for bodies is taken.
    #[error("the bodies of all requests are larger than --max-body-memory-mib")]
    Crowded,
    /// A message of gRPC is not there whole.
    #[error("the body ends within a message")]
    CutMessage,
    /// A deadline of gRPC that is none.
    #[error("`grpc-timeout` is up to eight digits and one of H, M, S, m, u, n")]
    Deadline,
    /// HTTP/1.1 wants exactly one.
    #[error("an HTTP/1.1 request has exactly one `Host` header")]
    Host,
    /// No tunnels in HTTP/2; in HTTP/1 they do not come this far.
    #[error("CONNECT is answered in HTTP/1.1 only")]
    Connect,
    /// A target that is none.
    #[error("the target of a request is a path, or a URL")]
    Target,
    /// Something is expected that nobody knows.
    #[error("the only expectation that can be met is `100-continue`")]
    Expectation,
}

impl Received {
    /// A request that did not come through a listener of recorded traffic.
    pub(crate) fn new(
        mut parts: Parts,
        body: Bytes,
        trailers: Option<HeaderMap>,
        replay: Option<String>,
    ) -> Self {
        let named = Selection::take(&mut parts.headers);
        let selection = Selection { replay: replay.or(named.replay), ..named };
        Self { parts, body, trailers: trailers.map(Box::new), selection, _held: None }
    }

    /// Its head.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Its whole body.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// What becomes of trailers of its response.
    pub(crate) fn trailing(&self) -> Trailing {
        match self.parts.version {
            Version::HTTP_2 => Trailing::Sent,
            // They become a part of the body.
            _ if self.is_web_call() => Trailing::Sent,
            Version::HTTP_11 if takes_trailers(&self.parts.headers) => Trailing::Announced,
            _ => Trailing::Dropped,
        }
    }

    fn is_web_call(&self) -> bool {
        let content_type = self.parts.headers.get(header::CONTENT_TYPE);
        content_type.is_some_and(|value| grpc::web(value.as_bytes()).is_some())
    }

    /// The request as the engine wants it.
    pub(crate) fn request(&self) -> Request<'_> {
        let uri = &self.parts.uri;
        Request {
            method: self.parts.method.as_str(),
            host: host(&self.parts),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: &self.parts.headers,
            body: &self.body,
            trailers: self.trailers.as_deref(),
        }
    }
}

/// Reads a request.
///
/// # Errors
/// Why it was not read, and its head.
pub(crate) async fn request(
    request: http::Request<Incoming>,
    limits: &Limits,
    bodies: &Arc<Bodies>,
) -> Result<Received, Box<(Refusal, Parts)>> {
    let (parts, mut incoming) = request.into_parts();
    let mut received = without_body(parts)?;
    let one = received.parts.extensions.remove::<OneMessage>();
    match read_body(&mut incoming, limits, one, bodies).await {
        Ok(Whole { bytes, trailers, held }) => {
            Ok(Received { body: bytes, trailers, _held: held, ..received })
        }
        Err(refusal) => {
            // A client that asked first, with `Expect: 100-continue`, has sent nothing.
            if refusal == Refusal::TooLarge(limits.body)
                && !received.parts.headers.contains_key(header::EXPECT)
            {
                drop(timeout(DISCARD_TIME, discard(incoming)).await);
            }
            Err(Box::new((refusal, received.parts)))
        }
    }
}

/// A request of which there is no more than its head.
///
/// # Errors
/// Why it cannot be answered, and its head.
pub(crate) fn without_body(mut parts: Parts) -> Result<Received, Box<(Refusal, Parts)>> {
    if let Err(refusal) = check(&parts) {
        return Err(Box::new((refusal, parts)));
    }
    let selection = Selection::take(&mut parts.headers);
    Ok(Received { parts, body: Bytes::new(), trailers: None, selection, _held: None })
}

/// Refuses heads that cannot be answered.
fn check(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if is_authority_form(&parts.uri) {
        return Err(Refusal::Target);
    }
    if parts.version == Version::HTTP_11 && parts.headers.get_all(header::HOST).iter().count() != 1
    {
        return Err(Refusal::Host);
    }
    let expectation = parts.headers.get(header::EXPECT);
    if expectation.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    Ok(())
}

/// The authority of the target (HTTP/2, absolute form), else the `Host` header.
pub(crate) fn host(parts: &Parts) -> &str {
    match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts
            .headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default(),
    }
}

async fn read_body(
    body: &mut Incoming,
    limits: &Limits,
    one: Option<OneMessage>,
    bodies: &Arc<Bodies>,
) -> Result<Whole, Refusal> {
    let limit = limits.body;
    if body.is_end_stream() {
        return Ok(Whole::default());
    }
    // A length that is announced is refused before any of it is read, and before `100 Continue` is sent.
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > limit) {
        return Err(Refusal::TooLarge(limit));
    }
    // Most bodies come in one piece, which is not copied.
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    let (mut trailers, mut held) = (None, None);
    loop {
        let known = if joined.is_empty() { &whole[..] } else { &joined[..] };
        let enough = one.filter(|_| OneMessage::is_whole(known));
        let pause = enough.map_or(limits.body_pause, |one| one.grace);
        let frame = match next_frame(body, pause).await {
            Err(_) if enough.is_some() => break,
            Err(_) => return Err(Refusal::TooSlow),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Refusal::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok().map(Box::new);
                continue;
            }
        };
        let size = whole.len() + joined.len() + data.len();
        if size > limit {
            return Err(Refusal::TooLarge(limit));
        }
        bodies.hold(&mut held, size).map_err(|_| Refusal::Crowded)?;
        if whole.is_empty() && joined.is_empty() {
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
        if one.is_some() {
            let known = if joined.is_empty() { &whole[..] } else { &joined[..] };
            // It is told at once, not when the client has tried to send all of it.
            if OneMessage::measured(known).is_some_and(|(length, _)| length > limit) {
                return Err(Refusal::TooLarge(limit));
            }
        }
        // Where a length was announced the end is known without asking for it.
        if body.is_end_stream() {
            break;
        }
    }
    let bytes = if joined.is_empty() { whole } else { joined.freeze() };
    if one.is_some() && !OneMessage::are_whole(&bytes) {
        return Err(Refusal::CutMessage);
    }
    Ok(Whole { bytes, trailers, held })
}

/// The next frame, which may take so long. Setting a timer costs more than most bodies, so it is set for those alone that are not there.
async fn next_frame(
    body: &mut Incoming,
    pause: Duration,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Elapsed> {
    let mut frame = pin!(body.frame());
    let mut asked = false;
    // hyper passes what it has on only after it was asked, so that the answer to the second question is the one that counts.
    let there = poll_fn(|context| match frame.as_mut().poll(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match there.await {
        Some(frame) => Ok(frame),
        None => timeout(pause, frame).await,
    }
}

async fn discard(mut body: Incoming) {
    let mut left = DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
    }
}
