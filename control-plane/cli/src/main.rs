//! The `countersign` command: arguments → a command → an exit code.
//!
//! Every failure passes through `Failure`, which decides the exit code; nothing exits elsewhere, so that what was started is also ended.

mod args;
mod command;
mod connect;
mod destination;
mod embedded;
mod failure;
mod output;
mod planes;
mod recording;
mod upload;
mod view;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::{args::Cli, failure::Failure, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(cli.global.output);
    // What the planes of `dev` and `demo` log would stand between the lines for people, so that only warnings pass by default.
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(out.colours_on_stderr())
        .without_time()
        .with_target(false)
        .init();
    match run(cli, &out) {
        Ok(code) => code,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli, out: &Output) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::io("start the runtime", source))?;
    runtime.block_on(command::run(cli, out))
}
