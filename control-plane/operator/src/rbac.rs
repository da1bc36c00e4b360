//! What an operator may do, and no more: the rules that its role is made of, in one place for the chart and for `deploy/crd/operator-role.yaml`.
//!
//! It reads no secret. `create` on secrets is for keys that a replay asks for; `get` is granted for single names by who wants missing keys told.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The rules for the namespaces that replays are in.
#[must_use]
pub fn rules() -> Vec<PolicyRule> {
    vec![
        rule("countersign.dev", &["trafficreplays"], &["get", "list", "watch", "patch", "delete"]),
        rule("countersign.dev", &["trafficreplays/status"], &["patch"]),
        // Owner references that block a deletion need it.
        rule("countersign.dev", &["trafficreplays/finalizers"], &["update"]),
        // Responders; and workloads, whose host aliases are changed.
        rule("apps", &["deployments"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("apps", &["statefulsets", "daemonsets"], &["get", "list", "patch"]),
        rule("", &["services"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("policy", &["poddisruptionbudgets"], &["get", "create", "patch", "delete"]),
        rule("networking.k8s.io", &["networkpolicies"], &["get", "create", "patch", "delete"]),
        rule("batch", &["jobs"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("", &["secrets"], &["create"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// The rules for the namespace of the lease.
#[must_use]
pub fn lease_rules() -> Vec<PolicyRule> {
    vec![rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])]
}

/// The rule that lets the operator tell which keys of these secrets are missing.
#[must_use]
pub fn secret_rule(names: &[&str]) -> PolicyRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    PolicyRule { resource_names: Some(names), ..rule("", &["secrets"], &["get"]) }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// A role with all rules, for an operator of the whole cluster.
#[must_use]
pub fn cluster_role() -> ClusterRole {
    let mut rules = rules();
    rules.extend(lease_rules());
    ClusterRole {
        metadata: ObjectMeta {
            name: Some("countersign-operator".to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/part-of".to_owned(),
                "countersign".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        rules: Some(rules),
        aggregation_rule: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crd/operator-role.yaml");

    #[test]
    fn the_file_is_made_from_the_rules() {
        crate::yaml::check_file(FILE, &crate::yaml::document(&cluster_role()).unwrap());
    }

    #[test]
    fn no_secret_is_read_and_nothing_is_everything() {
        for rule in cluster_role().rules.unwrap() {
            let resources = rule.resources.unwrap();
            assert!(!resources.contains(&"*".to_owned()) && !rule.verbs.contains(&"*".to_owned()));
            if resources.contains(&"secrets".to_owned()) {
                assert_eq!(rule.verbs, ["create"]);
            }
        }
    }
}
