//! Passthrough: a request that nothing recorded answers goes to the real host, if the replay wants that and the host may be reached.
//!
//! The exchange runs on the control runtime, off the threads that serve recordings; its body comes back through a channel. A token that was
//! re-signed here goes to the real host as the client presents it.

mod start;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use countersign_engine::recording::{Exchange, Message, Verdict};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    recorder::Recorder,
    server::{
        body::Outgoing,
        read::Received,
        write::{MISS_HEADER, Response, ours},
    },
    snapshots::Replay,
    upstream::{
        client::{Outbound, SendError, Upstream},
        connect::Spoken,
        hop,
        policy::{Destination, Refused, Rule},
        relay::{self, Bounds},
    },
};

pub(crate) use start::Passing;
pub use start::StartError;

/// Marks an answer of the real host.
const PASSTHROUGH_HEADER: HeaderName = HeaderName::from_static("x-countersign-passthrough");

/// Whether a response came from a real host, or should have.
pub(crate) fn has_passed(response: &Response) -> bool {
    response.headers().contains_key(PASSTHROUGH_HEADER)
}
/// What an answer may take, so that none fills the memory of whoever reads it by way of us.
const MAX_ANSWER: u64 = 1024 * 1024 * 1024;

/// Who may be asked, and when.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Passes misses of every replay through, and not only of those whose test config says so.
    pub always: bool,
    /// The hosts that may be reached; none unless named.
    pub allow: Vec<Rule>,
    /// A file of certificates that are trusted beside the system's.
    pub trust: Option<PathBuf>,
    /// How long the head of an answer may take.
    pub head: Duration,
    /// How long the body of an answer may pause.
    pub pause: Duration,
    /// Where what passed through is recorded; nowhere unless named.
    pub record: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            always: false,
            allow: Vec::new(),
            trust: None,
            head: Duration::from_secs(30),
            pause: Duration::from_secs(60),
            record: None,
        }
    }
}

/// Passes requests through.
#[derive(Debug)]
pub(crate) struct Passthrough {
    pub(crate) upstream: Upstream,
    pub(crate) always: bool,
    pub(crate) pause: Duration,
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// Where exchanges run.
    pub(crate) control: Handle,
    /// Bodies that are on their way.
    pub(crate) bodies: TaskTracker,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Passed {
    /// There is an answer, of the real host or of ours.
    Answered(Response),
    /// It may not go there; this is why.
    Refused(Refused),
}

impl Passthrough {
    /// Whether misses of a replay are to be passed through.
    pub(crate) fn wants(&self, replay: &Replay) -> bool {
        self.always || replay.serving.snapshot().passes_through()
    }

    /// Asks the real host. `began` is when the request came, in nanoseconds since the epoch.
    pub(crate) async fn pass(self: &Arc<Self>, received: &Arc<Received>, began: i64) -> Passed {
        let (this, received) = (Arc::clone(self), Arc::clone(received));
        let exchange = async move { this.exchange(&received, began).await };
        let task = AbortOnDropHandle::new(self.control.spawn(exchange));
        match task.await {
            Ok(Ok(response)) => Passed::Answered(response),
            Ok(Err(SendError::Refused(why))) if !matches!(why, Refused::Own(..)) => {
                Passed::Refused(why)
            }
            Ok(Err(why)) => Passed::Answered(failed(&why)),
            Err(_) => Passed::Answered(failed(&SendError::Failed("it was given up".to_owned()))),
        }
    }

    async fn exchange(&self, received: &Received, began: i64) -> Result<Response, SendError> {
        let from = Instant::now();
        let (parts, request) = (received.parts(), received.request());
        let destination = self.upstream.destination(request.host, parts.uri.scheme_str())?;
        let target = parts.uri.path_and_query().cloned().ok_or(SendError::Target)?;
        let outbound = Outbound {
            method: parts.method.clone(),
            destination: destination.clone(),
            target,
            authority: request.host.to_owned(),
            version: parts.version,
            headers: parts.headers.clone(),
            body: request_body(received),
        };
        let answer = self.upstream.send(outbound).await?;
        let spoken = answer.extensions().get::<Spoken>().copied();
        let (head, body) = answer.into_parts();
        // What another one of us says of itself is no answer of a real host.
        let ours = head.headers.contains_key(MISS_HEADER)
            || head.headers.get(PASSTHROUGH_HEADER).is_some_and(|value| value == "failed");
        let exchange = self.recorder.as_ref().filter(|_| !ours).map(|_| {
            let message = Message { headers: head.headers.clone(), ..Message::default() };
            exchange_of(received, began, &destination, head.status, message, spoken)
        });
        let mut response = Response::new(self.relay(body, exchange, from));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        let headers = response.headers_mut();
        hop::note(headers, self.upstream.own(), head.version, false);
        headers.entry(PASSTHROUGH_HEADER).or_insert(HeaderValue::from_static("true"));
        Ok(response)
    }

