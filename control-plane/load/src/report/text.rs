//! The report for a terminal.

use std::fmt::Write as _;

use super::{Report, figure, shown};
use crate::goal::Metric;

/// So many endpoints and findings are written out.
const MOST: usize = 20;

impl Report {
    /// The report as lines of text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        self.write(&mut out).ok();
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let counts = &self.totals.counts;
        let interrupted = if self.about.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "{} requests in {} ({}/s) to {}{interrupted}",
            counts.requests,
            shown(self.totals.elapsed),
            figure(Metric::Rate.of(&self.totals), ""),
            self.about.target,
        )?;
        writeln!(out)?;
        for (name, rate, part) in self.rates() {
            writeln!(out, "  {name:<17} {:>9}  {part}", figure(rate, "%"))?;
        }
        writeln!(out, "\n  latency ms    response    service")?;
        for (name, response, service) in self.latencies() {
            writeln!(out, "  {name:<10} {:>11} {:>10}", figure(response, ""), figure(service, ""))?;
        }
        self.endpoints_to(out)?;
        self.trouble_to(out)?;
        if !self.verdicts.is_empty() {
            writeln!(out, "\n  goals")?;
        }
        for verdict in &self.verdicts {
            let word = if verdict.reached { "reached" } else { "MISSED " };
            writeln!(out, "  {word}  {}  ({})", verdict.goal, verdict.figure())?;
        }
        Ok(())
    }

    fn endpoints_to(&self, out: &mut String) -> std::fmt::Result {
        let rows = self.rows();
        let width = rows.iter().take(MOST).map(|row| row.name.chars().count()).max().unwrap_or(0);
        writeln!(
            out,
            "\n  {:<width$} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9}",
            "endpoint", "requests", "errors", "failed", "p50 ms", "p95 ms", "p99 ms"
        )?;
        for row in rows.iter().take(MOST) {
            let [_, p50, p95, p99, _] = row.times;
            writeln!(
                out,
                "  {:<width$} {:>9} {:>7} {:>7} {p50:>9.2} {p95:>9.2} {p99:>9.2}",
                row.name, row.counts.requests, row.counts.errors, row.counts.failed
            )?;
        }
        if rows.len() > MOST {
            writeln!(out, "  and {} more", rows.len() - MOST)?;
        }
        Ok(())
    }

    fn trouble_to(&self, out: &mut String) -> std::fmt::Result {
        if !self.totals.errors.is_empty() {
            let all: Vec<String> =
                self.totals.errors.iter().map(|(why, count)| format!("{why} {count}")).collect();
            writeln!(out, "\n  no answer: {}", all.join(", "))?;
        }
        if self.totals.counts.chains_failed > 0 {
            writeln!(
                out,
                "\n  transform chains failed {} times",
                self.totals.counts.chains_failed
            )?;
        }
        let findings = self.findings();
        if !findings.is_empty() {
            writeln!(out, "\n  what differs")?;
        }
        for (endpoint, difference, count) in findings.iter().take(MOST) {
            writeln!(out, "  {count:>7} × {endpoint}: {}: {}", difference.check, difference.at)?;
        }
        if findings.len() > MOST {
            writeln!(out, "  and {} more kinds", findings.len() - MOST)?;
        }
        Ok(())
    }

    /// What differed, most frequent first.
    pub(super) fn findings(&self) -> Vec<(&str, &crate::compare::Difference, u64)> {
        let mut all: Vec<_> = self
            .totals
            .findings
            .iter()
            .map(|((nth, difference), count)| (self.endpoint(*nth), difference, *count))
            .collect();
        all.sort_by_key(|(endpoint, difference, count)| {
            (std::cmp::Reverse(*count), *endpoint, difference.check, difference.at.clone())
        });
        all
    }
}
