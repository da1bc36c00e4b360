//! The report for programs. Its form is documented in docs/load.md; members are added, and never change their meaning within a version.

use serde_json::{Map, Value, json};

use super::Report;
use crate::{goal::Metric, measure::Counts};

/// The version of the form.
const VERSION: u32 = 1;

impl Report {
    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let totals = &self.totals;
        let counts_of = |name: &str, count: u64| (name.to_owned(), Value::from(count));
        let latency: Map<String, Value> = self
            .latencies()
            .into_iter()
            .map(|(name, response, service)| {
                (name.to_owned(), json!({"response": response, "service": service}))
            })
            .collect();
        let endpoints: Vec<Value> = self
            .rows()
            .iter()
            .map(|row| {
                let [mean, p50, p95, p99, max] = row.times;
                json!({
                    "endpoint": row.name, "counts": counts(&row.counts),
                    "latencyMs": {"avg": mean, "p50": p50, "p95": p95, "p99": p99, "max": max},
                })
            })
            .collect();
        let goals: Vec<Value> = self
            .verdicts
            .iter()
            .map(|verdict| {
                json!({"goal": verdict.goal.to_string(), "measured": verdict.measured, "reached": verdict.reached})
            })
            .collect();
        let findings: Vec<Value> = self
            .findings()
            .into_iter()
            .map(|(endpoint, difference, count)| {
                json!({"endpoint": endpoint, "check": difference.check, "at": difference.at, "count": count})
            })
            .collect();
        let seconds: Vec<Value> = totals
            .seconds
            .iter()
            .map(|second| {
                let [p50, p95, p99] = second.quantiles;
                json!({"requests": second.requests, "errors": second.errors, "p50": p50, "p95": p95, "p99": p99})
            })
            .collect();
        json!({
            "version": VERSION,
            "passed": self.passed(),
            "about": {
                "target": self.about.target, "source": self.about.source, "pattern": self.about.pattern, "began": self.about.began,
                "testConfig": self.about.test_config, "transform": self.about.transform, "interrupted": self.about.interrupted,
            },
            "recording": {
                "requests": self.summary.requests, "sessions": self.summary.sessions, "users": self.summary.users,
                "withToken": self.summary.with_token, "carriedValues": self.summary.carried, "transformed": self.summary.transformed,
            },
            "elapsedSeconds": totals.elapsed.as_secs_f64(),
            "requestsPerSecond": Metric::Rate.of(totals),
            "rates": {
                "tokenAcceptance": Metric::TokenAcceptance.of(totals), "ownAnswers": Metric::OwnAnswers.of(totals),
                "match": Metric::MatchRate.of(totals), "assertions": Metric::Assertions.of(totals), "errors": Metric::Errors.of(totals),
            },
            "counts": counts(&totals.counts),
            "latencyMs": latency,
            "statuses": totals.statuses.iter().map(|(status, count)| counts_of(&status.to_string(), *count)).collect::<Map<_, _>>(),
            "noAnswer": totals.errors.iter().map(|(why, count)| counts_of(why, *count)).collect::<Map<_, _>>(),
            "endpoints": endpoints,
            "differences": findings,
            "goals": goals,
            "seconds": seconds,
        })
    }
}

fn counts(counts: &Counts) -> Value {
    json!({
        "requests": counts.requests, "answered": counts.answered, "errors": counts.errors, "asserted": counts.asserted,
        "assertionFailed": counts.failed, "compared": counts.compared, "own": counts.own, "tokensPresented": counts.presented,
        "tokensAccepted": counts.accepted, "misses": counts.missed, "bytes": counts.bytes, "chainsFailed": counts.chains_failed,
    })
}
