//! An answer that is ready: what is counted and recorded of it, and how it is sent.

use std::sync::Arc;

use countersign_engine::answer::Hit;

use super::{Plane, now};
use crate::{
    journal::micros,
    metrics::Lane,
    server::read::{Received, Trailing},
    snapshots::Replay,
    trace,
};

/// Whether an answer is neither held back nor cut off nor the beginning of something else, and nobody has to be told of it.
pub(super) fn is_sent_at_once(hit: &Hit) -> bool {
    let moved = hit.origin.is_some_and(|origin| origin.moved);
    hit.delay.is_zero() && hit.touched.is_none() && !moved && hit.status != 101
}

/// Counts an answer that is ready now, for its replay as well, and records it where that is wanted; tells when that was.
pub(super) fn finished(
    hit: &Hit,
    replay: Option<&Arc<Replay>>,
    received: &Received,
    at: i64,
    (plane, lane): (&Plane, &Lane),
) -> i64 {
    let done = now();
    count(hit, lane);
    if let Some(replay) = replay {
        replay.tally.hit(lane.number(), hit, micros(at, done), received.body().len());
    }
    if let Some(tracer) = &plane.tracer {
        trace::hit(tracer, received, hit, replay.map(|replay| &**replay), (at, done));
    }
    done
}

fn count(hit: &Hit, lane: &Lane) {
    lane.hit(hit.resigned, hit.unsigned);
    if hit.origin.is_some_and(|origin| origin.borrowed) {
        lane.borrowed();
    }
    lane.response_body(hit.body.len());
    if let Some(touched) = hit.touched.as_deref() {
        lane.touched(*touched);
    }
}

/// Most answers have no trailers, and then it does not matter what would become of them.
pub(super) fn trailing(hit: &Hit, received: &Received) -> Trailing {
    hit.trailers.as_ref().map_or(Trailing::Dropped, |_| received.trailing())
}
