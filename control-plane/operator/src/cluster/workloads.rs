//! Workloads that are tested, of whatever kind: their host aliases are changed and put back by patches of what was seen.

use k8s_openapi::api::core::v1::HostAlias;
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{Cluster, ClusterError, code, failed};
use crate::{
    plan::{Plan, Target, TargetKind},
    routing::{self, BEFORE, Before, ROUTED},
    status::Route,
};

/// How often a workload that somebody else writes at the same time is tried.
pub(super) const ATTEMPTS: usize = 5;

impl Cluster {
    fn workloads(&self, kind: TargetKind) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind.name()));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Leads a workload's recorded hosts to an address, unless another replay has it.
    ///
    /// # Errors
    /// When the API server refuses, or somebody else writes it all the time.
    pub async fn route(
        &self,
        plan: &Plan,
        target: &Target,
        ip: &str,
        recorded: &[String],
    ) -> Result<Route, ClusterError> {
        let api = self.workloads(target.kind);
        let shown = format!("{} {}", target.kind.name(), target.name);
        for _ in 0..ATTEMPTS {
            let found =
                api.get_opt(&target.name).await.map_err(failed(format!("look for {shown}")))?;
            let Some(workload) = found else { return Ok(Route::Missing) };
            let known = before(&workload, &shown)?;
            if let Some(other) = known.as_ref().filter(|known| known.replay != plan.name) {
                return Ok(Route::Taken(other.replay.clone()));
            }
            let now = aliases(&workload, &shown)?;
            let hosts = routing::hosts(target, recorded);
            let had = match &known {
                Some(known) => routing::restored(now.as_deref(), known),
                None => now.clone(),
            };
            let wanted = routing::routed(had.as_deref(), ip, &hosts);
            // An empty list is none to the API server.
            if known.is_some() && now.as_deref().unwrap_or_default() == wanted.as_slice() {
                let rolled = is_rolled_out(target.kind, &workload);
                return Ok(if rolled { Route::Done } else { Route::RollingOut });
            }
            let before =
                Before { replay: plan.name.clone(), aliases: had, ip: ip.to_owned(), hosts };
            let text = serde_json::to_string(&before)
                .map_err(|error| ClusterError::Unreadable(shown.clone(), error))?;
            let change = change(&workload, Some((text, plan.object.as_str())), Some(&wanted));
            match api.patch(&target.name, &PatchParams::default(), &Patch::Merge(&change)).await {
                Ok(_) => return Ok(Route::RollingOut),
                Err(error) if code(&error) == 409 => {}
                Err(error) => return Err(failed(format!("change {shown}"))(error)),
            }
        }
        Err(ClusterError::Busy(shown))
    }

    /// Gives the workloads that were led to these responders what they had, but for those that still are to be.
    ///
    /// # Errors
    /// When the API server refuses, or somebody else writes one all the time.
    pub async fn restore(&self, object: &str, but: &[Target]) -> Result<Vec<String>, ClusterError> {
        let mut restored = Vec::new();
        let ours = ListParams::default().labels(&format!("{ROUTED}={object}"));
        for kind in TargetKind::ALL {
            let api = self.workloads(kind);
            let doing = || format!("list workloads of kind {}", kind.name());
            let workloads = api.list_metadata(&ours).await.map_err(failed(doing()))?;
            for workload in workloads {
                let name = workload.name_any();
                if but.iter().any(|target| target.kind == kind && target.name == name) {
                    continue;
                }
                self.restore_one(&api, kind, &name).await?;
                restored.push(format!("{} {name}", kind.name()));
            }
        }
        Ok(restored)
    }

    async fn restore_one(
        &self,
        api: &Api<DynamicObject>,
        kind: TargetKind,
        name: &str,
    ) -> Result<(), ClusterError> {
        let shown = format!("{} {name}", kind.name());
        for _ in 0..ATTEMPTS {
            let found = api.get_opt(name).await.map_err(failed(format!("look for {shown}")))?;
            let Some(workload) = found else { return Ok(()) };
            let now = aliases(&workload, &shown)?;
            let wanted = match before(&workload, &shown)? {
                Some(known) => routing::restored(now.as_deref(), &known),
                None => now,
            };
            let change = change(&workload, None, wanted.as_deref());
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await {
                Ok(_) => return Ok(()),
                Err(error) if code(&error) == 404 => return Ok(()),
                Err(error) if code(&error) == 409 => {}
                Err(error) => return Err(failed(format!("change {shown}"))(error)),
            }
        }
        Err(ClusterError::Busy(shown))
    }
}

/// What a workload had before it was changed.
fn before(workload: &DynamicObject, shown: &str) -> Result<Option<Before>, ClusterError> {
    let Some(text) = workload.annotations().get(BEFORE) else { return Ok(None) };
    let read = serde_json::from_str(text);
    read.map(Some).map_err(|error| {
        ClusterError::Unreadable(format!("the annotation {BEFORE} of {shown}"), error)
    })
}

/// The host aliases of a workload's pods.
fn aliases(workload: &DynamicObject, shown: &str) -> Result<Option<Vec<HostAlias>>, ClusterError> {
    let Some(found) = workload.data.pointer("/spec/template/spec/hostAliases") else {
        return Ok(None);
    };
    let read = serde_json::from_value(found.clone());
    read.map_err(|error| ClusterError::Unreadable(format!("hostAliases of {shown}"), error))
}

/// A merge patch of a workload that is as it was seen: what is noted on it, or `None` to remove that, and its host aliases.
fn change(
    workload: &DynamicObject,
    note: Option<(String, &str)>,
    aliases: Option<&[HostAlias]>,
) -> Value {
    let (note, label) = match note {
        Some((note, label)) => (Some(note), Some(label)),
        None => (None, None),
    };
    json!({
        "metadata": {
            // Refused with 409 when somebody else was faster.
            "resourceVersion": workload.metadata.resource_version,
            "annotations": { BEFORE: note },
            "labels": { ROUTED: label },
        },
        "spec": { "template": { "spec": { "hostAliases": aliases } } },
    })
}

/// Whether all pods of a workload are as it says.
fn is_rolled_out(kind: TargetKind, workload: &DynamicObject) -> bool {
    let number = |path: &str| workload.data.pointer(path).and_then(Value::as_i64);
    let (wanted, updated, available) = match kind {
        TargetKind::DaemonSet => (
            number("/status/desiredNumberScheduled").unwrap_or(i64::MAX),
            number("/status/updatedNumberScheduled"),
            number("/status/numberAvailable"),
        ),
        TargetKind::Deployment | TargetKind::StatefulSet => (
            number("/spec/replicas").unwrap_or(1),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
        ),
    };
    let observed = number("/status/observedGeneration").unwrap_or_default();
    observed >= workload.metadata.generation.unwrap_or_default()
        && updated.unwrap_or_default() >= wanted
        && available.unwrap_or_default() >= wanted
}
