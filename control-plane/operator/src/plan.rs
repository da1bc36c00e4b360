//! What is to be: a replay as it was asked for, and what the control plane says that it is made of, become one value that everything else follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource as _, ResourceExt as _};

use crate::{
    crd::{Cleanup, KeyAlgorithm, Mode, TrafficReplay, TrafficReplaySpec, WorkloadRef},
    duration, names,
    plane::Facts,
    settings::Settings,
    test_config::is_secret_name,
};

/// Change this annotation and the replay is started anew, with the newest transform and test config.
pub const RESTART: &str = "countersign.dev/restart";

/// What is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The replay's namespace.
    pub namespace: String,
    /// The replay's name.
    pub name: String,
    /// What the objects of its responders are called.
    pub object: String,
    /// Whose they are; `None` where they are to outlive the replay.
    pub owner: Option<OwnerReference>,
    /// Which halves there are.
    pub mode: Mode,
    /// What becomes of the cluster at the end.
    pub cleanup: Cleanup,
    /// The replay's id at the control plane.
    pub replay_id: String,
    /// The snapshot's id.
    pub snapshot: String,
    /// The test config's id.
    pub test_config: String,
    /// The transform's id.
    pub transform: Option<String>,
    /// What the control plane is told to start; another text is another start.
    pub start: String,
    /// How many responders.
    pub replicas: i32,
    /// What each responder gets.
    pub responder_resources: ResourceRequirements,
    /// What the generator gets.
    pub generator_resources: ResourceRequirements,
    /// What responders log.
    pub log_level: &'static str,
    /// The secrets that are mounted: what their directories are called, and what they are called in Kubernetes.
    pub secrets: BTreeMap<String, String>,
    /// Those of them that are made for the replay, with a key pair for each key that the chains name.
    pub made: BTreeSet<String>,
    /// The keys that the chains name, by secret.
    pub keys: BTreeMap<String, Vec<String>>,
    /// The secrets that may not or cannot be mounted, and why.
    pub refused: BTreeMap<String, &'static str>,
    /// The secret with the authority that responders answer TLS with.
    pub tls_secret: Option<String>,
    /// What is made of secrets that are not there.
    pub generate_key: Option<KeyAlgorithm>,
    /// The workloads that are tested.
    pub targets: Vec<Target>,
    /// The workloads that are none of this namespace.
    pub misplaced: Vec<String>,
    /// Where generated requests are sent.
    pub destination: Option<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How long it is kept once it is ready.
    pub ttl: Option<Duration>,
    /// What was asked for and has no effect, in sentences.
    pub notes: Vec<String>,
}

/// A workload that is tested.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// Which recorded hosts lead to the responders; all if empty.
    pub mocks: Vec<String>,
}

/// The kinds of workloads that can be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// `Deployment`.
    Deployment,
    /// `StatefulSet`.
    StatefulSet,
    /// `DaemonSet`.
    DaemonSet,
}

impl TargetKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// As Kubernetes calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

