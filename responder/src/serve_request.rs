//! One request: read, answer, write. Between reading and writing nothing is awaited, except for the explanation of a miss.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_engine::{
    answer::{Answer, Hit},
    near_miss::NearMiss,
    request::Request,
    serving::Owed,
};
use http::request::Parts;
use hyper::body::Incoming;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    certificates::Certificates,
    config::Limits,
    entrances::Entrances,
    explanations::Explanations,
    fate::{self, Broken},
    journal::{self, Journal, Line, Note},
    metrics::{Lane, Metrics},
    passthrough::{Passed, Passthrough},
    serve_call::serve_call,
    serve_socket::{Handshake, is_handshake, serve_socket},
    server::{
        self,
        call::Call,
        read::{self, Received, Trailing},
        write::{self, Response},
    },
    snapshots::{Replay, Snapshots},
};

/// Selects a replay by its id or full name.
pub(crate) const REPLAY_HEADER: &str = "x-countersign-replay";

/// What every request shares.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// `None` when nothing is noted.
    pub(crate) journal: Option<Arc<Journal>>,
    /// `None` when no host may be asked.
    pub(crate) passthrough: Option<Arc<Passthrough>>,
    /// Room for WebSockets.
    pub(crate) sockets: Arc<Semaphore>,
    /// What TLS is answered with, if it is.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Whether `CONNECT` is answered with a tunnel.
    pub(crate) forward_proxy: bool,
    pub(crate) explanations: Arc<Explanations>,
    /// Slow signatures that are made at a time.
    signatures: Arc<Semaphore>,
    control: Handle,
}

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    /// A recorded answer, and the serial number of its replay.
    Hit(Hit, u64),
    /// A recorded answer of this replay, whose token has still to be signed, which takes long.
    Owed(Arc<Replay>, Owed),
    /// Nothing recorded answers it; the replay is the one that it is reported against.
    Miss(Arc<Replay>),
    /// The replay that it asks for is not served here; these are.
    Unknown(String, Vec<String>),
    /// Nothing is served yet; these are awaited.
    Unavailable(Vec<String>),
    /// The engine has a defect.
    Defect,
}

impl Plane {
    /// Answers TLS and `CONNECT` as its entrances want it.
    pub(crate) fn reached_by(self, entrances: &Entrances) -> Self {
        let certificates = entrances.certificates.clone();
        Self { certificates, forward_proxy: entrances.forward_proxy, ..self }
    }

    /// `control` is the runtime that explains misses.
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
        limits: Limits,
        journal: Option<Arc<Journal>>,
        passthrough: Option<Arc<Passthrough>>,
        control: Handle,
    ) -> Self {
        Self {
            snapshots,
            metrics,
            limits,
            journal,
            passthrough,
            sockets: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            certificates: None,
            forward_proxy: false,
            explanations: Arc::new(Explanations::of_cores(server::cores())),
            signatures: Arc::new(Semaphore::new(server::cores())),
            control,
        }
    }
}

/// Serves one request.
pub(crate) async fn serve_request(
    request: http::Request<Incoming>,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    // What is not plain HTTP stands behind a box: its room would be moved about with each request.
    match Call::of(&request) {
        None if is_handshake(&request) => Box::pin(serve_socket(request, plane, lane)).await,
        None => serve_plain(request, plane, lane).await,
        Some(call) => Box::pin(serve_call(&call, request, plane, lane)).await,
    }
}

/// Serves one request as HTTP.
pub(crate) async fn serve_plain(
    request: http::Request<Incoming>,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    let at = now();
    match read::request(request, &plane.limits).await {
        Ok(received) => answer_read(received, at, plane, lane).await,
        Err(refused) => {
            let (refusal, parts) = *refused;
            lane.refused();
            let response = write::refused(refusal);
            if let Some(entry) = Entry::begin(plane, lane, at) {
                entry.refused(&parts, response.status().as_u16());
            }
            Ok(response)
        }
    }
}

/// Answers a request that did not come through a listener of recorded traffic.
pub(crate) async fn respond(
    received: Received,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    answer_read(received, now(), plane, lane).await
}

