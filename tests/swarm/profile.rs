//! What the swarm is put through: publishing, coming and going, a control plane that is killed, and one that cannot be reached.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    board::Board,
    client::{Client, Common, jitter},
    link::Link,
    plane::Plane,
};
use crate::server;

/// Connections that are begun at a time, so that the first moment is not the hardest.
const AT_ONCE: usize = 100;
const APART: Duration = Duration::from_millis(20);
/// How long a round may take.
const ROUND: Duration = Duration::from_secs(60);
/// How long all may take to be there, or back.
const GATHER: Duration = Duration::from_secs(180);
/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_secs(2);

/// Simulated responders, all of them subscribed, and their control plane.
pub(crate) struct Swarm {
    pub(crate) plane: Plane,
    pub(crate) count: usize,
    pub(crate) board: Arc<Board>,
    /// How long it took until all were there.
    pub(crate) gathered: Duration,
    /// What the control plane took in memory before anybody was there, in KiB.
    before: u32,
    link: Option<Link>,
    leave: Vec<Arc<Notify>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What publishing took.
pub(crate) struct Published {
    /// From the moment when all had prepared it, until half of them, 99 of 100, and the last had acknowledged that they serve it, in each round; and the
    /// whole start, from the request on.
    pub(crate) rounds: Vec<[Duration; 4]>,
    /// What the control plane computed for each round.
    pub(crate) cpu: Duration,
}

impl Published {
    /// The median of the rounds.
    pub(crate) fn median(&self) -> [Duration; 4] {
        [0, 1, 2, 3].map(|which| {
            let mut all: Vec<Duration> =
                self.rounds.iter().filter_map(|round| round.get(which).copied()).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        })
    }

    /// The worst of all rounds.
    pub(crate) fn worst(&self) -> Duration {
        self.rounds.iter().filter_map(|round| round.get(2).copied()).max().unwrap_or_default()
    }
}

impl Swarm {
    /// Starts a control plane and subscribes so many to it, through a link if it is to be cut.
    pub(crate) async fn gather(
        count: usize,
        secure: bool,
        prepare: Duration,
        linked: bool,
    ) -> anyhow::Result<Self> {
        let mut plane = Plane::start(secure).await?;
        let (generation, _) = plane.publish().await?;
        let address = plane.address()?;
        let link = linked.then(|| Link::to(address)).transpose()?;
        let before = server::rss(plane.pid())?;
        let board = Arc::new(Board::default());
        let server = link.as_ref().map_or(address, Link::address);
        let tls = plane.responder()?;
        let common = Arc::new(Common { server, tls, prepare, board: Arc::clone(&board) });
        let begin = Instant::now();
        let (mut leave, mut tasks) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for number in 0..count {
            let told = Arc::new(Notify::new());
            let client = Client::new(number, Arc::clone(&common), Arc::clone(&told));
            tasks.push(tokio::spawn(client.run()).abort_handle());
            leave.push(told);
            if number % AT_ONCE == AT_ONCE - 1 {
                sleep(APART).await;
            }
        }
        let mut swarm =
            Self { plane, count, board, gathered: Duration::ZERO, before, link, leave, tasks };
        swarm.gathered = swarm.board.all_synced(count, begin, GATHER).await?;
        swarm.board.all_acknowledged(count, generation, begin, ROUND).await?;
        Ok(swarm)
    }

    /// Publishes so many times, one after the other.
    pub(crate) async fn publish(&mut self, rounds: usize) -> anyhow::Result<Published> {
        let cpu = server::cpu(self.plane.pid())?;
        let mut measured = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            measured.push(self.round().await?);
        }
        let used = server::cpu(self.plane.pid())?.saturating_sub(cpu);
        let rounds = u32::try_from(rounds.max(1))?;
        Ok(Published { rounds: measured, cpu: used / rounds })
    }

    async fn round(&mut self) -> anyhow::Result<[Duration; 4]> {
        let (generation, begin) = self.plane.publish().await?;
        let times = self.board.all_acknowledged(self.count, generation, begin, ROUND).await?;
        let last = times.last().copied().unwrap_or_default();
        let prepared = self.board.last_prepared(generation).unwrap_or(begin);
        let ahead = prepared.saturating_duration_since(begin);
        let after = |time: Option<&Duration>| time.unwrap_or(&last).saturating_sub(ahead);
        let at = |share: usize| after(times.get(times.len() * share / 100));
        Ok([at(50), at(99), after(None), last])
    }

    /// What the control plane takes in memory for each, in bytes.
    pub(crate) async fn memory(&self) -> anyhow::Result<f64> {
        sleep(SETTLE).await;
        let used = server::rss(self.plane.pid())?.saturating_sub(self.before);
        Ok(f64::from(used) * 1024.0 / f64::from(u32::try_from(self.count)?))
    }

    /// Has some leave and come back, each second, and publishes all the while. Tells how often.
    pub(crate) async fn churn(&mut self, percent: f64, time: Duration) -> anyhow::Result<usize> {
        let each = f64::from(u32::try_from(self.count)?) * percent / 100.0 / 60.0;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (begin, mut owed, mut rounds) = (Instant::now(), 0.0, 0);
        while begin.elapsed() < time {
            seconds.tick().await;
            owed += each;
            while owed >= 1.0 {
                owed -= 1.0;
                let nth = usize::try_from(jitter(NUMBERS).as_nanos())? % self.count.max(1);
                if let Some(leave) = self.leave.get(nth) {
                    leave.notify_one();
                }
            }
            self.round().await?;
            rounds += 1;
        }
        Ok(rounds)
    }

    /// Kills the control plane and starts it again. Tells how long it took until all were back, what it computed until then, and how many
    /// bundles would have been fetched.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<(Duration, Duration, usize)> {
        let held = self.board.lock().fetches;
        let begin = tokio::task::block_in_place(|| self.plane.kill_and_restart())?;
        // Those who have not noticed yet are not back already.
        self.board.forget(begin);
        let back = self.board.all_synced(self.count, begin, GATHER).await?;
        let fetches = self.board.lock().fetches.saturating_sub(held);
        Ok((back, server::cpu(self.plane.pid())?, fetches))
    }

    /// Lets nothing pass for a while, publishes meanwhile, and tells how long after it heals all have acknowledged.
    pub(crate) async fn partition(&mut self, time: Duration) -> anyhow::Result<Duration> {
        let Some(link) = &self.link else { anyhow::bail!("there is no link to be cut") };
        link.pass(false);
        let (generation, _) = self.plane.publish().await?;
        sleep(time).await;
        let begin = Instant::now();
        link.pass(true);
        let times = self.board.all_acknowledged(self.count, generation, begin, GATHER).await?;
        Ok(times.last().copied().unwrap_or_default())
    }
}

/// Numbers that one of many is drawn from.
const NUMBERS: Duration = Duration::from_secs(1_000_000);
