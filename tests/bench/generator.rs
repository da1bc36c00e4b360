//! The load generator beside wrk: requests a second that each gets out of one core from a bare server on another.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;
use harness::{binaries, recording};
use serde_json::{Value, json};

use crate::{
    http::{
        bare,
        contest::{Verdict, median},
        load::Speak,
        stage,
    },
    server::{self, Place, Server},
};

/// The least part of what wrk does.
const GOAL: f64 = 0.4;

/// How long and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Seconds of each round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds of each; medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: u32,
}

/// Measures and prints.
#[expect(clippy::print_stdout, reason = "a bench prints its table")]
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let dir = stage::temporary()?;
    let recorded = dir.path().join("recording.jsonl");
    let body = json!({"id": 1, "name": "a stub", "note": "x".repeat(600)});
    fs::write(&recorded, recording::line("GET", "/stub/1", &body) + "\n")?;
    let config = bare::Config {
        speak: Speak::Http1,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        trailers: Vec::new(),
        body: body.to_string().into_bytes(),
        reads: false,
        signs: None,
        tls: None,
    };
    let path = dir.path().join("bare.json");
    fs::write(&path, serde_json::to_vec(&config)?)?;
    let arguments = ["bare".to_owned(), path.to_string_lossy().into_owned()];
    let server = Server::start(Place::Measured, server::own()?, arguments, &["bare"])?;
    let url = format!("http://{}", server.address("bare")?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds.max(1) {
        theirs.push(wrk(plan, &url)?);
        ours.push(generator(plan, &url, &recorded, &dir.path().join("report"))?);
        let last = (ours.last(), theirs.last());
        println!("round {round}: countersign load and wrk, requests a second: {last:?}");
    }
    let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    println!("countersign load {:.0}/s, wrk {:.0}/s", median(ours), median(theirs));
    Ok(vec![Verdict {
        row: "load generator".to_owned(),
        goal: format!("≥ {GOAL} × wrk"),
        measured: format!("{ratio:.2} ×"),
        passed: Some(ratio >= GOAL),
    }])
}

/// What `countersign load` does with assertions off, on the core of the load.
fn generator(plan: &Plan, url: &str, recorded: &Path, report: &Path) -> anyhow::Result<f64> {
    let mut command = server::pinned(server::LOAD_CORE, &binaries::path("countersign"));
    let duration = format!("{}s", plan.seconds);
    let users = plan.connections.to_string();
    command.arg("load").arg(recorded).args(["--to", url, "--vus", &users, "--duration", &duration]);
    command.args(["--threads", "1", "--assert", "none", "--report"]).arg(report);
    let out = command.output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "countersign load failed: {told}");
    let report: Value = serde_json::from_slice(&fs::read(report.join("report.json"))?)?;
    anyhow::ensure!(report["counts"]["errors"] == 0, "{}", report["counts"]);
    report["requestsPerSecond"].as_f64().context("requests a second")
}

/// What wrk does on the same core.
fn wrk(plan: &Plan, url: &str) -> anyhow::Result<f64> {
    let mut command = Command::new("taskset");
    command.args(["-c", &server::LOAD_CORE.to_string(), "wrk", "-t1"]);
    command.args([format!("-c{}", plan.connections), format!("-d{}s", plan.seconds)]);
    let out =
        command.arg(format!("{url}/stub/1")).output().context("taskset and wrk are needed")?;
    let told = String::from_utf8_lossy(&out.stdout);
    let line = told.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    Ok(line.with_context(|| format!("wrk said: {told}"))?.trim().parse()?)
}