async fn answer_read(
    received: Received,
    at: i64,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    let entry = Entry::begin(plane, lane, at);
    lane.request_body(received.request().body.len());
    let mut outcome = guarded(|| answer(&received, &plane.snapshots, entered(at, &received)));
    if let Outcome::Owed(replay, owed) = outcome {
        outcome = Box::pin(pay(plane, replay, owed)).await;
    }
    Ok(match outcome {
        Outcome::Hit(hit, replay) => {
            lane.hit(hit.resigned, hit.unsigned);
            if hit.origin.is_some_and(|origin| origin.borrowed) {
                lane.borrowed();
            }
            lane.response_body(hit.body.len());
            if let Some(touched) = hit.touched.as_deref() {
                lane.touched(*touched);
            }
            if !hit.delay.is_zero() && !hit.is_paced() {
                tokio::time::sleep(hit.delay).await;
            }
            if let Some(entry) = entry {
                entry.hit(&received, &hit, replay);
            }
            let handshake = (hit.status == 101)
                .then(|| Handshake { hit: Arc::new(hit.clone()), serial: replay });
            // Most answers have no trailers, and then it does not matter what would become of them.
            let trailing = hit.trailers.as_ref().map_or(Trailing::Dropped, |_| received.trailing());
            let mut response = fate::meet(hit, trailing).await?;
            if let Some(handshake) = handshake {
                response.extensions_mut().insert(handshake);
            }
            response
        }
        Outcome::Miss(replay) => Box::pin(miss(plane, lane, replay, received, entry)).await,
        other => {
            let (outcome, response) = unanswered(other, lane);
            if let Some(entry) = entry {
                entry.other(&received, outcome, response.status().as_u16());
            }
            response
        }
    })
}

/// A request that nothing recorded answers: the real host is asked if it may be, else what comes near is told.
async fn miss(
    plane: &Plane,
    lane: &Lane,
    replay: Arc<Replay>,
    received: Received,
    entry: Option<Entry<'_>>,
) -> Response {
    let received = Arc::new(received);
    let mut refused = None;
    if let Some(passthrough) =
        plane.passthrough.as_ref().filter(|passthrough| passthrough.wants(&replay))
    {
        match passthrough.pass(&received, now()).await {
            Passed::Answered(response) => {
                lane.passed();
                if let Some(entry) = entry {
                    entry.passed(&received, response.status().as_u16(), replay.serial);
                }
                return response;
            }
            Passed::Refused(why) => refused = Some(why),
        }
    }
    lane.miss();
    let nearest = plane.explanations.explain(&replay, &received, &plane.control).await;
    let response = write::miss(&replay.assignment.name, nearest.as_ref(), refused.as_ref());
    if let Some(entry) = entry {
        entry.miss(&received, response.status().as_u16(), replay.serial, nearest);
    }
    response
}

/// A request that no replay was asked about.
fn unanswered(outcome: Outcome, lane: &Lane) -> (journal::Outcome, Response) {
    match outcome {
        Outcome::Unknown(wanted, served) => {
            lane.miss();
            (journal::Outcome::Refused, write::unknown_replay(&wanted, &served))
        }
        Outcome::Unavailable(awaited) => {
            lane.unavailable();
            (journal::Outcome::Unavailable, write::unavailable(&awaited))
        }
        Outcome::Defect | Outcome::Hit(..) | Outcome::Owed(..) | Outcome::Miss(_) => {
            lane.defect();
            (journal::Outcome::Defect, write::defect())
        }
    }
}

/// An entry of the journal that is about to be made.
struct Entry<'j> {
    journal: &'j Journal,
    lane: usize,
    at: i64,
}

impl<'j> Entry<'j> {
    /// Begins one for a request that came then; `None` when nothing is noted.
    fn begin(plane: &'j Plane, lane: &Lane, at: i64) -> Option<Self> {
        let journal = plane.journal.as_deref()?;
        Some(Self { journal, lane: lane.number(), at })
    }

    fn note<'n>(&self, outcome: journal::Outcome, status: u16) -> Note<'n> {
        Note {
            at: self.at,
            outcome,
            status,
            replay: None,
            origin: None,
            nearest: None,
            answer: None,
            messages: None,
        }
    }

