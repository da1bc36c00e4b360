//! What is exposed of each replay: requests by result, how long hits took, and what became of tokens that clients presented.
//!
//! So many replays have a label of their own; the others are one, so that a fleet with thousands of replays does not flood who scrapes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use countersign_engine::histogram::Histogram;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};

use crate::report::{Exposed, Reports};

/// So many replays have a label of their own: those that were served first.
const LABELLED: usize = 100;
/// What the others are called; no replay's name.
const OTHER: &str = "other";

/// The upper bounds of the buckets, in microseconds.
const BOUNDS: [u32; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Tells a scraper.
#[derive(Debug)]
pub(super) struct Replays {
    reports: Arc<Reports>,
    labelled: Mutex<BTreeSet<String>>,
}

impl Replays {
    pub(super) fn new(reports: Arc<Reports>) -> Self {
        Self { reports, labelled: Mutex::default() }
    }

    /// Everything by label.
    fn by_label(&self) -> BTreeMap<String, Exposed> {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<String, Exposed> = BTreeMap::new();
        for (replay, exposed) in self.reports.exposed() {
            if labelled.len() < LABELLED {
                labelled.insert(replay.clone());
            }
            let label = if labelled.contains(&replay) { replay } else { OTHER.to_owned() };
            all.entry(label).or_default().add(&exposed);
        }
        all
    }
}

impl Collector for Replays {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.by_label();
        let mut requests = encoder.encode_descriptor(
            "replay_requests",
            "Requests of a replay by result.",
            None,
            MetricType::Counter,
        )?;
        for (replay, own) in &all {
            let results =
                [("hit", own.latency.count()), ("miss", own.misses), ("passthrough", own.passed)];
            for (result, count) in results {
                let labels = [("replay", replay.as_str()), ("result", result)];
                ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
            }
        }
        let mut times = encoder.encode_descriptor(
            "replay_request_duration_seconds",
            "How long hits took, from the head of the request until the answer was ready.",
            None,
            MetricType::Histogram,
        )?;
        for (replay, own) in &all {
            let labels = [("replay", replay.as_str())];
            let (sum, count) = (seconds(own.latency.sum()), own.latency.count());
            let mut family = times.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(sum, count, &buckets(&own.latency), None)?;
        }
        let mut presented: BTreeMap<&str, u64> = BTreeMap::new();
        for own in all.values() {
            *presented.entry("accepted").or_default() += own.accepted;
            for (code, count) in &own.refused {
                *presented.entry(code).or_default() += count;
            }
        }
        let mut tokens = encoder.encode_descriptor(
            "presented_tokens",
            "Tokens in requests that were looked at, by what was found.",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in presented {
            ConstCounter::new(count).encode(tokens.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}

/// How many values each bucket has that those before have not.
fn buckets(times: &Histogram) -> Vec<(f64, u64)> {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BOUNDS.len() + 1);
    for bound in BOUNDS {
        let all = times.at_most(u64::from(bound));
        buckets.push((f64::from(bound) / 1_000_000.0, all.saturating_sub(before)));
        before = all;
    }
    buckets.push((f64::INFINITY, times.count().saturating_sub(before)));
    buckets
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_everything_once() {
        let step = countersign_engine::histogram::step;
        let times = Histogram::new([(step(90), 3), (step(3_000), 2), (step(60_000_000), 1)], 0, 0);
        let buckets = buckets(&times);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert_eq!((buckets[0].1, buckets[5].1, buckets[16].1), (3, 2, 1));
        assert!(buckets[16].0.is_infinite());
    }
}
