//! What is applied for a replay.

use serde_json::{Value, json};

use super::*;
use crate::{
    plan::tests::{facts, replay},
    settings::{Settings, tests::settings},
};

fn plan(spec: &Value, config: &str, settings: &Settings) -> Plan {
    Plan::new(&replay(spec), &facts(config), settings)
}

fn pod(plan: &Plan, settings: &Settings) -> Value {
    serde_json::to_value(deployment(plan, settings)).unwrap()["spec"]["template"]["spec"].clone()
}

/// The value behind a flag.
fn flag<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1)?.as_str()
}

#[test]
fn every_secret_is_mounted_as_a_directory_that_only_the_responder_reads() {
    let settings = settings(&[]);
    let plan = plan(&json!({ "secretRefs": [{ "name": "jwt-demo" }] }), r#"{"id":"a"}"#, &settings);
    let pod = pod(&plan, &settings);
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    for secret in ["from-chain", "jwt-demo"] {
        let mount = mounts
            .iter()
            .find(|mount| mount["mountPath"] == format!("/home/speedscale/secret/{secret}"))
            .unwrap();
        assert_eq!((&mount["readOnly"], mount.get("subPath")), (&json!(true), None));
        let volume =
            pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mount["name"]).unwrap();
        assert_eq!(
            volume["secret"],
            json!({ "secretName": secret, "defaultMode": 0o400, "optional": true })
        );
    }
    assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
}

#[test]
fn pods_are_as_restricted_as_they_can_be() {
    let settings = settings(&[]);
    let plan = plan(&json!({ "mode": "full-replay" }), r#"{"id":"a"}"#, &settings);
    let generator = serde_json::to_value(job(&plan, &settings, "http://user")).unwrap();
    for pod in [pod(&plan, &settings), generator["spec"]["template"]["spec"].clone()] {
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["capabilities"], json!({ "drop": ["ALL"] }));
    }
}

#[test]
fn replicas_and_resources_come_from_the_test_config() {
    let settings = settings(&[]);
    let config = r#"{"id":"a","responder":{"numReplicas":3,"resources":{"limits":{"memory":"2G"}}},"cluster":{"logLevel":"debug"}}"#;
    let plan = plan(&json!({}), config, &settings);
    assert_eq!(deployment(&plan, &settings).spec.unwrap().replicas, Some(3));
    let pod = pod(&plan, &settings);
    assert_eq!(pod["containers"][0]["resources"], json!({ "limits": { "memory": "2G" } }));
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    assert!(variables.contains(&json!({ "name": "RUST_LOG", "value": "debug" })));
    assert_eq!(flag(&pod, "--peer-listen"), Some("0.0.0.0:4143"));
    assert_eq!(flag(&pod, "--replays"), Some(plan.replay_id.as_str()));
}

#[test]
fn certificates_of_responders_are_mounted_where_they_are_asked_for() {
    let settings =
        settings(&["--responder-tls-secret", "own", "--responder-control-plane", "https://c"]);
    let plan =
        plan(&json!({ "tlsSecretRef": { "name": "authority" } }), r#"{"id":"a"}"#, &settings);
    let pod = pod(&plan, &settings);
    assert_eq!(flag(&pod, "--client-cert"), Some("/etc/countersign/tls/tls.crt"));
    assert_eq!(flag(&pod, "--tls-ca"), Some("/etc/countersign/ca"));
    let required: Vec<&Value> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|v| v["secret"]["optional"] == false)
        .collect();
    assert_eq!(required.len(), 2);
}

#[test]
fn hosts_are_reached_at_the_ports_that_clients_use() {
    let settings = settings(&[]);
    let workloads =
        json!([{ "ref": { "name": "user" }, "mocks": ["x:api.example.com:8443", "y:443"] }]);
    let plan = plan(&json!({ "workloads": workloads }), r#"{"id":"a"}"#, &settings);
    let ports = service(&plan).spec.unwrap().ports.unwrap();
    let found: Vec<_> =
        ports.iter().map(|port| (port.name.as_deref().unwrap(), port.port)).collect();
    assert_eq!(
        found,
        [("http", 80), ("https", 443), ("grpc", 4140), ("admin", 4141), ("port-8443", 8443)]
    );
}

#[test]
fn nobody_reaches_the_admin_port_but_who_scrapes() {
    let quiet = settings(&[]);
    let plan = plan(&json!({}), r#"{"id":"a"}"#, &quiet);
    let reaches = |settings: &Settings| {
        let policy = serde_json::to_value(network_policy(&plan, settings)).unwrap();
        policy["spec"]["ingress"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["ports"][0]["port"] == 4141)
    };
    assert!(!reaches(&quiet));
    assert!(reaches(&settings(&["--scrape-namespace", "monitoring"])));
}

#[test]
fn what_is_to_stay_belongs_to_nobody() {
    let settings = settings(&[]);
    let owned = plan(&json!({}), r#"{"id":"a"}"#, &settings);
    let owner = &service(&owned).metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("TrafficReplay", Some(true)));
    let free = plan(&json!({ "cleanup": "none" }), r#"{"id":"a"}"#, &settings);
    assert_eq!(service(&free).metadata.owner_references, None);
}

#[test]
fn a_generator_sends_the_snapshot_to_the_workload_once() {
    let settings = settings(&["--generator-tls-secret", "user"]);
    let plan = plan(&json!({ "timeout": "1h" }), r#"{"id":"a"}"#, &settings);
    let made = job(&plan, &settings, "http://user:8080");
    let spec = made.spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(0), Some(3600)));
    assert_eq!(
        load_args(&plan, &settings, "http://user:8080")[..5],
        ["load", "--snapshot", "login", "--to", "http://user:8080"]
    );
    assert_ne!(made.metadata.name, job(&plan, &settings, "http://other").metadata.name);
}

#[test]
fn a_generator_signs_requests_with_the_mounted_keys_and_shows_its_token() {
    let settings = settings(&["--generator-token-secret", "token"]);
    let plan = plan(&json!({ "testConfigID": "nightly" }), r#"{"id":"a"}"#, &settings);
    let made = serde_json::to_value(job(&plan, &settings, "http://user")).unwrap();
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(flag(pod, "--test-config"), Some("nightly"));
    assert_eq!(flag(pod, "--transform"), Some("jwt"));
    assert_eq!(flag(pod, "--secret-dir"), Some("/home/speedscale/secret"));
    let text = pod.to_string();
    assert!(text.contains("/home/speedscale/secret/from-chain"), "{text}");
    assert!(text.contains(r#""secretKeyRef":{"key":"token","name":"token"}"#), "{text}");
}

#[test]
fn responders_show_a_token_where_there_is_one() {
    let settings = settings(&["--responder-token-secret", "pods"]);
    let plan = plan(&json!({}), r#"{"id":"a"}"#, &settings);
    let pod = pod(&plan, &settings);
    assert_eq!(flag(&pod, "--token-file"), Some("/etc/countersign/token/token"));
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/countersign/token"));
}
