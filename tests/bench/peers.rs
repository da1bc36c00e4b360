//! P8: the same 1,000 stubs served by other mock servers, each on one core, in one run.
//!
//! What npm and Maven Central have is installed below `target/peers`; nginx is measured where it is found. A peer that cannot be had is named,
//! and its goal stays open.

mod install;
mod start;

use std::path::PathBuf;

use crate::{
    http::{
        ask::Ask,
        contest::{self, Effort, SATURATED, Verdict, median},
        load::{Measured, Plan as Load, Speak},
        stage::Stage,
    },
    server::Server,
};

/// The stubs that everybody serves.
pub(crate) const STUBS: usize = 1000;
/// What the incumbent publishes for a core.
const INCUMBENT: f64 = 490.0;
/// Virtual machines have to be warm before they are fair game.
const WARM_UP: f64 = 10.0;
const QUICK_WARM_UP: f64 = 3.0;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Where peers are installed; `target/peers` if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// A peer, and how many times as fast the goal is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    name: &'static str,
    goal: Option<f64>,
    start: fn(&install::Place) -> anyhow::Result<Server>,
}

const PEERS: [Peer; 4] = [
    Peer { name: "Hoverfly", goal: Some(5.0), start: start::hoverfly },
    Peer { name: "WireMock", goal: Some(60.0), start: start::wiremock },
    Peer { name: "mountebank", goal: Some(300.0), start: start::mountebank },
    Peer { name: "nginx (the limit)", goal: None, start: start::nginx },
];

/// Medians of a server's rounds.
#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    p99_ms: f64,
    cpu_us: f64,
    busy: f64,
}

impl Figures {
    /// Requests a second of a whole core. A server that did not get all of it, or whose load had no more to give, is taken by its CPU time.
    fn of_a_core(&self) -> f64 {
        if self.busy >= SATURATED { self.per_second } else { 1e6 / self.cpu_us }
    }
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let place = install::Place::new(plan.dir.clone())?;
    println!(
        "| server | req/s | p99 ms | CPU µs | core used | req/s of a whole core | as fast as it × |\n|---|---|---|---|---|---|---|"
    );
    let stage = Stage::start(|out| Ask::Stub.record(STUBS, out), &[])?;
    let ours = measure(plan, &stage.responder, "data", 1.0)?;
    drop(stage);
    print("countersign", &ours, 1.0);
    let mut verdicts = Vec::new();
    for peer in PEERS {
        let theirs = (peer.start)(&place)
            .and_then(|server| measure(plan, &server, start::LISTENER, WARM_UP));
        let verdict = match theirs {
            Ok(theirs) => {
                let ratio = ours.of_a_core() / theirs.of_a_core();
                print(peer.name, &theirs, ratio);
                peer.goal.map(|goal| verdict(peer.name, goal, ratio))
            }
            Err(why) => {
                println!("| {} | not measured: {why:#} | | | | | |", peer.name);
                let row = format!("P8 {}", peer.name);
                peer.goal
                    .map(|goal| Verdict::absent(&row, &format!("≥ {goal} ×"), &format!("{why:#}")))
            }
        };
        verdicts.extend(verdict);
    }
    let ratio = ours.of_a_core() / INCUMBENT;
    println!("| the incumbent, as published | | | | | {INCUMBENT} | {ratio:.1} |");
    verdicts.push(verdict("the incumbent's published 490/s", 100.0, ratio));
    Ok(verdicts)
}

fn verdict(peer: &str, goal: f64, ratio: f64) -> Verdict {
    Verdict {
        row: format!("P8 {peer}"),
        goal: format!("≥ {goal} ×"),
        measured: format!("{ratio:.1} ×"),
        passed: Some(ratio >= goal),
    }
}

fn print(name: &str, figures: &Figures, ratio: f64) {
    let Figures { per_second, p99_ms, cpu_us, busy } = figures;
    let (core, used) = (figures.of_a_core(), busy * 100.0);
    println!(
        "| {name} | {per_second:.0} | {p99_ms:.2} | {cpu_us:.1} | {used:.0} % | {core:.0} | {ratio:.1} |"
    );
}

fn measure(plan: &Plan, server: &Server, listener: &str, warm_up: f64) -> anyhow::Result<Figures> {
    let (seconds, short) = plan.effort.times();
    let load = |warm_up| {
        contest::load(&Load {
            server: server.address(listener)?,
            pid: server.id(),
            speak: Speak::Http1,
            ask: Ask::Stub,
            targets: STUBS,
            connections: plan.effort.connections,
            streams: 1,
            seconds,
            warm_up,
            status: 200,
            length: (500, 700),
            ca: None,
        })
    };
    let mut rounds: Vec<Measured> = Vec::new();
    for round in 0..plan.effort.rounds() {
        let warm_up = if plan.effort.quick { warm_up.min(QUICK_WARM_UP) } else { warm_up };
        let measured = load(if round > 0 { short } else { warm_up })?;
        for (nth, body) in &measured.samples {
            anyhow::ensure!(
                Ask::Stub.is_answer(*nth, body),
                "target {nth}: {}",
                String::from_utf8_lossy(body)
            );
        }
        rounds.push(measured);
    }
    let of = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure).collect());
    Ok(Figures {
        per_second: of(|measured| measured.per_second),
        p99_ms: of(|measured| measured.p99_ms),
        cpu_us: of(|measured| measured.cpu_us),
        busy: of(|measured| measured.busy),
    })
}
