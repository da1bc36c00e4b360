//! Every responder is asked to end and started again, one after the other, as a rollout does.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    fleet::Fleet,
    versions::{Floor, Manner, Traffic},
    wait_until,
};

use super::Outcome;

/// How.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// How often each of them.
    #[arg(long, default_value_t = 20)]
    pub rounds: usize,
    /// Responders.
    #[arg(long, default_value_t = 3)]
    pub responders: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
}

/// Does it.
///
/// # Errors
/// When it cannot go on; that something fell short is none.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let mut fleet = Fleet::start(plan.responders).await;
    let floor = Floor::default();
    floor.store(1, Ordering::Release);
    let manner = Manner { patience: Duration::ZERO, pause: None };
    let traffic = Traffic::start(fleet.door.addr(), plan.clients, manner, &floor);
    let mut unclean = 0;
    for _ in 0..plan.rounds {
        for node in &mut fleet.nodes {
            unclean += usize::from(!node.process.terminate().await.success());
            node.restart().await;
            wait_until("it serves again", || async {
                (node.version().await == Some(1)).then_some(())
            })
            .await;
        }
    }
    let tally = traffic.finish().await;
    let restarts = plan.rounds * plan.responders;
    let also = format!("{unclean} of {restarts} ended with requests in flight");
    Ok(Outcome {
        row: format!("R5 {restarts} restarts of {} responders", plan.responders),
        goal: "no request fails",
        tally,
        also,
        holds: unclean == 0,
    })
}
