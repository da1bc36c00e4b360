//! How replays and responders stand, looked up when somebody asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{fleet::Phase, scrub::Last, service::Plane};

/// Tells a scraper.
#[derive(Debug)]
pub(super) struct State {
    plane: Weak<Plane>,
}

/// What is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    running: i64,
    rollouts: i64,
    connected: i64,
    gone: i64,
    /// Other processes that go by the name of a connected responder.
    duplicates: i64,
    /// Responders and replays, by how far the one has come with the other.
    phases: BTreeMap<&'static str, i64>,
    /// Keys that connected responders need and do not have.
    unresolved: i64,
    revision: i64,
    scrubbed: Last,
}

impl State {
    pub(super) fn new(plane: &Arc<Plane>) -> Self {
        // The plane does not end because somebody could ask for it.
        Self { plane: Arc::downgrade(plane) }
    }

    fn counts(&self) -> Option<Counts> {
        let plane = self.plane.upgrade()?;
        let table = plane.publisher.table();
        let mut counts = Counts {
            running: number(table.assignments.len()),
            revision: i64::try_from(table.revision).unwrap_or(i64::MAX),
            scrubbed: plane.scrubbing.last(),
            ..Counts::default()
        };
        counts.phases.extend(Phase::ALL.map(|phase| (name(phase), 0)));
        let rolling = table.assignments.values().filter(|it| it.announced.rollout.is_some());
        counts.rollouts = number(rolling.count());
        for responder in plane.fleet.here() {
            if !responder.connected {
                counts.gone += 1;
                continue;
            }
            counts.connected += 1;
            counts.duplicates += i64::from(responder.others);
            let mut missing = BTreeSet::new();
            for outcome in responder.replays.values().flat_map(|at| at.outcomes()) {
                *counts.phases.entry(name(outcome.phase)).or_default() += 1;
                missing.extend(outcome.unresolved.iter());
            }
            counts.unresolved += number(missing.len());
        }
        Some(counts)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Fetching => "fetching",
        Phase::Prepared => "prepared",
        Phase::Active => "active",
        Phase::Rejected => "rejected",
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(counts) = self.counts() else { return Ok(()) };
        for (name, help, value) in [
            ("replays_running", "Replays that are announced.", counts.running),
            ("rollouts", "Replays of which a version is on its way.", counts.rollouts),
            (
                "unresolved_secrets",
                "Keys that connected responders need and cannot sign with, summed over responders.",
                counts.unresolved,
            ),
            (
                "duplicate_responders",
                "Processes that are connected under the name of a newer one, and so do not count.",
                counts.duplicates,
            ),
            ("store_revision", "The revision of the store that is announced.", counts.revision),
            (
                "store_scrub_timestamp_seconds",
                "When this control plane has read everything that is stored last; 0 before.",
                counts.scrubbed.at / 1_000_000_000,
            ),
            (
                "store_damaged_blobs",
                "Blobs that were damaged then.",
                number(counts.scrubbed.damaged),
            ),
            (
                "store_missing_blobs",
                "What was named then and was not stored, or could not be read.",
                number(counts.scrubbed.missing),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let help = "Responders that are connected to this control plane, or were.";
        let mut responders =
            encoder.encode_descriptor("responders", help, None, MetricType::Gauge)?;
        for (state, value) in [("connected", counts.connected), ("gone", counts.gone)] {
            ConstGauge::new(value).encode(responders.encode_family(&[("state", state)])?)?;
        }
        let help = "Versions of replays at connected responders, by how far they have come.";
        let mut phases =
            encoder.encode_descriptor("responder_replays", help, None, MetricType::Gauge)?;
        for (phase, value) in counts.phases {
            ConstGauge::new(value).encode(phases.encode_family(&[("phase", phase)])?)?;
        }
        Ok(())
    }
}
