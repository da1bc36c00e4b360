//! The resource `TrafficReplay`, field for field as users know it, so that a manifest of theirs needs another `apiVersion` and nothing else.
//!
//! What is checked here is checked by the API server before the operator hears of a replay: the schema is made from these types, and
//! `deploy/crd/trafficreplays.yaml` from the schema. Fields that have no effect are accepted and kept; [`TrafficReplaySpec::without_effect`] names them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How a replay is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1",
    kind = "TrafficReplay",
    plural = "trafficreplays",
    singular = "trafficreplay",
    shortname = "replay",
    namespaced,
    status = "TrafficReplayStatus",
    derive = "PartialEq",
    doc = "Serves a recording to a workload from responders that sign its tokens anew.",
    printcolumn = r#"{"name":"Active","type":"boolean","jsonPath":".status.active"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[-1:].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.workloadRef) || !has(self.workloads) || self.workloads.size() == 0",
        "message": "workloadRef and workloads exclude each other"
    },
    {
        "rule": "has(self.mode) == has(oldSelf.mode) && (!has(self.mode) || self.mode == oldSelf.mode)",
        "message": "the mode of a replay cannot be changed: delete it and apply it anew"
    }
]))]
pub struct TrafficReplaySpec {
    /// The snapshot to serve, by its id at the control plane.
    #[serde(rename = "snapshotID")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub snapshot_id: String,
    /// How it is served: the id of a test config at the control plane.
    #[serde(rename = "testConfigID", default = "standard")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub test_config_id: String,
    /// The transform that it is served with, by its id at the control plane; the one that the recording came with if not given.
    #[serde(rename = "transformID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub transform_id: Option<String>,
    /// Tells builds apart in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub build_tag: Option<String>,
    /// What becomes of the cluster at the end; what the test config says if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
    /// Deprecated and without effect: use the cluster's log collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collect_logs: Option<bool>,
    /// Kept, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub config_checksum: Option<String>,
    /// Where generated requests are sent, for example `http://user:8080`; the Service of the workload's name if not given.
    #[serde(rename = "customURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#]+"))]
    pub custom_url: Option<String>,
    /// Deprecated and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_low_data: Option<bool>,
    /// Deprecated and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responder_low_data: Option<bool>,
    /// Whether responders serve, requests are generated, or both; what the test config says if not given. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Accepted, and without effect: a report is kept in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_report: Option<bool>,
    /// Deprecated and without effect: there is no sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub proxy_mode: Option<String>,
    /// Secrets of this namespace that are mounted into the responders, besides those that the transform's chains name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub secret_refs: Vec<SecretName>,
    /// The secret of type `kubernetes.io/tls` with the certificate authority that responders answer TLS with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretName>,
    /// Makes a key pair for each secret that the chains name and that is not there, owned by this replay, and has responders publish a key set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate_key: Option<KeyAlgorithm>,
    /// Deprecated and without effect: there is no sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// How long the replay may take, for example `30m`: until all requests were generated, or until the mocks are ready where none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub timeout: Option<String>,
    /// How long the replay is kept once it is ready, for example `1h`; then it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration")]
    pub ttl_after_ready: Option<String>,
    /// The workload that is tested: the recorded hosts lead it to the responders. The same as one entry of `workloads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// The workloads that are tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub workloads: Vec<Workload>,
}

/// What becomes of the cluster at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// Workloads become what they were and what was created is deleted; the control plane keeps the stopped replay and its report.
    Inventory,
    /// The same, and the control plane deletes the replay, too.
    All,
    /// Nothing: all goes on as it is.
    None,
}

/// Which halves of a replay there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Responders serve, and requests are generated.
    FullReplay,
    /// Responders serve.
    ResponderOnly,
    /// Requests are generated.
    GeneratorOnly,
}

impl Mode {
    /// Whether there are responders.
    #[must_use]
    pub fn responds(self) -> bool {
        matches!(self, Self::FullReplay | Self::ResponderOnly)
    }

