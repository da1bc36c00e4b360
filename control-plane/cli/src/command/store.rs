//! `countersign store`: what operators do with what a control plane stores. It opens the stores itself, without the API.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use countersign_control_plane::{
    config::PlaceArgs,
    operate::{Copied, OperateError, Report, Stores},
    store::StoreError,
};
use serde_json::json;

use crate::{failure::Failure, output::Output};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Remove blobs that nothing names any more
    Gc(GcArgs),
    /// Read everything that is stored, and tell what is damaged or missing
    Scrub(ScrubArgs),
    /// Copy everything that is live into a new directory
    Backup(BackupArgs),
    /// Fill stores that never held anything from a backup
    Restore(RestoreArgs),
}

/// Removes what is left over.
#[derive(Debug, Args)]
#[command(after_help = "\
Control planes do so themselves: each at its start, or those that share their stores every few hours. On
stores that are shared this may run while they do; otherwise the control plane has to be stopped.")]
pub(crate) struct GcArgs {
    #[command(flatten)]
    place: PlaceArgs,

    /// Leave alone what was stored in the last so many hours
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    grace: u64,
}

/// Reads everything again.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with exit code 1 when anything is damaged or missing. A damaged blob that is put aside is missing
afterwards; importing the same recording again stores it again.")]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    place: PlaceArgs,

    /// Put damaged blobs aside, below `damaged`
    #[arg(long)]
    quarantine: bool,
}

/// Copies everything.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign store backup ./backup-2026-11-30
  countersign-control-plane --data-dir ./backup-2026-11-30   # a backup can be looked into as it is

Of stores that are shared this makes a copy of one moment while control planes run; otherwise the control
plane has to be stopped. Uploads that are not committed are no part of it.")]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    place: PlaceArgs,

    /// The directory to make
    #[arg(value_name = "DIRECTORY")]
    into: PathBuf,
}

/// Fills empty stores.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign store restore ./backup-2026-11-30 --data-dir /var/lib/countersign
  countersign store restore ./backup-2026-11-30 --meta postgres://countersign@db/new --blobs s3://countersign/new

The stores get an identity of their own, so that responders look through what they hold; what they have of
the same content they do not fetch again.")]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,

    /// The backup
    #[arg(value_name = "DIRECTORY")]
    from: PathBuf,
}

/// Runs a command.
pub(crate) async fn run(command: StoreCommand, out: &Output) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Gc(args) => {
            let stores = open(&args.place).await?;
            let grace = Duration::from_secs(args.grace.saturating_mul(3600));
            let removed = stores.collect(grace).await.map_err(failure)?;
            tell(
                out,
                &json!({ "removed": removed }),
                &format!("removed {removed} blobs that nothing names"),
            );
        }
        StoreCommand::Scrub(args) => {
            let report = open(&args.place).await?.scrub(args.quarantine).await.map_err(failure)?;
            return Ok(scrubbed(&report, out));
        }
        StoreCommand::Backup(args) => {
            let copied = open(&args.place).await?.back_up(&args.into).await.map_err(failure)?;
            tell_copied(copied, "copied", out);
        }
        StoreCommand::Restore(args) => {
            let copied = open(&args.place).await?.restore(&args.from).await.map_err(failure)?;
            tell_copied(copied, "restored", out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(args: &PlaceArgs) -> Result<Stores, Failure> {
    let places = args.places().map_err(|error| failure(error.into()))?;
    Stores::open(&places, &args.data_dir).await.map_err(failure)
}

fn failure(error: OperateError) -> Failure {
    match error {
        OperateError::Store(StoreError::Settings(what)) => Failure::refused(what),
        OperateError::InTheWay { .. } | OperateError::NoBackup { .. } => {
            Failure::refused(error.to_string())
        }
        error => Failure::chain(&error),
    }
}

fn scrubbed(report: &Report, out: &Output) -> ExitCode {
    let Report { scrubbed, missing, affected } = report;
    let (blobs, bytes, aside) = (scrubbed.blobs, scrubbed.bytes, scrubbed.put_aside);
    let mut lines = vec![format!("read {blobs} blobs, {bytes} bytes")];
    lines.extend(scrubbed.damaged.iter().map(|place| format!("damaged: {place}")));
    lines.extend(affected.iter().map(|what| format!("affected: {what}")));
    lines.extend(missing.iter().map(|what| format!("missing: {what}")));
    if aside > 0 {
        lines.push(format!("put aside: {aside}"));
    }
    let value = json!({
        "blobs": blobs,
        "bytes": bytes,
        "damaged": scrubbed.damaged,
        "putAside": aside,
        "missing": missing,
        "affected": affected,
    });
    tell(out, &value, &lines.join("\n"));
    let sound = scrubbed.damaged.is_empty() && missing.is_empty();
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_copied(copied: Copied, done: &str, out: &Output) {
    let Copied { records, blobs, revision } = copied;
    let value = json!({ "records": records, "blobs": blobs, "revision": revision });
    tell(
        out,
        &value,
        &format!("{done} {records} records and {blobs} blobs, of revision {revision}"),
    );
}

fn tell(out: &Output, value: &serde_json::Value, text: &str) {
    if out.is_json() {
        out.json(value);
    } else {
        out.text(text);
    }
}
