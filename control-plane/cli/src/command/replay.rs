//! `countersign replay`: serving a snapshot.

pub(crate) mod kubernetes;
mod policy;
mod ready;
mod report;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use countersign_proto::{
    control::v1::{
        CreateReplayRequest, DeleteReplayRequest, GetReplayRequest, ListReplaysRequest, Replay,
        RetryReplayRequest, RollbackReplayRequest, StartReplayRequest, StopReplayRequest,
    },
    snapshot::v1::ServeDirection,
    r#type::v1::Diagnostic,
};
use tonic::Code;

use kubernetes::KubernetesArgs;
use policy::PolicyArgs;
use ready::wait_and_tell;
pub(crate) use ready::wait_until_ready;

use super::PAGE;
use crate::{
    args::Serve,
    connect::{Client, Collection, id},
    failure::Failure,
    output::Output,
    view,
};

/// The commands about replays.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Start a replay, creating it when there is none; started again, it picks up edited transforms and test configs
    Start(Box<StartArgs>),
    /// Show a replay, its conditions and what each responder made of it
    #[command(visible_alias = "show")]
    Status {
        /// Its id
        id: String,
    },
    /// List the replays
    #[command(visible_alias = "ls")]
    List,
    /// Show what a replay's requests came to: hits, misses and times by endpoint, why requests missed, tokens
    Report(report::ReportArgs),
    /// Go back to what a replay served before it was started last; while a start is rolled out, end that
    Rollback(AgainArgs),
    /// Have responders try again what they refused
    Retry(AgainArgs),
    /// Stop a replay on all responders
    Stop {
        /// Its id
        id: String,
    },
    /// Stop and delete replays
    #[command(visible_alias = "rm")]
    Delete {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Starts a replay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign replay start login                           # the snapshot `login` as recorded
  countersign replay start login --transform jwt --wait    # re-signed; returns when served
  countersign replay start --snapshot login --id blue --serve in --wait=30s
  countersign replay start login --quorum 90% --on-straggler exclude --rollout-timeout 30s --wait
  countersign replay start login --kubernetes --workload user --secret jwt-demo --wait=5m")]
pub(crate) struct StartArgs {
    /// The replay's id; the snapshot's id by default
    #[arg(value_name = "REPLAY", required_unless_present_any = ["snapshot", "id"])]
    replay: Option<String>,

    /// The same as REPLAY
    #[arg(long, conflicts_with = "replay")]
    id: Option<String>,

    /// The snapshot to serve when the replay is new; the one with the replay's id by default
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,

    /// The transform to serve it with when the replay is new; the one that the recording came with by default
    #[arg(long, value_name = "ID")]
    transform: Option<String>,

    /// The test config to serve it with when the replay is new; `standard` by default
    #[arg(long, value_name = "ID")]
    test_config: Option<String>,

    /// Which pairs are served when the replay is new; `out` by default, `in` if there are no others
    #[arg(long, value_enum)]
    serve: Option<Serve>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    kubernetes: KubernetesArgs,

    /// Wait until every connected responder serves it, at most so long
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = seconds)]
    wait: Option<Duration>,
}

impl StartArgs {
    /// Whether it is a matter of a cluster, and not of the control plane.
    pub(crate) fn is_kubernetes(&self) -> bool {
        self.kubernetes.kubernetes
    }
}

/// Announces something else of a running replay.
#[derive(Debug, Args)]
pub(crate) struct AgainArgs {
    /// Its id
    id: String,

    /// Wait until every connected responder serves it, at most so long
    #[arg(long, value_name = "TIMEOUT", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = seconds)]
    wait: Option<Duration>,
}

