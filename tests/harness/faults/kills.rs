//! `kill -9` of the control plane at random moments of imports and publications: what was acknowledged is there afterwards, and nothing is served by halves.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    fleet::{Fleet, Publisher},
    notice, recording,
    versions::{Floor, Manner, Traffic},
    wait_until,
};

use super::{Outcome, blocking, pause};

/// How.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// How many kills.
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// The kill comes within so many milliseconds after the work began.
    #[arg(long, default_value_t = 100)]
    pub within: u64,
    /// Makes the moments; printed, so that a run can be repeated.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    snapshots: Vec<String>,
    version: u64,
    published: u64,
}

/// Does it.
///
/// # Errors
/// When it cannot go on; that something fell short is none.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut fleet = Fleet::start(1).await;
    let manner = Manner { patience: Duration::ZERO, pause: Some(Duration::from_millis(5)) };
    let traffic = Traffic::start(fleet.door.addr(), 4, manner, &Floor::default());
    let mut acknowledged = Acknowledged { version: 1, ..Acknowledged::default() };
    let begin = Instant::now();
    for nth in 1..=plan.count {
        let publisher = fleet.publisher();
        let work = tokio::spawn(blocking(move || work(&publisher, nth)));
        pause(Duration::from_micros(random.u64(0..plan.within.max(1) * 1000))).await;
        fleet.plane.kill();
        fleet.revive_plane().await;
        match work.await?? {
            Done::Imported(id) => acknowledged.snapshots.push(id),
            Done::Published(version) => {
                acknowledged.version = acknowledged.version.max(version);
                acknowledged.published += 1;
            }
            Done::Refused => {}
        }
        if nth.is_multiple_of(50) || nth == plan.count {
            check(&fleet, &acknowledged).await?;
            notice(&format!(
                "{nth} kills, {} imports and {} publications were acknowledged and are there, after {:.0} s",
                acknowledged.snapshots.len(),
                acknowledged.published,
                begin.elapsed().as_secs_f64()
            ));
        }
    }
    let tally = traffic.finish().await;
    let also = format!(
        "{} imports and {} publications acknowledged, none lost; seed {}",
        acknowledged.snapshots.len(),
        acknowledged.published,
        plan.seed
    );
    Ok(Outcome {
        row: format!("R4 {} kills of the control plane", plan.count),
        goal: "nothing acknowledged is lost, nothing half is served",
        tally,
        also,
        holds: true,
    })
}

/// What came of a piece of work.
enum Done {
    Imported(String),
    Published(u64),
    Refused,
}

/// Imports and publishes in turns.
fn work(publisher: &Publisher, nth: u64) -> Done {
    if nth.is_multiple_of(2) {
        let version = nth + 1;
        return match publisher.publish(version) {
            Ok(()) => Done::Published(version),
            Err(_) => Done::Refused,
        };
    }
    let (id, file) = (format!("kill-{nth}"), publisher.dir.join("kill.jsonl"));
    let body = serde_json::json!({"nth": nth});
    let lines: Vec<String> =
        (0..200).map(|at| recording::line("GET", &format!("/kill/{nth}/{at}"), &body)).collect();
    if fs::write(&file, lines.join("\n")).is_err() {
        return Done::Refused;
    }
    let imported = publisher.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", &id]);
    if imported.code() == 0 { Done::Imported(id) } else { Done::Refused }
}

/// Everything that was acknowledged is there; what is served is at least as new.
async fn check(fleet: &Fleet, acknowledged: &Acknowledged) -> anyhow::Result<()> {
    let publisher = fleet.publisher();
    let listed = blocking(move || publisher.cli(&["--output", "json", "snapshot", "list"])).await?;
    anyhow::ensure!(listed.code() == 0, "snapshots cannot be listed: {}", listed.text());
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout())?;
    let listed = listed.as_array().cloned().unwrap_or_default();
    let ready: std::collections::HashSet<String> = listed
        .iter()
        .filter(|snapshot| snapshot["state"] == "READY")
        .filter_map(|snapshot| Some(snapshot["name"].as_str()?.rsplit('/').next()?.to_owned()))
        .collect();
    for id in &acknowledged.snapshots {
        anyhow::ensure!(ready.contains(id), "the snapshot {id} was acknowledged and is not there");
    }
    let Some(node) = fleet.nodes.first() else { return Ok(()) };
    wait_until("the acknowledged version is served", || async {
        node.version().await.filter(|version| *version >= acknowledged.version)
    })
    .await;
    Ok(())
}
