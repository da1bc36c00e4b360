//! Two servers in turn, several times, and what is to hold between them.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::load::{Measured, Plan};
use crate::server;

/// How long and how often everything is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Effort {
    /// Seconds of each round.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Rounds of each server; medians count.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// One round of a second, to see that all works; the figures are of little worth.
    #[arg(long)]
    pub(crate) quick: bool,
    /// A file that a line of JSON is added to for each round.
    #[arg(long, value_name = "FILE")]
    pub(crate) raw: Option<PathBuf>,
}

impl Effort {
    /// The seconds that count, and those before them.
    pub(crate) fn times(&self) -> (f64, f64) {
        if self.quick { (1.0, 0.3) } else { (self.seconds, 1.0) }
    }

    /// How often.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }
}

/// What has to hold. Absent limits are not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Goal {
    /// The least throughput, as a multiple of the reference's.
    pub(crate) throughput: Option<f64>,
    /// The greatest p99, as a multiple of the reference's.
    pub(crate) p99: Option<f64>,
    /// The greatest cost of a request in CPU time, as a multiple of the reference's.
    pub(crate) cost: Option<f64>,
}

/// A row of the table.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) reference: (&'a str, Plan),
    pub(crate) ours: Plan,
    pub(crate) goal: Goal,
    /// Looks at some of our answers.
    pub(crate) verify: &'a dyn Fn(usize, &[u8]) -> anyhow::Result<()>,
}

/// What came of a goal.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) row: String,
    pub(crate) goal: String,
    pub(crate) measured: String,
    /// `None` when it could not be measured.
    pub(crate) passed: Option<bool>,
}

impl Verdict {
    /// What could not be measured, and why.
    pub(crate) fn absent(row: &str, goal: &str, why: &str) -> Self {
        Self { row: row.to_owned(), goal: goal.to_owned(), measured: why.to_owned(), passed: None }
    }

    /// How it is called.
    pub(crate) fn word(&self) -> &'static str {
        match self.passed {
            Some(true) => "pass",
            Some(false) => "**falls short**",
            None => "not measured",
        }
    }
}

/// The figures of both servers, each the median of its rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) reference: Figures,
    pub(crate) ours: Figures,
    /// Medians of the rounds' own ratios, ours to the reference: what disturbs a round disturbs both.
    pub(crate) throughput: f64,
    pub(crate) p99: f64,
    pub(crate) cost: f64,
}

/// Medians.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) busy: f64,
}

/// A server that leaves more of its core alone was not what limited the throughput.
pub(crate) const SATURATED: f64 = 0.9;

pub(crate) fn print_head() {
    println!(
        "| row | against | its req/s | its p99 ms | its CPU µs | req/s | p99 ms | CPU µs | core used | throughput × | p99 × | CPU × | goal | verdict |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
}

impl Row<'_> {
    /// Lets both servers run in turn, prints the row and tells what came of its goal.
    pub(crate) fn run(&self, effort: &Effort) -> anyhow::Result<(Verdict, Outcome)> {
        let outcome = self.measure(effort).with_context(|| self.name.clone())?;
        let (theirs, ours) = (outcome.reference, outcome.ours);
        let verdict = self.judge(&outcome);
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} % / {:.0} % | {:.2} | {:.2} | {:.2} | {} | {} |",
            self.name,
            self.reference.0,
            theirs.per_second,
            theirs.p99_ms,
            theirs.cpu_us,
            ours.per_second,
            ours.p99_ms,
            ours.cpu_us,
            theirs.busy * 100.0,
            ours.busy * 100.0,
            outcome.throughput,
            outcome.p99,
            outcome.cost,
            verdict.goal,
            verdict.word(),
        );
        Ok((verdict, outcome))
    }

    fn measure(&self, effort: &Effort) -> anyhow::Result<Outcome> {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for round in 0..effort.rounds() {
            let first = load(&self.reference.1).context("the reference")?;
            let second = load(&self.ours)?;
            for (target, body) in &second.samples {
                (self.verify)(*target, body).with_context(|| {
                    format!("target {target}: {}", String::from_utf8_lossy(body))
                })?;
            }
            for (who, measured) in [(self.reference.0, &first), ("countersign", &second)] {
                keep(effort, &self.name, who, round, measured)?;
            }
            theirs.push(first);
            ours.push(second);
        }
        let ratio = |of: fn(&Measured) -> f64| {
            median(theirs.iter().zip(&ours).map(|(theirs, ours)| of(ours) / of(theirs)).collect())
        };
        Ok(Outcome {
            throughput: ratio(|measured| measured.per_second),
            p99: ratio(|measured| measured.p99_ms),
            cost: ratio(|measured| measured.cpu_us),
            reference: Figures::of(&theirs),
            ours: Figures::of(&ours),
        })
    }

    fn judge(&self, outcome: &Outcome) -> Verdict {
        let (mut goal, mut measured, mut passed) = (Vec::new(), Vec::new(), true);
        if let Some(least) = self.goal.throughput {
            // Where the load was the limit, or somebody else used the core, only the cost tells how fast a server can be.
            let saturated = outcome.reference.busy.min(outcome.ours.busy) >= SATURATED;
            let (ratio, by) =
                if saturated { (outcome.throughput, "req/s") } else { (1.0 / outcome.cost, "CPU") };
            goal.push(format!("≥ {least} ×"));
            measured.push(format!("{ratio:.2} × (by {by})"));
            passed &= ratio >= least;
        }
        if let Some(most) = self.goal.p99 {
            goal.push(format!("p99 ≤ {most} ×"));
            measured.push(format!("p99 {:.2} ×", outcome.p99));
            passed &= outcome.p99 <= most;
        }
        if let Some(most) = self.goal.cost {
            goal.push(format!("CPU ≤ {most} ×"));
            measured.push(format!("CPU {:.2} ×", outcome.cost));
            passed &= outcome.cost <= most;
        }
        let (goal, measured) = (goal.join(", "), measured.join(", "));
        Verdict { row: self.name.clone(), goal, measured, passed: Some(passed) }
    }
}

impl Figures {
    fn of(rounds: &[Measured]) -> Self {
        let of = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            per_second: of(|measured| measured.per_second),
            p99_ms: of(|measured| measured.p99_ms),
            cpu_us: of(|measured| measured.cpu_us),
            busy: of(|measured| measured.busy),
        }
    }
}

/// The middle of the figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the load as a process of its own, on a core of its own.
pub(crate) fn load(plan: &Plan) -> anyhow::Result<Measured> {
    let mut command = server::pinned(server::LOAD_CORE, server::own()?);
    let out = command.args(["load", &serde_json::to_string(plan)?]).output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "the load failed: {told}");
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// Adds a round to the raw data.
fn keep(
    effort: &Effort,
    row: &str,
    who: &str,
    round: usize,
    measured: &Measured,
) -> anyhow::Result<()> {
    let Some(path) = &effort.raw else { return Ok(()) };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let line = json!({
        "row": row, "server": who, "round": round, "requests": measured.requests, "per_second": measured.per_second,
        "p50_ms": measured.p50_ms, "p99_ms": measured.p99_ms, "max_ms": measured.max_ms, "cpu_us": measured.cpu_us, "busy": measured.busy,
    });
    writeln!(file, "{line}")?;
    Ok(())
}