    /// Whether requests are generated.
    #[must_use]
    pub fn generates(self) -> bool {
        matches!(self, Self::FullReplay | Self::GeneratorOnly)
    }
}

/// What a generated key signs with: the algorithm of the recorded tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// RSA of 2048 bits, also for the other RSA algorithms.
    RS256,
    /// P-256.
    ES256,
    /// P-384.
    ES384,
    /// P-521.
    ES512,
    /// Ed25519.
    EdDSA,
}

/// A secret of the replay's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A workload of the replay's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.kind) || self.kind in ['Deployment', 'StatefulSet', 'DaemonSet']",
    "message": "the kind of a workload is Deployment, StatefulSet or DaemonSet"
}]))]
pub struct WorkloadRef {
    /// `apps/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub api_version: Option<String>,
    /// `Deployment` (if not given), `StatefulSet` or `DaemonSet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The replay's own namespace, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// A workload that is tested, or a place that requests are sent to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.ref) != has(self.customURI)",
    "message": "a workload has either ref or customURI"
}]))]
pub struct Workload {
    /// The workload.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<WorkloadRef>,
    /// Where generated requests are sent, for what is no workload of this cluster.
    #[serde(rename = "customURI", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#]+"))]
    pub custom_uri: Option<String>,
    /// The recorded services whose requests are generated, `service:host:port` or a part; without effect, all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub tests: Vec<String>,
    /// The recorded hosts that lead to the responders, `service:host:port`, a part of it, or `*`; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub mocks: Vec<String>,
    /// How the workload reaches the responders. `nat` is accepted and done by host aliases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
    /// Deprecated and without effect: use `tests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub in_traffic_key: Option<serde_json::Value>,
    /// Deprecated and without effect: use `tests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub in_traffic_keys: Option<serde_json::Value>,
    /// Deprecated and without effect: use `mocks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub out_traffic_keys: Option<serde_json::Value>,
    /// Deprecated and without effect: there is no sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
}

/// How a workload reaches the responders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// By names in its pods' hosts file.
    HostAlias,
    /// By address translation.
    Nat,
}

/// Deprecated and without effect: there is no sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sidecar {
    /// Whether there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<bool>,
    /// What is changed of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// TLS of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SidecarTls>,
}

/// Deprecated and without effect: TLS of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SidecarTls {
    /// What it answers with.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<SidecarKeys>,
    /// What it shows to servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<SidecarKeys>,
    /// Whether it decrypts what goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<bool>,
}

/// Deprecated and without effect: a certificate of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SidecarKeys {
    /// The key of the secret that holds the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<String>,
    /// The key of the secret that holds the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// The secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// How far a replay has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficReplayStatus {
    /// Whether it serves or generates, or is about to.
    #[serde(default)]
    pub active: bool,
    /// What holds and what does not; the last one, `Ready`, says it in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When it was started at the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_time: Option<Time>,
    /// When its mocks were ready first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initialized_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_time: Option<Time>,
    /// Deprecated and not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// The generation of the resource that all this is about.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// How many attempts in a row have failed.
    #[serde(default)]
    pub reconcile_failures: i64,
    /// The replay's id at the control plane, which its report is kept under.
    #[serde(rename = "reportID", default, skip_serializing_if = "Option::is_none")]
    pub report_id: Option<String>,
    /// Where the report can be seen.
    #[serde(rename = "reportURL", default, skip_serializing_if = "Option::is_none")]
    pub report_url: Option<String>,
    /// What the control plane was last told to start: changes with the resource and with the annotation `countersign.dev/restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_as: Option<String>,
    /// What will become of the cluster at the end, so that it is known while the control plane is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<Cleanup>,
}

impl Default for TrafficReplayStatus {
    fn default() -> Self {
        Self {
            active: false,
            conditions: Vec::new(),
            started_time: None,
            initialized_time: None,
            finished_time: None,
            last_heartbeat_time: None,
            observed_generation: unobserved(),
            reconcile_failures: 0,
            report_id: None,
            report_url: None,
            started_as: None,
            cleanup: None,
        }
    }
}

