//! `countersign replay report`: what a replay's requests came to.

mod document;
mod table;

use std::time::Duration;

use clap::Args;
use countersign_proto::control::v1::{
    CompareReportsRequest, GetReportRequest, ListReportsRequest, WatchReportRequest,
};

use super::seconds;
use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::Output,
};

/// Shows a report.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign replay report login                  # hits, misses and times of each endpoint; why requests missed; tokens
  countersign replay report login --watch          # again and again, as it changes
  countersign replay report login --compare 3      # the last run beside run 3
  countersign replay report login --runs           # the runs that are kept
  countersign --output json replay report login | jq .totals.ownAnswerRate")]
pub(crate) struct ReportArgs {
    /// The replay's id
    id: String,

    /// The run to show: each start of a replay begins one; the last by default
    #[arg(long, value_name = "RUN")]
    run: Option<u64>,

    /// List the runs that are kept, with their totals
    #[arg(long, conflicts_with_all = ["run", "watch", "compare"])]
    runs: bool,

    /// Show it again whenever it has changed, at most so often
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = seconds)]
    watch: Option<Duration>,

    /// Show it beside an earlier run
    #[arg(long, value_name = "RUN", conflicts_with = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    compare: Option<u64>,

    /// Show so many endpoints and near misses at the most; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    top: usize,
}

/// Runs the command.
pub(super) async fn run(args: ReportArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let name = client.name(Collection::Replays, &args.id);
    let doing = || Failure::rpc(format!("report on the replay {}", args.id));
    let run = args.run.unwrap_or_default();
    let top = if args.top == 0 { usize::MAX } else { args.top };
    if args.runs {
        let listed = client.reports().list_reports(ListReportsRequest { name }).await;
        let reports = listed.map_err(doing())?.into_inner().reports;
        if out.is_json() {
            out.json(&reports.iter().map(document::report).collect());
        } else {
            out.text(&table::runs(&reports));
        }
    } else if let Some(base) = args.compare {
        let request = CompareReportsRequest { name, base, run };
        let compared = client.reports().compare_reports(request).await;
        let compared = compared.map_err(doing())?.into_inner();
        if out.is_json() {
            out.json(&document::comparison(&compared));
        } else {
            out.text(&table::comparison(&compared, top));
        }
    } else if let Some(interval) = args.watch {
        let interval = interval.try_into().ok();
        let request = WatchReportRequest { name, run, interval };
        let watched = client.reports().watch_report(request).await;
        let mut watched = watched.map_err(doing())?.into_inner();
        while let Some(report) = watched.message().await.map_err(doing())? {
            if out.is_json() {
                // A line each, so that a reader knows where one ends.
                out.raw(format!("{}\n", document::report(&report)).as_bytes());
            } else {
                if out.is_watched() {
                    // Clears the screen and goes to its upper left corner (ECMA-48, ED and CUP).
                    out.raw(b"\x1b[2J\x1b[H");
                }
                out.text(&table::report(&report, top));
            }
        }
    } else {
        let got = client.reports().get_report(GetReportRequest { name, run }).await;
        let report = got.map_err(doing())?.into_inner();
        if out.is_json() {
            out.json(&document::report(&report));
        } else {
            out.text(&table::report(&report, top));
        }
    }
    Ok(())
}