    fn hit(&self, received: &Received, hit: &Hit, replay: u64) {
        let kind =
            hit.headers.get(http::header::CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
        let note = Note {
            replay: Some(replay),
            origin: hit.origin,
            answer: Some((kind, &hit.body)),
            ..self.note(journal::Outcome::Hit, hit.status)
        };
        self.journal.note(self.lane, received, note);
    }

    fn miss(&self, received: &Received, status: u16, replay: u64, nearest: Option<NearMiss>) {
        let note = self.note(journal::Outcome::Miss, status);
        self.journal.note(self.lane, received, Note { replay: Some(replay), nearest, ..note });
    }

    fn passed(&self, received: &Received, status: u16, replay: u64) {
        let note = self.note(journal::Outcome::PassedThrough, status);
        self.journal.note(self.lane, received, Note { replay: Some(replay), ..note });
    }

    fn other(&self, received: &Received, outcome: journal::Outcome, status: u16) {
        self.journal.note(self.lane, received, self.note(outcome, status));
    }

    fn refused(&self, parts: &Parts, status: u16) {
        let line = Line {
            method: parts.method.as_str(),
            host: parts.uri.authority().map_or("", |authority| authority.as_str()),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
        };
        self.journal.note_unread(self.lane, &line, self.note(journal::Outcome::Refused, status));
    }
}

/// A panic of the engine costs its own request and no other. What the engine shares between requests is atomic, so none sees it half changed.
fn guarded(answer: impl FnOnce() -> Outcome) -> Outcome {
    guard(answer).unwrap_or(Outcome::Defect)
}

/// The same for anything that asks the engine; `None` when it panics.
pub(crate) fn guard<T>(ask: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).ok()
}

/// Asks the selected replay, or all of them, the one that was started last first.
fn answer(received: &Received, snapshots: &Snapshots, now: i64) -> Outcome {
    let table = snapshots.load();
    let Some(newest) = table.replays.first() else {
        return Outcome::Unavailable(table.awaited.iter().cloned().collect());
    };
    let request = received.request();
    if let Some(wanted) = &received.replay {
        return match table.find(wanted) {
            Some(replay) => answer_from(replay, &request, now)
                .unwrap_or_else(|| Outcome::Miss(Arc::clone(replay))),
            None => Outcome::Unknown(
                wanted.clone(),
                table.replays.iter().map(|replay| replay.assignment.name.clone()).collect(),
            ),
        };
    }
    for replay in &table.replays {
        if let Some(outcome) = answer_from(replay, &request, now) {
            return outcome;
        }
    }
    Outcome::Miss(Arc::clone(newest))
}

/// Asks one replay; `None` is a miss. Where HEAD was not recorded, it is answered as GET is; the body is left out on the way out.
fn answer_from(replay: &Arc<Replay>, request: &Request<'_>, now: i64) -> Option<Outcome> {
    let ask = |request: &Request<'_>| match replay.serving.answer_or_owe(request, now) {
        Ok(Answer::Hit(hit)) => Some(Outcome::Hit(hit, replay.serial)),
        Ok(Answer::Miss) => None,
        Err(owed) => Some(Outcome::Owed(Arc::clone(replay), owed)),
    };
    match ask(request) {
        None if request.method == "HEAD" => ask(&Request { method: "GET", ..*request }),
        outcome => outcome,
    }
}

/// Has a slow signature made off the data plane's threads, so that no other request waits for it.
async fn pay(plane: &Plane, replay: Arc<Replay>, owed: Owed) -> Outcome {
    let Ok(turn) = Arc::clone(&plane.signatures).acquire_owned().await else {
        return Outcome::Defect;
    };
    let signed = plane.control.spawn_blocking(move || {
        let hit = guard(|| replay.serving.pay(&owed)).flatten();
        drop(turn);
        hit.map_or(Outcome::Defect, |hit| Outcome::Hit(hit, replay.serial))
    });
    signed.await.unwrap_or(Outcome::Defect)
}

/// When a request was read whole. The head of one without a body is all of it, so that the time of the head will do.
fn entered(at: i64, received: &Received) -> i64 {
    if received.body().is_empty() { at } else { now() }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
