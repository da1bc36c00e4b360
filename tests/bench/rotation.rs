//! Swaps keys under load, many times, before clients that keep a key set: how many tokens could not be verified.
//!
//! Times are real, for a responder counts the overlap by its own clock: 5 minutes of a client's cache are scaled down to seconds, and the overlap with
//! them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use harness::{
    balancer::Balancer,
    process::{self, Process},
    rotation::{Tally, Verifier, mount, prepare, switch, write_recording},
};
use tokio::{task::JoinSet, time::MissedTickBehavior};

/// What is to be done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// How often the keys are swapped.
    #[arg(long, default_value_t = 100)]
    swaps: u32,
    /// The seconds between two swaps; a key that is replaced before its overlap is over never signs.
    #[arg(long, default_value_t = 6)]
    every: u64,
    /// For how many seconds clients keep a key set.
    #[arg(long, default_value_t = 3)]
    cache: u64,
    /// The responders' --key-overlap in seconds; --cache and one more is what docs/tokens.md asks for.
    #[arg(long, default_value_t = 5)]
    overlap: u64,
    /// The responders' --key-grace in seconds.
    #[arg(long, default_value_t = 120)]
    grace: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 4)]
    clients: usize,
}

/// Does it and prints what came of it.
pub(crate) fn run(plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let begin = Instant::now();
    let (tally, replicas) = runtime.block_on(swap(plan))?;
    println!(
        "| swaps | replicas | tokens verified | of them again later | keys seen per algorithm | refused | seconds |"
    );
    println!("|---|---|---|---|---|---|---|");
    let kids = tally.kids.iter().map(|(alg, kids)| format!("{alg} {}", kids.len()));
    println!(
        "| {} | {replicas} | {} | {} | {} | {} | {} |",
        plan.swaps,
        tally.fresh,
        tally.again,
        kids.collect::<Vec<_>>().join(", "),
        tally.refused.len(),
        begin.elapsed().as_secs()
    );
    for refused in tally.refused.iter().take(10) {
        println!("refused: {refused}");
    }
    anyhow::ensure!(tally.refused.is_empty(), "tokens were refused");
    Ok(())
}

async fn swap(plan: Plan) -> anyhow::Result<(Tally, usize)> {
    let dir = tempfile::tempdir()?;
    let secrets = dir.path().join("secrets");
    mount(&secrets, 0);
    write_recording(dir.path());
    let mut control = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
    let server = format!("http://{}", control.address("grpc").await);
    let mut both = ["one", "two"].map(|name| responder(name, &server, &secrets, plan));
    let mut addresses = Vec::new();
    for responder in &mut both {
        addresses.push(responder.address("data").await);
    }
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    for arguments in [
        &["snapshot", "import", &path("all.jsonl"), "--id", "all"][..],
        &["transform", "put", &path("t.json")],
        &["replay", "start", "--snapshot", "all", "--transform", "t", "--wait"],
    ] {
        let done = process::run("countersign", ["--server", &server].iter().chain(arguments));
        anyhow::ensure!(done.code() == 0, "{arguments:?}: {}", done.text());
    }
    let balancer = Balancer::start(&addresses).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..plan.clients {
        let verifier = Verifier::new(balancer.addr(), Duration::from_secs(plan.cache));
        let ended = Arc::clone(&ended);
        clients.spawn(verifier.run(move || ended.load(Ordering::Relaxed)));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(plan.every.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for swap in 1..=plan.swaps {
        // Making keys takes a while, now more, now less; the swaps themselves are to come at even intervals.
        let to_prepare = secrets.clone();
        tokio::task::spawn_blocking(move || prepare(&to_prepare, swap)).await?;
        ticks.tick().await;
        switch(&secrets, swap);
    }
    // Until the last key has signed.
    let mut rest = tokio::time::interval(Duration::from_secs(plan.overlap + 3));
    rest.tick().await;
    rest.tick().await;
    ended.store(true, Ordering::Relaxed);
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all = all.with(tally.context("a client failed")?);
    }
    Ok((all, addresses.len()))
}

fn responder(name: &str, server: &str, secrets: &Path, plan: Plan) -> Process {
    let mut arguments: Vec<String> = [
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--name",
        name,
        "--control-plane",
        server,
        "--secret-dir",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(secrets.to_string_lossy().into_owned());
    for (flag, seconds) in [("--key-overlap", plan.overlap), ("--key-grace", plan.grace)] {
        arguments.extend([flag.to_owned(), format!("{seconds}s")]);
    }
    Process::start("countersign-responder", arguments)
}
