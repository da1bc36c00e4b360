//! The process: arguments, log, start, wait for a signal, stop.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use countersign_control_plane::{
    app::{self, StartError},
    config::{Args, LogFormat},
};
use countersign_tls::process::forbid_core_dumps;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    install_log(args.log_format);
    spare_memory();
    raise_file_limit();
    // Keys of TLS, and those that stand in templates, are in its memory.
    if let Err(error) = forbid_core_dumps() {
        tracing::warn!(%error, "core files cannot be forbidden");
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.downcast_ref().map_or(1, StartError::exit_code);
            // Not through the log, whose filter may be off.
            drop(writeln!(io::stderr(), "countersign-control-plane: {error:#}"));
            ExitCode::from(code)
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut running = app::start(args.try_into().map_err(StartError::settings)?).await?;
    // For scripts that asked for port 0. Nobody may be reading any more.
    let scheme = if running.is_tls() { "https" } else { "http" };
    drop(writeln!(io::stdout(), "grpc listening on {scheme}://{}", running.addr()));
    if let Some(ui) = running.ui_addr() {
        drop(writeln!(io::stdout(), "ui listening on {scheme}://{ui}"));
    }
    if let Some(addr) = running.admin_addr() {
        drop(writeln!(io::stdout(), "admin listening on http://{addr}"));
    }
    let ended = tokio::select! {
        ended = running.ended() => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    ended?;
    tracing::info!("shutting down");
    running.shutdown().await;
    Ok(())
}

/// Each step of a rollout looks at the whole fleet. The system's allocator would hold on to what that takes for a moment; this one gives it back.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A fleet takes two connections for each responder, and the limit that processes begin with is often 1,024.
/// Thousands of subscriptions take a little memory each, here and there, of which huge pages would make much.
fn spare_memory() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay in use");
    }
}

fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn install_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