/// Parses `30`, `30s` or `2m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| "a time looks like 30s or 2m".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// Runs a command.
pub(crate) async fn run(
    command: ReplayCommand,
    client: &Client,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        ReplayCommand::Start(args) => start(*args, client, out).await?,
        ReplayCommand::Rollback(AgainArgs { id, wait }) => {
            let request = RollbackReplayRequest { name: client.name(Collection::Replays, &id) };
            let back = client.replays().rollback_replay(request).await;
            let back = back.map_err(Failure::rpc(format!("roll the replay {id} back")))?;
            finish(back.into_inner(), wait, client, out).await?;
        }
        ReplayCommand::Retry(AgainArgs { id, wait }) => {
            let request = RetryReplayRequest { name: client.name(Collection::Replays, &id) };
            let again = client.replays().retry_replay(request).await;
            let again = again.map_err(Failure::rpc(format!("retry the replay {id}")))?;
            finish(again.into_inner(), wait, client, out).await?;
        }
        ReplayCommand::Status { id } => status(&get(client, &id).await?, out),
        ReplayCommand::Report(args) => report::run(args, client, out).await?,
        ReplayCommand::List => out.many(&list(client).await?, "there are no replays"),
        ReplayCommand::Stop { id } => {
            let request = StopReplayRequest { name: client.name(Collection::Replays, &id) };
            let stopped = client.replays().stop_replay(request).await;
            out.one(&stopped.map_err(Failure::rpc(format!("stop the replay {id}")))?.into_inner());
        }
        ReplayCommand::Delete { ids } => {
            for id in ids {
                delete(client, &id).await?;
                out.note(&format!("deleted the replay {id}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(args: StartArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let (wait, policy) = (args.wait, args.policy.clone());
    let known = create_if_new(args, client, out).await?;
    let rollout_policy = policy.over(known.rollout_policy);
    let request = StartReplayRequest {
        name: known.name.clone(),
        rollout_policy,
        ..StartReplayRequest::default()
    };
    finish(start_as(client, request).await?, wait, client, out).await
}

/// Shows a replay, once it is served if that is wanted.
async fn finish(
    mut replay: Replay,
    wait: Option<Duration>,
    client: &Client,
    out: &Output,
) -> Result<(), Failure> {
    if let Some(timeout) = wait {
        let mut last = String::new();
        let progress = |now: &str| {
            if now != last {
                out.note(now);
                now.clone_into(&mut last);
            }
        };
        replay = wait_and_tell(client, &replay, timeout, progress).await?;
    }
    status(&replay, out);
    Ok(())
}

/// The replay to start.
async fn create_if_new(args: StartArgs, client: &Client, out: &Output) -> Result<Replay, Failure> {
    let chosen = args.replay.or(args.id);
    let snapshot = args.snapshot.or_else(|| chosen.clone()).unwrap_or_default();
    let replay_id = chosen.unwrap_or_else(|| id(&snapshot).to_owned());
    let name = client.name(Collection::Replays, &replay_id);
    let wanted = Replay {
        snapshot: client.name(Collection::Snapshots, &snapshot),
        transform: args
            .transform
            .map(|transform| client.name(Collection::Transforms, &transform))
            .unwrap_or_default(),
        test_config: args
            .test_config
            .map(|config| client.name(Collection::TestConfigs, &config))
            .unwrap_or_default(),
        serve: args.serve.map_or(ServeDirection::Unspecified, ServeDirection::from).into(),
        ..Replay::default()
    };
    match get(client, &name).await {
        Ok(known) => {
            check_same(&known, &wanted, &replay_id, snapshot != replay_id)?;
            Ok(known)
        }
        Err(failure) if failure.is(Code::NotFound) => {
            let wanted = with_embedded(client, wanted, out).await?;
            let created = create(client, &replay_id, wanted).await?;
            out.note(&format!("created the replay {replay_id}"));
            Ok(created)
        }
        Err(failure) => Err(failure),
    }
}

/// Without a transform of the user's choice, the one that the recording came with is used.
async fn with_embedded(client: &Client, wanted: Replay, out: &Output) -> Result<Replay, Failure> {
    if !wanted.transform.is_empty() {
        return Ok(wanted);
    }
    match super::snapshot::get(client, &wanted.snapshot).await {
        Ok(snapshot) => {
            if !snapshot.transform.is_empty() {
                let transform = id(&snapshot.transform);
                out.note(&format!("with the transform {transform} that the recording came with"));
            }
            Ok(Replay { transform: snapshot.transform, ..wanted })
        }
        // Whoever creates the replay says so better.
        Err(failure) if failure.is(Code::NotFound) => Ok(wanted),
        Err(failure) => Err(failure),
    }
}

/// A replay's parts are fixed when it is created: what was asked for has to be what it has.
fn check_same(
    known: &Replay,
    wanted: &Replay,
    replay: &str,
    snapshot: bool,
) -> Result<(), Failure> {
    let parts = [
        ("--snapshot", &known.snapshot, &wanted.snapshot, snapshot),
        ("--transform", &known.transform, &wanted.transform, !wanted.transform.is_empty()),
        ("--test-config", &known.test_config, &wanted.test_config, !wanted.test_config.is_empty()),
    ];
    let mut findings: Vec<String> = parts
        .into_iter()
        .filter(|(_, known, wanted, asked)| *asked && known != wanted)
        .map(|(flag, known, wanted, _)| {
            let known = if known.is_empty() { "none" } else { id(known) };
            format!("{flag}: it has {known}, not {}", id(wanted))
        })
        .collect();
    let serves_otherwise = wanted.serve() != ServeDirection::Unspecified
        && view::serve(known.serve()) != view::serve(wanted.serve());
    if serves_otherwise {
        findings.push(format!(
            "--serve: it serves {}, not {}",
            view::serve(known.serve()),
            view::serve(wanted.serve())
        ));
    }
    if findings.is_empty() {
        return Ok(());
    }
    let what = format!(
        "there is a replay {replay} with other parts; choose another id, or `countersign replay delete {replay}` first"
    );
    Err(Failure::Refused { what, findings })
}

fn status(replay: &Replay, out: &Output) {
    out.one(replay);
    if out.is_json() {
        return;
    }
    for condition in &replay.conditions {
        out.note(&format!("{}: {}", condition.r#type, condition.message));
    }
    out.findings(&findings(replay));
}

/// What the last start and the responders found, each finding once.
pub(crate) fn findings(replay: &Replay) -> Vec<Diagnostic> {
    let mut found = replay.diagnostics.clone();
    for finding in replay.responders.iter().flat_map(|responder| &responder.diagnostics) {
        if !found.contains(finding) {
            found.push(finding.clone());
        }
    }
    found
}

/// Creates a replay.
pub(crate) async fn create(
    client: &Client,
    replay_id: &str,
    replay: Replay,
) -> Result<Replay, Failure> {
    let request = CreateReplayRequest {
        parent: client.parent(),
        replay_id: replay_id.to_owned(),
        replay: Some(replay),
        ..CreateReplayRequest::default()
    };
    let created = client.replays().create_replay(request).await;
    Ok(created.map_err(Failure::rpc(format!("create the replay {replay_id}")))?.into_inner())
}

/// Starts a replay, or starts it again.
pub(crate) async fn start_named(client: &Client, name: &str) -> Result<Replay, Failure> {
    let name = name.to_owned();
    start_as(client, StartReplayRequest { name, ..StartReplayRequest::default() }).await
}

async fn start_as(client: &Client, request: StartReplayRequest) -> Result<Replay, Failure> {
    let doing = format!("start the replay {}", id(&request.name));
    let started = client.replays().start_replay(request).await;
    Ok(started.map_err(Failure::rpc(doing))?.into_inner())
}

/// Deletes a replay.
pub(crate) async fn delete(client: &Client, replay: &str) -> Result<(), Failure> {
    let name = client.name(Collection::Replays, replay);
    let request = DeleteReplayRequest { name, ..DeleteReplayRequest::default() };
    let deleted = client.replays().delete_replay(request).await;
    deleted.map_err(Failure::rpc(format!("delete the replay {replay}")))?;
    Ok(())
}

async fn get(client: &Client, replay: &str) -> Result<Replay, Failure> {
    let request = GetReplayRequest { name: client.name(Collection::Replays, replay) };
    let got = client.replays().get_replay(request).await;
    Ok(got.map_err(Failure::rpc(format!("show the replay {}", id(replay))))?.into_inner())
}

/// All replays of the project.
pub(crate) async fn list(client: &Client) -> Result<Vec<Replay>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListReplaysRequest { parent: client.parent(), page_size: PAGE, page_token };
        let page = client.replays().list_replays(request).await;
        let page = page.map_err(Failure::rpc("list replays"))?.into_inner();
        found.extend(page.replays);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let parse = |text| seconds(text).map(|time| time.as_secs());
        assert_eq!((parse("30"), parse("30s"), parse("2m")), (Ok(30), Ok(30), Ok(120)));
        assert!(parse("soon").is_err() && parse("").is_err());
    }

    #[test]
    fn a_replay_with_other_parts_is_not_started_in_their_place() {
        let known = Replay { snapshot: "projects/p/snapshots/a".into(), ..Replay::default() };
        let wanted = Replay {
            snapshot: "projects/p/snapshots/b".into(),
            transform: "projects/p/transforms/jwt".into(),
            serve: ServeDirection::In.into(),
            ..Replay::default()
        };
        let failure = check_same(&known, &wanted, "r", true).unwrap_err();
        assert_eq!(
            failure.render().lines().skip(1).map(str::trim).collect::<Vec<_>>(),
            [
                "--snapshot: it has a, not b",
                "--transform: it has none, not jwt",
                "--serve: it serves OUT, not IN"
            ]
        );
        assert!(check_same(&known, &Replay::default(), "r", false).is_ok());
    }
}
