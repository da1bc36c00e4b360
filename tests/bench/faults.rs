//! What goes wrong, under load; see the harness.

use anyhow::Context as _;
use harness::faults::{Outcome, away, kills, random, restarts, swaps};

use crate::http::contest::Verdict;

/// What goes wrong.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Plan {
    /// The control plane is away, and responders start from their disk caches meanwhile (R1).
    Away(away::Plan),
    /// Versions are swapped under load (R2).
    Swaps(swaps::Plan),
    /// The control plane is killed at random moments of imports and publications (R4).
    Kills(kills::Plan),
    /// All responders are started anew, one after the other (R5).
    Restarts(restarts::Plan),
    /// Three control planes on PostgreSQL and S3, five responders: anything dies and any link breaks, in random order.
    Random(random::Plan),
}

/// Runs it.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome: Option<Outcome> = match plan {
        Plan::Away(plan) => runtime.block_on(away::run(plan)).map(Some),
        Plan::Swaps(plan) => runtime.block_on(swaps::run(plan)).map(Some),
        Plan::Kills(plan) => runtime.block_on(kills::run(plan)).map(Some),
        Plan::Restarts(plan) => runtime.block_on(restarts::run(plan)).map(Some),
        Plan::Random(plan) => runtime.block_on(random::run(plan)),
    }?;
    let outcome = outcome.context("PostgreSQL and versitygw are needed, see `.ci/run`")?;
    for why in outcome.tally.failed.iter().take(10) {
        println!("failed: {why}");
    }
    let (measured, passed) = (outcome.told(), outcome.passed());
    let goal = outcome.goal.to_owned();
    Ok(vec![Verdict { row: outcome.row, goal, measured, passed: Some(passed) }])
}
