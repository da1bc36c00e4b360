//! How a replay stands, as its status tells: conditions from what was seen, and what follows from them.
//!
//! Pure: what was seen comes in with the time, a status goes out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    crd::{Mode, TrafficReplayStatus},
    plan::Plan,
    plane::Standing,
    settings::Settings,
};

/// The replay can be made of what it names.
pub const ACCEPTED: &str = "Accepted";
/// The secrets and keys that it needs are there.
pub const SECRETS_MOUNTED: &str = "SecretsMounted";
/// The workloads reach the responders.
pub const WORKLOADS_ROUTED: &str = "WorkloadsRouted";
/// The responders serve.
pub const MOCKS_READY: &str = "MocksReady";
/// All of it; for a replay that generates requests, how that went.
pub const READY: &str = "Ready";

/// Whether something holds, why in a word and why in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "True", reason: reason.to_owned(), message: message.into() }
    }

    /// It does not.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "False", reason: reason.to_owned(), message: message.into() }
    }

    /// Nobody knows.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason: reason.to_owned(), message: message.into() }
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.status == "True"
    }
}

/// How the pods of the responders stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pods {
    /// So many are ready.
    pub ready: i32,
    /// So many are as they should be now.
    pub updated: i32,
    /// Whether the cluster has seen what they should be.
    pub is_observed: bool,
}

/// How a workload that is tested stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Its pods have the names.
    Done,
    /// Its pods are exchanged for such that have the names.
    RollingOut,
    /// It is not there.
    Missing,
    /// Another replay has it.
    Taken(String),
}

/// How the generator stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generated {
    /// It is not there yet, or at work.
    Running,
    /// All requests were sent, and answered as they should be.
    Succeeded,
    /// They were not.
    Failed(String),
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How the fleet serves it; absent when nothing is to be served.
    pub standing: Option<Standing>,
    /// The pods.
    pub pods: Pods,
    /// The secrets and keys that the operator looked for in vain, as sentences.
    pub missing: Vec<String>,
    /// The workloads, by what they are called.
    pub routes: Vec<(String, Route)>,
    /// The generator.
    pub generated: Option<Generated>,
}

/// Whether the responders serve: the pods are ready, and the control plane says that all of them serve the version that is meant.
#[must_use]
pub fn mocks_ready(plan: &Plan, seen: &Seen) -> Verdict {
    let Some(standing) = &seen.standing else {
        return Verdict::no("NotStarted", "the control plane does not serve it yet");
    };
    let wanted = plan.replicas;
    let Pods { ready, updated, is_observed } = seen.pods;
    if !is_observed || ready < wanted || updated < wanted {
        let message =
            format!("{} of {wanted} responders are ready", ready.min(updated).min(wanted));
        return Verdict::no("PodsNotReady", message);
    }
    if !standing.ready {
        return Verdict::no(&word(&standing.reason, "NotServed"), standing.message.clone());
    }
    let serving = i32::try_from(standing.serving).unwrap_or(i32::MAX);
    if serving < wanted {
        return Verdict::no("NotServed", format!("{serving} of {wanted} responders serve it"));
    }
    Verdict::yes("Served", format!("{} is served; responders: {serving}", plan.snapshot))
}

/// Whether the keys that tokens are signed with are there. What the operator may look at counts first, then what responders say.
fn secrets_mounted(plan: &Plan, seen: &Seen) -> Verdict {
    if let Some((name, why)) = plan.refused.first_key_value() {
        return Verdict::no("SecretNotAllowed", format!("secret {name}: {why}"));
    }
    if !seen.missing.is_empty() {
        return Verdict::no("SecretMissing", seen.missing.join("; "));
    }
    let standing = seen.standing.clone().unwrap_or_default();
    if !standing.unresolved.is_empty() {
        let told = standing.unresolved.iter().map(|(key, why)| {
            let (secret, key) = key.split_once('/').unwrap_or((key, ""));
            format!("secret {secret}, key {key}: {why}")
        });
        return Verdict::no("SecretUnresolved", told.collect::<Vec<_>>().join("; "));
    }
    let unheard: Vec<String> =
        plan.key_names().filter(|key| !standing.resolved.contains(key)).collect();
    if unheard.is_empty() {
        let message = if plan.keys.is_empty() {
            "no chain names a secret"
        } else {
            "responders have all keys"
        };
        return Verdict::yes("Resolved", message);
    }
    Verdict::unknown("NotReported", format!("no responder has told of {} yet", unheard.join(", ")))
}

