//! One look at a replay: what it asks for, what the control plane knows, what the cluster has; then what is missing is made and the rest is told.
//!
//! Level-triggered: nothing is remembered between two looks but what the API server keeps.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
        finalizer::{self, Event as Finalizer},
    },
};
use serde_json::json;

use crate::{
    cluster::{Cluster, ClusterError},
    crd::{Cleanup, TrafficReplay, TrafficReplayStatus},
    desired::MANAGER,
    names,
    plan::Plan,
    plane::{Plane, PlaneError, Standing},
    settings::Settings,
    status::{self, Next, Route, Seen, Verdict},
    watches::Watches,
};

/// Keeps a replay until all is taken back.
pub const FINALIZER: &str = "countersign.dev/cleanup";
/// How soon it is looked at again while something is missing that nobody tells of.
const SOON: Duration = Duration::from_secs(5);
/// The longest pause after failures.
const LONGEST: Duration = Duration::from_secs(60);
/// So long a deletion waits for a control plane that is away.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a look needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The control plane.
    pub plane: Plane,
    /// How replays are made.
    pub settings: Settings,
    /// Tells users.
    pub recorder: Recorder,
    /// Hears of changes at the control plane.
    pub watches: Watches,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The control plane.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The resource itself.
    #[error("the API server could not {doing}")]
    Resource {
        /// What.
        doing: &'static str,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
}

fn failed(doing: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError {
    move |source| ReconcileError::Resource { doing, source: Box::new(source) }
}

/// A look that failed, and how many have in a row.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failed {
    text: String,
    failures: i64,
}

/// Looks at a replay.
///
/// # Errors
/// When it has to be tried again.
pub async fn reconcile(
    replay: Arc<TrafficReplay>,
    context: Arc<Context>,
) -> Result<Action, Failed> {
    let namespace = replay.namespace().unwrap_or_default();
    let api: Api<TrafficReplay> = Api::namespaced(context.client.clone(), &namespace);
    // What the watch has shown may be older than what was written last.
    let fresh = match api.get_opt(&replay.name_any()).await {
        Ok(Some(fresh)) => Arc::new(fresh),
        Ok(None) => {
            context.watches.forget(&namespace, &replay.name_any());
            return Ok(Action::await_change());
        }
        Err(error) => return Err(Failed { text: chain(&error), failures: 1 }),
    };
    let look = Look {
        context: &context,
        api: &api,
        cluster: Cluster::new(context.client.clone(), namespace),
    };
    let done = finalizer::finalizer(&api, FINALIZER, Arc::clone(&fresh), |event| async {
        match event {
            Finalizer::Apply(replay) => look.serve(&replay).await,
            Finalizer::Cleanup(replay) => look.clean_up(&replay).await,
        }
    });
    match done.await {
        Ok(action) => Ok(action),
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error)) => {
            Err(Failed { text: chain(&error), failures: 0 })
        }
        Err(error) => Err(look.tell_failure(&fresh, &error).await),
    }
}

/// When a failed look is repeated: later each time.
#[must_use]
pub fn again(failed: &Failed) -> Action {
    let times = u32::try_from(failed.failures.clamp(0, 6)).unwrap_or(6);
    Action::requeue(Duration::from_secs(1 << times).min(LONGEST))
}

/// A look at one replay.
struct Look<'a> {
    context: &'a Context,
    api: &'a Api<TrafficReplay>,
    cluster: Cluster,
}