impl TrafficReplaySpec {
    /// The fields that are set and have no effect, as a user writes them.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let any = |of: fn(&Workload) -> bool| self.workloads.iter().any(of);
        let set = [
            ("collectLogs", self.collect_logs.is_some()),
            ("configChecksum", self.config_checksum.is_some()),
            ("generatorLowData", self.generator_low_data.is_some()),
            ("responderLowData", self.responder_low_data.is_some()),
            ("needsReport", self.needs_report.is_some()),
            ("proxyMode", self.proxy_mode.is_some()),
            ("sidecar", self.sidecar.is_some()),
            ("workloads[].tests", any(|workload| !workload.tests.is_empty())),
            ("workloads[].routing: nat", any(|workload| workload.routing == Some(Routing::Nat))),
            ("workloads[].inTrafficKey", any(|workload| workload.in_traffic_key.is_some())),
            ("workloads[].inTrafficKeys", any(|workload| workload.in_traffic_keys.is_some())),
            ("workloads[].outTrafficKeys", any(|workload| workload.out_traffic_keys.is_some())),
            ("workloads[].sidecar", any(|workload| workload.sidecar.is_some())),
        ];
        set.into_iter().filter_map(|(field, is_set)| is_set.then_some(field)).collect()
    }
}

/// The definition as the API server takes it, YAML.
///
/// # Errors
/// When it cannot be written, which the test of this file excludes.
pub fn yaml() -> Result<String, serde_json::Error> {
    crate::yaml::document(&TrafficReplay::crd())
}

fn standard() -> String {
    "standard".to_owned()
}

fn unobserved() -> i64 {
    -1
}

/// A Go duration such as `1h30m`.
fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "nullable": true,
        "maxLength": 32,
        "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('1s')",
            "message": "a duration such as 30s, 15m or 1h30m, of at least a second"
        }]
    })
}

/// What is kept as it is, whatever it is.
fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crd/trafficreplays.yaml");

    #[test]
    fn the_file_is_made_from_the_types() {
        crate::yaml::check_file(FILE, &yaml().unwrap());
    }

    #[test]
    fn a_manifest_needs_no_test_config_and_keeps_what_has_no_effect() {
        let manifest = r#"{
            "apiVersion": "countersign.dev/v1", "kind": "TrafficReplay", "metadata": { "name": "r" },
            "spec": {
                "snapshotID": "3bde4a60-580e-451d-90d1-0effc2f83c92",
                "workloadRef": { "kind": "Deployment", "name": "user" },
                "secretRefs": [{ "name": "jwt-demo" }],
                "collectLogs": true,
                "sidecar": { "inject": true, "tls": { "in": { "secret": "s" }, "out": true } },
                "workloads": [{ "ref": { "name": "x" }, "inTrafficKeys": ["a"], "routing": "nat" }]
            }
        }"#;
        let replay: TrafficReplay = serde_json::from_str(manifest).unwrap();
        assert_eq!(replay.spec.test_config_id, "standard");
        assert_eq!(
            replay.spec.without_effect(),
            ["collectLogs", "sidecar", "workloads[].routing: nat", "workloads[].inTrafficKeys"]
        );
        let again = serde_json::to_value(&replay).unwrap();
        assert_eq!(again["spec"]["sidecar"]["tls"]["in"]["secret"], "s");
        assert_eq!(again["spec"]["workloads"][0]["inTrafficKeys"][0], "a");
    }

    #[test]
    fn the_columns_and_names_are_those_that_users_know() {
        let crd = TrafficReplay::crd();
        let names = &crd.spec.names;
        assert_eq!(
            (names.plural.as_str(), crd.spec.scope.as_str()),
            ("trafficreplays", "Namespaced")
        );
        assert_eq!(names.short_names.as_deref(), Some(&["replay".to_owned()][..]));
        let version = &crd.spec.versions[0];
        let columns: Vec<&str> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .map(|column| column.name.as_str())
            .collect();
        assert_eq!(columns, ["Active", "Mode", "Status", "Age"]);
        assert!(version.subresources.as_ref().unwrap().status.is_some());
    }
}
