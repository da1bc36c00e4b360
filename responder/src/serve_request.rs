//! One request: read, answer, write. Between reading and writing nothing is awaited, except for the explanation of a miss.

mod finish;

use std::{
    future::{Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_engine::{
    answer::{Answer, Hit, Origin},
    request::Request,
    serving::{Awaited, Owed, Pending},
};
use countersign_telemetry::Tracer;
use finish::{finished, is_sent_at_once, trailing};
use futures_util::future::Either;
use http::request::Parts;
use hyper::body::{Body as _, Incoming};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    certificates::Certificates,
    config::Limits,
    entrances::Entrances,
    explanations::Explanations,
    fate::{self, Broken},
    journal::{self, Entry, Journal},
    metrics::{Lane, Metrics},
    passthrough::{self, Passed, Passthrough},
    pin::{self, NotServed, Version},
    sequence::Sequences,
    serve_call::serve_call,
    serve_socket::{Handshake, is_handshake, serve_socket},
    server::{
        self,
        bodies::Bodies,
        call::Call,
        read::{self, Received, Refusal},
        write::{self, Response},
    },
    snapshots::{Replay, Snapshots, Table},
    trace,
};

/// What every request shares.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// The memory of bodies while they are read.
    pub(crate) bodies: Arc<Bodies>,
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
    /// `None` where nothing is traced.
    tracer: Option<Tracer>,
    /// The turns that nodes share.
    sequences: Arc<Sequences>,
    /// Slow signatures that are made at a time.
    signatures: Arc<Semaphore>,
    /// Room for requests that wait for one, or have it made.
    signing: Arc<Semaphore>,
    control: Handle,
}

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    /// A recorded answer, and the serial number of its replay.
    Hit(Hit, u64),
    /// A recorded answer of this replay, whose token has still to be signed, which takes long.
    Owed(Arc<Replay>, Owed),
    /// Recorded answers of this replay, of which one comes once the request has its turn, as a GET if need be.
    Awaited(Arc<Replay>, Box<Awaited>, bool),
    /// Nothing recorded answers it; the replay is the one that it is reported against.
    Miss(Arc<Replay>),
    /// The replay that it asks for is not served here; these are.
    Unknown(String, Vec<String>),
    /// The version that it asks for is not served here.
    NotServed(Box<NotServed>),
    /// Nothing is served yet; these are awaited.
    Unavailable(Vec<String>),
    /// As many requests wait for a slow signature as may.
    Busy,
    /// The engine has a defect.
    Defect,
}

impl Plane {
    /// Answers TLS and `CONNECT` as its entrances want it.
    pub(crate) fn reached_by(self, entrances: &Entrances) -> Self {
        let certificates = entrances.certificates.clone();
        Self { certificates, forward_proxy: entrances.forward_proxy, ..self }
    }

    /// Records requests.
    pub(crate) fn traced_by(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// `control` is the runtime that explains misses.
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
        limits: Limits,
        journal: Option<Arc<Journal>>,
        passthrough: Option<Arc<Passthrough>>,
        (sequences, control): (Arc<Sequences>, Handle),
    ) -> Self {
        Self {
            snapshots,
            metrics,
            limits,
            bodies: Bodies::new(limits.bodies),
            journal,
            passthrough,
            sockets: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            certificates: None,
            forward_proxy: false,
            explanations: Arc::new(Explanations::of_cores(server::cores())),
            tracer: None,
            sequences,
            signatures: Arc::new(Semaphore::new(server::cores())),
            signing: Arc::new(Semaphore::new(server::cores() + limits.sign_queue)),
            control,
        }
    }
}

/// What a request comes to. Most are answered before anybody has to wait, and then nothing is kept for them.
pub(crate) type Served = Either<
    Ready<Result<Response, Broken>>,
    Pin<Box<dyn Future<Output = Result<Response, Broken>> + Send>>,
>;

/// Serves one request.
pub(crate) fn serve_request(
    request: http::Request<Incoming>,
    plane: &Arc<Plane>,
    lane: &Arc<Lane>,
) -> Served {
    let call = Call::of(&request);
    let is_plain = call.is_none() && !is_handshake(&request);
    if is_plain && request.body().is_end_stream() {
        let at = now();
        return match read::without_body(request.into_parts().0) {
            Ok(received) => answer_read(received, at, plane, lane),
            Err(refused) => Either::Left(ready(Ok(refuse(*refused, at, plane, lane)))),
        };
    }
    let (plane, lane) = (Arc::clone(plane), Arc::clone(lane));
    Either::Right(match call {
        Some(call) => Box::pin(async move { serve_call(&call, request, &plane, &lane).await }),
        None if is_plain => Box::pin(async move { serve_plain(request, &plane, &lane).await }),
        None => Box::pin(async move { serve_socket(request, &plane, &lane).await }),
    })
}

/// Serves one request as HTTP.
pub(crate) async fn serve_plain(
    request: http::Request<Incoming>,
    plane: &Arc<Plane>,
    lane: &Arc<Lane>,
) -> Result<Response, Broken> {
    let at = now();
    match read::request(request, &plane.limits, &plane.bodies).await {
        Ok(received) => answer_read(received, at, plane, lane).await,
        Err(refused) => Ok(refuse(*refused, at, plane, lane)),
    }
}