impl Look<'_> {
    async fn serve(&self, replay: &TrafficReplay) -> Result<Action, ReconcileError> {
        let before = replay.status.clone().unwrap_or_default();
        let facts = match self.context.plane.facts(&replay.spec).await {
            Ok(facts) => facts,
            Err(error) => return self.refuse(replay, &before, error).await,
        };
        let plan = Plan::new(replay, &facts, &self.context.settings);
        if before.finished_time.is_some()
            && before.started_as.as_deref() == Some(plan.start.as_str())
        {
            self.take_back(&plan.object, plan.cleanup, replay, false).await?;
            return match status::is_kept(&plan, &before, Timestamp::now()) {
                true => Ok(self.later(&plan, &before)),
                false => self.delete(&plan).await,
            };
        }
        let standing = match plan.mode.responds() {
            false => None,
            true => match self.standing(&plan, &facts, &before).await {
                Ok(standing) => Some(standing),
                Err(error) => return self.refuse(replay, &before, error).await,
            },
        };
        let seen = self.act(&plan, standing, replay).await?;
        let now = Timestamp::now();
        let (mut after, next) = status::assess(&plan, &seen, &before, &self.context.settings, now);
        after.observed_generation = replay.metadata.generation.unwrap_or_default();
        let is_missing = !seen.missing.is_empty();
        self.tell(replay, &before, &after).await?;
        match next {
            Next::GoOn if is_missing => Ok(Action::requeue(SOON.min(self.context.settings.resync))),
            Next::GoOn => Ok(self.later(&plan, &after)),
            Next::Finish => {
                self.take_back(&plan.object, plan.cleanup, replay, false).await?;
                Ok(self.later(&plan, &after))
            }
            Next::Delete => self.delete(&plan).await,
        }
    }

    async fn delete(&self, plan: &Plan) -> Result<Action, ReconcileError> {
        tracing::info!(replay = plan.name, namespace = plan.namespace, "kept for long enough");
        let deleted = self.api.delete(&plan.name, &DeleteParams::default()).await;
        deleted.map_err(failed("delete the replay"))?;
        Ok(Action::await_change())
    }

    /// How the replay stands at the control plane, once it is started there as it should be.
    async fn standing(
        &self,
        plan: &Plan,
        facts: &crate::plane::Facts,
        before: &TrafficReplayStatus,
    ) -> Result<Standing, PlaneError> {
        let plane = &self.context.plane;
        let known = if before.started_as.as_deref() == Some(plan.start.as_str()) {
            plane.standing(&plan.replay_id).await?
        } else {
            None
        };
        let standing = match known {
            Some(standing) => standing,
            None => plane.start(&plan.replay_id, facts).await?,
        };
        self.context.watches.watch(plane, &plan.namespace, &plan.name, &plan.replay_id);
        Ok(standing)
    }

    /// Makes what is missing in the cluster.
    async fn act(
        &self,
        plan: &Plan,
        standing: Option<Standing>,
        replay: &TrafficReplay,
    ) -> Result<Seen, ReconcileError> {
        let mut seen = Seen { standing, ..Seen::default() };
        let mut is_reached = true;
        if plan.mode.responds() {
            for secret in self.cluster.make_keys(plan).await? {
                self.event(
                    replay,
                    EventType::Normal,
                    "KeyMade",
                    format!("made a key pair in the secret {secret}"),
                )
                .await;
            }
            if let Some(accessible) = self.context.settings.accessible() {
                seen.missing = self.cluster.missing_secrets(plan, &accessible).await?;
            }
            let (pods, address) =
                self.cluster.apply_responders(plan, &self.context.settings).await?;
            seen.pods = pods;
            let restored = self.cluster.restore(&plan.object, &plan.targets).await?;
            self.tell_restored(replay, &restored).await;
            is_reached = status::mocks_ready(plan, &seen).holds();
            let was_ready = replay.status.as_ref().is_some_and(|status| {
                status.initialized_time.is_some()
                    && status.started_as.as_deref() == Some(plan.start.as_str())
            });
            if let Some(ip) = address.filter(|_| is_reached || was_ready) {
                seen.routes = self.route(plan, &ip, &seen).await?;
            }
            if is_reached {
                self.end_predecessors(plan).await?;
            }
        }
        let routed = plan.misplaced.is_empty()
            && (!plan.mode.responds()
                || (seen.routes.len() == plan.targets.len()
                    && seen.routes.iter().all(|(_, route)| *route == Route::Done)));
        if let Some(to) =
            plan.destination.as_ref().filter(|_| plan.mode.generates() && is_reached && routed)
        {
            seen.generated = Some(self.cluster.generate(plan, &self.context.settings, to).await?);
        }
        Ok(seen)
    }

    async fn route(
        &self,
        plan: &Plan,
        ip: &str,
        seen: &Seen,
    ) -> Result<Vec<(String, Route)>, ReconcileError> {
        let recorded =
            seen.standing.as_ref().map(|standing| standing.hosts.clone()).unwrap_or_default();
        let mut routes = Vec::new();
        for target in &plan.targets {
            let route = self.cluster.route(plan, target, ip, &recorded).await?;
            routes.push((format!("{} {}", target.kind.name(), target.name), route));
        }
        Ok(routes)
    }

    /// Replays of the resource as it was before are ended once the newest one is served.
    async fn end_predecessors(&self, plan: &Plan) -> Result<(), ReconcileError> {
        let prefix = names::replay_prefix(&plan.namespace, &plan.name);
        for id in self.context.plane.replays_of(&prefix).await? {
            if id != plan.replay_id {
                self.context.plane.end(&id, plan.cleanup == Cleanup::All).await?;
            }
        }
        Ok(())
    }

    /// What a control plane that lacks something or refuses means: nothing is changed, and it is told.
    async fn refuse(
        &self,
        replay: &TrafficReplay,
        before: &TrafficReplayStatus,
        error: PlaneError,
    ) -> Result<Action, ReconcileError> {
        let accepted = match &error {
            PlaneError::Missing { .. } => Verdict::no("PartMissing", error.to_string()),
            PlaneError::Refused { .. } => Verdict::no("Refused", error.to_string()),
            PlaneError::Unavailable { .. } => {
                let away = Verdict::unknown("ControlPlaneUnavailable", error.to_string());
                let mut after = status::refused(before, &away, Timestamp::now());
                after.reconcile_failures = before.reconcile_failures;
                self.tell(replay, before, &after).await?;
                return Err(error.into());
            }
        };
        let mut after = status::refused(before, &accepted, Timestamp::now());
        after.observed_generation = replay.metadata.generation.unwrap_or_default();
        after.reconcile_failures = 0;
        self.tell(replay, before, &after).await?;
        Ok(Action::requeue(self.context.settings.resync))
    }

    async fn clean_up(&self, replay: &TrafficReplay) -> Result<Action, ReconcileError> {
        let told = replay.status.as_ref().and_then(|status| status.cleanup);
        let cleanup = replay.spec.cleanup.or(told).unwrap_or(Cleanup::Inventory);
        self.take_back(&names::responder(&replay.name_any()), cleanup, replay, true).await?;
        self.context.watches.forget(&replay.namespace().unwrap_or_default(), &replay.name_any());
        Ok(Action::await_change())
    }

    /// Takes back what was done: workloads first, so that none is left with names that lead nowhere.
    async fn take_back(
        &self,
        object: &str,
        cleanup: Cleanup,
        replay: &TrafficReplay,
        is_deleted: bool,
    ) -> Result<(), ReconcileError> {
        if cleanup == Cleanup::None {
            return Ok(());
        }
        let restored = self.cluster.restore(object, &[]).await?;
        self.tell_restored(replay, &restored).await;
        self.cluster.delete_responders(object).await?;
        if is_deleted {
            self.cluster.delete_jobs(object).await?;
        }
        let namespace = replay.namespace().unwrap_or_default();
        let ended = self.end_all(&namespace, &replay.name_any(), cleanup).await;
        match ended {
            Err(error) if is_deleted && waited(replay) >= PATIENCE => {
                let why = format!(
                    "the replay goes on at the control plane, which was away too long: {error}"
                );
                self.event(replay, EventType::Warning, "NotEnded", why).await;
                Ok(())
            }
            ended => Ok(ended?),
        }
    }

    async fn end_all(
        &self,
        namespace: &str,
        name: &str,
        cleanup: Cleanup,
    ) -> Result<(), PlaneError> {
        self.context.watches.forget(namespace, name);
        for id in self.context.plane.replays_of(&names::replay_prefix(namespace, name)).await? {
            self.context.plane.end(&id, cleanup == Cleanup::All).await?;
        }
        Ok(())
    }

    /// Looks again when a time is over, or when nothing was heard for long.
    fn later(&self, plan: &Plan, status: &TrafficReplayStatus) -> Action {
        let now = Timestamp::now();
        let mut pause = self.context.settings.resync;
        let since =
            [(&status.started_time, plan.timeout), (status::kept_since(plan, status), plan.ttl)];
        for (since, time) in since.into_iter().filter_map(|(since, time)| since.as_ref().zip(time))
        {
            let left = status::left(since, time, now);
            if !left.is_zero() {
                pause = pause.min(left.saturating_add(Duration::from_millis(50)));
            }
        }
        Action::requeue(pause)
    }

    /// Writes the status if it differs, and tells of what has changed.
    async fn tell(
        &self,
        replay: &TrafficReplay,
        before: &TrafficReplayStatus,
        after: &TrafficReplayStatus,
    ) -> Result<(), ReconcileError> {
        if replay.status.as_ref() == Some(after) {
            return Ok(());
        }
        let change = json!({
            "apiVersion": TrafficReplay::api_version(&()),
            "kind": TrafficReplay::kind(&()),
            "metadata": { "name": replay.name_any() },
            "status": after,
        });
        let params = PatchParams::apply(MANAGER).force();
        let written =
            self.api.patch_status(&replay.name_any(), &params, &Patch::Apply(&change)).await;
        written.map_err(failed("write the status"))?;
        for condition in after.conditions.iter().filter(|condition| is_news(condition, before)) {
            let kind =
                if condition.status == "False" { EventType::Warning } else { EventType::Normal };
            self.event(replay, kind, &condition.reason, condition.message.clone()).await;
        }
        Ok(())
    }

    async fn tell_restored(&self, replay: &TrafficReplay, restored: &[String]) {
        for workload in restored {
            let what = format!("{workload} has the host aliases again that it had");
            self.event(replay, EventType::Normal, "WorkloadRestored", what).await;
        }
    }

    async fn tell_failure(
        &self,
        replay: &TrafficReplay,
        error: &finalizer::Error<ReconcileError>,
    ) -> Failed {
        let before = replay.status.clone().unwrap_or_default();
        let failures = before.reconcile_failures.saturating_add(1);
        let cause: &dyn std::error::Error = match error {
            finalizer::Error::ApplyFailed(cause) | finalizer::Error::CleanupFailed(cause) => cause,
            other => other,
        };
        let text = chain(cause);
        // The status may have been written in between.
        let change = json!({ "status": { "reconcileFailures": failures } });
        let written = self
            .api
            .patch_status(&replay.name_any(), &PatchParams::default(), &Patch::Merge(&change))
            .await;
        if let Err(error) = written {
            tracing::debug!(%error, "the failure was not noted");
        }
        if failures == 1 {
            self.event(replay, EventType::Warning, "ReconcileFailed", text.clone()).await;
        }
        Failed { text, failures }
    }

    async fn event(&self, replay: &TrafficReplay, type_: EventType, reason: &str, note: String) {
        // The API server takes notes of up to 1 KiB.
        let note = Some(note.chars().take(250).collect());
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note,
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.context.recorder.publish(&event, &replay.object_ref(&())).await {
            tracing::debug!(%error, reason, "an event was not told");
        }
    }
}

/// Whether a condition says something else than before.
fn is_news(condition: &Condition, before: &TrafficReplayStatus) -> bool {
    let known = before.conditions.iter().find(|known| known.type_ == condition.type_);
    known.is_none_or(|known| {
        (&known.status, &known.reason) != (&condition.status, &condition.reason)
    })
}

/// How long ago the resource was deleted.
fn waited(replay: &TrafficReplay) -> Duration {
    let deleted = replay.metadata.deletion_timestamp.as_ref();
    deleted.map_or(Duration::ZERO, |deleted| {
        Duration::try_from(Timestamp::now().duration_since(deleted.0)).unwrap_or_default()
    })
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
