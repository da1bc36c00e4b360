//! One version after another under load, on two responders behind a balancer.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;

use crate::{
    fleet::Fleet,
    versions::{Floor, Manner, Traffic},
};

use super::{Outcome, blocking, pause};

/// How.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// How many versions.
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// Milliseconds from one to the next at the least.
    #[arg(long, default_value_t = 150)]
    pub every: u64,
    /// Responders.
    #[arg(long, default_value_t = 2)]
    pub responders: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Seconds without a swap, before and after, for the p99 to compare with.
    #[arg(long, default_value_t = 5.0)]
    pub steady: f64,
}

/// The p99 may be so many times that without swaps.
const SLOWER: f64 = 2.0;

/// Does it.
///
/// # Errors
/// When it cannot go on; that something fell short is none.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let fleet = Fleet::start(plan.responders).await;
    let floor = Floor::default();
    let manner = Manner { patience: Duration::ZERO, pause: None };
    let traffic = Traffic::start(fleet.door.addr(), plan.clients, manner, &floor);
    // The first second is for connections.
    pause(Duration::from_secs(1)).await;
    let mut all = traffic.take();
    let half = Duration::from_secs_f64(plan.steady / 2.0);
    pause(half).await;
    let mut steady = traffic.take();
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(plan.every.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for version in 2..=plan.count + 1 {
        ticks.tick().await;
        let publisher = fleet.publisher();
        blocking(move || publisher.publish(version)).await?.map_err(anyhow::Error::msg)?;
        // It is ready, so that no request that begins from now on may be answered with an older one.
        floor.store(version, Ordering::Release);
    }
    let took = begin.elapsed();
    let swapping = traffic.take();
    pause(half).await;
    steady = steady.with(traffic.finish().await);
    let (calm, busy) = (steady.percentile(99), swapping.percentile(99));
    let also = format!(
        "{:.0} ms a version; p99 {busy:.2} ms beside {calm:.2} ms without swaps ({:.2} ×)",
        took.as_secs_f64() * 1000.0 / f64::from(u32::try_from(plan.count)?),
        busy / calm
    );
    all = all.with(steady).with(swapping);
    Ok(Outcome {
        row: format!("R2 {} swaps", plan.count),
        goal: "no request fails, none is mixed or old, p99 ≤ 2 ×",
        tally: all,
        also,
        holds: busy <= calm * SLOWER,
    })
}