/// Answers a request that did not come through a listener of recorded traffic.
pub(crate) fn respond(received: Received, plane: &Arc<Plane>, lane: &Arc<Lane>) -> Served {
    answer_read(received, now(), plane, lane)
}

/// Says why a request is not answered.
fn refuse((refusal, parts): (Refusal, Parts), at: i64, plane: &Plane, lane: &Lane) -> Response {
    lane.refused();
    let response = write::refused(refusal);
    if let Some(entry) = Entry::begin(plane.journal.as_deref(), lane, at) {
        entry.refused(&parts, response.status().as_u16());
    }
    response
}

fn answer_read(received: Received, at: i64, plane: &Arc<Plane>, lane: &Arc<Lane>) -> Served {
    lane.request_body(received.body().len());
    if received.selection.version.is_some() {
        return answer_pinned(received, at, plane, lane);
    }
    let table = plane.snapshots.load();
    match guarded(|| answer_in(&received, &table, entered(at, &received))) {
        Outcome::Hit(hit, serial) if is_sent_at_once(&hit) => {
            let replay = table.of_serial(serial);
            let done = finished(&hit, replay, &received, at, (plane, lane));
            if let Some(entry) = Entry::begin(plane.journal.as_deref(), lane, at) {
                entry.hit(&received, &hit, serial, done);
            }
            let trailing = trailing(&hit, &received);
            Either::Left(ready(Ok(write::hit(hit, trailing))))
        }
        outcome => {
            let (plane, lane) = (Arc::clone(plane), Arc::clone(lane));
            Either::Right(Box::pin(
                async move { settle(outcome, received, at, &plane, &lane).await },
            ))
        }
    }
}

/// The same for a request that asks for a version, or which one answers.
fn answer_pinned(received: Received, at: i64, plane: &Arc<Plane>, lane: &Arc<Lane>) -> Served {
    let table = plane.snapshots.load_full();
    let outcome = guarded(|| answer_by_version(&received, &table, entered(at, &received)));
    let told = match &outcome {
        Outcome::Hit(_, serial) => table.of_serial(*serial).and_then(|replay| pin::digest(replay)),
        Outcome::Owed(replay, _) | Outcome::Awaited(replay, ..) | Outcome::Miss(replay) => {
            pin::digest(replay)
        }
        _ => None,
    };
    let (plane, lane) = (Arc::clone(plane), Arc::clone(lane));
    Either::Right(Box::pin(async move {
        let mut response = settle(outcome, received, at, &plane, &lane).await?;
        // What the real host says is of no version.
        if let Some(told) = told.filter(|_| !passthrough::has_passed(&response)) {
            response.headers_mut().insert(pin::BUNDLE, told);
        }
        Ok(response)
    }))
}

