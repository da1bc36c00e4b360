//! P7: pairs compiled per second and core, and how long a responder takes from its start until it answers.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use countersign_engine::{
    compile::compile_encoded,
    dlp::Treatment,
    jwt::key::KeyRing,
    serving::Serving,
    snapshot::{Serve, chunk, encoded::Encoded, ordinals},
    test_config::TestConfig,
    transform::Template,
};
use harness::recording;

use crate::{
    http::{
        ask::Ask,
        contest::{Verdict, median},
        stage::{self, Stage},
    },
    pairs,
    server::{self, LOAD_CORE, Place},
};

/// Pairs that are compiled per second of a core.
const PER_SECOND: f64 = 300_000.0;
/// Seconds until a million pairs are served.
const FROM_DISK: f64 = 4.0;
const FROM_CONTROL_PLANE: f64 = 12.0;
/// After this it is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Generated pairs. The goals are for a million; with fewer they are scaled down.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) pairs: usize,
    /// How often all is done; medians count.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
}

/// What compiling took, in seconds.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Took {
    decode: f64,
    compile: f64,
    bind: f64,
}

/// Measures and prints.
pub(crate) fn run(plan: Plan) -> anyhow::Result<Vec<Verdict>> {
    let count = f64::from(u32::try_from(plan.pairs)?);
    let dir = stage::temporary()?;
    let file = dir.path().join("recording.jsonl");
    let mut out = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&file)?);
    pairs::write(plan.pairs, &mut out)?;
    let mut took = Vec::new();
    for _ in 0..plan.rounds.max(1) {
        took.push(in_a_process_of_its_own(&file)?);
    }
    let of = |part: fn(&Took) -> f64| median(took.iter().map(part).collect());
    let all = of(|took| took.decode + took.compile + took.bind);
    println!(
        "| pairs | decode s | compile s | bind keys s | pairs/s of a core |\n|---|---|---|---|---|"
    );
    println!(
        "| {} | {:.2} | {:.2} | {:.2} | {:.0} |",
        plan.pairs,
        of(|took| took.decode),
        of(|took| took.compile),
        of(|took| took.bind),
        count / all
    );
    let mut verdicts = vec![Verdict {
        row: format!("P7 compile of {} pairs", plan.pairs),
        goal: format!("≥ {PER_SECOND} pairs/s of a core"),
        measured: format!("{:.0}", count / all),
        passed: Some(count / all >= PER_SECOND),
    }];
    verdicts.extend(ready(plan, count / 1e6)?);
    Ok(verdicts)
}

fn in_a_process_of_its_own(file: &Path) -> anyhow::Result<Took> {
    let mut command = server::pinned(LOAD_CORE, server::own()?);
    let out = command.arg("compile-here").arg(file).output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "compiling failed: {told}");
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// Compiles a recording in this process, from chunks as they lie in a cache.
pub(crate) fn here(file: &Path) -> anyhow::Result<Took> {
    let (chunks, ordinals) = chunks(file)?;
    let begin = Instant::now();
    let recording = Encoded::open(chunks, Some(&ordinals))?;
    let decode = begin.elapsed().as_secs_f64();
    let (template, _) = Template::parse(stage::template().to_string().as_bytes());
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes());
    let config = config.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let begin = Instant::now();
    let treatment = Treatment::default();
    let compiled = compile_encoded(recording, &template, &config, Serve::Out, treatment).0;
    let compiled = Arc::new(compiled);
    let compile = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let serving = Serving::new(compiled, &KeyRing::default());
    let bind = begin.elapsed().as_secs_f64();
    anyhow::ensure!(serving.snapshot().pairs() > 0, "nothing was compiled");
    Ok(Took { decode, compile, bind })
}

fn chunks(file: &Path) -> anyhow::Result<(Vec<Bytes>, Vec<u8>)> {
    let mut recording = recording::read_file(file);
    anyhow::ensure!(recording.refused.is_empty(), "{:?}", recording.refused);
    for (ordinal, pair) in (0..).zip(&mut recording.pairs) {
        pair.ordinal = ordinal;
    }
    chunk::sort_by_endpoint(&mut recording.pairs);
    let (mut chunks, mut numbers) = (Vec::new(), Vec::new());
    chunk::cut(recording.pairs, |chunk| {
        chunks.push(Bytes::from(chunk.bytes));
        numbers.extend(chunk.ordinals);
        anyhow::Ok(())
    })?;
    Ok((chunks, ordinals::encode(&numbers)))
}

/// How long a responder takes until its first answer: from its disk cache, and from the control plane beside it.
fn ready(plan: Plan, millions: f64) -> anyhow::Result<Vec<Verdict>> {
    let cache = stage::temporary()?;
    let kept = stage::text(cache.path());
    let record = |out: &mut std::io::BufWriter<fs::File>| pairs::write(plan.pairs, out).map(drop);
    let stage = Stage::start(record, &["--cache-dir", &kept])?;
    let url = stage.url()?;
    let Stage { dir, responder, plane: _plane } = stage;
    first_answer(responder.address("data")?, Instant::now())?;
    // It has filled the cache, and would only take memory from the others.
    drop(responder);
    let dir = dir.path();
    let (mut disk, mut plane) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds.max(1) {
        let begin = Instant::now();
        let started = stage::responder(
            dir,
            Place::Anywhere,
            None,
            &["--cache-dir", &kept, "--name", "disk"],
        )?;
        disk.push(first_answer(started.address("data")?, begin)?);
        drop(started);
        let begin = Instant::now();
        let started = stage::responder(dir, Place::Anywhere, Some(&url), &["--name", "plane"])?;
        plane.push(first_answer(started.address("data")?, begin)?);
    }
    let verdict = |from: &str, goal: f64, took: Vec<f64>| {
        let took = median(took);
        let goal = goal * millions;
        println!("| {} pairs from {from} | {took:.2} s |", plan.pairs);
        Verdict {
            row: format!("P7 {} pairs ready from {from}", plan.pairs),
            goal: format!("≤ {goal:.1} s"),
            measured: format!("{took:.2} s"),
            passed: Some(took <= goal),
        }
    };
    println!("\n| a responder that starts | until its first answer |\n|---|---|");
    Ok(vec![
        verdict("its disk cache", FROM_DISK, disk),
        verdict("the control plane", FROM_CONTROL_PLANE, plane),
    ])
}

/// Asks until there is an answer; tells the seconds since then.
fn first_answer(server: std::net::SocketAddr, begin: Instant) -> anyhow::Result<f64> {
    let mut request = Vec::new();
    Ask::Order.write(0, &mut request)?;
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    clock.block_on(async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        loop {
            look.tick().await;
            match stage::fetch(server, &request) {
                Ok(_) => return Ok(begin.elapsed().as_secs_f64()),
                Err(why) if begin.elapsed() > PATIENCE => return Err(why).context("never ready"),
                Err(_) => {}
            }
        }
    })
}
