//! Spans of requests, and of what is done until a version is served. What is told of a request is its endpoint and what became of it: no query, no
//! header field, no body.

use countersign_engine::{answer::Hit, endpoints::template};
use countersign_telemetry::{Context, Kind, Span, Tracer};

use crate::{
    server::read::Received,
    snapshots::{Assignment, Replay},
};

/// The name of this process's service.
pub(crate) const SERVICE: &str = "countersign-responder";

/// Records a request that was answered; the times are those when it came and when its answer was ready, in nanoseconds since the epoch.
pub(crate) fn hit(
    tracer: &Tracer,
    received: &Received,
    hit: &Hit,
    replay: Option<&Replay>,
    times: (i64, i64),
) {
    if let Some(mut span) = request(tracer, received, replay, times.0) {
        span.set("countersign.outcome", "hit");
        span.set("http.response.status_code", i64::from(hit.status));
        span.set("countersign.tokens.signed", i64::from(hit.resigned));
        span.end_at(nanos(times.1));
    }
}

/// Records a request that nothing recorded answers.
pub(crate) fn miss(
    tracer: &Tracer,
    received: &Received,
    replay: &Replay,
    (outcome, status): (&'static str, u16),
    at: i64,
) {
    if let Some(mut span) = request(tracer, received, Some(replay), at) {
        span.set("countersign.outcome", outcome);
        span.set("http.response.status_code", i64::from(status));
    }
}

/// A span of a request that came then; `None` when it is not recorded, for which as little as possible is done.
fn request(tracer: &Tracer, received: &Received, replay: Option<&Replay>, at: i64) -> Option<Span> {
    let request = received.request();
    let parent = request.headers.get(Context::HEADER).and_then(|value| value.to_str().ok());
    let parent = parent.and_then(Context::parse);
    let mut span = tracer.span_at("request", Kind::Server, parent, nanos(at))?;
    let path = template(request.path);
    span.rename(format!("{} {path}", request.method));
    span.set("http.request.method", request.method);
    span.set("http.route", &*path);
    if let Some(replay) = replay {
        of(&mut span, &replay.assignment);
    }
    Some(span)
}

/// Begins a span of work for a version.
pub(crate) fn work(
    tracer: Option<&Tracer>,
    name: &'static str,
    assignment: &Assignment,
    parent: Option<Context>,
) -> Option<Span> {
    let mut span = tracer?.span(name, Kind::Internal, parent)?;
    of(&mut span, assignment);
    Some(span)
}

fn of(span: &mut Span, assignment: &Assignment) {
    span.set("countersign.replay", assignment.name.as_str());
    span.set("countersign.bundle", assignment.bundle.to_string());
}

fn nanos(at: i64) -> u64 {
    u64::try_from(at).unwrap_or_default()
}
