//! `countersign replay start --kubernetes`: the replay is a resource of a cluster, and its operator does the rest.
//!
//! Nothing is asked of the control plane, which may not be reachable from here.

use std::time::Duration;

use clap::Args;
use countersign_operator::{
    crd::{Cleanup, KeyAlgorithm, Mode, SecretName, TrafficReplay, TrafficReplaySpec, WorkloadRef},
    plan::TargetKind,
    submit::{SubmitError, Target},
    yaml,
};
use serde::de::DeserializeOwned;

use super::StartArgs;
use crate::{
    failure::{Failure, chain},
    output::Output,
};

/// How it is started in a cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(crate) struct KubernetesArgs {
    /// Apply a TrafficReplay to the cluster of the current kubeconfig, instead of asking the control plane
    #[arg(long, conflicts_with_all = ["serve", "quorum", "rollout_timeout", "on_straggler", "min_responders"])]
    pub(super) kubernetes: bool,

    /// The context of the kubeconfig; the current one by default
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    context: Option<String>,

    /// The namespace; that of the context by default
    #[arg(long, value_name = "NAMESPACE", requires = "kubernetes")]
    namespace: Option<String>,

    /// The workload that is tested: `user`, `statefulset/user` or `daemonset/user`
    #[arg(long, value_name = "WORKLOAD", requires = "kubernetes", value_parser = workload)]
    workload: Option<WorkloadRef>,

    /// A secret to mount into the responders, besides those that the transform names; may be repeated
    #[arg(long = "secret", value_name = "NAME", requires = "kubernetes")]
    secrets: Vec<String>,

    /// What there is: full-replay, responder-only or generator-only; what the test config says by default
    #[arg(long, value_name = "MODE", requires = "kubernetes", value_parser = named::<Mode>)]
    mode: Option<Mode>,

    /// What becomes of the cluster at the end: inventory, all or none; what the test config says by default
    #[arg(long, value_name = "CLEANUP", requires = "kubernetes", value_parser = named::<Cleanup>)]
    cleanup: Option<Cleanup>,

    /// Make key pairs for secrets that are not there: RS256, ES256, ES384, ES512 or EdDSA
    #[arg(long, value_name = "ALGORITHM", requires = "kubernetes", value_parser = named::<KeyAlgorithm>)]
    generate_key: Option<KeyAlgorithm>,

    /// How long it may take, for example 30m
    #[arg(long, value_name = "TIME", requires = "kubernetes", value_parser = duration)]
    timeout: Option<String>,

    /// How long it is kept once it is ready, for example 1h
    #[arg(long, value_name = "TIME", requires = "kubernetes", value_parser = duration)]
    ttl_after_ready: Option<String>,

    /// Print the manifest, and apply nothing
    #[arg(long, requires = "kubernetes", conflicts_with = "wait")]
    dry_run: bool,
}

/// Prints or applies the resource, and waits until it is ready if that is wanted.
pub(crate) async fn run(args: StartArgs, out: &Output) -> Result<(), Failure> {
    let replay = resource(&args);
    let StartArgs { kubernetes, wait, .. } = args;
    if kubernetes.dry_run {
        return print(&replay, out);
    }
    let target = Target::new(kubernetes.context, kubernetes.namespace.as_deref());
    let target = target.await.map_err(|error| failure(&error))?;
    let applied = target.apply(&replay).await.map_err(|error| failure(&error))?;
    let name = applied.metadata.name.clone().unwrap_or_default();
    out.note(&format!("applied the TrafficReplay {name}"));
    let Some(within) = wait else { return print(&applied, out) };
    let mut last = String::new();
    let progress = |why: &str| {
        if why != last {
            out.note(why);
            why.clone_into(&mut last);
        }
    };
    match target.wait(&applied, within, progress).await {
        Ok(ready) => print(&ready, out),
        Err(SubmitError::Late(why)) => Err(late(name, within, why)),
        Err(error) => Err(failure(&error)),
    }
}

fn late(replay: String, within: Duration, why: String) -> Failure {
    Failure::NotReady { replay, seconds: within.as_secs(), why }
}

fn failure(error: &SubmitError) -> Failure {
    let what = chain(error);
    match error {
        SubmitError::Config(_) | SubmitError::Unknown => Failure::refused(what),
        _ => Failure::failed(what),
    }
}

