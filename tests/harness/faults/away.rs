//! The control plane is away for long. Responders go on, and those that die start again from their disks.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    fleet::Fleet,
    versions::{Floor, Manner, Traffic},
    wait_until,
};

use super::{Outcome, blocking, pause};

/// How.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// For how many minutes.
    #[arg(long, default_value_t = 60.0)]
    pub minutes: f64,
    /// Seconds until a responder is killed and starts again, one after the other.
    #[arg(long, default_value_t = 60.0)]
    pub every: f64,
    /// Clients at once, each of which asks 100 times a second.
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
}

/// Does it.
///
/// # Errors
/// When it cannot go on; that something fell short is none.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let mut fleet = Fleet::start(2).await;
    let floor = Floor::default();
    floor.store(1, Ordering::Release);
    let manner =
        Manner { patience: Duration::from_secs(10), pause: Some(Duration::from_millis(10)) };
    let traffic = Traffic::start(fleet.door.addr(), plan.clients, manner, &floor);
    fleet.plane.kill();
    let begin = Instant::now();
    let (mut starts, mut slowest) = (0_usize, Duration::ZERO);
    while begin.elapsed().as_secs_f64() < plan.minutes * 60.0 {
        pause(Duration::from_secs_f64(plan.every)).await;
        let nth = starts % fleet.nodes.len();
        let Some(node) = fleet.nodes.get_mut(nth) else { continue };
        node.process.kill();
        let cold = Instant::now();
        node.restart().await;
        wait_until("it serves from its disk", || async {
            (node.version().await == Some(1)).then_some(())
        })
        .await;
        starts += 1;
        slowest = slowest.max(cold.elapsed());
    }
    let away = begin.elapsed();
    fleet.revive_plane().await;
    let publisher = fleet.publisher();
    let published = blocking(move || publisher.publish(2)).await?;
    published.map_err(anyhow::Error::msg)?;
    // It is ready where it is known; a control plane that has just started does not know of responders that have yet to come back.
    fleet.serves(2).await;
    floor.store(2, Ordering::Release);
    let tally = traffic.finish().await;
    let also = format!(
        "{starts} cold starts from disk, the slowest {:.2} s; away for {:.1} minutes, then all served the next version",
        slowest.as_secs_f64(),
        away.as_secs_f64() / 60.0
    );
    let row = "R1 the control plane is away".to_owned();
    Ok(Outcome { row, goal: "no request fails", tally, also, holds: true })
}
