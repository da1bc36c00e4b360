//! From what was stored of a run to its report.

use countersign_engine::{histogram::Histogram, snapshot::wire::timestamp};
use countersign_proto::{
    control::v1::{
        EndpointReport, LatencyReport, NearMissDifference, NearMissGroup, ReasonCount,
        ReplayReport, ReportBounds, ReportStep, ReportTotals, ResponderReport, StatusCount,
        TokenCounts,
    },
    discovery::v1::{EndpointTally, NearMissTally, RunTally, StepTally, Tally, TokenTally},
};

use super::{
    advice::advise,
    stored::{Contribution, ENDPOINTS, GROUPS, add_run, decode, group_key},
};
use crate::publish::Assignment;

/// So many responders have a row of their own.
const RESPONDERS: usize = 200;
/// The length of a step, in seconds.
const STEP: u32 = 5;
/// The steps that are told, in nanoseconds: those of the last ten minutes before the last one.
const WINDOW_SECONDS: i64 = 600;

/// What is known of a run.
pub(super) struct Known {
    replay: String,
    run: u64,
    /// What is announced now.
    last: Option<Assignment>,
    contributions: Vec<(String, Contribution)>,
}

impl Known {
    pub(super) fn new(
        replay: String,
        run: u64,
        last: Option<Assignment>,
        contributions: Vec<(String, Contribution)>,
    ) -> Self {
        Self { replay, run, last, contributions }
    }

    /// Whether nobody has told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.contributions.is_empty()
    }

    /// The report.
    pub(super) fn report(self) -> ReplayReport {
        let (mut sum, mut responders, mut totals_only) =
            (RunTally::default(), Vec::new(), Vec::new());
        let mut examples: Vec<(NearMissTally, String)> = Vec::new();
        let count = self.contributions.len();
        for (name, contribution) in self.contributions {
            let (own, processes) = contribution.sum();
            if responders.len() < RESPONDERS {
                responders.push(ResponderReport {
                    responder: name.clone(),
                    last_report: moment(own.time_nanos),
                    totals: Some(totals(own.totals.as_ref())),
                    tokens: Some(tokens(own.tokens.as_ref())),
                    processes,
                });
            }
            if own.totals_only {
                totals_only.push(name.clone());
            }
            for group in &own.near_misses {
                let known = examples.iter_mut().find(|it| group_key(&it.0) == group_key(group));
                match known {
                    Some(known) if known.0.last_nanos >= group.last_nanos => {}
                    Some(known) => *known = (group.clone(), name.clone()),
                    None => examples.push((group.clone(), name.clone())),
                }
            }
            add_run(&mut sum, own);
        }
        let announced = self.last.filter(|last| last.generation == self.run);
        let bundle =
            announced.map(|last| countersign_engine::snapshot::wire::encode_digest(&last.bundle));
        let since = announced.map_or(sum.start_nanos, |last| last.start_time);
        let bounds = ReportBounds {
            max_endpoints: bounded(ENDPOINTS),
            other_requests: sum.other.as_ref().map_or(0, requests),
            max_near_misses: bounded(GROUPS),
            ungrouped_misses: sum.ungrouped_misses,
            unexplained_misses: sum.unexplained_misses,
            totals_only,
            max_responders: bounded(RESPONDERS),
            other_responders: bounded(count.saturating_sub(RESPONDERS)),
        };
        ReplayReport {
            replay: self.replay,
            run: self.run,
            bundle: bundle.or_else(|| sum.bundle.clone()),
            since: moment(since),
            until: moment(sum.time_nanos),
            is_last: self.last.is_none_or(|last| last.generation <= self.run),
            totals: Some(totals(sum.totals.as_ref())),
            endpoints: endpoints(&sum),
            tokens: Some(tokens(sum.tokens.as_ref())),
            near_misses: groups(&sum.near_misses, &examples),
            responders,
            series: series(&sum.steps),
            bounds: Some(bounds),
        }
    }
}

/// The same without what makes it long.
pub(super) fn totals_only(report: ReplayReport) -> ReplayReport {
    ReplayReport {
        endpoints: Vec::new(),
        near_misses: Vec::new(),
        responders: Vec::new(),
        series: Vec::new(),
        ..report
    }
}

fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A moment in nanoseconds since the epoch; none where it is not known.
fn moment(nanos: i64) -> Option<prost_types::Timestamp> {
    (nanos != 0).then(|| timestamp(nanos))
}

/// Requests of any kind.
pub(super) fn requests(tally: &Tally) -> u64 {
    tally.hits.saturating_add(tally.misses).saturating_add(tally.passthrough)
}

fn totals(tally: Option<&Tally>) -> ReportTotals {
    let nothing = Tally::default();
    let tally = tally.unwrap_or(&nothing);
    let requests = requests(tally);
    let own = tally.hits.saturating_sub(tally.borrowed);
    ReportTotals {
        requests,
        hits: tally.hits,
        misses: tally.misses,
        passthrough: tally.passthrough,
        errors: tally.errors,
        borrowed: tally.borrowed,
        own_answer_rate: if requests == 0 { 1.0 } else { float(own) / float(requests) },
        latency: Some(latency(&decode(tally.latency.as_ref()))),
        request_bytes: tally.request_bytes,
        response_bytes: tally.response_bytes,
    }
}

