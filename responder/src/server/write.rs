//! Makes responses: recorded ones, and our own words when there is none. Everything of ours is JSON.

use std::time::Duration;

use bytes::Bytes;
use countersign_engine::{
    answer::Hit,
    near_miss::{Entry, Near, NearMiss, NearStub, Presented},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::{
    body::{Outgoing, Piece},
    read::{Refusal, Trailing},
};
use crate::{pin::NotServed, snapshots::Assignment, upstream::policy::Refused};

/// A response, ready to send.
pub(crate) type Response = http::Response<Outgoing>;

/// How long after the last bytes an exchange is cut off.
const CUT_AFTER: Duration = Duration::from_millis(10);
/// Marks a response as ours: nothing recorded answered.
pub(crate) const MISS_HEADER: &str = "x-countersign-miss";

/// What a miss says that is not explained.
const UNEXPLAINED: &str = "there are more misses than are explained at a time; `countersign snapshot explain` tells what comes near this one, and the journal of this responder has the request";

/// The error of a request for a replay that is not served.
pub(crate) const UNKNOWN_REPLAY: &str = "unknown_replay";
/// The error of a request for a version that is not served.
pub(crate) const BUNDLE_NOT_SERVED: &str = "bundle_not_served";
/// The error of any request while nothing is served.
pub(crate) const NOTHING_TO_SERVE: &str = "nothing_to_serve";
/// The error of a request that the engine has a defect with.
pub(crate) const DEFECT: &str = "internal";

/// A recorded response.
pub(crate) fn hit(mut hit: Hit, trailing: Trailing) -> Response {
    let status = match StatusCode::from_u16(hit.status) {
        // hyper refuses to end an exchange with an interim response.
        Ok(status) if !status.is_informational() => status,
        _ => {
            return ours(
                StatusCode::BAD_GATEWAY,
                &json!({ "error": "recorded_status_not_servable", "status": hit.status }),
            );
        }
    };
    if hit.trailers.is_some() {
        settle_trailers(&mut hit, trailing);
    }
    let body = if hit.is_paced() { paced(&hit) } else { Outgoing::trailed(hit.body, hit.trailers) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = hit.headers;
    response
}

/// A recorded response of whose body only so many bytes are sent: more is announced, and then the exchange is cut off.
pub(crate) fn cut(mut hit: Hit, after: usize) -> Response {
    let body = std::mem::take(&mut hit.body);
    hit.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let sent = body.slice(..after.min(body.len()));
    let piece = |after, bytes| Piece { after, bytes };
    // What is sent has to be on its way before the end comes.
    let pieces = vec![piece(Duration::ZERO, sent), piece(CUT_AFTER, Bytes::new())];
    let mut response = self::hit(hit, Trailing::Dropped);
    *response.body_mut() = Outgoing::paced(pieces, None, true);
    response
}

/// A stream whose pieces are spread over the time that it takes.
fn paced(hit: &Hit) -> Outgoing {
    let pieces = hit.pieces();
    let after = hit.delay / u32::try_from(pieces.len().max(1)).unwrap_or(u32::MAX);
    let pieces = pieces.into_iter().map(|bytes| Piece { after, bytes }).collect();
    Outgoing::paced(pieces, hit.trailers.as_deref().cloned(), false)
}

fn settle_trailers(hit: &mut Hit, trailing: Trailing) {
    match trailing {
        Trailing::Sent => {}
        Trailing::Announced => {
            let names = hit.trailers.iter().flat_map(|trailers| trailers.keys());
            let names = names.map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
            if let Ok(names) = HeaderValue::from_str(&names) {
                hit.headers.insert(header::TRAILER, names);
            }
        }
        Trailing::Dropped => hit.trailers = None,
    }
}

/// What is told of a request that nothing recorded answers.
#[derive(Debug, Serialize)]
struct Report<'m> {
    error: &'static str,
    replay: &'m str,
    #[serde(skip_serializing_if = "<[Entry]>::is_empty")]
    presented: &'m [Entry],
    nearest: Option<&'m [Near]>,
    #[serde(skip_serializing_if = "<[NearStub]>::is_empty")]
    stubs: &'m [NearStub],
    #[serde(skip_serializing_if = "<[Presented]>::is_empty")]
    credentials: &'m [Presented],
    #[serde(skip_serializing_if = "Option::is_none")]
    unexplained: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passthrough: Option<NotPassed>,
}

/// Why a miss was not passed through.
#[derive(Debug, Serialize)]
struct NotPassed {
    refused: String,
}

/// Nothing recorded answers: what was presented and what comes near stand beside, unless too many misses want to know at once.
/// `refused` says why it was not passed through, if that was wanted.
pub(crate) fn miss(
    replay: &str,
    nearest: Option<&NearMiss>,
    refused: Option<&Refused>,
) -> Response {
    missed(&Report {
        error: "no_recorded_response",
        replay,
        presented: nearest.map_or(&[], |told| &told.presented),
        nearest: nearest.map(|told| &*told.nearest),
        stubs: nearest.map_or(&[], |told| &told.stubs),
        credentials: nearest.map_or(&[], |told| &told.credentials),
        unexplained: nearest.is_none().then_some(UNEXPLAINED),
        passthrough: refused.map(|refused| NotPassed { refused: refused.to_string() }),
    })
}

/// The replay that was asked for is not served here.
pub(crate) fn unknown_replay(wanted: &str, served: &[String]) -> Response {
    missed(&json!({ "error": UNKNOWN_REPLAY, "replay": wanted, "served": served }))
}

/// The version that was asked for cannot answer.
pub(crate) fn bundle_not_served(refused: &NotServed) -> Response {
    let version = |it: &Assignment| json!({ "replay": it.name, "bundle": it.bundle.to_hex() });
    let mut response = missed(&json!({
        "error": BUNDLE_NOT_SERVED,
        "message": refused.why,
        "bundle": refused.wanted,
        "served": refused.versions.iter().map(version).collect::<Vec<_>>(),
    }));
    *response.status_mut() = StatusCode::PRECONDITION_FAILED;
    response
}

/// Nothing is served yet.
pub(crate) fn unavailable(awaited: &[String]) -> Response {
    let message = if awaited.is_empty() {
        "no replay is assigned to this responder; start one, or see /status of the admin listener"
    } else {
        "the replays that are assigned to this responder are still being fetched"
    };
    let mut response = ours(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({ "error": NOTHING_TO_SERVE, "message": message, "awaited": awaited }),
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The request was not read whole; closing keeps the rest from being taken for the next request.
pub(crate) fn refused(refusal: Refusal) -> Response {
    let (status, error) = match refusal {
        Refusal::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
        Refusal::Broken => (StatusCode::BAD_REQUEST, "body_broken"),
        Refusal::Crowded => (StatusCode::SERVICE_UNAVAILABLE, "body_memory"),
        // It is only ever told as the status of gRPC that it becomes, INTERNAL.
        Refusal::CutMessage => (StatusCode::UNPROCESSABLE_ENTITY, "message_cut"),
        Refusal::Deadline => (StatusCode::BAD_REQUEST, "grpc_timeout"),
        Refusal::Host => (StatusCode::BAD_REQUEST, "host_header"),
        Refusal::Connect => (StatusCode::NOT_IMPLEMENTED, "connect_not_supported"),
        Refusal::Target => (StatusCode::BAD_REQUEST, "target"),
        Refusal::Expectation => (StatusCode::EXPECTATION_FAILED, "expectation"),
    };
    let mut response = ours(status, &json!({ "error": error, "message": refusal.to_string() }));
    // hyper drops this field where it is not allowed, in HTTP/2.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// As many WebSockets are open as may be.
pub(crate) fn too_many() -> Response {
    let message = "as many WebSockets are open as may be";
    ours(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "too_many", "message": message }))
}

/// As many requests wait for a slow signature as may.
pub(crate) fn signing() -> Response {
    let message = "more tokens are asked for than can be signed; ask again, or raise --sign-queue";
    busy(&json!({ "error": "signing_busy", "message": message }))
}

/// Memory is used up; whoever comes later may be served.
pub(crate) fn overloaded() -> Response {
    let message = "the memory of this responder is used up";
    let mut response = busy(&json!({ "error": "overloaded", "message": message }));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn busy(body: &serde_json::Value) -> Response {
    let mut response = ours(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The engine could not make the answer; the next request may well be answered.
pub(crate) fn defect() -> Response {
    let message = "the answer could not be made; please report this with the responder's log";
    ours(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": DEFECT, "message": message }))
}

fn missed(body: &impl Serialize) -> Response {
    let mut response = ours(StatusCode::NOT_FOUND, body);
    response.headers_mut().insert(MISS_HEADER, HeaderValue::from_static("true"));
    response
}

/// Marks, among a response's extensions, one that was not recorded: its body is a JSON document of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ours;

/// A JSON document of ours.
pub(crate) fn ours(status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = Vec::with_capacity(512);
    // Writing to memory does not fail, and no key of ours is anything but text.
    drop(serde_json::to_writer(&mut text, body));
    text.push(b'\n');
    let mut response = Response::new(Outgoing::whole(Bytes::from(text)));
    *response.status_mut() = status;
    response.extensions_mut().insert(Ours);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
