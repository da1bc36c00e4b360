//! `countersign-operator`: arguments and environment become settings; then it runs until told to end.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use countersign_operator::{
    app::{self, AppError},
    install_cryptography,
    settings::{Args, LogFormat},
};
use countersign_tls::process::forbid_core_dumps;
use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    install_cryptography();
    let args = Args::parse();
    start_logging(args.log_format);
    // Keys that it makes are in its memory for a moment.
    if let Err(error) = forbid_core_dumps() {
        tracing::warn!(%error, "core files cannot be forbidden");
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<AppError>().is_some_and(AppError::is_usage);
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(io::stderr(), "countersign-operator: {error:#}"));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let health = app::answer_probes(args.health_listen).await?;
    // For scripts that asked for port 0. Nobody may be reading any more.
    drop(writeln!(io::stdout(), "health listening on http://{health}"));
    let client = Client::try_default().await?;
    let (end, ended) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("told to end");
        end.send_replace(true);
    });
    Ok(app::run(client, args.settings, ended).await?)
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
