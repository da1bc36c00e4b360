//! Calls in which both sides speak: answered message by message while the client goes on.
//!
//! What has come so far chooses the recorded call, and answers are sent in proportion to what of it has come. When both sides wait, the next
//! answer is sent though it is not due, so that a call always comes to its end.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use countersign_engine::{
    answer::Fate,
    grpc::Method,
    request::Request,
    serving::{Line, Serving},
};
use http::{HeaderMap, StatusCode, request::Parts};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    config::Limits,
    fate::{self, Broken},
    journal::{Ended, Ending, Messages, Outcome, micros},
    metrics::Lane,
    pin::Selection,
    serve_request::{Plane, guard, now},
    server::{
        bodies::{Bodies, Held},
        body::{Cut, Outgoing},
        call::{Call, Code, end, ended},
        read::{self, Trailing},
        write::Response,
    },
    snapshots::Replay,
};

/// How long a client may be silent before it is taken for one that waits for us.
const NUDGE: Duration = Duration::from_millis(250);
/// The same where the recorded calls have one answer only, which mostly comes at the end.
const LATE_NUDGE: Duration = Duration::from_secs(2);
/// Answers that wait until the client takes them.
const WAITING: usize = 4;
/// What stands before a message.
const PREFIX: usize = 5;

/// A part of the answer.
type Piece = Result<Frame<Bytes>, Cut>;

/// What happened on the client's side.
enum Event {
    Message,
    End,
    Silence,
    /// The client is gone, or what it sends is no call.
    Broken,
    TooLarge,
}

/// A call that goes on.
struct Dialogue {
    replay: Arc<Replay>,
    head: Parts,
    incoming: Incoming,
    limits: Limits,
    nudge: Duration,
    deadline: Option<Instant>,
    /// What came and is no whole message yet.
    partial: BytesMut,
    /// The messages that came, in their frames.
    heard: BytesMut,
    /// Their memory.
    bodies: Arc<Bodies>,
    held: Option<Held>,
    messages: usize,
    ended: bool,
    line: Option<Line>,
    /// How many answers were sent, or may be.
    sent: usize,
    /// The client is silent, and so were we.
    nudged: bool,
    /// How often in a row.
    silences: u32,
    entry: Option<Ending>,
}

/// Answers a call once the recorded one is chosen; the rest goes on in a task.
pub(super) async fn serve(
    call: &Call,
    request: http::Request<Incoming>,
    replay: Arc<Replay>,
    method: Method,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    let at = now();
    let entry = Ending::begin(plane.journal.as_ref(), lane.number(), at);
    let (mut head, incoming) = request.into_parts();
    Selection::take(&mut head.headers);
    let mut dialogue = Dialogue {
        replay,
        head,
        incoming,
        limits: plane.limits,
        nudge: if method.responses > 1 { NUDGE } else { LATE_NUDGE },
        deadline: call.deadline.ok().flatten().map(|deadline| Instant::now() + deadline),
        partial: BytesMut::new(),
        heard: BytesMut::new(),
        bodies: Arc::clone(&plane.bodies),
        held: None,
        messages: 0,
        ended: false,
        line: None,
        sent: 0,
        nudged: false,
        silences: 0,
        entry,
    };
    if let Err(code) = dialogue.choose().await {
        if code == Code::NotFound {
            lane.miss();
            dialogue.replay.tally.miss("POST", dialogue.head.uri.path(), None);
        } else {
            lane.refused();
        }
        dialogue.note(outcome(code));
        return Ok(ended(code, tell(code)));
    }
    let Some(line) = &dialogue.line else { return Ok(ended(Code::Internal, tell(Code::Internal))) };
    lane.request_body(dialogue.heard.len());
    lane.hit(line.hit.resigned, line.hit.unsigned);
    let took = micros(at, now());
    dialogue.replay.tally.hit(lane.number(), &line.hit, took, dialogue.heard.len());
    lane.response_body(line.hit.body.len());
    if let Some(touched) = line.hit.touched.as_deref() {
        lane.touched(*touched);
        // What fails or breaks is not told in turn.
        if touched.fate != Fate::Sent || line.hit.status != StatusCode::OK.as_u16() {
            let hit = line.hit.clone();
            tokio::time::sleep(hit.delay).await;
            dialogue.note(Outcome::Hit);
            return fate::meet(hit, Trailing::Sent).await;
        }
    }
    let (sender, frames): (Sender<Piece>, Receiver<_>) = channel(WAITING);
    let mut response = Response::new(Outgoing::Channel(frames));
    response.headers_mut().clone_from(&line.hit.headers);
    tokio::spawn(dialogue.go_on(sender));
    Ok(response)
}

