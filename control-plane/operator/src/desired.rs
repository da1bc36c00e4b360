//! The objects of a replay, as they are applied: from a [`Plan`] and the settings, and from nothing else.

mod generator;
mod guard;
mod pod;
mod responder;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub use self::{
    generator::{job, load_args},
    guard::{disruption_budget, network_policy},
    pod::SECRET_ROOT,
    responder::{ADMIN_PORT, DATA_PORT, PEER_PORT, deployment, service},
};
use crate::plan::Plan;

/// Who manages the fields that are applied.
pub const MANAGER: &str = "countersign-operator";
/// The label of everything that belongs to a replay; its value is the name of the responders.
pub const REPLAY: &str = "countersign.dev/replay";
const APP: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// What is said of each object.
fn metadata(plan: &Plan, name: &str, app: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(plan.namespace.clone()),
        labels: Some(labels(plan, app)),
        owner_references: plan.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels(plan: &Plan, app: &str) -> BTreeMap<String, String> {
    let mut labels = selected(plan, app);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "countersign".to_owned());
    labels.insert(REPLAY.to_owned(), plan.object.clone());
    labels
}

/// What pods are found by.
fn selected(plan: &Plan, app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(APP.to_owned(), app.to_owned()), (INSTANCE.to_owned(), plan.object.clone())])
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

#[cfg(test)]
mod tests;
