//! `countersign snapshot`: what was recorded.

mod explain;
pub(crate) mod export;
mod import;
mod push;
mod tokens;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use countersign_proto::control::v1::{
    DeleteSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest, Snapshot,
};

pub(crate) use export::ExportArgs;
pub(crate) use import::{Import, Without, report};
pub(crate) use push::PushArgs;
pub(crate) use tokens::TokensArgs;

use super::{PAGE, read_text};
use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::Output,
    recording,
};

/// The commands about snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Import recordings as a snapshot, which then never changes
    Import(ImportArgs),
    /// Write a snapshot's pairs to files, for other tools or for another import
    Export(ExportArgs),
    /// Copy a snapshot to another control plane, which is sent only what it lacks
    Push(PushArgs),
    /// List the snapshots
    #[command(visible_alias = "ls")]
    List,
    /// Show a snapshot and what its import skipped or refused
    Show {
        /// Its id
        id: String,
    },
    /// Show which tokens a snapshot holds, where they are issued and where they are used
    Tokens(TokensArgs),
    /// Show how a request would be matched, and why; nothing moves
    #[command(after_help = "\
Examples:
  countersign snapshot explain login http://api/me -H 'Authorization: Bearer eyJ…'
  countersign snapshot explain login http://api/login -X POST -H 'Content-Type: application/json' -d '{\"user\":\"a\"}'
  countersign snapshot explain login http://api/me --transform jwt -o json")]
    Explain(explain::ExplainArgs),
    /// Delete snapshots; replays that run keep what they hold
    #[command(visible_alias = "rm")]
    Delete {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Imports recordings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign snapshot import ./proxymock/recorded-2025-06-19 --id login
  countersign snapshot import raw.jsonl more/*.md
  countersign snapshot import ./recording --strict           # all of it or nothing
  countersign snapshot import ./recording --validate-only    # only say what would be imported
  countersign snapshot import ./recording --filter '(command IS \"POST\")'
  countersign snapshot import ./recording --dlp standard     # without passwords, card numbers, addresses
  countersign snapshot import ./recording --transform login  # without signatures of what it re-signs

A dropped connection is taken up again where it broke. Hidden directories and directories called
`secrets` are left out. The template in the metadata of a snapshot (<id>.json beside or in its
folder, .metadata/snapshot.json in or above it) and in active blueprints is stored as the transform
<id>-embedded, which replays of the snapshot are then created with.")]
pub(crate) struct ImportArgs {
    /// Files or directories of recordings: RRPairs (.md, .json, .jsonl), HAR, Postman, Hoverfly, GoReplay, OpenAPI and others, or zip archives
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,

    /// The snapshot's id; made from the name of the first recording by default
    #[arg(long)]
    id: Option<String>,

    /// Refuse everything when an entry cannot be read; otherwise such entries are reported and the rest is kept
    #[arg(long)]
    strict: bool,

    /// Read and report, but keep nothing
    #[arg(long)]
    validate_only: bool,

    /// Keep only the pairs that this filter selects: a query, or filters as JSON; see docs/filters.md
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,

    /// Redact before anything is stored: `standard`, `none`, or a file that says what; see docs/redaction.md
    #[arg(long, value_name = "CONFIG")]
    dlp: Option<String>,

    /// Store no token with its JWS signature; tokens that are served as recorded are then invalid
    #[arg(long)]
    strip_signatures: bool,

    /// Store the tokens that this transform re-signs without their JWS signatures
    #[arg(long, value_name = "ID", conflicts_with = "strip_signatures")]
    transform: Option<String>,
}

impl ImportArgs {
    fn without(&self) -> Result<Without, Failure> {
        let dlp = match self.dlp.as_deref() {
            None => String::new(),
            Some(name @ ("standard" | "none")) => name.to_owned(),
            Some(file) => read_text(Path::new(file))?,
        };
        let (signatures, resigned_by) = (self.strip_signatures, self.transform.clone());
        Ok(Without { dlp, signatures, resigned_by })
    }
}

/// Runs a command.
pub(crate) async fn run(
    command: SnapshotCommand,
    client: &Client,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        SnapshotCommand::Import(args) => import(args, client, out).await?,
        SnapshotCommand::Export(args) => export::run(args, client, out).await?,
        SnapshotCommand::Push(args) => push::run(args, client, out).await?,
        SnapshotCommand::List => out.many(&list(client).await?, "there are no snapshots"),
        SnapshotCommand::Show { id } => {
            let snapshot = get(client, &id).await?;
            out.one(&snapshot);
            report(&snapshot, out);
        }
        SnapshotCommand::Tokens(args) => tokens::run(&args, client, out).await?,
        SnapshotCommand::Explain(args) => explain::run(args, client, out).await?,
        SnapshotCommand::Delete { ids } => {
            for id in ids {
                delete(client, &id).await?;
                out.note(&format!("deleted the snapshot {id}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(args: ImportArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let derived = args.recordings.first().map(|first| recording::derive_id(first));
    let without = args.without()?;
    let id = args.id.or(derived).unwrap_or_default();
    let import = Import {
        recordings: &args.recordings,
        transform_id: Some(embedded_id(&id)),
        id,
        strict: args.strict,
        validate_only: args.validate_only,
        filter: args.filter,
        without,
    };
    let snapshot = import.run(client, out).await?;
    report(&snapshot, out);
    if args.validate_only {
        out.note(&format!("{} pairs could be imported; nothing was kept", snapshot.pair_count));
    }
    if !args.validate_only || out.is_json() {
        out.one(&snapshot);
    }
    Ok(())
}

/// What the template that a recording brings along is called.
fn embedded_id(snapshot: &str) -> String {
    const SUFFIX: &str = "-embedded";
    let kept: String = snapshot.chars().take(63 - SUFFIX.len()).collect();
    format!("{kept}{SUFFIX}")
}

/// A snapshot.
pub(crate) async fn get(client: &Client, id: &str) -> Result<Snapshot, Failure> {
    let request = GetSnapshotRequest { name: client.name(Collection::Snapshots, id) };
    let got = client.snapshots().get_snapshot(request).await;
    Ok(got.map_err(Failure::rpc(format!("show the snapshot {id}")))?.into_inner())
}

/// Deletes a snapshot.
pub(crate) async fn delete(client: &Client, id: &str) -> Result<(), Failure> {
    let name = client.name(Collection::Snapshots, id);
    let request = DeleteSnapshotRequest { name, ..DeleteSnapshotRequest::default() };
    let deleted = client.snapshots().delete_snapshot(request).await;
    deleted.map_err(Failure::rpc(format!("delete the snapshot {id}")))?;
    Ok(())
}

/// All snapshots of the project.
pub(crate) async fn list(client: &Client) -> Result<Vec<Snapshot>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSnapshotsRequest { parent: client.parent(), page_size: PAGE, page_token };
        let page = client.snapshots().list_snapshots(request).await;
        let page = page.map_err(Failure::rpc("list snapshots"))?.into_inner();
        found.extend(page.snapshots);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}
