//! One exchange: both bodies go through as they come, and when all is through, the pair is handed to the recorder.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use countersign_engine::recording::{Exchange, Message, Verdict};
use http::{Method, Request, StatusCode, request::Parts, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};

use super::Proxy;
use crate::{
    serve_request::now,
    server::{
        body::Outgoing,
        write::{Response, ours},
    },
    upstream::{
        client::{OutBody, Outbound, SendError},
        connect::Spoken,
        hop,
        policy::{Destination, Refused},
        relay::{self, Bounds, Passed},
    },
};

/// A request that is on its way.
struct Begun {
    parts: Parts,
    destination: Destination,
    /// The host that the pair is recorded for.
    host: String,
    at: i64,
    from: Instant,
    body: Option<JoinHandle<Passed>>,
}

impl Proxy {
    /// Passes a request on and its answer back.
    pub(super) async fn exchange(self: Arc<Self>, request: Request<Incoming>) -> Response {
        if request.method() == Method::CONNECT {
            let message = "this proxy records plain HTTP; for TLS name the host with --upstream https://…, and send requests here";
            return ours(
                StatusCode::NOT_IMPLEMENTED,
                &json!({ "error": "connect", "message": message }),
            );
        }
        match Arc::clone(&self).send(request).await {
            Ok(response) => response,
            Err(why) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                failed(&why)
            }
        }
    }

    async fn send(self: Arc<Self>, request: Request<Incoming>) -> Result<Response, SendError> {
        let (at, from) = (now(), Instant::now());
        let (parts, body) = request.into_parts();
        let (authority, scheme, target) = self.target(&parts)?;
        let destination = self.upstream.destination(&authority, scheme.as_deref())?;
        let (body, passing) = self.request_body(body);
        let outbound = Outbound {
            method: parts.method.clone(),
            destination: destination.clone(),
            target,
            authority: authority.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            body,
        };
        let begun = Begun { parts, destination, host: authority, at, from, body: passing };
        let answer = self.upstream.send(outbound).await?;
        let spoken = answer.extensions().get::<Spoken>().copied();
        let (head, body) = answer.into_parts();
        let message = Message { headers: head.headers.clone(), ..Message::default() };
        let out = Arc::clone(&self).relay(body, begun, head.status, message, spoken);
        let mut response = Response::new(out);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        hop::note(response.headers_mut(), self.upstream.own(), head.version, false);
        Ok(response)
    }

    /// The authority, scheme and target that a request is for.
    fn target(&self, parts: &Parts) -> Result<(String, Option<String>, PathAndQuery), SendError> {
        let own = parts.uri.path_and_query().cloned().ok_or(SendError::Target)?;
        if let Some(fixed) = &self.fixed {
            let authority = fixed.authority().ok_or(SendError::Target)?.as_str().to_owned();
            let prefix = fixed.path().trim_end_matches('/');
            let target = format!("{prefix}{own}").parse().map_err(|_| SendError::Target)?;
            return Ok((authority, fixed.scheme_str().map(str::to_owned), target));
        }
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str).or(host);
        let authority = authority.ok_or(SendError::Target)?.to_owned();
        Ok((authority, parts.uri.scheme_str().map(str::to_owned), own))
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: u64::MAX, pause: self.pause, kept: self.recorder.settings.body }
    }

    fn request_body(&self, body: Incoming) -> (OutBody, Option<JoinHandle<Passed>>) {
        if body.is_end_stream() {
            let empty = Full::new(Bytes::new()).map_err(|never| match never {});
            return (empty.boxed_unsync(), None);
        }
        let (sender, frames) = mpsc::channel(relay::WAITING);
        let (pump, drain) = (relay::pump(body, sender, self.bounds()), self.drain.clone());
        let passing = self.bodies.spawn(async move {
            tokio::select! {
                () = drain.killed() => Passed::default(),
                passed = pump => passed,
            }
        });
        (Outgoing::Channel(frames).map_err(Into::into).boxed_unsync(), Some(passing))
    }

    /// Lets the answer's body through, and records the exchange when all of it is there.
    fn relay(
        self: Arc<Self>,
        body: Incoming,
        begun: Begun,
        status: StatusCode,
        message: Message,
        spoken: Option<Spoken>,
    ) -> Outgoing {
        let empty = body.is_end_stream();
        let (sender, frames) = mpsc::channel(relay::WAITING);
        let (bodies, bounds, drain) = (self.bodies.clone(), self.bounds(), self.drain.clone());
        bodies.spawn(async move {
            let passed = tokio::select! {
                () = drain.killed() => Passed::default(),
                passed = relay::pump(body, sender, bounds) => passed,
            };
            let duration = begun.from.elapsed();
            if passed.whole {
                let response = Message {
                    body: passed.kept,
                    cut: passed.cut,
                    trailers: passed.trailers,
                    ..message
                };
                let mut exchange = self.exchange_of(begun, status, response, spoken).await;
                exchange.duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                self.recorder.take(exchange).await;
            } else {
                self.broken.fetch_add(1, Ordering::Relaxed);
            }
        });
        if empty { Outgoing::whole(Bytes::new()) } else { Outgoing::Channel(frames) }
    }

    async fn exchange_of(
        &self,
        begun: Begun,
        status: StatusCode,
        response: Message,
        spoken: Option<Spoken>,
    ) -> Exchange {
        let Begun { parts, destination, host, at, body, .. } = begun;
        let sent = match body {
            Some(passing) => passing.await.unwrap_or_default(),
            None => Passed { whole: true, ..Passed::default() },
        };
        let settings = &self.recorder.settings;
        Exchange {
            uuid: uuid::Uuid::new_v4().into_bytes(),
            began: at,
            duration: 0,
            direction: settings.direction,
            service: settings.service.clone(),
            method: parts.method.as_str().to_owned(),
            host,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            version: parts.version,
            upstream: destination.to_string(),
            tls: destination.tls,
            h2: spoken.is_some_and(|spoken| spoken.h2),
            request: Message {
                headers: recorded_headers(&parts, &destination),
                body: sent.kept,
                trailers: sent.trailers,
                // An answer may come before the whole request went through.
                cut: sent.cut || !sent.whole,
            },
            status: status.as_u16(),
            response,
            verdict: Verdict::None,
            sequence: self.recorder.next(),
            tags: settings.tags.clone(),
        }
    }
}

/// The fields as the client sent them, but for the host, which is the real one.
fn recorded_headers(parts: &Parts, destination: &Destination) -> http::HeaderMap {
    let mut headers = parts.headers.clone();
    let usual = if destination.tls { 443 } else { 80 };
    let host =
        if destination.port == usual { destination.host.clone() } else { destination.to_string() };
    if let Ok(host) = http::HeaderValue::from_str(&host) {
        headers.insert(http::header::HOST, host);
    }
    headers
}

fn failed(why: &SendError) -> Response {
    let (status, error) = match why {
        SendError::Loop | SendError::Refused(Refused::Own(..)) => {
            (StatusCode::LOOP_DETECTED, "loop")
        }
        SendError::Refused(_) => (StatusCode::FORBIDDEN, "refused"),
        SendError::Target => (StatusCode::BAD_REQUEST, "target"),
        SendError::TooSlow(..) => (StatusCode::GATEWAY_TIMEOUT, "too_slow"),
        SendError::Failed(_) => (StatusCode::BAD_GATEWAY, "failed"),
    };
    ours(status, &json!({ "error": error, "message": why.to_string() }))
}