impl Plan {
    /// Decides.
    #[must_use]
    pub fn new(replay: &TrafficReplay, facts: &Facts, settings: &Settings) -> Self {
        let spec = &replay.spec;
        let (name, namespace) = (replay.name_any(), replay.namespace().unwrap_or_default());
        let cleanup = spec.cleanup.unwrap_or(facts.cluster.cleanup);
        let parts = [
            facts.snapshot.as_str(),
            facts.transform.as_deref().unwrap_or_default(),
            facts.test_config.as_str(),
        ];
        let restart = replay.annotations().get(RESTART).map_or("", String::as_str);
        let listed: BTreeSet<&str> = spec
            .secret_refs
            .iter()
            .map(|secret| secret.name.as_str())
            .chain(facts.cluster.secrets.iter().map(String::as_str))
            .collect();
        let of_chains = || facts.secrets.keys().map(String::as_str);
        // Under a name of its own, so that whatever else is called so stays out of reach.
        let made: BTreeSet<String> = of_chains()
            .filter(|name| spec.generate_key.is_some() && !listed.contains(name))
            .map(str::to_owned)
            .collect();
        let wanted: BTreeSet<&str> =
            listed.into_iter().chain(of_chains().filter(|name| !made.contains(*name))).collect();
        let refused = refused(&wanted, settings, spec);
        let (targets, misplaced) = targets(replay, &namespace);
        let tls_secret = spec.tls_secret_ref.as_ref().map(|secret| &secret.name);
        Self {
            object: names::responder(&name),
            owner: (cleanup != Cleanup::None).then(|| replay.controller_owner_ref(&())).flatten(),
            mode: spec.mode.unwrap_or(facts.cluster.mode),
            cleanup,
            replay_id: names::replay_id(&namespace, &name, &parts),
            snapshot: spec.snapshot_id.clone(),
            test_config: spec.test_config_id.clone(),
            transform: facts.transform.as_deref().map(id),
            start: names::hash(&[&parts.concat(), &generation(replay), restart]),
            replicas: facts.cluster.replicas,
            responder_resources: facts.cluster.responder.clone(),
            generator_resources: facts.cluster.generator.clone(),
            log_level: facts.cluster.log_level,
            secrets: wanted
                .into_iter()
                .filter(|name| !refused.contains_key(*name))
                .map(|secret| (secret.to_owned(), secret.to_owned()))
                .chain(made.iter().map(|secret| (secret.clone(), names::keys(&name, secret))))
                .collect(),
            made,
            keys: facts.secrets.clone(),
            refused,
            tls_secret: tls_secret.or(settings.tls_ca_secret.as_ref()).cloned(),
            generate_key: spec.generate_key,
            destination: destination(replay, &targets),
            targets,
            misplaced,
            timeout: spec.timeout.as_deref().and_then(|text| duration::parse(text).ok()),
            ttl: spec.ttl_after_ready.as_deref().and_then(|text| duration::parse(text).ok()),
            notes: notes(replay, facts),
            namespace,
            name,
        }
    }

    /// The keys that the chains name, as `secret/key`.
    pub fn key_names(&self) -> impl Iterator<Item = String> {
        self.keys
            .iter()
            .flat_map(|(secret, keys)| keys.iter().map(move |key| format!("{secret}/{key}")))
    }
}

/// The last part of a full name.
fn id(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// A resource's generation changes with its spec, and with nothing else.
fn generation(replay: &TrafficReplay) -> String {
    replay.metadata.generation.unwrap_or_default().to_string()
}

fn refused(
    wanted: &BTreeSet<&str>,
    settings: &Settings,
    spec: &TrafficReplaySpec,
) -> BTreeMap<String, &'static str> {
    let accessible = settings.accessible();
    let is_authority = |name: &str| spec.tls_secret_ref.as_ref().is_some_and(|of| of.name == name);
    let why = |name: &str| {
        if !is_secret_name(name) {
            Some("no secret of Kubernetes can be called so")
        } else if settings.is_reserved(name) || is_authority(name) {
            Some("what the planes and the mocks show who they are with signs no recorded token")
        } else if accessible.as_ref().is_some_and(|listed| !listed.contains(name)) {
            Some("the operator may not mount it, see --secret-access")
        } else {
            None
        }
    };
    wanted.iter().filter_map(|name| Some(((*name).to_owned(), why(name)?))).collect()
}

fn targets(replay: &TrafficReplay, namespace: &str) -> (Vec<Target>, Vec<String>) {
    let spec = &replay.spec;
    let listed = spec.workloads.iter().filter_map(|workload| {
        workload.reference.as_ref().map(|reference| (reference, workload.mocks.clone()))
    });
    let all = spec.workload_ref.iter().map(|reference| (reference, Vec::new())).chain(listed);
    let (mut targets, mut misplaced) = (Vec::new(), Vec::new());
    for (reference, mocks) in all {
        match kind(reference).filter(|_| is_here(reference, namespace)) {
            Some(kind) => targets.push(Target { kind, name: reference.name.clone(), mocks }),
            None => misplaced.push(shown(reference, namespace)),
        }
    }
    (targets, misplaced)
}