fn routed(plan: &Plan, seen: &Seen, mocks: &Verdict) -> Verdict {
    if let Some(misplaced) = plan.misplaced.first() {
        let why = "a replay has workloads of its own namespace only, of the kinds Deployment, StatefulSet and DaemonSet";
        return Verdict::no("WorkloadNotAllowed", format!("{misplaced}: {why}"));
    }
    for (workload, route) in &seen.routes {
        match route {
            Route::Missing => {
                return Verdict::no("WorkloadMissing", format!("{workload} is not there"));
            }
            Route::Taken(by) => {
                return Verdict::no(
                    "WorkloadTaken",
                    format!("{workload} belongs to the replay {by}"),
                );
            }
            Route::RollingOut => {
                return Verdict::no(
                    "RollingOut",
                    format!("pods of {workload} are being exchanged"),
                );
            }
            Route::Done => {}
        }
    }
    if plan.targets.len() > seen.routes.len() {
        return Verdict::no(
            "MocksNotReady",
            format!("workloads are led to the responders once they serve: {}", mocks.message),
        );
    }
    let hosts = seen.standing.as_ref().map_or(0, |standing| standing.hosts.len());
    Verdict::yes(
        "Routed",
        format!(
            "recorded hosts lead to the responders; workloads: {}, hosts: {hosts}",
            plan.targets.len()
        ),
    )
}

/// What is to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    GoOn,
    /// It has ended: all is taken back.
    Finish,
    /// It has been kept for long enough: the resource is deleted.
    Delete,
}

/// Judges what was seen.
#[must_use]
pub fn assess(
    plan: &Plan,
    seen: &Seen,
    before: &TrafficReplayStatus,
    settings: &Settings,
    now: Timestamp,
) -> (TrafficReplayStatus, Next) {
    let mut status = begun(plan, before, settings, now);
    let mut verdicts = vec![(ACCEPTED, accepted(plan))];
    let secrets = secrets_mounted(plan, seen);
    let mocks = mocks_ready(plan, seen);
    let mut blocking = Vec::new();
    if plan.mode.responds() {
        verdicts.push((SECRETS_MOUNTED, secrets.clone()));
        blocking.extend([mocks.clone()]);
        if secrets.status == "False" {
            blocking.push(secrets);
        }
        if mocks.holds() {
            status.initialized_time.get_or_insert(Time(now));
        }
    }
    if plan.mode.responds() && !(plan.targets.is_empty() && plan.misplaced.is_empty()) {
        let routes = routed(plan, seen, &mocks);
        verdicts.push((WORKLOADS_ROUTED, routes.clone()));
        blocking.push(routes);
    }
    if plan.mode.responds() {
        verdicts.push((MOCKS_READY, mocks));
    }
    let blocked = blocking.into_iter().find(|verdict| !verdict.holds());
    let (ready, next) = conclude(plan, seen, blocked, &status, now);
    verdicts.push((READY, ready));
    if next == Next::Finish {
        status.finished_time.get_or_insert(Time(now));
        status.active = false;
    }
    status.conditions = conditions(verdicts, before, now);
    let is_kept = next == Next::Finish || is_kept(plan, &status, now);
    (status, if is_kept { next } else { Next::Delete })
}

/// Whether it is not time yet to delete the resource.
#[must_use]
pub fn is_kept(plan: &Plan, status: &TrafficReplayStatus, now: Timestamp) -> bool {
    let since = kept_since(plan, status).as_ref();
    !plan.ttl.zip(since).is_some_and(|(ttl, since)| is_over(since, ttl, now))
}

/// Since when a replay is ready: since its mocks were first, or, where requests are generated, since it ended.
#[must_use]
pub fn kept_since<'a>(plan: &Plan, status: &'a TrafficReplayStatus) -> &'a Option<Time> {
    if plan.mode.generates() { &status.finished_time } else { &status.initialized_time }
}

/// The status of a replay that goes on, before it is judged.
fn begun(
    plan: &Plan,
    before: &TrafficReplayStatus,
    settings: &Settings,
    now: Timestamp,
) -> TrafficReplayStatus {
    let mut status = before.clone();
    if status.started_as.as_deref() != Some(plan.start.as_str()) || status.started_time.is_none() {
        status.started_time = Some(Time(now));
        status.initialized_time = None;
        status.finished_time = None;
    }
    status.started_as = Some(plan.start.clone());
    status.active = status.finished_time.is_none();
    status.reconcile_failures = 0;
    status.cleanup = Some(plan.cleanup);
    status.report_id = plan.mode.responds().then(|| plan.replay_id.clone());
    status.report_url = settings
        .report_url
        .as_ref()
        .filter(|_| plan.mode.responds())
        .map(|url| url.replace("{id}", &plan.replay_id));
    status
}

