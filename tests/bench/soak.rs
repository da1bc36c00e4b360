//! Full load for minutes or for days, while keys are replaced and snapshots are swapped: memory, open files and threads have to stay as they are, and
//! nothing may fail.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    http::{
        ask::{ALGS, Ask},
        contest::{self, Verdict},
        keys,
        load::{Plan as Load, Speak},
        stage::{self, Stage},
    },
    server,
};

/// What is done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Minutes of load.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) minutes: f64,
    /// Seconds of each line that is printed.
    #[arg(long, default_value_t = 30.0)]
    pub(crate) window: f64,
    /// Seconds between two generations of keys.
    #[arg(long, default_value_t = 5)]
    pub(crate) rotate: u64,
    /// Seconds between two snapshots.
    #[arg(long, default_value_t = 10)]
    pub(crate) swap: u64,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Different tokens.
    #[arg(long, default_value_t = 1000)]
    pub(crate) tokens: usize,
}

/// Files and threads may become so many more after the warm-up: snapshots are fetched meanwhile.
const MORE: usize = 16;
/// From so many minutes on it is told how memory grows with time, after the first hour; so many MiB an hour are allowed.
const LONG: f64 = 120.0;
const SLOPE: f64 = 1.0;
/// Memory may grow by so much after the warm-up.
const GROWTH: f64 = 1.05;
/// The part of the soak, and the most seconds, by which caches and allocators have what they need.
const WARM_UP: (f64, f64) = (1.0 / 3.0, 120.0);

/// Runs and prints.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Vec<Verdict>> {
    let ask = Ask::Token("ES256".to_owned());
    let record = |out: &mut std::io::BufWriter<fs::File>| ask.record(plan.tokens, out);
    let stage = Stage::start(record, &[])?;
    let length = stage.sample(&ask)?.body.len();
    let (ended, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(Changes::default()));
    let swapping = {
        let (ended, changes) = (Arc::clone(&ended), Arc::clone(&changes));
        let (dir, url) = (stage.dir.path().to_path_buf(), stage.url()?);
        thread::spawn(move || change(plan, &dir, &url, &ended, &changes))
    };
    println!(
        "| from s | req/s | p99 ms | max ms | RSS MiB | key generations | snapshots |\n|---|---|---|---|---|---|---|"
    );
    let begin = Instant::now();
    let warm = (plan.minutes * 60.0 * WARM_UP.0).min(WARM_UP.1);
    let mut samples = Samples::default();
    let mut failure = None;
    while begin.elapsed().as_secs_f64() < plan.minutes * 60.0 && failure.is_none() {
        let from = begin.elapsed().as_secs();
        let load = Load {
            server: stage.data()?,
            pid: stage.responder.id(),
            speak: Speak::Http1,
            ask: ask.clone(),
            targets: plan.tokens,
            connections: plan.connections,
            streams: 1,
            seconds: plan.window,
            warm_up: 0.0,
            status: 200,
            length: (length, length),
            ca: None,
        };
        // Any answer that is not as expected fails the round, and with it the soak.
        match contest::load(&load) {
            Ok(measured) => {
                let kib = server::rss(stage.responder.id())?;
                println!(
                    "| {from} | {:.0} | {:.2} | {:.1} | {:.1} | {} | {} |",
                    measured.per_second,
                    measured.p99_ms,
                    measured.max_ms,
                    f64::from(kib) / 1024.0,
                    changes.keys.load(Ordering::Relaxed),
                    changes.snapshots.load(Ordering::Relaxed),
                );
                let seconds = begin.elapsed().as_secs_f64();
                samples.take((seconds, warm), stage.responder.id(), kib, measured.p99_ms)?;
            }
            Err(why) => failure = Some(why),
        }
    }
    ended.store(true, Ordering::Relaxed);
    let swapped = swapping.join().ok().context("the swaps panicked")?;
    if let Some(why) = failure {
        return Err(why.context("a request failed"));
    }
    swapped?;
    samples.verdicts(plan.minutes)
}

/// What was measured after the warm-up.
#[derive(Debug, Default)]
struct Samples {
    memory: Vec<f64>,
    latency: Vec<f64>,
    /// Files and threads.
    held: Vec<(usize, usize)>,
    /// After the first hour: hours, and MiB.
    grown: Vec<(f64, f64)>,
}

impl Samples {
    fn take(
        &mut self,
        (seconds, warm): (f64, f64),
        pid: u32,
        kib: u32,
        p99: f64,
    ) -> anyhow::Result<()> {
        let hours = seconds / 3600.0;
        if hours >= 1.0 {
            self.grown.push((hours, f64::from(kib) / 1024.0));
        }
        if seconds >= warm {
            self.memory.push(f64::from(kib));
            self.latency.push(p99);
            self.held.push(server::held(pid)?);
        }
        Ok(())
    }

