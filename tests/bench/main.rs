//! Measures the system through its sockets, and prints the goals beside what was measured.
//!
//! Machines are shared and noisy, so a figure means something only beside a baseline of the same run: rounds of both servers alternate, and
//! medians are compared. The server has one core, the load another.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod amplify;
mod compile;
mod faults;
mod generator;
mod goals;
mod http;
mod import;
mod instructions;
mod interleave;
mod pairs;
mod peers;
mod plot;
mod rotation;
mod sequence;
mod server;
mod soak;
#[path = "../swarm/swarm.rs"]
mod swarm;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures Countersign beside baselines of the same run", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Responses per second, latency, CPU time and memory over real sockets (P1 to P6).
    Http(http::Plan),
    /// Compiles generated pairs, and starts responders with them (P7).
    Compile(compile::Plan),
    /// Other mock servers with the same stubs (P8).
    Peers(peers::Plan),
    /// Minutes of load with new keys and new snapshots all along.
    Soak(soak::Plan),
    /// What goes wrong under load: R1, R2, R4, R5, and anything in random order.
    #[command(subcommand)]
    Faults(faults::Plan),
    /// Thousands of subscriptions to one control plane, which is published from, killed and cut off (P9).
    Swarm(swarm::Plan),
    /// Instructions of an answer, compared with a baseline (needs valgrind).
    Instructions(instructions::Plan),
    /// All of it, and a table of what is reached.
    Goals(goals::Plan),
    /// The import of generated pairs, from a file to a committed snapshot (P11).
    Import {
        /// How many.
        #[arg(default_value_t = 1_000_000)]
        count: usize,
    },
    /// Writes generated pairs as JSON lines, always the same.
    Pairs {
        /// How many.
        count: usize,
        /// Where to.
        file: PathBuf,
    },
    /// Lets the users of a recording act at random and counts who gets the own answers, with identities and without.
    Interleave(interleave::Plan),
    /// Swaps signing keys under load before clients that keep a key set.
    Rotation(rotation::Plan),
    /// Turns that responders share: their cost beside turns of each alone, and their order while responders are killed.
    Sequence(sequence::Plan),
    /// The load generator beside wrk, which has to be installed.
    Generator(generator::Plan),
    /// What clients cost who want our time and memory, beside what it cost them (R11).
    Amplify(amplify::Plan),
    /// Serves a response with nothing but hyper (used by the bench itself).
    #[command(hide = true)]
    Bare {
        /// What to serve.
        config: PathBuf,
    },
    /// Puts load on a server (used by the bench itself).
    #[command(hide = true)]
    Load {
        /// The plan as JSON.
        plan: String,
    },
    /// Answers a request over and over (used by the bench itself).
    #[command(hide = true)]
    Answer {
        /// The request.
        case: instructions::Case,
        /// How often.
        iterations: u32,
    },
    /// Compiles a recording once (used by the bench itself).
    #[command(hide = true)]
    CompileHere {
        /// The recording.
        file: PathBuf,
    },
    /// Holds connections that do nothing (used by the bench itself).
    #[command(hide = true)]
    Idle {
        /// The server.
        server: SocketAddr,
        /// Its process.
        pid: u32,
        /// How many.
        count: usize,
    },
}

fn main() -> anyhow::Result<()> {
    server::own()?;
    match Args::parse().command {
        Command::Http(plan) => {
            refuse_debug()?;
            tell(&http::run(&plan)?.verdicts)
        }
        Command::Compile(plan) => {
            refuse_debug()?;
            tell(&compile::run(plan)?)
        }
        Command::Instructions(plan) => {
            refuse_debug()?;
            instructions::run(&plan)
        }
        Command::Answer { case, iterations } => case.answer(iterations),
        Command::CompileHere { file } => {
            println!("{}", serde_json::to_string(&compile::here(&file)?)?);
            Ok(())
        }
        Command::Peers(plan) => {
            refuse_debug()?;
            tell(&peers::run(&plan)?)
        }
        Command::Soak(plan) => {
            refuse_debug()?;
            let verdicts = soak::run(plan)?;
            tell(&verdicts)?;
            anyhow::ensure!(
                verdicts.iter().all(|verdict| verdict.passed == Some(true)),
                "memory grew"
            );
            Ok(())
        }
        Command::Faults(plan) => {
            let verdicts = faults::run(&plan)?;
            tell(&verdicts)?;
            anyhow::ensure!(verdicts.iter().all(|v| v.passed == Some(true)), "it falls short");
            Ok(())
        }
        Command::Swarm(plan) => {
            if !plan.quick {
                refuse_debug()?;
            }
            tell(&swarm::run(plan)?)
        }
        Command::Goals(plan) => {
            refuse_debug()?;
            tell(&goals::run(&plan)?)
        }
        Command::Import { count } => {
            refuse_debug()?;
            tell(&[import::run(count)?])
        }
        Command::Pairs { count, file } => {
            let file = std::fs::File::create(file)?;
            pairs::write(count, &mut std::io::BufWriter::new(file))?;
            Ok(())
        }
        Command::Interleave(plan) => interleave::run(&plan),
        Command::Rotation(plan) => rotation::run(plan),
        Command::Sequence(plan) => {
            refuse_debug()?;
            sequence::run(plan)
        }
        Command::Generator(plan) => tell(&generator::run(&plan)?),
        Command::Amplify(plan) => tell(&amplify::run(plan)?),
        Command::Bare { config } => {
            http::bare::serve(&serde_json::from_slice(&std::fs::read(config)?)?)
        }
        Command::Load { plan } => {
            let measured = http::load::run(serde_json::from_str(&plan)?)?;
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
        Command::Idle { server, pid, count } => {
            println!("{}", http::memory::idle(server, pid, count)?);
            Ok(())
        }
    }
}

fn refuse_debug() -> anyhow::Result<()> {
    anyhow::ensure!(
        !cfg!(debug_assertions),
        "measure optimised code: cargo run --release -p countersign-tests --bin bench"
    );
    Ok(())
}

/// Prints what came of each goal. One that is not reached is no failure of the bench.
#[expect(clippy::unnecessary_wraps, reason = "it ends a command")]
fn tell(verdicts: &[http::contest::Verdict]) -> anyhow::Result<()> {
    println!("\n| row | goal | measured | verdict |\n|---|---|---|---|");
    for verdict in verdicts {
        let word = verdict.word();
        println!("| {} | {} | {} | {word} |", verdict.row, verdict.goal, verdict.measured);
    }
    Ok(())
}
