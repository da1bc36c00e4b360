//! Tells how a request would be answered, by whichever replay would answer it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_engine::{
    explain::{Explanation, Outcome},
    snapshot::wire::encode_explanation,
};
use countersign_proto::responder::v1::{MatchRequest, MatchResponse, SignatureEdit};
use tokio::time::timeout;

use super::{Shared, problem::Problem, request};
use crate::{
    serve_request::now,
    server::read::Received,
    snapshots::{Replay, Table},
};

/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Explains a request.
pub(super) async fn explain(
    shared: &Shared,
    asked: MatchRequest,
) -> Result<MatchResponse, Problem> {
    let received = request::read(asked.request, &[], asked.replay, shared.plane.limits.body)?;
    let turn = timeout(PATIENCE, shared.explanations.acquire()).await;
    let Ok(Ok(permit)) = turn else { return Err(Problem::Busy) };
    let table = shared.admin.snapshots.load_full();
    let replays = select(&table, received.selection.replay.as_deref())?;
    let task = tokio::task::spawn_blocking(move || by_whoever_answers(&replays, &received));
    let told = task.await.map_err(|_| Problem::Defect)?;
    drop(permit);
    let (replay, explanation) = told.ok_or(Problem::Defect)?;
    let edits = edits(&explanation.presented, &explanation.signature);
    Ok(MatchResponse { replay, edits, explanation: Some(encode_explanation(explanation)) })
}

/// The replay that is asked for, or all.
pub(super) fn select(table: &Table, wanted: Option<&str>) -> Result<Vec<Arc<Replay>>, Problem> {
    if table.replays.is_empty() {
        let message = "no replay is served here yet".to_owned();
        return Err(Problem::NothingToServe { message });
    }
    let Some(wanted) = wanted else { return Ok(table.replays.clone()) };
    let found = table.find(wanted).ok_or_else(|| Problem::UnknownReplay {
        wanted: wanted.to_owned(),
        served: table.replays.iter().map(|replay| replay.assignment.name.clone()).collect(),
    })?;
    Ok(vec![Arc::clone(found)])
}

/// As requests are answered: the first replay that has an answer, else a miss of the first of all.
fn by_whoever_answers(
    replays: &[Arc<Replay>],
    received: &Received,
) -> Option<(String, Explanation)> {
    let request = received.request();
    let mut missed = None;
    for replay in replays {
        let explanation = replay.serving.explain(&request, now());
        let name = replay.assignment.name.clone();
        if !matches!(explanation.outcome, Outcome::Miss(_)) {
            return Some((name, explanation));
        }
        missed.get_or_insert((name, explanation));
    }
    missed
}

/// A value before and after.
type Change<'v> = (Option<&'v [u8]>, Option<&'v [u8]>);

/// What differs between two signatures, by key.
fn edits(before: &[(String, Vec<u8>)], after: &[(String, Vec<u8>)]) -> Vec<SignatureEdit> {
    let mut values: BTreeMap<&str, Change<'_>> = BTreeMap::new();
    for (key, value) in before {
        values.entry(key).or_default().0 = Some(value);
    }
    for (key, value) in after {
        values.entry(key).or_default().1 = Some(value);
    }
    let owned = |value: Option<&[u8]>| value.map(|value| value.to_vec().into());
    values
        .into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|(key, (before, after))| SignatureEdit {
            key: key.to_owned(),
            before: owned(before),
            after: owned(after),
        })
        .collect()
}