    fn verdicts(self, minutes: f64) -> anyhow::Result<Vec<Verdict>> {
        let Self { memory, latency, held, grown } = self;
        let first = memory.first().copied().context("the soak is over before it is warm")?;
        let growth = memory.iter().copied().fold(first, f64::max) / first;
        let worst = latency.iter().copied().fold(0.0, f64::max);
        let mut verdicts = vec![Verdict {
            row: format!("soak of {minutes} minutes"),
            goal: format!("no error, RSS ≤ {GROWTH} × after warm-up"),
            measured: format!(
                "no error, RSS {growth:.3} ×, p99 {:.2} ms, at worst {worst:.2} ms",
                contest::median(latency)
            ),
            passed: Some(growth <= GROWTH),
        }];
        verdicts.push(kept(&held)?);
        if minutes >= LONG {
            let slope = slope(&grown).context("nothing was measured after the first hour")?;
            verdicts.push(Verdict {
                row: "memory with time".to_owned(),
                goal: format!("≤ {SLOPE} MiB an hour after the first"),
                measured: format!("{slope:.2} MiB an hour"),
                passed: Some(slope <= SLOPE),
            });
        }
        Ok(verdicts)
    }
}

/// Whether files and threads are as many as they were.
fn kept(held: &[(usize, usize)]) -> anyhow::Result<Verdict> {
    let (files, threads) = held.first().copied().context("the soak is over before it is warm")?;
    let (most_files, most_threads) =
        held.iter().fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)));
    Ok(Verdict {
        row: "open files and threads".to_owned(),
        goal: format!("at most {MORE} more after warm-up"),
        measured: format!("{files} files became {most_files}, {threads} threads {most_threads}"),
        passed: Some(most_files <= files + MORE && most_threads <= threads + MORE),
    })
}

/// How much the second of each pair grows with the first, by least squares.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// What was changed so far.
#[derive(Debug, Default)]
struct Changes {
    keys: AtomicU32,
    snapshots: AtomicU32,
}

/// Replaces keys and snapshots until the end.
fn change(
    plan: Plan,
    dir: &Path,
    url: &str,
    ended: &AtomicBool,
    changes: &Changes,
) -> anyhow::Result<()> {
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let recordings = [recording(dir, plan.tokens, "a")?, recording(dir, plan.tokens, "b")?];
    let mut before = "bench".to_owned();
    clock.block_on(async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        for nth in 1_u64.. {
            second.tick().await;
            if ended.load(Ordering::Relaxed) {
                break;
            }
            if nth.is_multiple_of(plan.rotate.max(1)) {
                rotate(&dir.join("secrets/bench"))?;
                changes.keys.fetch_add(1, Ordering::Relaxed);
            }
            if nth.is_multiple_of(plan.swap.max(1)) {
                let swaps = changes.snapshots.load(Ordering::Relaxed);
                let recorded = recordings.get(usize::try_from(swaps % 2)?);
                let (id, file) = recorded.context("two recordings")?;
                if swaps < 2 {
                    stage::countersign(
                        url,
                        &["snapshot", "import", &stage::text(file), "--id", id],
                    )?;
                }
                // The replay that was started last is asked first, so that there is never none.
                let start = ["replay", "start", id, "--transform", "bench", "--wait"];
                stage::countersign(url, &start)?;
                stage::countersign(url, &["replay", "stop", &before])?;
                before.clone_from(id);
                changes.snapshots.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })
}

/// A recording with the same targets and one more, so that it is another snapshot.
fn recording(dir: &Path, tokens: usize, id: &str) -> anyhow::Result<(String, PathBuf)> {
    let path = dir.join(format!("{id}.jsonl"));
    let mut out = std::io::BufWriter::new(fs::File::create(&path)?);
    Ask::Token("ES256".to_owned()).record(tokens, &mut out)?;
    Ask::Token(ALGS[3].to_owned()).record(if id == "a" { 1 } else { 2 }, &mut out)?;
    out.flush()?;
    Ok((format!("bench-{id}"), path))
}

/// Puts new keys in the place of the old ones, each at once.
fn rotate(secrets: &Path) -> anyhow::Result<()> {
    let fresh = secrets.with_extension("new");
    keys::write(&fresh)?;
    for alg in ALGS {
        let name = alg.to_ascii_lowercase();
        fs::rename(fresh.join(&name), secrets.join(&name))?;
    }
    Ok(())
}
