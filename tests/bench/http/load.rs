//! A closed loop of connections, as lean as can be, so that the server is what is measured. It runs as a process of its own.
//!
//! Every response is looked at: its status and its length have to be what is expected, else the round fails. The last one of each connection
//! is handed back, so that tokens can be verified. What the server used is read from the system while the loop runs.

mod http1;
mod http2;

use std::{
    cell::Cell,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, LocalSet};

use super::ask::Ask;
use crate::server;

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Speak {
    Http1,
    Tls,
    Http2,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    /// The process whose time is counted.
    pub(crate) pid: u32,
    pub(crate) speak: Speak,
    pub(crate) ask: Ask,
    pub(crate) targets: usize,
    pub(crate) connections: usize,
    /// Requests at a time on a connection of HTTP/2.
    pub(crate) streams: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    pub(crate) status: u16,
    /// The least and the greatest length of a body.
    pub(crate) length: (usize, usize),
    /// Whom to trust with TLS.
    pub(crate) ca: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) requests: u32,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// What the server computed for a request.
    pub(crate) cpu_us: f64,
    /// How much of a core the server used.
    pub(crate) busy: f64,
    /// Some targets and what was answered.
    pub(crate) samples: Vec<(usize, Vec<u8>)>,
}

/// What the connections of a process share.
#[derive(Debug)]
struct Loop {
    plan: Plan,
    counts: Cell<bool>,
    ended: Cell<bool>,
    done: Cell<u32>,
}

/// What a connection hands back.
#[derive(Debug, Default)]
struct Seen {
    /// In microseconds.
    latencies: Vec<u32>,
    last: Option<(usize, Vec<u8>)>,
}

impl Loop {
    /// A response has come.
    fn note(&self, begin: Instant, seen: &mut Seen) {
        if self.counts.get() {
            self.done.set(self.done.get() + 1);
            seen.latencies.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The targets of one of so many loops, all of them in turn and far from each other.
    fn turns(&self, nth: usize, of: usize) -> impl Iterator<Item = usize> + use<> {
        let targets = self.plan.targets.max(1);
        let mut turn = nth;
        std::iter::from_fn(move || {
            turn = (turn + of) % (targets * of);
            Some(turn % targets * SCATTER % targets)
        })
    }

    fn check(&self, status: u16, length: usize) -> anyhow::Result<()> {
        let (wanted, (least, most)) = (self.plan.status, self.plan.length);
        anyhow::ensure!(status == wanted, "status {status} where {wanted} was expected");
        anyhow::ensure!(
            (least..=most).contains(&length),
            "{length} bytes came, not {least} to {most}"
        );
        Ok(())
    }
}

/// A prime that no number of targets is a multiple of, so that all targets have their turn.
const SCATTER: usize = 7919;

/// Runs a plan to its end.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Measured> {
    anyhow::ensure!(
        !plan.targets.is_multiple_of(SCATTER),
        "a number of targets that leaves some out"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(plan))
}

async fn measure(plan: Plan) -> anyhow::Result<Measured> {
    let (warm_up, seconds, pid) = (plan.warm_up, plan.seconds, plan.pid);
    let state = Rc::new(Loop {
        plan,
        counts: Cell::new(false),
        ended: Cell::new(false),
        done: Cell::new(0),
    });
    let mut loops = JoinSet::new();
    for nth in 0..state.plan.connections {
        match state.plan.speak {
            Speak::Http1 | Speak::Tls => {
                drop(loops.spawn_local(http1::connection(Rc::clone(&state), nth)));
            }
            Speak::Http2 => {
                drop(loops.spawn_local(http2::connection(Rc::clone(&state), nth)));
            }
        }
    }
    drop(tokio::task::spawn_local(stay_awake(Rc::clone(&state))));
    pass(warm_up).await;
    let (begin, used, before) = (Instant::now(), server::cpu(pid)?, state.done.get());
    state.counts.set(true);
    pass(seconds).await;
    let lasted = begin.elapsed().as_secs_f64();
    let used = (server::cpu(pid)?.saturating_sub(used)).as_secs_f64();
    let requests = state.done.get() - before;
    state.counts.set(false);
    state.ended.set(true);
    let (mut latencies, mut samples) = (Vec::new(), Vec::new());
    while let Some(seen) = loops.join_next().await {
        for seen in seen?? {
            latencies.extend(seen.latencies);
            samples.extend(seen.last);
        }
    }
    anyhow::ensure!(requests > 0, "nothing was answered");
    latencies.sort_unstable();
    let part = |hundredths: usize| {
        let at = (latencies.len() * hundredths / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    Ok(Measured {
        requests,
        per_second: f64::from(requests) / lasted,
        p50_ms: part(50),
        p99_ms: part(99),
        max_ms: part(100),
        cpu_us: used * 1e6 / f64::from(requests),
        busy: used / lasted,
        samples,
    })
}

/// Keeps the core of the load from sleeping. To wake the core of a virtual machine takes some ten microseconds, which the server would pay
/// whose answer wakes it, and the more often the slower it is.
async fn stay_awake(state: Rc<Loop>) {
    while !state.ended.get() {
        tokio::task::yield_now().await;
    }
}

/// Lets a part of the measurement pass.
async fn pass(seconds: f64) {
    let end = tokio::time::Instant::now() + Duration::from_secs_f64(seconds);
    tokio::time::sleep_until(end).await;
}

/// Connects as all connections do.
async fn connect(plan: &Plan) -> anyhow::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(plan.server).await.context("the server is away")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
