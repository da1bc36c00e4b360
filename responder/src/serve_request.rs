//! One request: read, answer, write. Between reading and writing nothing is awaited, except for the explanation of a miss.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_engine::{
    answer::{Answer, Hit},
    near_miss::NearMiss,
};
use hyper::body::Incoming;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::{
    config::Limits,
    metrics::{Lane, Metrics},
    server::{
        read::{self, Received},
        write::{self, Response},
    },
    snapshots::{Replay, Snapshots},
};

/// Selects a replay by its id or full name.
pub(crate) const REPLAY_HEADER: &str = "x-countersign-replay";
/// Misses that are explained at a time.
const EXPLANATIONS: usize = 4;
/// How long a miss waits for its turn; after that it is answered without an explanation.
const EXPLANATION_WAIT: Duration = Duration::from_secs(1);

/// What every request shares.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    explanations: Arc<Semaphore>,
    control: Handle,
}

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    Hit(Hit),
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
    /// `control` is the runtime that explains misses.
    pub(crate) fn new(
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
        limits: Limits,
        control: Handle,
    ) -> Self {
        Self {
            snapshots,
            metrics,
            limits,
            explanations: Arc::new(Semaphore::new(EXPLANATIONS)),
            control,
        }
    }
}

/// Serves one request.
pub(crate) async fn serve_request(
    request: http::Request<Incoming>,
    plane: &Plane,
    lane: &Lane,
) -> Response {
    let received = match read::request(request, &plane.limits).await {
        Ok(received) => received,
        Err(refusal) => {
            lane.refused();
            return write::refused(refusal);
        }
    };
    lane.request_body(received.request().body.len());
    match guarded(|| answer(&received, &plane.snapshots, now())) {
        Outcome::Hit(hit) => {
            lane.hit(hit.resigned, hit.unsigned);
            lane.response_body(hit.body.len());
            if !hit.delay.is_zero() {
                tokio::time::sleep(hit.delay).await;
            }
            write::hit(hit, received.trailing())
        }
        Outcome::Miss(replay) => {
            lane.miss();
            let name = replay.assignment.name.clone();
            write::miss(&name, explain(plane, replay, received).await.as_ref())
        }
        Outcome::Unknown(wanted, served) => {
            lane.miss();
            write::unknown_replay(&wanted, &served)
        }
        Outcome::Unavailable(awaited) => {
            lane.unavailable();
            write::unavailable(&awaited)
        }
        Outcome::Defect => {
            lane.defect();
            write::defect()
        }
    }
}

/// A panic of the engine costs its own request and no other. What the engine shares between requests is atomic, so none sees it half changed.
fn guarded(answer: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(answer)).unwrap_or(Outcome::Defect)
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
            Some(replay) => match replay.serving.answer(&request, now) {
                Answer::Hit(hit) => Outcome::Hit(hit),
                Answer::Miss => Outcome::Miss(Arc::clone(replay)),
            },
            None => Outcome::Unknown(
                wanted.clone(),
                table.replays.iter().map(|replay| replay.assignment.name.clone()).collect(),
            ),
        };
    }
    for replay in &table.replays {
        if let Answer::Hit(hit) = replay.serving.answer(&request, now) {
            return Outcome::Hit(hit);
        }
    }
    Outcome::Miss(Arc::clone(newest))
}

/// Finds what comes near, off the data plane's threads; `None` when too many others are at it for too long.
async fn explain(plane: &Plane, replay: Arc<Replay>, received: Received) -> Option<NearMiss> {
    let turn = Arc::clone(&plane.explanations).acquire_owned();
    let permit = timeout(EXPLANATION_WAIT, turn).await.ok()?.ok()?;
    let task = plane.control.spawn_blocking(move || {
        let nearest = replay.serving.near_miss(&received.request(), now());
        drop(permit);
        nearest
    });
    task.await.ok()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