/// A count as a number to divide.
fn float(count: u64) -> f64 {
    // Both halves are exact; their sum is as near as can be.
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

fn latency(times: &Histogram) -> LatencyReport {
    LatencyReport {
        count: times.count(),
        p50_us: times.quantile(500_000),
        p90_us: times.quantile(900_000),
        p99_us: times.quantile(990_000),
        p999_us: times.quantile(999_000),
        max_us: times.max(),
        mean_us: times.mean(),
    }
}

fn endpoints(sum: &RunTally) -> Vec<EndpointReport> {
    let mut rows: Vec<(u64, EndpointReport)> = sum.endpoints.iter().map(endpoint).collect();
    // Stable for a reader who looks again and again.
    rows.sort_by(|a, b| {
        b.0.cmp(&a.0).then_with(|| (&a.1.path, &a.1.method).cmp(&(&b.1.path, &b.1.method)))
    });
    let mut rows: Vec<EndpointReport> = rows.into_iter().map(|(_, row)| row).collect();
    if let Some(other) = sum.other.as_ref().filter(|other| requests(other) > 0) {
        rows.push(EndpointReport { other: true, ..of_tally(other) });
    }
    rows
}

fn endpoint(tally: &EndpointTally) -> (u64, EndpointReport) {
    let nothing = Tally::default();
    let own = tally.tally.as_ref().unwrap_or(&nothing);
    let counts = tally.statuses.iter().zip(&tally.status_counts);
    let mut statuses: Vec<StatusCount> =
        counts.map(|(status, count)| StatusCount { status: *status, count: *count }).collect();
    statuses.sort_by_key(|it| it.status);
    let report = EndpointReport {
        method: tally.method.clone(),
        host: tally.host.clone(),
        path: tally.path.clone(),
        statuses,
        recorded_pairs: tally.recorded_pairs,
        ..of_tally(own)
    };
    (requests(own), report)
}

fn of_tally(tally: &Tally) -> EndpointReport {
    EndpointReport {
        hits: tally.hits,
        misses: tally.misses,
        passthrough: tally.passthrough,
        latency: Some(latency(&decode(tally.latency.as_ref()))),
        ..EndpointReport::default()
    }
}

fn tokens(tally: Option<&TokenTally>) -> TokenCounts {
    let nothing = TokenTally::default();
    let tally = tally.unwrap_or(&nothing);
    let named = |counts: &std::collections::BTreeMap<String, u64>| {
        let mut all: Vec<ReasonCount> = counts
            .iter()
            .map(|(reason, count)| ReasonCount { reason: reason.clone(), count: *count })
            .collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        all
    };
    TokenCounts {
        signed: tally.signed,
        made: tally.made,
        // A body in which several tokens stand is kept whole, so that more may be made than were given out.
        cached: tally.signed.saturating_sub(tally.made),
        unsigned: tally.unsigned,
        unsigned_reasons: named(&tally.unsigned_reasons),
        checked: tally.checked,
        accepted: tally.accepted,
        refused: named(&tally.refused),
    }
}

fn groups(all: &[NearMissTally], examples: &[(NearMissTally, String)]) -> Vec<NearMissGroup> {
    let mut groups: Vec<NearMissGroup> =
        all.iter().map(|group| self::group(group, examples)).collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.id.cmp(&b.id)));
    groups
}

fn group(group: &NearMissTally, examples: &[(NearMissTally, String)]) -> NearMissGroup {
    let example = examples.iter().find(|(it, _)| group_key(it) == group_key(group));
    let keys = group_key(group);
    let id = format!("{} {} {}", keys.0, keys.1, keys.2.join(" "));
    let id = countersign_engine::snapshot::digest::Digest::of(id.as_bytes()).to_string();
    let id = id.rsplit(':').next().unwrap_or_default().chars().take(12).collect();
    let (suggested_rule, advice) = advise(group);
    NearMissGroup {
        id,
        method: group.method.clone(),
        path: group.path.clone(),
        differing: group
            .differing
            .iter()
            .map(|it| NearMissDifference {
                key: it.key.clone(),
                recorded: it.recorded.clone(),
                presented: it.presented.clone(),
            })
            .collect(),
        count: group.count,
        first_seen: moment(group.first_nanos),
        last_seen: moment(group.last_nanos),
        example_responder: example.map(|(_, responder)| responder.clone()).unwrap_or_default(),
        example_id: example.map(|(it, _)| rfc3339(it.last_nanos)).unwrap_or_default(),
        suggested_rule,
        advice,
    }
}

fn rfc3339(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default().to_string()
}

fn series(steps: &[StepTally]) -> Vec<ReportStep> {
    let last = steps.last().map_or(0, |step| step.start_seconds);
    let recent = steps.iter().filter(|step| step.start_seconds > last - WINDOW_SECONDS);
    let told = recent.map(|step| {
        let times = decode(step.latency.as_ref());
        let requests = step.hits.saturating_add(step.misses).saturating_add(step.passthrough);
        ReportStep {
            start_time: Some(prost_types::Timestamp { seconds: step.start_seconds, nanos: 0 }),
            requests,
            misses: step.misses,
            requests_per_second: float(requests) / f64::from(STEP),
            misses_per_second: float(step.misses) / f64::from(STEP),
            p50_us: times.quantile(500_000),
            p99_us: times.quantile(990_000),
        }
    });
    told.filter(|step| step.requests > 0).collect()
}