/// Makes a response of anything that takes time.
async fn settle(
    mut outcome: Outcome,
    received: Received,
    at: i64,
    plane: &Plane,
    lane: &Lane,
) -> Result<Response, Broken> {
    let entry = Entry::begin(plane.journal.as_deref(), lane, at);
    if let Outcome::Awaited(replay, awaited, as_get) = outcome {
        outcome = in_turn(plane, replay, *awaited, &received, as_get).await;
    }
    if let Outcome::Owed(replay, owed) = outcome {
        outcome = pay(plane, replay, owed).await;
    }
    Ok(match outcome {
        Outcome::Hit(hit, replay) => {
            if let Some(origin) = hit.origin.filter(|origin| origin.moved) {
                move_on(plane, replay, origin).await;
            }
            if !hit.delay.is_zero() && !hit.is_paced() {
                tokio::time::sleep(hit.delay).await;
            }
            let table = plane.snapshots.load_full();
            let served = table.of_serial(replay);
            let done = finished(&hit, served, &received, at, (plane, lane));
            drop(table);
            if let Some(entry) = entry {
                entry.hit(&received, &hit, replay, done);
            }
            let handshake = (hit.status == 101)
                .then(|| Handshake { hit: Arc::new(hit.clone()), serial: replay });
            let trailing = trailing(&hit, &received);
            let mut response = fate::meet(hit, trailing).await?;
            if let Some(handshake) = handshake {
                response.extensions_mut().insert(handshake);
            }
            response
        }
        Outcome::Miss(replay) => miss(plane, lane, replay, received, (at, entry)).await,
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
    (at, entry): (i64, Option<Entry<'_>>),
) -> Response {
    let received = Arc::new(received);
    let mut refused = None;
    if let Some(passthrough) =
        plane.passthrough.as_ref().filter(|passthrough| passthrough.wants(&replay))
    {
        match passthrough.pass(&received, now()).await {
            Passed::Answered(response) => {
                lane.passed();
                let request = received.request();
                replay.tally.passed(request.method, request.path);
                if let Some(tracer) = &plane.tracer {
                    let outcome = ("passthrough", response.status().as_u16());
                    trace::miss(tracer, &received, &replay, outcome, at);
                }
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
    let request = received.request();
    replay.tally.miss(request.method, request.path, nearest.as_ref().map(|near| (near, at)));
    let response = write::miss(&replay.assignment.name, nearest.as_ref(), refused.as_ref());
    if let Some(tracer) = &plane.tracer {
        trace::miss(tracer, &received, &replay, ("miss", response.status().as_u16()), at);
    }
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
        Outcome::NotServed(refused) => {
            lane.miss();
            (journal::Outcome::Refused, write::bundle_not_served(&refused))
        }
        Outcome::Unavailable(awaited) => {
            lane.unavailable();
            (journal::Outcome::Unavailable, write::unavailable(&awaited))
        }
        Outcome::Busy => {
            lane.unavailable();
            (journal::Outcome::Unavailable, write::signing())
        }
        Outcome::Defect
        | Outcome::Hit(..)
        | Outcome::Owed(..)
        | Outcome::Awaited(..)
        | Outcome::Miss(_) => {
            lane.defect();
            (journal::Outcome::Defect, write::defect())
        }
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
fn answer_in(received: &Received, table: &Table, now: i64) -> Outcome {
    let Some(newest) = table.replays.first() else {
        return Outcome::Unavailable(table.awaited.iter().cloned().collect());
    };
    let request = received.request();
    if let Some(wanted) = &received.selection.replay {
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

/// Asks the version that is asked for, which may be the one before.
fn answer_by_version(received: &Received, table: &Table, now: i64) -> Outcome {
    let selection = &received.selection;
    let Some(version) = selection.version.as_ref().filter(|it| **it != Version::Any) else {
        return answer_in(received, table, now);
    };
    let replays = match version.among(table, selection.replay.as_deref()) {
        Ok(replays) => replays,
        Err(refused) => return Outcome::NotServed(Box::new(refused)),
    };
    let request = received.request();
    let answered = replays.iter().find_map(|replay| answer_from(replay, &request, now));
    let missed = || replays.first().map(|replay| Outcome::Miss(Arc::clone(replay)));
    answered.or_else(missed).unwrap_or(Outcome::Defect)
}

/// Asks one replay; `None` is a miss. Where HEAD was not recorded, it is answered as GET is; the body is left out on the way out.
fn answer_from(replay: &Arc<Replay>, request: &Request<'_>, now: i64) -> Option<Outcome> {
    let ask = |request: &Request<'_>, as_get| match replay.serving.answer_or_owe(request, now) {
        Ok(Answer::Hit(hit)) => Some(Outcome::Hit(hit, replay.serial)),
        Ok(Answer::Miss) => None,
        Err(Pending::Token(owed)) => Some(Outcome::Owed(Arc::clone(replay), owed)),
        Err(Pending::Turn(awaited)) => Some(Outcome::Awaited(Arc::clone(replay), awaited, as_get)),
    };
    match ask(request, false) {
        None if request.method == "HEAD" => ask(&Request { method: "GET", ..*request }, true),
        outcome => outcome,
    }
}

/// Tells other nodes how far an identity is after this answer.
async fn move_on(plane: &Plane, serial: u64, origin: Origin) {
    let served = plane.snapshots.load_full();
    let Some(replay) = served.of_serial(serial) else { return };
    if let Some(moved) = replay.serving.moved(&origin) {
        plane.sequences.moved(&replay.assignment.name, &moved).await;
    }
}

/// Answers a request once it has its turn among answers whose turns nodes share.
async fn in_turn(
    plane: &Plane,
    replay: Arc<Replay>,
    mut awaited: Awaited,
    received: &Received,
    as_get: bool,
) -> Outcome {
    loop {
        let turn = plane.sequences.turn(&replay, &awaited).await;
        let request = received.request();
        let request = if as_get { Request { method: "GET", ..request } } else { request };
        let answered = guard(|| replay.serving.answer_in_turn(&request, awaited, turn, now()));
        return match answered {
            None => Outcome::Defect,
            Some(Ok(Answer::Hit(hit))) => Outcome::Hit(hit, replay.serial),
            Some(Ok(Answer::Miss)) => Outcome::Miss(replay),
            Some(Err(Pending::Token(owed))) => Outcome::Owed(replay, owed),
            // How far somebody is was the first thing to know.
            Some(Err(Pending::Turn(next))) => {
                awaited = *next;
                continue;
            }
        };
    }
}

/// Has a slow signature made off the data plane's threads, so that no other request waits for it.
async fn pay(plane: &Plane, replay: Arc<Replay>, owed: Owed) -> Outcome {
    let Ok(room) = Arc::clone(&plane.signing).try_acquire_owned() else { return Outcome::Busy };
    let Ok(turn) = Arc::clone(&plane.signatures).acquire_owned().await else {
        return Outcome::Defect;
    };
    let signed = plane.control.spawn_blocking(move || {
        let hit = guard(|| replay.serving.pay(&owed)).flatten();
        drop((turn, room));
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

#[cfg(test)]
mod tests;
