//! P9: thousands of subscriptions from one process, each with a connection and TLS of its own, against the real control plane in another.
//!
//! Swarm and control plane share the machine, so that the times count what both do.

mod board;
mod client;
mod link;
mod plane;
mod profile;
mod stream;

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::http::contest::Verdict;
use profile::{Published, Swarm};

/// What P9 asks for: so many have acknowledged in this time.
const GOALS: [(usize, u64); 2] = [(1_000, 150), (5_000, 800)];
/// What each may take of the control plane's memory, in bytes.
const OF_EACH: f64 = 60.0 * 1024.0;
/// How long the return after a restart may take.
const BACK: Duration = Duration::from_secs(15);

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// How many responders publishing is measured with, one count after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    clients: Vec<usize>,
    /// How many are held while memory is measured; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    held: usize,
    /// How many come back after the control plane was killed; 0 leaves it out.
    #[arg(long, default_value_t = 5_000)]
    restarted: usize,
    /// How many are cut off for a while; 0 leaves it out. Three files are open for each.
    #[arg(long, default_value_t = 1_000)]
    cut: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 60)]
    cut_seconds: u64,
    /// How many some come and go of; 0 leaves it out.
    #[arg(long, default_value_t = 1_000)]
    churned: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 30)]
    churn_seconds: u64,
    /// How many of a hundred go each minute.
    #[arg(long, default_value_t = 10.0)]
    churn_percent: f64,
    /// How often is published.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How many milliseconds a responder takes to make a bundle ready.
    #[arg(long, default_value_t = 0)]
    prepare: u64,
    /// Plain connections, without TLS.
    #[arg(long)]
    plain: bool,
    /// Fifty of each, to see that all works; the figures are of no worth.
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Plan {
    fn quickly(mut self) -> Self {
        if self.quick {
            (self.clients, self.held, self.restarted) = (vec![50], 50, 50);
            (self.cut, self.cut_seconds, self.churned, self.churn_seconds) = (50, 1, 50, 2);
            (self.rounds, self.churn_percent) = (3, 300.0);
        }
        self
    }

    async fn gather(&self, count: usize, linked: bool) -> anyhow::Result<Swarm> {
        let prepare = Duration::from_millis(self.prepare);
        Swarm::gather(count, !self.plain, prepare, linked).await
    }

    fn spoken(&self) -> &'static str {
        if self.plain { "plain" } else { "mTLS" }
    }
}

/// Measures and prints.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Vec<Verdict>> {
    raise()?;
    let plan = plan.quickly();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(all(&plan))
}

async fn all(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    println!(
        "| responders | | all there s | acknowledged p50 ms | p99 ms | last ms | worst last ms | the whole start ms | CPU a round ms | RSS each KB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for count in &plan.clients {
        let (published, _) = publish(plan, *count).await?;
        verdicts.push(fan_out(*count, &published));
    }
    if plan.held > 0 {
        let (_, memory) = publish(plan, plan.held).await?;
        verdicts.push(Verdict {
            row: format!("P9 {} held", plan.held),
            goal: "≤ 60 KB each".to_owned(),
            measured: format!("{:.1} KB", memory / 1024.0),
            passed: Some(memory <= OF_EACH),
        });
    }
    if plan.restarted > 0 {
        verdicts.push(restart(plan).await?);
    }
    if plan.churned > 0 {
        verdicts.push(churn(plan).await?);
    }
    if plan.cut > 0 {
        verdicts.push(cut(plan).await?);
    }
    Ok(verdicts)
}

async fn publish(plan: &Plan, count: usize) -> anyhow::Result<(Published, f64)> {
    let mut swarm = plan.gather(count, false).await?;
    let published = swarm.publish(plan.rounds).await?;
    let memory = swarm.memory().await?;
    let [half, most, last, whole] = published.median().map(milliseconds);
    println!(
        "| {count} | {} | {:.1} | {half:.0} | {most:.0} | {last:.0} | {:.0} | {whole:.0} | {:.0} | {:.1} |",
        plan.spoken(),
        swarm.gathered.as_secs_f64(),
        milliseconds(published.worst()),
        milliseconds(published.cpu),
        memory / 1024.0,
    );
    Ok((published, memory))
}

fn fan_out(count: usize, published: &Published) -> Verdict {
    let [_, _, last, whole] = published.median();
    let goal = GOALS.iter().find(|(responders, _)| *responders == count);
    let goal = goal.map(|(_, goal)| Duration::from_millis(*goal));
    Verdict {
        row: format!("P9 {count} acknowledge"),
        goal: goal.map_or_else(String::new, |goal| format!("all ≤ {} ms", goal.as_millis())),
        measured: format!(
            "{:.0} ms after all had prepared it, at worst {:.0} ms; the whole start {:.0} ms",
            milliseconds(last),
            milliseconds(published.worst()),
            milliseconds(whole)
        ),
        passed: goal.map(|goal| last <= goal),
    }
}

async fn restart(plan: &Plan) -> anyhow::Result<Verdict> {
    let mut swarm = plan.gather(plan.restarted, false).await?;
    let (back, cpu, fetches) = swarm.restart().await?;
    swarm.publish(1).await?;
    Ok(Verdict {
        row: format!("P9 restart with {}", plan.restarted),
        goal: format!("all back ≤ {} s, no bundle fetched", BACK.as_secs()),
        measured: format!(
            "{:.1} s ({:.1} s of CPU), {fetches} fetched",
            back.as_secs_f64(),
            cpu.as_secs_f64()
        ),
        passed: Some(back <= BACK && fetches == 0),
    })
}

async fn churn(plan: &Plan) -> anyhow::Result<Verdict> {
    let mut swarm = plan.gather(plan.churned, false).await?;
    let time = Duration::from_secs(plan.churn_seconds);
    let rounds = swarm.churn(plan.churn_percent, time).await?;
    Ok(Verdict {
        row: format!("churn of {} % a minute of {}", plan.churn_percent, plan.churned),
        goal: "every round reaches all".to_owned(),
        measured: format!("{rounds} rounds in {} s", plan.churn_seconds),
        passed: Some(rounds > 0),
    })
}

async fn cut(plan: &Plan) -> anyhow::Result<Verdict> {
    let mut swarm = plan.gather(plan.cut, true).await?;
    let after = swarm.partition(Duration::from_secs(plan.cut_seconds)).await?;
    Ok(Verdict {
        row: format!("{} cut off for {} s", plan.cut, plan.cut_seconds),
        goal: "all acknowledge once it heals".to_owned(),
        measured: format!("{:.1} s after", after.as_secs_f64()),
        passed: Some(true),
    })
}

/// Takes as many files as this process may have open.
fn raise() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