fn accepted(plan: &Plan) -> Verdict {
    if plan.notes.is_empty() {
        return Verdict::yes("Accepted", "all that it names is there");
    }
    Verdict::yes("AcceptedInPart", plan.notes.join("; "))
}

/// Whether it is ready, and what follows.
fn conclude(
    plan: &Plan,
    seen: &Seen,
    blocked: Option<Verdict>,
    status: &TrafficReplayStatus,
    now: Timestamp,
) -> (Verdict, Next) {
    match &seen.generated {
        Some(Generated::Succeeded) => {
            return (Verdict::yes("TestSucceeded", "all requests were generated"), Next::Finish);
        }
        Some(Generated::Failed(why)) => {
            return (Verdict::no("TestFailed", why.clone()), Next::Finish);
        }
        Some(Generated::Running) | None => {}
    }
    let has_time_left = !plan.timeout.is_some_and(|timeout| {
        status.started_time.as_ref().is_some_and(|started| is_over(started, timeout, now))
    });
    let waits = plan.mode.generates() || status.initialized_time.is_none();
    if !has_time_left && waits {
        let why = blocked.map_or_else(
            || "requests were still being generated".to_owned(),
            |verdict| verdict.message,
        );
        return (Verdict::no("TimedOut", format!("the timeout is over: {why}")), Next::Finish);
    }
    match blocked {
        Some(Verdict { reason, message, .. }) => (Verdict::no(&reason, message), Next::GoOn),
        None if plan.mode.generates() && plan.destination.is_none() => {
            let why =
                "nobody is named that requests could be sent to: set customURL, or name a workload";
            (Verdict::no("NoDestination", why), Next::GoOn)
        }
        None if plan.mode.generates() => {
            let to = plan.destination.as_deref().unwrap_or_default();
            (Verdict::no("Generating", format!("requests are being sent to {to}")), Next::GoOn)
        }
        None => {
            let message = match plan.mode {
                Mode::ResponderOnly | Mode::FullReplay => format!("{} is served", plan.snapshot),
                Mode::GeneratorOnly => "there is nothing to do".to_owned(),
            };
            (Verdict::yes("MocksReady", message), Next::GoOn)
        }
    }
}

/// The status of a replay that cannot be made now. What goes on, goes on.
#[must_use]
pub fn refused(
    before: &TrafficReplayStatus,
    accepted: &Verdict,
    now: Timestamp,
) -> TrafficReplayStatus {
    let mut status = before.clone();
    let is_serving = before.active && before.started_as.is_some();
    let mut verdicts = vec![(ACCEPTED, accepted.clone())];
    if !is_serving {
        verdicts.push((READY, Verdict::no(&accepted.reason, accepted.message.clone())));
    }
    let mut updated = conditions(verdicts, before, now);
    if is_serving {
        updated.extend(before.conditions.iter().filter(|known| known.type_ != ACCEPTED).cloned());
    }
    status.conditions = updated;
    status
}

/// Conditions in this order. One that says the same keeps its time.
fn conditions(
    verdicts: Vec<(&'static str, Verdict)>,
    before: &TrafficReplayStatus,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |(kind, verdict): (&'static str, Verdict)| {
        let known = before.conditions.iter().find(|known| known.type_ == kind);
        let since = known
            .filter(|known| known.status == verdict.status)
            .map(|known| known.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason,
            message: shortened(&verdict.message),
            last_transition_time: since.unwrap_or(Time(now)),
            observed_generation: None,
        }
    };
    verdicts.into_iter().map(condition).collect()
}

/// The API server takes messages of up to 32 KiB; nobody reads so much.
fn shortened(message: &str) -> String {
    const MOST: usize = 1000;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST).chain("…".chars()).collect()
}

/// A reason as conditions have it.
fn word(reason: &str, default: &str) -> String {
    let is_word = reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_word { reason.to_owned() } else { default.to_owned() }
}

/// Whether so much time has gone by.
fn is_over(since: &Time, time: Duration, now: Timestamp) -> bool {
    left(since, time, now).is_zero()
}

/// How much of it is left.
#[must_use]
pub fn left(since: &Time, time: Duration, now: Timestamp) -> Duration {
    let gone = now.duration_since(since.0);
    time.saturating_sub(Duration::try_from(gone).unwrap_or_default())
}

#[cfg(test)]
mod tests;
