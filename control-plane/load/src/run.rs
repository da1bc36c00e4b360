//! A run: threads that drive sessions until the recording, the time or somebody's patience is at an end.
//!
//! Each thread has an event loop of its own and shares nothing with the others but a few counters, so that load grows with the cores.

mod drive;
mod open;
mod wait;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_engine::sending::Generator;
use http::{HeaderName, HeaderValue};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    compare::Checks,
    config::Think,
    connect::{Protocol, Target},
    measure::{self, Counts, Progress, Second, Shard, Totals},
    number::{count, float},
    recording::Recording,
    schedule::Curve,
};

/// When requests begin.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// When they were recorded, so many times as fast: an open loop.
    Recorded {
        /// 1 is as it was.
        speed: f64,
    },
    /// Users that take one session after the other: a closed loop.
    Users {
        /// How many act.
        users: Curve,
        /// What they do between requests.
        think: Think,
    },
    /// So many requests a second, whatever became of those before: an open loop.
    Rate {
        /// Requests a second.
        rate: Curve,
        /// So many requests are under way at the most; further ones wait, and their wait counts.
        users: usize,
    },
}

/// What is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// TLS, where the target has it.
    pub tls: Option<Arc<ClientConfig>>,
    /// When.
    pub pattern: Pattern,
    /// Until then.
    pub duration: Option<Duration>,
    /// How often the recording is gone through; `None` is until the time is over.
    pub iterations: Option<u64>,
    /// How long a request may take.
    pub timeout: Duration,
    /// What is asserted.
    pub checks: Checks,
    /// Whether answers are held against recorded ones at all.
    pub compare: bool,
    /// Whether tokens, cookies and ids of answers go into later requests.
    pub carry: bool,
    /// The recorded host is sent.
    pub keep_host: bool,
    /// Fields that each request has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Chains that work on requests.
    pub generator: Option<Arc<Generator>>,
    /// How many threads.
    pub threads: usize,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread could not be started.
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) recording: Arc<Recording>,
    pub(crate) host: HeaderValue,
    pub(crate) begin: Instant,
    /// The next session, over all iterations.
    next: AtomicU64,
    /// The next request of an open loop.
    ticket: AtomicU64,
    /// Threads that go on.
    active: AtomicUsize,
    /// Nothing new begins.
    pub(crate) ended: CancellationToken,
    /// What is under way is given up.
    pub(crate) abandoned: CancellationToken,
}

impl Shared {
    /// The number of the next session to drive, counted over all iterations; `None` when all of them were.
    pub(crate) fn session(&self) -> Option<u64> {
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        let all = self.plan.iterations.map(|times| times.saturating_mul(self.sessions()));
        all.is_none_or(|all| nth < all).then_some(nth)
    }

    /// The number of the next request of an open loop.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn sessions(&self) -> u64 {
        count(self.recording.sessions.len())
    }

    /// Since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Which part is done.
    fn done(&self, counts: &Counts) -> Option<f64> {
        let by_time = self
            .plan
            .duration
            .filter(|duration| !duration.is_zero())
            .map(|duration| self.elapsed().as_secs_f64() / duration.as_secs_f64());
        let by_count = self.plan.iterations.map(|times| {
            let all = count(self.recording.summary.requests).saturating_mul(times);
            float(counts.requests) / float(all.max(1))
        });
        by_time.into_iter().chain(by_count).reduce(f64::max).map(|part| part.min(1.0))
    }
}

/// How long requests that are under way at the end are waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Drives a recording to the end of the plan, or until `stop` is cancelled. `watch` hears each second how it goes.
///
/// # Errors
/// When a thread cannot be started.
pub async fn run(
    plan: Plan,
    recording: Arc<Recording>,
    stop: CancellationToken,
    mut watch: impl FnMut(&Progress),
) -> Result<Totals, RunError> {
    let threads = plan.threads.max(1);
    let host = HeaderValue::try_from(plan.target.authority.as_str());
    let shared = Arc::new(Shared {
        host: host.unwrap_or(HeaderValue::from_static("localhost")),
        recording,
        begin: Instant::now(),
        next: AtomicU64::new(0),
        ticket: AtomicU64::new(0),
        active: AtomicUsize::new(threads),
        ended: stop.child_token(),
        abandoned: CancellationToken::new(),
        plan,
    });
    let finished = CancellationToken::new();
    let mut shards = Vec::new();
    let mut handles = Vec::new();
    for nth in 0..threads {
        let shard = Arc::new(Shard::new(shared.recording.endpoints.len()));
        shards.push(Arc::clone(&shard));
        let (shared, finished) = (Arc::clone(&shared), finished.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RunError::Thread)?;
        let body = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, drive::thread(&shared, &shard, nth, threads));
            if shared.active.fetch_sub(1, Ordering::AcqRel) == 1 {
                finished.cancel();
            }
        };
        let named = std::thread::Builder::new().name(format!("load-{nth}"));
        handles.push(named.spawn(body).map_err(RunError::Thread)?);
    }
    let shards: Vec<&Shard> = shards.iter().map(|shard| &**shard).collect();
    let seconds = follow(&shared, &shards, &finished, &mut watch).await;
    let elapsed = shared.elapsed();
    for handle in handles {
        // A thread that panicked has told so; what the others measured counts.
        drop(handle.join());
    }
    Ok(Totals::of(&shards, seconds, elapsed))
}

/// Looks each second until all threads have ended; tells them when it is time to.
async fn follow(
    shared: &Shared,
    shards: &[&Shard],
    finished: &CancellationToken,
    watch: &mut impl FnMut(&Progress),
) -> Vec<Second> {
    let mut seconds = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.tick().await;
    let mut deadline: Option<Instant> = None;
    loop {
        let left = shared.plan.duration.map(|duration| duration.saturating_sub(shared.elapsed()));
        let over = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = finished.cancelled() => break,
            () = over, if !shared.ended.is_cancelled() => shared.ended.cancel(),
            () = shared.ended.cancelled(), if deadline.is_none() => {
                deadline = Some(Instant::now() + GRACE.min(shared.plan.timeout));
            }
            _ = tick.tick() => {
                let (last, counts) = measure::second(shards, &mut seconds);
                let elapsed = shared.elapsed();
                watch(&Progress { elapsed, counts, last, done: shared.done(&counts) });
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            shared.abandoned.cancel();
        }
    }
    let (last, _) = measure::second(shards, &mut seconds);
    if last.requests == 0 {
        seconds.pop();
    }
    seconds
}

#[cfg(test)]
mod tests;
