//! WebSocket: a handshake that was recorded is answered, and then a task speaks for the recorded server.
//!
//! The handshake is a request like any other. What follows does not belong to the HTTP connection any more, so it has bounds of its own:
//! how many there are, how large a message is, how long a peer may be silent and how long it may take no bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_engine::{
    answer::{Hit, Origin},
    request::Request,
    serving::{Said, Talk},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    config::Limits,
    fate::Broken,
    journal::{Ended, Ending, Messages, Outcome, micros},
    metrics::Lane,
    pin::{self, Selection},
    serve_request::{Plane, guard, now, serve_plain},
    server::{
        body::Outgoing,
        read,
        write::{self, Response},
    },
    snapshots::Replay,
};

/// A recorded handshake, which a response that cannot tell it carries along.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) hit: Arc<Hit>,
    /// The replay that it comes from.
    pub(crate) serial: u64,
}

/// A connection that is spoken on.
struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    replay: Arc<Replay>,
    /// The handshake's request.
    head: Parts,
    talk: Talk,
    limits: Limits,
    lane: Arc<Lane>,
    /// Where the answer to the handshake comes from.
    origin: Option<Origin>,
    messages: Messages,
    /// How many bytes the client has said.
    bytes: usize,
}

/// The peer is gone, or takes no bytes.
struct Gone;

/// Whether a request is a WebSocket handshake.
pub(crate) fn is_handshake<B>(request: &http::Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Serves a handshake.
pub(crate) async fn serve_socket(
    mut request: http::Request<Incoming>,
    plane: &Arc<Plane>,
    lane: &Arc<Lane>,
) -> Result<Response, Broken> {
    let upgrade = hyper::upgrade::on(&mut request);
    let mut head = http::Request::new(()).into_parts().0;
    head.uri.clone_from(request.uri());
    head.headers.clone_from(request.headers());
    Selection::take(&mut head.headers);
    let mut response = serve_plain(request, plane, lane).await?;
    let Some(Handshake { hit, serial }) = response.extensions_mut().remove() else {
        return Ok(response);
    };
    let replay = plane.snapshots.load().of_serial(serial).cloned();
    let Some((replay, talk)) =
        replay.and_then(|replay| replay.serving.talk(&hit).map(|talk| (replay, talk)))
    else {
        return Ok(response);
    };
    let Ok(permit) = Arc::clone(&plane.sockets).try_acquire_owned() else {
        return Ok(write::too_many());
    };
    let mut accepted = accepted(&head.headers, &hit.headers);
    if let Some(told) = response.headers().get(pin::BUNDLE) {
        accepted.headers_mut().insert(pin::BUNDLE, told.clone());
    }
    let limits = plane.limits;
    let lane = plane.metrics.lane(lane.number());
    let entry = Ending::begin(plane.journal.as_ref(), lane.number(), now());
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(limits.body))
                    .max_frame_size(Some(limits.body));
                let io = TokioIo::new(upgraded);
                let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                let (messages, origin) = (Messages::default(), hit.origin);
                let socket =
                    Socket { stream, replay, origin, head, talk, limits, lane, messages, bytes: 0 };
                socket.run(permit, entry).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    Ok(accepted)
}

/// The answer to a handshake: the recorded one, for this client's key.
fn accepted(asked: &HeaderMap, recorded: &HeaderMap) -> Response {
    let mut response = Response::new(Outgoing::whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.clone_from(recorded);
    // Compression was agreed upon with another client.
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    let offers = |protocol: &HeaderValue| {
        let offered = asked.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        offered
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|offered| offered.trim_ascii() == protocol.as_bytes())
    };
    if !headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(offers) {
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let key = asked.get(header::SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A message of the client as the engine wants it: the body of the handshake.
fn request<'r>(head: &'r Parts, message: &'r [u8]) -> Request<'r> {
    Request {
        method: "GET",
        host: read::host(head),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body: message,
        trailers: None,
    }
}

impl Socket {
    /// Speaks until one side ends.
    async fn run(mut self, permit: OwnedSemaphorePermit, entry: Option<Ending>) {
        let greeting = self.replay.serving.greet(&mut self.talk, now());
        if self.send(greeting).await.is_ok() {
            while let Ok(Some(message)) = self.hear().await {
                let Some(said) = self.answer(&message) else {
                    tracing::debug!("a message of a WebSocket was not recorded");
                    continue;
                };
                if self.send(said).await.is_err() {
                    break;
                }
            }
        }
        drop(permit);
        if let Some(entry) = entry {
            let missed = self.messages.missed > 0;
            let ended = Ended {
                outcome: if missed { Outcome::Miss } else { Outcome::Hit },
                status: StatusCode::SWITCHING_PROTOCOLS.as_u16(),
                replay: self.replay.serial,
                origin: self.origin,
                messages: self.messages,
                bytes: self.bytes,
            };
            entry.note(&request(&self.head, &[]), &ended);
        }
    }

    /// What is said to a message; `None` when it was not recorded. Each counts like a request.
    fn answer(&mut self, message: &[u8]) -> Option<Vec<Said>> {
        self.messages.heard += 1;
        self.bytes = self.bytes.saturating_add(message.len());
        self.lane.request_body(message.len());
        let request = request(&self.head, message);
        let (serving, talk) = (&self.replay.serving, &mut self.talk);
        let at = now();
        let said = guard(|| serving.say(talk, &request, at)).flatten();
        match &said {
            Some(said) => {
                let signed = said.iter().map(|said| said.resigned).sum();
                let unsigned = said.iter().map(|said| said.unsigned).sum();
                self.lane.hit(signed, unsigned);
                let (lane, took) = (self.lane.number(), micros(at, now()));
                self.replay.tally.said(lane, self.origin.as_ref(), took, (signed, unsigned));
            }
            None => {
                self.messages.missed += 1;
                self.lane.miss();
                self.replay.tally.miss(request.method, request.path, None);
            }
        }
        said
    }

    /// The client's next message; `None` when it closes the connection.
    async fn hear(&mut self) -> Result<Option<Bytes>, Gone> {
        let mut asked = false;
        loop {
            let Ok(heard) = timeout(self.limits.idle, self.stream.next()).await else {
                if asked {
                    return Err(Gone);
                }
                asked = true;
                self.write(Message::Ping(Bytes::new())).await?;
                continue;
            };
            asked = false;
            match heard {
                Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                // The stream answers both; what it has to say goes out with the next write.
                Some(Ok(Message::Ping(_) | Message::Close(_))) => {
                    let flushed = timeout(self.limits.write_pause, self.stream.flush()).await;
                    drop(flushed);
                }
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a WebSocket ended early");
                    return Err(Gone);
                }
                None => return Ok(None),
            }
        }
    }

    async fn send(&mut self, all: Vec<Said>) -> Result<(), Gone> {
        for said in all {
            if said.after > Duration::ZERO {
                tokio::time::sleep(said.after).await;
            }
            let message = match String::from_utf8(said.bytes.to_vec()) {
                Ok(text) if said.text => Message::Text(text.into()),
                _ => Message::Binary(said.bytes),
            };
            self.lane.response_body(message.len());
            self.write(message).await?;
            self.messages.said += 1;
        }
        Ok(())
    }

    async fn write(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(self.limits.write_pause, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}
