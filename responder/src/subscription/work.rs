//! What has still to be fetched and compiled: one version at a time, what is to be served before what is only to be prepared.
//!
//! Nobody waits for it but whoever asks how far it has come: deltas are acknowledged at once, so that the word to serve what is prepared never
//! queues behind a large download.

use std::{collections::VecDeque, future::pending, sync::Arc};

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    BACKOFF_MIN, Ended, FETCH_ATTEMPTS,
    apply::{Applier, chain},
    jitter,
};
use crate::{
    fetch::{FetchError, Remote},
    snapshots::{Assignment, Table},
};

/// The work of a session; dropped, it ends.
#[derive(Debug, Default)]
pub(super) struct Work {
    waiting: VecDeque<Assignment>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    assignment: Assignment,
    task: AbortOnDropHandle<Result<(), FetchError>>,
}

impl Work {
    /// Has a version worked on.
    pub(super) fn add(&mut self, assignment: Assignment) {
        if !self.contains(&assignment) {
            self.waiting.push_back(assignment);
        }
    }

    /// Gives up what nobody wants any more.
    pub(super) fn revise(&mut self, table: &Table) {
        self.waiting.retain(|assignment| table.wants(assignment));
        self.running.take_if(|running| !table.wants(&running.assignment));
    }

    /// Whether a version is worked on, or will be.
    pub(super) fn contains(&self, assignment: &Assignment) -> bool {
        let running = self.running.iter().map(|running| &running.assignment);
        running.chain(&self.waiting).any(|known| known.is(assignment))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// Begins with the next, unless something is worked on.
    pub(super) fn go_on(&mut self, applier: &Arc<Applier>, remote: &Remote) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let table = applier.snapshots.load_full();
        let urgent = self.waiting.iter().position(|assignment| table.serves(assignment));
        let Some(assignment) = self.waiting.remove(urgent.unwrap_or_default()) else { return };
        let (applier, remote, wanted) = (Arc::clone(applier), remote.clone(), assignment.clone());
        let task = tokio::spawn(async move { work(&applier, &remote, &wanted).await });
        self.running = Some(Running { assignment, task: AbortOnDropHandle::new(task) });
    }

    /// What was worked on, once it is done.
    pub(super) async fn done(&mut self) -> Result<Assignment, Ended> {
        let Some(running) = &mut self.running else { return pending().await };
        let done = (&mut running.task).await;
        let assignment = running.assignment.clone();
        self.running = None;
        done.map_err(Ended::Task)?.map_err(Ended::Fetch)?;
        Ok(assignment)
    }
}

/// Tries a few times, for a lost connection is no reason to give the whole session up.
async fn work(
    applier: &Applier,
    remote: &Remote,
    assignment: &Assignment,
) -> Result<(), FetchError> {
    let mut attempt = 0;
    loop {
        match applier.work(Some(remote), assignment).await {
            Err(error) if attempt + 1 < FETCH_ATTEMPTS => {
                tracing::debug!(error = chain(&error), "fetch failed; trying again");
                sleep(jitter(BACKOFF_MIN.saturating_mul(1 << attempt))).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}
