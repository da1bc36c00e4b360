//! What the command line does: apply a replay, and wait for it.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{Patch, PatchParams},
    config::KubeConfigOptions,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::timeout;

use crate::{crd::TrafficReplay, status::READY};

/// Who manages the fields that the command line applies.
const MANAGER: &str = "countersign";

/// Why a replay was not applied, or is not ready.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No cluster is known.
    #[error(
        "no Kubernetes cluster is configured; set KUBECONFIG, or try `kubectl config current-context`"
    )]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The API server refused it, or is not there.
    #[error("the API server did not take the replay")]
    Api(#[source] Box<kube::Error>),
    /// The resource is not known there.
    #[error(
        "this cluster knows no TrafficReplay: install the definition, deploy/crd/trafficreplays.yaml"
    )]
    Unknown,
    /// It has ended otherwise.
    #[error("the replay has ended: {0}")]
    Ended(String),
    /// It was not ready in time.
    #[error("the replay is not ready yet: {0}")]
    Late(String),
    /// It was deleted meanwhile.
    #[error("the replay is gone")]
    Gone,
}

/// A cluster, and the namespace that is meant.
#[derive(Debug)]
pub struct Target {
    replays: Api<TrafficReplay>,
}

impl Target {
    /// The cluster of the current kubeconfig, or of this context of it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn new(
        context: Option<String>,
        namespace: Option<&str>,
    ) -> Result<Self, SubmitError> {
        crate::install_cryptography();
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let config = match options.context {
            Some(_) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| SubmitError::Config(error.into()))?,
            None => Config::infer().await.map_err(|error| SubmitError::Config(error.into()))?,
        };
        let client = Client::try_from(config).map_err(|error| SubmitError::Config(error.into()))?;
        let replays = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Ok(Self { replays })
    }

    /// Applies a replay.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn apply(&self, replay: &TrafficReplay) -> Result<TrafficReplay, SubmitError> {
        let params = PatchParams::apply(MANAGER).force();
        let applied = self.replays.patch(&replay.name_any(), &params, &Patch::Apply(replay)).await;
        applied.map_err(|error| match error {
            // A namespace that is not there is named; a resource that is not known is not.
            kube::Error::Api(status)
                if status.code == 404 && !status.message.contains("namespaces") =>
            {
                SubmitError::Unknown
            }
            error => SubmitError::Api(Box::new(error)),
        })
    }

    /// Waits until a replay is ready as it was applied. `progress` hears what it waits for.
    ///
    /// # Errors
    /// When it ends otherwise, or takes longer.
    pub async fn wait(
        &self,
        applied: &TrafficReplay,
        within: Duration,
        mut progress: impl FnMut(&str),
    ) -> Result<TrafficReplay, SubmitError> {
        let name = applied.name_any();
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let changes = watcher(self.replays.clone(), only).default_backoff().applied_objects();
        let mut changes = std::pin::pin!(changes);
        let mut last = "no operator has seen it".to_owned();
        let waited = timeout(within, async {
            while let Some(replay) = changes.try_next().await.map_err(|_| SubmitError::Gone)? {
                match judge(&replay, applied.metadata.generation) {
                    Judged::Ready => return Ok(replay),
                    Judged::Ended(why) => return Err(SubmitError::Ended(why)),
                    Judged::Waits(why) => {
                        progress(&why);
                        last = why;
                    }
                }
            }
            Err(SubmitError::Gone)
        });
        match waited.await {
            Ok(done) => done,
            Err(_) => Err(SubmitError::Late(last)),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Judged {
    Ready,
    Ended(String),
    Waits(String),
}

fn judge(replay: &TrafficReplay, generation: Option<i64>) -> Judged {
    let status = replay.status.clone().unwrap_or_default();
    let observed = status.observed_generation;
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
    let Some(ready) = ready.filter(|_| observed >= generation.unwrap_or_default()) else {
        return Judged::Waits("no operator has seen it".to_owned());
    };
    if ready.status == "True" {
        return Judged::Ready;
    }
    let why = format!("{}: {}", ready.reason, ready.message);
    if status.finished_time.is_some() { Judged::Ended(why) } else { Judged::Waits(why) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::{crd::TrafficReplayStatus, plan::tests::replay};

    #[test]
    fn a_status_of_before_says_nothing() {
        let mut asked = replay(&serde_json::json!({}));
        assert!(matches!(judge(&asked, Some(2)), Judged::Waits(_)));
        let ready = |status: &str| Condition {
            type_: READY.into(),
            status: status.into(),
            reason: "Why".into(),
            message: "it is so".into(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        let mut status = TrafficReplayStatus {
            observed_generation: 1,
            conditions: vec![ready("True")],
            ..TrafficReplayStatus::default()
        };
        asked.status = Some(status.clone());
        assert!(matches!(judge(&asked, Some(2)), Judged::Waits(_)));
        assert_eq!(judge(&asked, Some(1)), Judged::Ready);
        status.conditions = vec![ready("False")];
        asked.status = Some(status.clone());
        assert_eq!(judge(&asked, Some(1)), Judged::Waits("Why: it is so".into()));
        status.finished_time = Some(Time(Timestamp::UNIX_EPOCH));
        asked.status = Some(status);
        assert_eq!(judge(&asked, Some(1)), Judged::Ended("Why: it is so".into()));
    }
}
