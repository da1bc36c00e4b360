//! Three control planes on one PostgreSQL and one S3 server, five responders, and load. Anything dies and any link breaks, in random order.

mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    fleet::Publisher,
    link::{Fault, Link},
    notice,
    versions::{Floor, Manner, Traffic},
};

use super::{Outcome, blocking, pause};
use world::{NODES, PLANES, World};

/// How.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// For how many minutes.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// Makes the order; printed, so that a run can be repeated.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
}

/// All have to be back in sync this long after the last fault.
const BACK: Duration = Duration::from_secs(15);

/// Does it; `None`, with a notice, where PostgreSQL or the S3 server is not installed.
///
/// # Errors
/// When it cannot go on; that something fell short is none.
pub async fn run(plan: &Plan) -> anyhow::Result<Option<Outcome>> {
    let Some(mut world) = World::start().await? else { return Ok(None) };
    // A request that fails is asked again on another connection, as a balancer does that knows which requests can be repeated.
    let manner =
        Manner { patience: Duration::from_secs(30), pause: Some(Duration::from_millis(2)) };
    let traffic = Traffic::start(world.door.addr(), plan.clients, manner, &Floor::default());
    let ended = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    let publishing = {
        let (publisher, ended) = (world.publisher(), Arc::clone(&ended));
        let published = Arc::clone(&published);
        tokio::task::spawn_blocking(move || publish(&publisher, &ended, &published))
    };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let begin = Instant::now();
    let mut happened = Vec::new();
    while begin.elapsed().as_secs_f64() < plan.minutes * 60.0 {
        let what = choose(&mut random, &world);
        notice(&format!("{:6.1} s: {what:?}", begin.elapsed().as_secs_f64()));
        let lasts = Duration::from_millis(random.u64(200..6000));
        befall(&mut world, what, lasts).await?;
        happened.push(what);
        pause(Duration::from_millis(random.u64(1..1500))).await;
    }
    let healed = Instant::now();
    ended.store(true, Ordering::Relaxed);
    let (tried, last) = publishing.await?;
    let back = world.back_in_sync(last + 1, healed).await?;
    let tally = traffic.finish().await;
    let also = format!(
        "{} faults, {} of {tried} publications acknowledged meanwhile, in sync {:.1} s after the last; seed {}",
        happened.len(),
        published.load(Ordering::Relaxed),
        back.as_secs_f64(),
        plan.seed
    );
    Ok(Some(Outcome {
        row: format!("faults for {} minutes", plan.minutes),
        goal: "no request fails, none is mixed, in sync within 15 s",
        tally,
        also,
        holds: back <= BACK,
    }))
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
enum What {
    PlaneDies(usize),
    ResponderDies(usize),
    DatabaseDies,
    BlobsDie,
    /// A responder and the control planes.
    SubscriptionLink(usize, Fault),
    /// A control plane and the database.
    DatabaseLink(usize, Fault),
    /// A control plane and the S3 server.
    BlobLink(usize, Fault),
    /// The balancer and a responder.
    DataLink(usize, Fault),
    CacheDiskFull,
    PlaneDiskFull,
}

fn choose(random: &mut fastrand::Rng, world: &World) -> What {
    let slow = Fault::Slow(Duration::from_millis(random.u64(50..500)));
    let fault = [Fault::Cut, Fault::Silent, slow][random.usize(0..3)];
    let (plane, node) = (random.usize(0..PLANES), random.usize(0..NODES));
    match random.u8(0..if world.disks.is_some() { 10 } else { 8 }) {
        0 => What::PlaneDies(plane),
        1 => What::ResponderDies(node),
        2 => What::DatabaseDies,
        3 => What::BlobsDie,
        4 => What::SubscriptionLink(node, fault),
        5 => What::DatabaseLink(plane, fault),
        6 => What::BlobLink(plane, fault),
        7 => What::DataLink(node, fault),
        8 => What::CacheDiskFull,
        _ => What::PlaneDiskFull,
    }
}

/// Lets it happen for a while, and ends it.
async fn befall(world: &mut World, what: What, lasts: Duration) -> anyhow::Result<()> {
    match what {
        What::PlaneDies(nth) => {
            world.planes[nth].process.kill();
            pause(lasts).await;
            world.planes[nth].revive().await;
        }
        What::ResponderDies(nth) => {
            world.nodes[nth].process.kill();
            pause(lasts).await;
            world.nodes[nth].restart().await;
        }
        What::DatabaseDies => {
            world.database.crash();
            pause(lasts).await;
            world.database.resume();
        }
        What::BlobsDie => {
            world.blobs.crash();
            pause(lasts).await;
            world.blobs.resume();
        }
        What::SubscriptionLink(nth, fault) => broken(&world.subscriptions[nth], fault, lasts).await,
        What::DatabaseLink(nth, fault) => broken(&world.planes[nth].database, fault, lasts).await,
        What::BlobLink(nth, fault) => broken(&world.planes[nth].blobs, fault, lasts).await,
        What::DataLink(nth, fault) => broken(&world.data[nth], fault, lasts).await,
        What::CacheDiskFull | What::PlaneDiskFull => {
            let Some(disks) = &world.disks else { return Ok(()) };
            let disk = usize::from(matches!(what, What::PlaneDiskFull));
            disks.fill(disk)?;
            pause(lasts).await;
            disks.empty(disk)?;
        }
    }
    Ok(())
}

async fn broken(link: &Link, fault: Fault, lasts: Duration) {
    link.set(fault);
    pause(lasts).await;
    link.set(Fault::None);
}

/// Publishes one version after another until it is told to end; returns how many it tried, and the last of them.
fn publish(publisher: &Publisher, ended: &AtomicBool, published: &AtomicU64) -> (u64, u64) {
    let mut version = 1;
    while !ended.load(Ordering::Relaxed) {
        version += 1;
        if publisher.publish(version).is_ok() {
            published.fetch_add(1, Ordering::Relaxed);
        }
    }
    (version - 1, version)
}

impl World {
    /// Publishes a version, and waits until all serve it; how long after `healed` that was.
    async fn back_in_sync(&self, version: u64, healed: Instant) -> anyhow::Result<Duration> {
        loop {
            let publisher = self.publisher();
            let done = blocking(move || publisher.publish(version)).await?;
            let mut all = done.is_ok();
            for node in &self.nodes {
                all = all && node.version().await == Some(version);
            }
            if all {
                return Ok(healed.elapsed());
            }
            anyhow::ensure!(
                healed.elapsed() < 8 * BACK,
                "not back in sync after {:?}: {done:?}",
                healed.elapsed()
            );
        }
    }
}
