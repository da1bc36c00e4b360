//! An export: read the pairs in recorded order, write them one by one, put the result in its place at once.
//!
//! What fails leaves nothing behind. What the format cannot hold is told at the end and is no failure.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use countersign_engine::{
    formats::write::{Target, Writer},
    snapshot::{RrPair, wire},
};
use countersign_proto::{
    control::v1::{ReadRecordsRequest, Snapshot},
    r#type::v1::Diagnostic,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    connect::Client,
    destination::Destination,
    failure::Failure,
    output::Output,
    view::{self, View},
};

/// A recorded pair is read from a text of at most 64 MiB, and a message holds at least one.
const MESSAGE_LIMIT: usize = 128 * 1024 * 1024;

/// Exports a snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign snapshot export login --format markdown --out ./recording
  countersign snapshot export login --format wiremock --out mappings.json
  countersign snapshot export login --out - | jq .location

What the format cannot hold is listed at the end.")]
pub(crate) struct ExportArgs {
    /// The snapshot's id
    id: String,

    /// What the pairs are written as
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,

    /// The file, or for markdown the directory, to write; `-` is stdout
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Replace what is there; a directory only when it holds nothing but recordings
    #[arg(long)]
    force: bool,
}

/// What the pairs are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ExportFormat {
    /// `RRPair` JSON, one pair per line
    #[default]
    Jsonl,
    /// `RRPair` markdown, one file per pair
    Markdown,
    /// `WireMock` mappings
    Wiremock,
    /// HAR 1.2
    Har,
}

impl ExportFormat {
    fn target(self) -> Target {
        match self {
            Self::Jsonl => Target::JsonLines,
            Self::Markdown => Target::Markdown,
            Self::Wiremock => Target::WireMock,
            Self::Har => Target::Har,
        }
    }
}

/// Runs the command.
pub(super) async fn run(args: ExportArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let target = args.format.target();
    let to = Destination::open(&args.out, target.is_directory(), args.force)?;
    let snapshot = super::get(client, &args.id).await?;
    let passes = if target.needs_survey() { 2 } else { 1 };
    let bar = out.counter("exporting", snapshot.pair_count.saturating_mul(passes));
    let export = Export { client, snapshot: &snapshot, id: &args.id, bar: &bar };
    let written = tokio::select! {
        written = export.write(target, to) => written,
        // The temporary files go when they are dropped, which a signal alone would not do.
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted; nothing was written")),
    };
    bar.finish_and_clear();
    report(&args, &snapshot, &written?, out);
    Ok(())
}

struct Export<'a> {
    client: &'a Client,
    snapshot: &'a Snapshot,
    id: &'a str,
    bar: &'a ProgressBar,
}

impl Export<'_> {
    /// Writes everything and returns what the format cannot hold.
    async fn write(&self, target: Target, mut to: Destination) -> Result<Vec<Diagnostic>, Failure> {
        let mut writer = Writer::new(target);
        if target.needs_survey() {
            self.each(|pair| {
                writer.survey(&pair);
                Ok(())
            })
            .await?;
        }
        self.each(|pair| to.write(&writer.pair(&pair))).await?;
        let (end, found) = writer.finish();
        to.write(&end)?;
        to.finish()?;
        Ok(found.iter().map(wire::encode_diagnostic).collect())
    }

    /// Hands over every pair in recorded order.
    async fn each(&self, take: impl FnMut(RrPair) -> Result<(), Failure>) -> Result<(), Failure> {
        let doing = format!("export the snapshot {}", self.id);
        let seen = |pairs| self.bar.inc(pairs);
        read_pairs(self.client, self.snapshot, &doing, seen, take).await
    }
}

/// Hands over every pair of a snapshot in recorded order; `seen` hears how many have come.
pub(crate) async fn read_pairs(
    client: &Client,
    snapshot: &Snapshot,
    doing: &str,
    seen: impl Fn(u64),
    mut take: impl FnMut(RrPair) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let fail = || Failure::rpc(doing);
    let request = ReadRecordsRequest { name: snapshot.name.clone() };
    let snapshots = client.snapshots();
    let read = snapshots.max_decoding_message_size(MESSAGE_LIMIT).read_records(request).await;
    let mut messages = read.map_err(fail())?.into_inner();
    let mut pairs = 0;
    while let Some(message) = messages.message().await.map_err(fail())? {
        seen(u64::try_from(message.records.len()).unwrap_or_default());
        for pair in message.records {
            pairs += 1;
            take(wire::decode_pair(pair).map_err(|source| Failure::chain(&source))?)?;
        }
    }
    if pairs == snapshot.pair_count {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the control plane sent {pairs} of {} pairs; has the snapshot been replaced meanwhile?",
        snapshot.pair_count
    )))
}

fn report(args: &ExportArgs, snapshot: &Snapshot, found: &[Diagnostic], out: &Output) {
    let pairs = snapshot.pair_count;
    if args.out.as_os_str() == "-" {
        // stdout holds the export.
        out.note(&format!("exported {pairs} pairs"));
        out.findings(found);
        return;
    }
    if out.is_json() {
        out.json(&json!({
            "snapshot": snapshot.name,
            "out": args.out.to_string_lossy(),
            "pairs": pairs,
            "findings": found.iter().map(View::json).collect::<Vec<_>>(),
        }));
        return;
    }
    out.note(&format!("exported {pairs} pairs to {}", args.out.display()));
    let lost: Vec<Lost<'_>> = found.iter().map(Lost).collect();
    if !lost.is_empty() {
        out.note("the format cannot hold everything:");
        out.many(&lost, "");
    }
}

/// Something that the format cannot hold.
struct Lost<'a>(&'a Diagnostic);

impl View for Lost<'_> {
    const HEADINGS: &'static [&'static str] = &["SEVERITY", "FIELD", "PAIRS", "WHY"];

    fn row(&self) -> Vec<String> {
        let Self(finding) = self;
        vec![
            view::severity(finding.severity()).to_lowercase(),
            finding.field_path.clone(),
            finding.count.to_string(),
            finding.message.clone(),
        ]
    }

    fn json(&self) -> Value {
        self.0.json()
    }
}
