//! What protects responders: a budget of disruptions, and who may reach them.

use k8s_openapi::{
    api::{
        networking::v1::{
            NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    metadata,
    responder::{ADMIN_PORT, APP, DATA_PORT, PEER_PORT},
    selected, selector,
};
use crate::{plan::Plan, settings::Settings};

/// One responder may be evicted at a time; a single one as well, or no node could ever be drained.
#[must_use]
pub fn disruption_budget(plan: &Plan) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(plan, &plan.object, APP),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(selected(plan, APP))),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// Pods of the namespace reach recorded traffic, those that scrape reach the admin port, responders reach each other, the control plane and
/// whoever resolves names.
#[must_use]
pub fn network_policy(plan: &Plan, settings: &Settings) -> NetworkPolicy {
    let siblings = || {
        vec![NetworkPolicyPeer {
            pod_selector: Some(selector(selected(plan, APP))),
            ..NetworkPolicyPeer::default()
        }]
    };
    let mut ingress = vec![
        NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer {
                pod_selector: Some(LabelSelector::default()),
                ..NetworkPolicyPeer::default()
            }]),
            ports: Some(vec![tcp(DATA_PORT)]),
        },
        NetworkPolicyIngressRule { from: Some(siblings()), ports: Some(vec![tcp(PEER_PORT)]) },
    ];
    if let Some(namespace) = &settings.scrape_namespace {
        let name = ("kubernetes.io/metadata.name".to_owned(), namespace.clone());
        ingress.push(NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(selector([name].into())),
                ..NetworkPolicyPeer::default()
            }]),
            ports: Some(vec![tcp(ADMIN_PORT)]),
        });
    }
    let egress = vec![
        NetworkPolicyEgressRule {
            to: None,
            ports: Some(vec![port("UDP", 53), tcp(53), tcp(control_plane_port(settings))]),
        },
        NetworkPolicyEgressRule { to: Some(siblings()), ports: Some(vec![tcp(PEER_PORT)]) },
    ];
    NetworkPolicy {
        metadata: metadata(plan, &plan.object, APP),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(selected(plan, APP))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

fn control_plane_port(settings: &Settings) -> i32 {
    let url = settings.pods_control_plane();
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    url.port_u16().map_or(default, i32::from)
}

fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}