/// The resource that was asked for. Names are those of the cluster: the replay's, and ids at the control plane.
fn resource(args: &StartArgs) -> TrafficReplay {
    let asked = &args.kubernetes;
    let chosen = args.replay.clone().or_else(|| args.id.clone());
    let snapshot = args.snapshot.clone().or_else(|| chosen.clone()).unwrap_or_default();
    let name = chosen.unwrap_or_else(|| snapshot.clone()).to_ascii_lowercase().replace('_', "-");
    let spec = TrafficReplaySpec {
        snapshot_id: snapshot,
        test_config_id: args.test_config.clone().unwrap_or_else(|| "standard".to_owned()),
        transform_id: args.transform.clone(),
        mode: asked.mode,
        cleanup: asked.cleanup,
        generate_key: asked.generate_key,
        secret_refs: asked.secrets.iter().map(|name| SecretName { name: name.clone() }).collect(),
        timeout: asked.timeout.clone(),
        ttl_after_ready: asked.ttl_after_ready.clone(),
        workload_ref: asked.workload.clone(),
        ..TrafficReplaySpec::default()
    };
    let mut replay = TrafficReplay::new(&name, spec);
    replay.metadata.namespace.clone_from(&asked.namespace);
    replay
}

/// YAML for people and `kubectl`, JSON for programs. What the API server keeps for itself is left out.
fn print(replay: &TrafficReplay, out: &Output) -> Result<(), Failure> {
    let mut replay = replay.clone();
    replay.metadata.managed_fields = None;
    if out.is_json() {
        let value = serde_json::to_value(&replay);
        out.json(&value.map_err(|error| Failure::refused(error.to_string()))?);
        return Ok(());
    }
    let text = yaml::document(&replay).map_err(|error| Failure::refused(error.to_string()))?;
    out.text(text.trim_end());
    Ok(())
}

fn workload(text: &str) -> Result<WorkloadRef, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("deployment", text));
    let known = TargetKind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind));
    let kind = known.filter(|_| !name.is_empty() && !name.contains('/'));
    let kind = kind
        .ok_or("a workload looks like user, deployment/user, statefulset/user or daemonset/user")?;
    Ok(WorkloadRef {
        kind: Some(kind.name().to_owned()),
        name: name.to_owned(),
        ..WorkloadRef::default()
    })
}

/// A value by the name that it has in manifests.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = serde_json::Value::String(text.to_owned());
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<String, String> {
    let read = countersign_operator::duration::parse(text);
    read.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        args::{Cli, Command},
        command::replay::ReplayCommand,
    };

    fn parse(line: &str) -> Result<StartArgs, clap::Error> {
        let words = ["countersign", "replay", "start"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Replay(ReplayCommand::Start(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_fields() {
        let args = parse(
            "login --kubernetes --namespace shop --workload statefulset/user --secret jwt-demo --secret b \
             --transform jwt --generate-key ES256 --mode full-replay --cleanup none --timeout 30m",
        )
        .unwrap();
        let replay = resource(&args);
        assert_eq!(replay.metadata.namespace.as_deref(), Some("shop"));
        let spec = serde_json::to_value(&replay.spec).unwrap();
        assert_eq!(
            spec,
            serde_json::json!({
                "snapshotID": "login",
                "testConfigID": "standard",
                "transformID": "jwt",
                "cleanup": "none",
                "mode": "full-replay",
                "generateKey": "ES256",
                "secretRefs": [{ "name": "jwt-demo" }, { "name": "b" }],
                "timeout": "30m",
                "workloadRef": { "kind": "StatefulSet", "name": "user" },
            })
        );
    }

    #[test]
    fn what_means_nothing_here_is_refused() {
        for line in [
            "login --namespace shop",
            "login --kubernetes --serve in",
            "login --kubernetes --mode both",
            "login --kubernetes --timeout soon",
            "login --kubernetes --workload job/x",
            "login --kubernetes --dry-run --wait",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_snapshots_id_becomes_a_name_that_kubernetes_takes() {
        let replay = resource(&parse("--snapshot My_Login --kubernetes").unwrap());
        assert_eq!(replay.metadata.name.as_deref(), Some("my-login"));
        assert_eq!(replay.spec.snapshot_id, "My_Login");
    }
}
