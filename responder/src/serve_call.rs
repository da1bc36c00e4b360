//! Calls of gRPC: how much of a call is read before it is answered.
//!
//! A method whose recorded calls have one message from the client is answered once that has come: some clients end their side late, or never.
//! Where the client sends several, both sides speak in turn, see [`dialogue`]; no client waits for an answer that waits for the client.

mod dialogue;

use std::{sync::Arc, time::Duration};

use countersign_engine::grpc::Method;
use http::Request;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{
    fate::Broken,
    metrics::Lane,
    pin::{self, Selection, Version},
    serve_request::{Plane, serve_plain},
    server::{
        call::{Call, Code, Kind, ended},
        read::{OneMessage, Refusal},
        write::{self, Response},
    },
    snapshots::Replay,
};

/// How long the end of a call is waited for that needs none.
const GRACE: Duration = Duration::from_millis(50);
/// The same for a call of which nothing is known.
const LONG_GRACE: Duration = Duration::from_secs(1);

/// Serves a call.
pub(crate) async fn serve_call(
    call: &Call,
    mut request: Request<Incoming>,
    plane: &Arc<Plane>,
    lane: &Arc<Lane>,
) -> Result<Response, Broken> {
    let Ok(deadline) = call.deadline else {
        lane.refused();
        return Ok(call.finish(write::refused(Refusal::Deadline), true));
    };
    let selection = Selection::of(request.headers());
    let recorded = recorded(plane, &request, &selection);
    let version = recorded.as_ref().filter(|_| selection.version.is_some());
    let told = version.and_then(|(replay, _)| pin::digest(replay));
    let served = async {
        if call.kind == Kind::Native {
            let grace = match &recorded {
                Some((replay, method)) if method.requests > 1 => {
                    let replay = Arc::clone(replay);
                    return dialogue::serve(call, request, replay, *method, plane, lane).await;
                }
                Some(_) => GRACE,
                None => LONG_GRACE,
            };
            request.extensions_mut().insert(OneMessage { grace });
        }
        serve_plain(request, plane, lane).await
    };
    let response = match deadline {
        None => served.await?,
        Some(deadline) => match timeout(deadline, served).await {
            Ok(response) => response?,
            Err(_) => {
                ended(Code::DeadlineExceeded, "the recorded answer takes longer than the deadline")
            }
        },
    };
    let mut response = call.finish(response, recorded.is_some());
    if let Some(told) = told {
        response.headers_mut().entry(pin::BUNDLE).or_insert(told);
    }
    Ok(response)
}

/// The method that is called, in the replay that is asked for or else the first that knows it.
fn recorded(
    plane: &Plane,
    request: &Request<Incoming>,
    selection: &Selection,
) -> Option<(Arc<Replay>, Method)> {
    let table = plane.snapshots.load();
    let path = request.uri().path();
    let method =
        |replay: &Arc<Replay>| Some((Arc::clone(replay), replay.serving.snapshot().method(path)?));
    let wanted = selection.replay.as_deref();
    match (&selection.version, wanted) {
        (Some(version @ Version::Only(_)), _) => {
            version.among(&table, wanted).ok()?.into_iter().find_map(method)
        }
        (_, Some(wanted)) => table.find(wanted).and_then(method),
        (_, None) => table.replays.iter().find_map(method),
    }
}