fn kind(reference: &WorkloadRef) -> Option<TargetKind> {
    let wanted = reference.kind.as_deref().unwrap_or("Deployment");
    let is_apps =
        reference.api_version.as_deref().is_none_or(|version| version.starts_with("apps/"));
    TargetKind::ALL.into_iter().find(|kind| is_apps && kind.name() == wanted)
}

/// Whoever may create a replay in one namespace must not change workloads of another one by it.
fn is_here(reference: &WorkloadRef, namespace: &str) -> bool {
    reference.namespace.as_deref().is_none_or(|named| named.is_empty() || named == namespace)
}

fn shown(reference: &WorkloadRef, namespace: &str) -> String {
    let kind = reference.kind.as_deref().unwrap_or("Deployment");
    let within = reference.namespace.as_deref().unwrap_or(namespace);
    format!("{kind} {} of namespace {within}", reference.name)
}

fn destination(replay: &TrafficReplay, targets: &[Target]) -> Option<String> {
    let spec = &replay.spec;
    let custom = spec.workloads.iter().find_map(|workload| workload.custom_uri.as_ref());
    let service = || targets.first().map(|target| format!("http://{}", target.name));
    spec.custom_url.as_ref().or(custom).cloned().or_else(service)
}

fn notes(replay: &TrafficReplay, facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    let unused = replay.spec.without_effect();
    if !unused.is_empty() {
        notes.push(format!("without effect: {}", unused.join(", ")));
    }
    notes.extend(facts.cluster.notes.iter().map(|note| format!("test config: {note}")));
    notes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{settings::tests::settings, test_config};

    /// A replay as users write them.
    pub(crate) fn replay(spec: &serde_json::Value) -> TrafficReplay {
        let mut replay: TrafficReplay = serde_json::from_value(serde_json::json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "TrafficReplay",
            "metadata": { "name": "replay-jwt-resign", "namespace": "shop", "uid": "u-1", "generation": 1 },
            "spec": { "snapshotID": "login" },
        }))
        .unwrap();
        let mut whole = serde_json::to_value(&replay.spec).unwrap();
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        replay.spec = serde_json::from_value(whole).unwrap();
        replay
    }

    /// What the control plane tells of the example.
    pub(crate) fn facts(config: &str) -> Facts {
        Facts {
            snapshot: "projects/default/snapshots/login".into(),
            transform: Some("projects/default/transforms/jwt".into()),
            test_config: "projects/default/testConfigs/standard".into(),
            cluster: test_config::read(config).unwrap(),
            secrets: BTreeMap::from([("from-chain".into(), vec!["tls.key".into()])]),
        }
    }

    #[test]
    fn secrets_are_those_that_anybody_names() {
        let asked = replay(&serde_json::json!({ "secretRefs": [{ "name": "jwt-demo" }] }));
        let facts = facts(r#"{"id":"a","cluster":{"secrets":["of-config"]}}"#);
        let plan = Plan::new(&asked, &facts, &settings(&[]));
        let all: Vec<&str> = plan.secrets.keys().map(String::as_str).collect();
        assert_eq!(all, ["from-chain", "jwt-demo", "of-config"]);
        let some = Plan::new(&asked, &facts, &settings(&["--secret-access", "jwt-demo"]));
        assert_eq!(some.secrets.keys().collect::<Vec<_>>(), ["jwt-demo"]);
        assert_eq!(some.refused.keys().collect::<Vec<_>>(), ["from-chain", "of-config"]);
    }

    #[test]
    fn a_key_that_is_made_opens_no_other_secret() {
        let asked = replay(&serde_json::json!({
            "generateKey": "ES256", "secretRefs": [{ "name": "jwt-demo" }],
        }));
        let access = settings(&["--secret-access", "jwt-demo"]);
        let plan = Plan::new(&asked, &facts(r#"{"id":"a"}"#), &access);
        assert_eq!(plan.secrets["jwt-demo"], "jwt-demo");
        let made = &plan.secrets["from-chain"];
        assert_eq!(*made, names::keys("replay-jwt-resign", "from-chain"));
        assert!(plan.refused.is_empty() && made.starts_with("keys-"), "{:?}", plan.refused);
        assert_eq!(plan.made, ["from-chain".to_owned()].into());
    }

    #[test]
    fn what_the_planes_are_known_by_is_mounted_for_nobody() {
        let asked = replay(&serde_json::json!({ "tlsSecretRef": { "name": "authority" } }));
        let config = r#"{"id":"a","cluster":{"secrets":["authority","op-tls","pods-tls","fine"]}}"#;
        let reserved =
            settings(&["--responder-tls-secret", "pods-tls", "--reserved-secrets", "op-tls"]);
        let plan = Plan::new(&asked, &facts(config), &reserved);
        assert_eq!(plan.secrets.keys().collect::<Vec<_>>(), ["fine", "from-chain"]);
        assert_eq!(plan.refused.keys().collect::<Vec<_>>(), ["authority", "op-tls", "pods-tls"]);
    }

    #[test]
    fn workloads_of_other_namespaces_are_left_alone() {
        let asked = replay(&serde_json::json!({ "workloads": [
            { "ref": { "name": "user" }, "mocks": ["*"] },
            { "ref": { "name": "db", "kind": "StatefulSet", "namespace": "shop" } },
            { "ref": { "name": "user", "namespace": "bank" } },
            { "ref": { "name": "x", "apiVersion": "batch/v1" } },
        ] }));
        let plan = Plan::new(&asked, &facts(r#"{"id":"a"}"#), &settings(&[]));
        let found: Vec<_> = plan.targets.iter().map(|t| (t.kind, t.name.as_str())).collect();
        assert_eq!(found, [(TargetKind::Deployment, "user"), (TargetKind::StatefulSet, "db")]);
        assert_eq!(
            plan.misplaced,
            ["Deployment user of namespace bank", "Deployment x of namespace shop"]
        );
        assert_eq!(plan.destination.as_deref(), Some("http://user"));
    }

    #[test]
    fn the_test_config_says_what_the_replay_does_not() {
        let config = r#"{"id":"a","responder":{"numReplicas":4},"cluster":{"replayMode":"full-replay","cleanup":"none"}}"#;
        let plan = Plan::new(&replay(&serde_json::json!({})), &facts(config), &settings(&[]));
        assert_eq!((plan.mode, plan.cleanup, plan.replicas), (Mode::FullReplay, Cleanup::None, 4));
        assert_eq!(plan.owner, None);
        let asked = replay(
            &serde_json::json!({ "mode": "responder-only", "cleanup": "all", "timeout": "1h" }),
        );
        let plan = Plan::new(&asked, &facts(config), &settings(&[]));
        assert_eq!((plan.mode, plan.cleanup), (Mode::ResponderOnly, Cleanup::All));
        assert_eq!(plan.timeout, Some(Duration::from_secs(3600)));
        assert!(plan.owner.is_some());
    }

    #[test]
    fn another_snapshot_is_another_replay_and_a_restart_another_start() {
        let (facts, settings) = (facts(r#"{"id":"a"}"#), settings(&[]));
        let mut asked = replay(&serde_json::json!({}));
        let plan = Plan::new(&asked, &facts, &settings);
        let other = Facts { snapshot: "projects/default/snapshots/other".into(), ..facts.clone() };
        assert_ne!(Plan::new(&asked, &other, &settings).replay_id, plan.replay_id);
        asked.annotations_mut().insert(RESTART.to_owned(), "again".to_owned());
        let again = Plan::new(&asked, &facts, &settings);
        assert_eq!(again.replay_id, plan.replay_id);
        assert_ne!(again.start, plan.start);
    }
}