/// What became of a call that ends with a code of ours.
fn outcome(code: Code) -> Outcome {
    match code {
        Code::NotFound => Outcome::Miss,
        // The recorded answers were on their way.
        Code::DeadlineExceeded => Outcome::Hit,
        _ => Outcome::Refused,
    }
}

fn tell(code: Code) -> &'static str {
    match code {
        Code::NotFound => "no recorded call of this method begins with these messages",
        Code::ResourceExhausted => "the messages of the call are larger than the limit",
        Code::DeadlineExceeded => "the recorded answers take longer than the deadline",
        _ => "the call could not be read",
    }
}

impl Dialogue {
    /// Listens until a recorded call is chosen.
    async fn choose(&mut self) -> Result<(), Code> {
        match self.next().await {
            Event::Message | Event::End | Event::Silence => {}
            Event::Broken => return Err(Code::Internal),
            Event::TooLarge => return Err(Code::ResourceExhausted),
        }
        if self.listen() { Ok(()) } else { Err(Code::NotFound) }
    }

    /// Answers what is due and listens on, until the call is at its end.
    async fn go_on(mut self, sender: Sender<Piece>) {
        let held = self.line.as_ref().filter(|line| !line.hit.is_paced());
        if let Some(delay) = held.map(|line| line.hit.delay).filter(|delay| !delay.is_zero()) {
            tokio::time::sleep(delay).await;
        }
        let (outcome, last) = self.speak(&sender).await;
        self.note(outcome);
        // A client that is gone needs no end.
        if let Some(last) = last {
            drop(sender.send(last).await);
        }
    }

    /// Answers until the end; what became of the call, and what is left to send.
    async fn speak(&mut self, sender: &Sender<Piece>) -> (Outcome, Option<Piece>) {
        let code = loop {
            if self.send_due(sender).await.is_err() {
                return (Outcome::Hit, None);
            }
            if let Some(trailers) = self.end() {
                return (Outcome::Hit, Some(Ok(Frame::trailers(trailers))));
            }
            self.nudged = false;
            let event = match self.deadline {
                None => self.next().await,
                Some(deadline) => match timeout_at(deadline, self.next()).await {
                    Ok(event) => event,
                    Err(_) => break Code::DeadlineExceeded,
                },
            };
            match event {
                Event::Message | Event::End => {
                    self.silences = 0;
                    if !self.listen() {
                        break Code::NotFound;
                    }
                }
                Event::Silence => {
                    self.nudged = true;
                    self.silences = self.silences.saturating_add(1);
                }
                Event::TooLarge => break Code::ResourceExhausted,
                Event::Broken => return (Outcome::Refused, Some(Err(Cut))),
            }
        };
        (outcome(code), Some(Ok(Frame::trailers(end(code, tell(code))))))
    }

    /// Makes the entry of the journal.
    fn note(&mut self, outcome: Outcome) {
        let Some(entry) = self.entry.take() else { return };
        let hit = self.line.as_ref().map(|line| &line.hit);
        let status = match outcome {
            Outcome::Hit => hit.map_or(StatusCode::OK.as_u16(), |hit| hit.status),
            Outcome::Miss => StatusCode::NOT_FOUND.as_u16(),
            _ => StatusCode::BAD_REQUEST.as_u16(),
        };
        let ended = Ended {
            outcome,
            status,
            replay: self.replay.serial,
            origin: hit.and_then(|hit| hit.origin),
            messages: Messages {
                heard: self.messages,
                missed: usize::from(outcome == Outcome::Miss),
                said: self.sent,
            },
            bytes: self.heard.len(),
        };
        entry.note(&Request { body: &[], ..self.request() }, &ended);
    }

