//! Re-signed responses per second, as a ratio to a bare hyper server that sends the same bytes; and pairs imported per second.
//!
//! Machines are shared and noisy, so a figure means something only beside a baseline of the same run: rounds of both servers alternate, and
//! medians are compared. The server has one core, the load another.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod bare;
mod fleet;
mod import;
mod interleave;
mod load;
mod pairs;
mod rotation;

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::{fleet::Fleet, load::Measured};

#[derive(Debug, Parser)]
#[command(about = "Measures re-signed responses per second against bare hyper", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Different tokens per algorithm; each is signed once a second.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds of each server; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Measures the import of so many generated pairs instead.
    #[arg(long, value_name = "PAIRS")]
    import: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes generated pairs as JSON lines, always the same.
    Pairs {
        /// How many.
        count: usize,
        /// Where to.
        file: std::path::PathBuf,
    },
    /// Lets the users of a recording act at random and counts who gets the own answers, with identities and without.
    Interleave(interleave::Plan),
    /// Swaps signing keys under load before clients that keep a key set.
    Rotation(rotation::Plan),
    /// Serves a file's bytes with nothing but hyper (used by the bench itself).
    #[command(hide = true)]
    Bare {
        /// The body to serve.
        body: std::path::PathBuf,
    },
    /// Puts load on a server (used by the bench itself).
    #[command(hide = true)]
    Load {
        /// The server.
        server: SocketAddr,
        /// The path, to which `?u=<n>` is added.
        path: String,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match &args.command {
        Some(Command::Bare { body }) => bare::serve(&std::fs::read(body)?.into()),
        Some(Command::Load { server, path }) => {
            let plan = load::Plan {
                server: *server,
                path: path.clone(),
                targets: args.tokens,
                connections: args.connections,
                duration: Duration::from_secs(args.seconds),
            };
            println!("{}", load::run(&plan)?.to_line());
            Ok(())
        }
        Some(Command::Interleave(plan)) => interleave::run(plan),
        Some(Command::Rotation(plan)) => rotation::run(*plan),
        Some(Command::Pairs { count, file }) => {
            let file = std::fs::File::create(file)?;
            Ok(pairs::write(*count, &mut std::io::BufWriter::new(file))?)
        }
        None => match args.import {
            Some(count) => {
                refuse_debug()?;
                import::run(count)
            }
            None => compare(&args),
        },
    }
}

fn compare(args: &Args) -> anyhow::Result<()> {
    refuse_debug()?;
    let fleet = Fleet::start(args.tokens)?;
    println!("| algorithm | bare hyper /s | p99 | re-signed /s | p99 | ratio |");
    println!("|---|---|---|---|---|---|");
    for alg in fleet::ALGS {
        let path = format!("/{}", alg.to_ascii_lowercase());
        let bare = fleet.bare(&path)?;
        let (mut base, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            base.push(load_from_outside(args, &fleet.own, bare.address, &path)?);
            ours.push(load_from_outside(args, &fleet.own, fleet.responder, &path)?);
        }
        let (base, ours) = (median(&mut base)?, median(&mut ours)?);
        let ratio = ours.per_second / base.per_second;
        println!(
            "| {alg} | {:.0} | {:.2} ms | {:.0} | {:.2} ms | {ratio:.2} |",
            base.per_second, base.p99_ms, ours.per_second, ours.p99_ms
        );
    }
    Ok(())
}

fn refuse_debug() -> anyhow::Result<()> {
    anyhow::ensure!(
        !cfg!(debug_assertions),
        "measure optimised code: cargo run --release -p countersign-tests --bin bench"
    );
    Ok(())
}

/// Runs the load as a process of its own, pinned to a core of its own.
fn load_from_outside(
    args: &Args,
    own: &Path,
    server: SocketAddr,
    path: &str,
) -> anyhow::Result<Measured> {
    let mut command = fleet::pinned(1, own);
    command.args(["--tokens", &args.tokens.to_string(), "--seconds", &args.seconds.to_string()]);
    command.args([
        "--connections",
        &args.connections.to_string(),
        "load",
        &server.to_string(),
        path,
    ]);
    let out = command.output().context("taskset is needed (util-linux)")?;
    anyhow::ensure!(
        out.status.success(),
        "the load failed: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Measured::from_line(&String::from_utf8(out.stdout)?)
}

fn median(rounds: &mut [Measured]) -> anyhow::Result<Measured> {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds.get(rounds.len() / 2).copied().context("at least one round is needed")
}
