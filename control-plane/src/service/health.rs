//! The health of each replay, `replay:` and its name: serving when what was started last is served by all who have to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::Plane;
use crate::store::now;

/// Health is told at most so often.
const EVERY: Duration = Duration::from_millis(50);

/// Goes on until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>, mut reporter: HealthReporter) {
    let mut table = plane.publisher.subscribe();
    let mut fleet = plane.fleet.subscribe();
    let mut told: BTreeMap<String, bool> = BTreeMap::new();
    loop {
        let begun = Instant::now();
        let announced = Arc::clone(&table.borrow_and_update());
        fleet.mark_unchanged();
        let mut gone: BTreeSet<String> = told.keys().cloned().collect();
        for (name, entry) in &announced.assignments {
            gone.remove(name);
            let mut nodes = plane.nodes(name, &entry.announced, now());
            nodes.retain(|node| node.here);
            let ready = entry.announced.verdict(&nodes).ready;
            if told.insert(name.clone(), ready) != Some(ready) {
                reporter.set_service_status(key(name), status(ready)).await;
            }
        }
        for name in gone {
            told.remove(&name);
            reporter.clear_service_status(&key(&name)).await;
        }
        // With many replays and responders it takes no more than a part of the time.
        sleep(EVERY.max(begun.elapsed() * 4)).await;
        tokio::select! {
            changed = table.changed() => if changed.is_err() { return },
            _ = fleet.changed() => {}
            () = plane.stopping.cancelled() => return,
        }
    }
}

fn key(replay: &str) -> String {
    format!("replay:{replay}")
}

fn status(ready: bool) -> ServingStatus {
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}