    /// What was heard, as the engine wants it.
    fn request(&self) -> Request<'_> {
        Request {
            method: self.head.method.as_str(),
            host: read::host(&self.head),
            path: self.head.uri.path(),
            query: self.head.uri.query().unwrap_or_default(),
            headers: &self.head.headers,
            body: &self.heard,
            trailers: None,
        }
    }

    /// Chooses the recorded call by what was heard; tells whether there is one.
    fn listen(&mut self) -> bool {
        let before = self.line.take();
        let request = self.request();
        let serving: &Serving = &self.replay.serving;
        let last = before.clone().filter(|_| self.ended && self.sent > 0);
        let heard = guard(|| serving.listen(&request, self.ended, before, now())).flatten();
        // A client that ends before the recorded one did gets the recorded end.
        self.line = heard.or(last);
        self.line.is_some()
    }

    async fn send_due(&mut self, sender: &Sender<Piece>) -> Result<(), ()> {
        let Some(line) = &self.line else { return Err(()) };
        let next = self.sent + usize::from(self.nudged);
        let due = line.due(self.messages).max(next).min(line.answers.len());
        let parts = u32::try_from(line.answers.len().max(1)).unwrap_or(u32::MAX);
        let pace = if line.hit.is_paced() { line.hit.delay / parts } else { Duration::ZERO };
        for answer in line.answers.iter().take(due).skip(self.sent) {
            if !pace.is_zero() {
                tokio::time::sleep(pace).await;
            }
            sender.send(Ok(Frame::data(answer.clone()))).await.map_err(|_| ())?;
        }
        self.sent = self.sent.max(due);
        Ok(())
    }

    /// The trailers, once the call is at its end.
    fn end(&self) -> Option<HeaderMap> {
        let line = self.line.as_ref()?;
        let said = self.ended || (self.messages >= line.requests && !line.open);
        // Nobody says anything any more.
        let tired = self.nudge * self.silences > self.limits.body_pause;
        let stuck = self.nudged && (self.messages >= line.requests || tired);
        let all = self.sent >= line.answers.len();
        ((said || stuck) && (all || self.ended))
            .then(|| line.hit.trailers.as_deref().cloned().unwrap_or_default())
    }

    /// The next event of the client.
    async fn next(&mut self) -> Event {
        loop {
            match self.whole_message() {
                Ok(true) => return Event::Message,
                Ok(false) => {}
                Err(event) => return event,
            }
            if self.ended {
                return Event::Silence;
            }
            let frame = match timeout(self.nudge, self.incoming.frame()).await {
                Err(_) => return Event::Silence,
                Ok(None) => {
                    self.ended = true;
                    return if self.partial.is_empty() { Event::End } else { Event::Broken };
                }
                Ok(Some(Err(_))) => return Event::Broken,
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                self.partial.extend_from_slice(&data);
            }
            let size = self.partial.len() + self.heard.len();
            if size > self.limits.body || self.bodies.hold(&mut self.held, size).is_err() {
                return Event::TooLarge;
            }
        }
    }

    /// Moves a whole message from what came to what was heard.
    fn whole_message(&mut self) -> Result<bool, Event> {
        let Some(([_, length @ ..], _)) = self.partial.split_first_chunk::<PREFIX>() else {
            return Ok(false);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let length = length.saturating_add(PREFIX);
        if length > self.limits.body {
            return Err(Event::TooLarge);
        }
        if self.partial.len() < length {
            return Ok(false);
        }
        self.heard.extend_from_slice(self.partial.get(..length).unwrap_or_default());
        self.partial.advance(length);
        self.messages += 1;
        Ok(true)
    }
}
