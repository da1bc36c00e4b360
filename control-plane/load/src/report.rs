//! What came of a run, for people and for programs.
//!
//! [`Report::text`] is for a terminal, [`Report::json`] for programs, [`Report::junit`] for build servers, [`Report::html`] for everybody: one
//! file that needs nothing from elsewhere. None of them holds a token or a body, unless differences were to be shown.

mod html;
mod json;
mod junit;
mod plot;
mod text;

use std::time::Duration;

use crate::{
    goal::{Metric, Verdict},
    measure::{Counts, Totals},
    recording::{Recording, Summary},
};

/// What a run was.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Where requests went.
    pub target: String,
    /// What was driven.
    pub source: String,
    /// The load pattern in words.
    pub pattern: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// The test config, if there was one.
    pub test_config: Option<String>,
    /// The transform template, if there was one.
    pub transform: Option<String>,
    /// Somebody ended it.
    pub interrupted: bool,
}

/// A report.
#[derive(Debug)]
pub struct Report {
    /// What the run was.
    pub about: About,
    /// What the recording holds.
    pub summary: Summary,
    /// What was measured.
    pub totals: Totals,
    /// What became of the goals.
    pub verdicts: Vec<Verdict>,
    endpoints: Vec<String>,
}

/// A line of the table of endpoints.
#[derive(Debug)]
struct Row<'r> {
    name: &'r str,
    counts: Counts,
    /// Milliseconds: mean, p50, p95, p99, longest.
    times: [f64; 5],
}

impl Report {
    /// Puts a report together.
    #[must_use]
    pub fn new(
        about: About,
        recording: &Recording,
        totals: Totals,
        verdicts: Vec<Verdict>,
    ) -> Self {
        let endpoints = recording.endpoints.clone();
        Self { about, summary: recording.summary.clone(), totals, verdicts, endpoints }
    }

    /// Whether every goal is reached.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.reached)
    }

    fn endpoint(&self, nth: usize) -> &str {
        self.endpoints.get(nth).map_or("", String::as_str)
    }

    /// The endpoints, those with most requests first.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = self
            .totals
            .endpoints
            .iter()
            .map(|(nth, endpoint)| {
                let at = |quantile| {
                    crate::number::float(endpoint.response.value_at_quantile(quantile)) / 1000.0
                };
                let mean = endpoint.response.mean() / 1000.0;
                let longest = crate::number::float(endpoint.response.max()) / 1000.0;
                let times = [mean, at(0.5), at(0.95), at(0.99), longest];
                Row { name: self.endpoint(*nth), counts: endpoint.counts, times }
            })
            .collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.counts.requests), row.name));
        rows
    }

    /// The rates that a report begins with: name, figure, and what it is a part of.
    fn rates(&self) -> [(&'static str, Option<f64>, String); 5] {
        let counts = &self.totals.counts;
        let of = |metric: Metric| metric.of(&self.totals);
        let part = |some: u64, all: u64| format!("{some} of {all}");
        [
            (
                "token acceptance",
                of(Metric::TokenAcceptance),
                part(counts.accepted, counts.presented),
            ),
            ("own answers", of(Metric::OwnAnswers), part(counts.own, counts.compared)),
            (
                "match rate",
                of(Metric::MatchRate),
                part(counts.answered.saturating_sub(counts.missed), counts.answered),
            ),
            (
                "assertions",
                of(Metric::Assertions),
                part(counts.asserted.saturating_sub(counts.failed), counts.asserted),
            ),
            ("errors", of(Metric::Errors), part(counts.errors, counts.requests)),
        ]
    }

    /// Latency in milliseconds by percentile: of the response time and of the service time.
    fn latencies(&self) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
        [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
            .into_iter()
            .map(|(name, at)| {
                let (response, service) = (Metric::Response(at), Metric::Service(at));
                (name, response.of(&self.totals), service.of(&self.totals))
            })
            .collect()
    }
}

/// A time for people.
fn shown(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// A figure for people; a dash for none.
fn figure(figure: Option<f64>, unit: &str) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.2}{unit}"))
}

#[cfg(test)]
mod tests;
