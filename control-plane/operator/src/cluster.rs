//! The Kubernetes API, as far as replays need it: apply, delete, change workloads, look which secrets there are.
//!
//! Everything here may be done twice, and be broken off anywhere.

mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Secret, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use crate::{
    desired::{self, MANAGER, REPLAY},
    keys::{self, KeyError},
    plan::Plan,
    settings::Settings,
    status::{Generated, Pods},
};

/// Why the cluster is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API server does not do it.
    #[error("the API server could not {doing}")]
    Api {
        /// What.
        doing: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object of that name is somebody else's.
    #[error("there is a {kind} {name} that is not of this replay; rename one of them")]
    NotOurs {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A workload was changed by somebody else each time.
    #[error("{0} is being written by somebody else all the time")]
    Busy(String),
    /// What an object or an annotation holds makes no sense.
    #[error("{0} cannot be read")]
    Unreadable(String, #[source] serde_json::Error),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn failed(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> ClusterError {
    let doing = doing.into();
    move |source| ClusterError::Api { doing, source: Box::new(source) }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// A namespace, as an operator changes it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A namespace.
    #[must_use]
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies the responders and what belongs to them. Returns how the pods stand and the address of the Service.
    ///
    /// # Errors
    /// When the API server refuses, or a name is taken.
    pub async fn apply_responders(
        &self,
        plan: &Plan,
        settings: &Settings,
    ) -> Result<(Pods, Option<String>), ClusterError> {
        let service = self.apply(plan, desired::service(plan)).await?;
        self.apply(plan, desired::network_policy(plan, settings)).await?;
        self.apply(plan, desired::disruption_budget(plan)).await?;
        let deployment = self.apply(plan, desired::deployment(plan, settings)).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let address = address.filter(|ip| !ip.is_empty() && ip != "None");
        Ok((pods(&deployment), address))
    }

    /// Creates the job unless it is there, and tells how it stands.
    ///
    /// # Errors
    /// When the API server refuses, or the name is taken.
    pub async fn generate(
        &self,
        plan: &Plan,
        settings: &Settings,
        to: &str,
    ) -> Result<Generated, ClusterError> {
        let job = desired::job(plan, settings, to);
        let name = job.name_any();
        let found: Option<Job> =
            self.api().get_opt(&name).await.map_err(failed(format!("look for the job {name}")))?;
        match found {
            Some(job) if job.labels().get(REPLAY) == Some(&plan.object) => Ok(outcome(&job)),
            Some(_) => Err(ClusterError::NotOurs { kind: "Job".to_owned(), name }),
            None => {
                self.apply(plan, job).await?;
                Ok(Generated::Running)
            }
        }
    }

    async fn apply<K>(&self, plan: &Plan, object: K) -> Result<K, ClusterError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let (api, name, kind) = (self.api::<K>(), object.name_any(), K::kind(&()));
        let found = api.get_metadata_opt(&name).await;
        let found = found.map_err(failed(format!("look for the {kind} {name}")))?;
        if found.is_some_and(|found| found.labels().get(REPLAY) != Some(&plan.object)) {
            return Err(ClusterError::NotOurs { kind: kind.into_owned(), name });
        }
        let params = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.map_err(failed(format!("apply the {kind} {name}")))
    }

    /// Deletes the responders and what belongs to them. What is not there or is not ours is passed over.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_responders(&self, object: &str) -> Result<(), ClusterError> {
        self.delete::<Deployment>(object).await?;
        self.delete::<PodDisruptionBudget>(object).await?;
        self.delete::<NetworkPolicy>(object).await?;
        self.delete::<Service>(object).await
    }

    async fn delete<K>(&self, name: &str) -> Result<(), ClusterError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let (api, kind) = (self.api::<K>(), K::kind(&()));
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(failed(format!("look for the {kind} {name}")))?;
        if found.is_none_or(|found| found.labels().get(REPLAY).map(String::as_str) != Some(name)) {
            return Ok(());
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Err(error) if code(&error) != 404 => {
                Err(failed(format!("delete the {kind} {name}"))(error))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Deletes the jobs of a replay.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_jobs(&self, object: &str) -> Result<(), ClusterError> {
        let api = self.api::<Job>();
        let ours = ListParams::default().labels(&format!("{REPLAY}={object}"));
        let jobs = api.list_metadata(&ours).await.map_err(failed("list jobs"))?;
        for job in jobs {
            let deleted = api.delete(&job.name_any(), &DeleteParams::background()).await;
            if let Err(error) = deleted
                && code(&error) != 404
            {
                return Err(failed(format!("delete the job {}", job.name_any()))(error));
            }
        }
        Ok(())
    }

    /// Creates a key pair for each secret that the chains name and that is not there. Those that are there are not looked at.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn make_keys(&self, plan: &Plan) -> Result<Vec<String>, ClusterError> {
        let Some(algorithm) = plan.generate_key else { return Ok(Vec::new()) };
        let mut made = Vec::new();
        let wanted = plan.made.iter().filter_map(|secret| {
            Some((plan.secrets.get(secret)?, plan.keys.get(secret)?.as_slice()))
        });
        for (name, keys) in wanted {
            // A dry run first: making an RSA key takes a while, and mostly the secret is there.
            let probe = Secret { data: None, ..keys::secret(plan, name, &[], algorithm)? };
            let dry = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
            let doing = || failed(format!("create the secret {name}"));
            match self.api::<Secret>().create(&dry, &probe).await {
                Err(error) if code(&error) == 409 => continue,
                Err(error) => return Err(doing()(error)),
                Ok(_) => {}
            }
            let secret = keys::secret(plan, name, keys, algorithm)?;
            let params =
                PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            match self.api::<Secret>().create(&params, &secret).await {
                Ok(_) => made.push(name.clone()),
                Err(error) if code(&error) == 409 => {}
                Err(error) => return Err(doing()(error)),
            }
        }
        Ok(made)
    }

    /// Which secrets and keys are missing of those that the operator may look at. Values are read over, never kept.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn missing_secrets(
        &self,
        plan: &Plan,
        accessible: &BTreeSet<&str>,
    ) -> Result<Vec<String>, ClusterError> {
        let mut missing = Vec::new();
        for name in plan.secrets.values().filter(|name| accessible.contains(name.as_str())) {
            let path = format!("{}/{name}", Secret::url_path(&(), Some(&self.namespace)));
            let request = http::Request::get(path).body(Vec::new());
            let request = request.map_err(|error| {
                failed(format!("be asked for {name}"))(kube::Error::HttpError(error))
            })?;
            match self.client.request::<NamesOnly>(request).await {
                Err(error) if code(&error) == 404 => {
                    missing.push(format!("secret {name} is not there"));
                }
                Ok(secret) => {
                    let data = secret.data.unwrap_or_default();
                    for key in plan.keys.get(name).into_iter().flatten() {
                        if !data.contains_key(key) {
                            missing.push(format!("secret {name} has no key {key}"));
                        }
                    }
                }
                // It is listed, and the role does not have it: then responders tell.
                Err(error) if code(&error) == 403 => {
                    tracing::warn!(
                        secret = name,
                        "the role does not let the operator look at a secret of --secret-access"
                    );
                }
                Err(error) => return Err(failed(format!("look at the secret {name}"))(error)),
            }
        }
        Ok(missing)
    }
}

/// A secret without its values.
#[derive(Debug, Clone, Deserialize)]
struct NamesOnly {
    #[serde(default)]
    data: Option<BTreeMap<String, Ignored>>,
}

/// A value that nobody keeps.
#[derive(Debug, Clone)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

fn pods(deployment: &Deployment) -> Pods {
    let Some(status) = &deployment.status else { return Pods::default() };
    Pods {
        ready: status.ready_replicas.unwrap_or_default(),
        updated: status.updated_replicas.unwrap_or_default(),
        is_observed: status.observed_generation >= deployment.metadata.generation,
    }
}

fn outcome(job: &Job) -> Generated {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in conditions.filter(|condition| condition.status == "True") {
        match condition.type_.as_str() {
            "Complete" => return Generated::Succeeded,
            "Failed" => {
                let why = condition.message.clone().or_else(|| condition.reason.clone());
                let why = why.unwrap_or_else(|| "it failed".to_owned());
                return Generated::Failed(format!("the job {}: {why}", job.name_any()));
            }
            _ => {}
        }
    }
    Generated::Running
}

#[cfg(test)]
mod tests;