    /// Lets the body through, and records the exchange when all of it is there.
    fn relay(&self, body: Incoming, exchange: Option<Exchange>, from: Instant) -> Outgoing {
        if body.is_end_stream() && exchange.is_none() {
            return Outgoing::whole(Bytes::new());
        }
        let kept = self.recorder.as_ref().map_or(0, |recorder| recorder.settings.body);
        let bounds = Bounds { bytes: MAX_ANSWER, pause: self.pause, kept };
        let empty = body.is_end_stream();
        let (sender, frames) = mpsc::channel(relay::WAITING);
        let recorder = self.recorder.clone();
        self.bodies.spawn_on(
            async move {
                let passed = relay::pump(body, sender, bounds).await;
                if let (Some(mut exchange), Some(recorder), true) =
                    (exchange, recorder, passed.whole)
                {
                    exchange.duration =
                        u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    exchange.sequence = recorder.next();
                    exchange.response.body = passed.kept;
                    exchange.response.cut = passed.cut;
                    exchange.response.trailers = passed.trailers;
                    recorder.take(exchange).await;
                }
            },
            &self.control,
        );
        if empty { Outgoing::whole(Bytes::new()) } else { Outgoing::Channel(frames) }
    }
}

fn request_body(received: &Received) -> crate::upstream::client::OutBody {
    let body = Full::new(received.body().clone()).map_err(|never| match never {});
    match received.request().trailers.cloned() {
        None => body.boxed_unsync(),
        Some(trailers) => {
            let trailers = std::future::ready(Some(Ok(trailers)));
            body.with_trailers(trailers).boxed_unsync()
        }
    }
}

fn exchange_of(
    received: &Received,
    began: i64,
    destination: &Destination,
    status: StatusCode,
    response: Message,
    spoken: Option<Spoken>,
) -> Exchange {
    let (parts, request) = (received.parts(), received.request());
    Exchange {
        uuid: uuid::Uuid::new_v4().into_bytes(),
        began,
        duration: 0,
        direction: countersign_engine::snapshot::Direction::Out,
        service: String::new(),
        method: request.method.to_owned(),
        host: request.host.to_owned(),
        path: request.path.to_owned(),
        query: request.query.to_owned(),
        version: parts.version,
        upstream: destination.to_string(),
        tls: destination.tls,
        h2: spoken.is_some_and(|spoken| spoken.h2),
        request: Message {
            headers: parts.headers.clone(),
            body: received.body().clone(),
            trailers: request.trailers.cloned(),
            cut: false,
        },
        status: status.as_u16(),
        response,
        verdict: Verdict::PassedThrough,
        sequence: 0,
        tags: std::collections::BTreeMap::new(),
    }
}

/// What a client gets when the real host could not be asked.
fn failed(why: &SendError) -> Response {
    let (status, error) = match why {
        SendError::Loop | SendError::Refused(Refused::Own(..)) => {
            (StatusCode::LOOP_DETECTED, "passthrough_loop")
        }
        SendError::TooSlow(..) => (StatusCode::GATEWAY_TIMEOUT, "passthrough_too_slow"),
        SendError::Refused(_) | SendError::Target | SendError::Failed(_) => {
            (StatusCode::BAD_GATEWAY, "passthrough_failed")
        }
    };
    let mut response = ours(status, &json!({ "error": error, "message": why.to_string() }));
    response.headers_mut().insert(PASSTHROUGH_HEADER, HeaderValue::from_static("failed"));
    response
}
