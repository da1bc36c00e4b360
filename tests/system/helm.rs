//! The chart, and the manifests that are made from it, against a real Kubernetes API.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use harness::{kubernetes::Cluster, process, wait_until};
use serde_json::{Value, json};

/// The sets of values that are tried, in the chart's directory `ci`.
const SETS: [&str; 3] = ["embedded", "distributed", "minimal"];
/// The manifests in `deploy/manifests`, and what they are made with besides the defaults.
const MANIFESTS: [(&str, &[&str]); 2] = [
    ("countersign.yaml", &["crds.keep=false"]),
    (
        "without-operator.yaml",
        &[
            "operator.enabled=false",
            "crds.install=false",
            "responders.enabled=true",
            "responders.secrets={jwt-demo}",
        ],
    ),
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn chart() -> String {
    root("deploy/helm/countersign").to_string_lossy().into_owned()
}

fn values(set: &str) -> String {
    format!("{}/ci/{set}.yaml", chart())
}

/// What the chart makes of these arguments.
fn template(cluster: &Cluster, namespace: &str, more: &[&str]) -> String {
    let chart = chart();
    let fixed = ["template", "countersign", &chart, "-n", namespace, "--kube-version", "1.35"];
    cluster.helm(&[&fixed, more].concat()).ok().stdout()
}

/// The documents of a stream.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The containers of what makes pods, each with the name of its object.
pub(crate) fn containers(documents: &[Value]) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for document in documents {
        let object = format!("{} {}", document["kind"], document["metadata"]["name"]);
        let containers = document.pointer("/spec/template/spec/containers");
        for container in containers.and_then(Value::as_array).into_iter().flatten() {
            found.push((object.clone(), container));
        }
    }
    found
}

/// Has the API server look at a file of manifests as if it were applied, and returns what it warns of.
pub(crate) fn judge(cluster: &Cluster, namespace: &str, text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let apply = ["apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", &path];
    let said = cluster.kubectl(&apply).ok().text();
    assert_eq!(
        said.lines().filter(|line| line.contains("serverside-applied")).count(),
        documents(text).len(),
        "{said}"
    );
    // The definition of TrafficReplay is there already, applied in the other way, which is nothing that the manifest is to blame for.
    let other = "failed to migrate kubectl.kubernetes.io/last-applied-configuration";
    said.lines().filter(|line| line.contains("Warning") && !line.contains(other)).collect()
}

/// The definitions of others whose resources the chart can have.
fn definitions(cluster: &Cluster) {
    let dir = cluster.binaries().join("crds");
    let path = dir.to_string_lossy().into_owned();
    drop(cluster.kubectl(&["apply", "--server-side", "-f", &path]).ok());
    for name in ["certificates.cert-manager.io", "servicemonitors.monitoring.coreos.com"] {
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", name];
        drop(cluster.kubectl(&wait).ok());
    }
}

#[tokio::test]
async fn the_tests_api_judges_as_a_cluster_does() {
    let Some(cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("judged");
    // Who may do nothing is refused, who may do one thing does it.
    let account = cluster.service_account(&namespace, "default");
    let ask = || cluster.kubectl_as(&account, &["get", "configmaps", "-n", &namespace]);
    assert!(ask().text().contains("Forbidden"), "{}", ask().text());
    let name = json!({"name": "reader", "namespace": namespace});
    cluster.apply(&[
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": name,
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}}),
    ]);
    wait_until("the role is granted", || async { (ask().code() == 0).then_some(()) }).await;
    // A pod with more rights than it needs is not admitted, and who would make it is warned.
    let pod = cluster.kubectl(&["run", "root", "--image=x", "-n", &namespace]);
    assert!(pod.text().contains("violates PodSecurity"), "{}", pod.text());
    let deployment =
        ["create", "deployment", "root", "--image=x", "--dry-run=client", "-o", "yaml"];
    let deployment = cluster.kubectl(&deployment).ok().stdout();
    let warned = judge(cluster, &namespace, &deployment);
    assert!(warned.contains("would violate PodSecurity"), "{warned}");
}

#[tokio::test]
async fn every_manifest_is_taken_by_a_real_api_without_a_warning() {
    let Some(cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("chart");
    definitions(cluster);
    let mut kinds = BTreeSet::new();
    let mut try_one = |name: &str, text: &str| {
        for document in documents(text) {
            kinds.insert(document["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(judge(cluster, &namespace, text), "", "{name}");
    };
    try_one("the defaults", &template(cluster, &namespace, &[]));
    for set in SETS {
        let chart = chart();
        drop(
            cluster
                .helm(&["lint", "--strict", "--kube-version", "1.35", &chart, "-f", &values(set)])
                .ok(),
        );
        // The namespace of its replays has to be there.
        let own = format!("operator.namespace={namespace}");
        let more = if set == "embedded" { vec!["--set", &own] } else { vec![] };
        let file = values(set);
        try_one(set, &template(cluster, &namespace, &[&["-f", &file][..], &more].concat()));
    }
    for (name, _) in MANIFESTS {
        let text = fs::read_to_string(root("deploy/manifests").join(name)).unwrap();
        try_one(
            name,
            &text.replace("namespace: countersign\n", &format!("namespace: {namespace}\n")),
        );
    }
    for kind in [
        "StatefulSet",
        "Deployment",
        "Certificate",
        "ServiceMonitor",
        "HorizontalPodAutoscaler",
        "Role",
        "ClusterRole",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "CustomResourceDefinition",
    ] {
        assert!(kinds.contains(kind), "no {kind} was tried: {kinds:?}");
    }
}

#[tokio::test]
async fn a_release_is_installed_upgraded_and_removed_and_its_operator_may_do_no_more_than_it_needs()
{
    let Some(cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("release");
    let other = cluster.namespace("other");
    let (chart, own) = (chart(), format!("operator.namespace={namespace}"));
    let fixed = [&*chart, "-n", &namespace, "--set", "crds.install=false", "--set", &own];
    let named = ["--set", "operator.secretAccess={jwt-demo}"];
    drop(cluster.helm(&[&["install", "countersign"], &fixed[..], &named].concat()).ok());
    let account = cluster.service_account(&namespace, "countersign-operator");
    let may = |verb: &str, what: &str, namespace: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let words: Vec<&str> = what.split(' ').collect();
        let (resource, group) = words[0].split_once('.').unwrap_or((words[0], ""));
        let asked = json!({
            "namespace": namespace, "verb": verb, "group": group, "resource": resource,
            "subresource": words[1], "name": words[2],
        });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        });
        fs::write(file.path(), review.to_string()).unwrap();
        let path = file.path().to_string_lossy().into_owned();
        let create =
            ["create", "--validate=false", "-f", &path, "-o", "jsonpath={.status.allowed}"];
        cluster.kubectl_as(&account, &create).ok().stdout() == "true"
    };
    // A resource and its group, a part of it or none, and a name or none.
    for (verb, what) in [
        ("create", "deployments.apps  "),
        ("patch", "trafficreplays.countersign.dev status "),
        ("create", "leases.coordination.k8s.io  "),
        ("get", "secrets  jwt-demo"),
    ] {
        let granted = || async { may(verb, what, &namespace).then_some(()) };
        wait_until(&format!("it may {verb} {what}"), granted).await;
    }
    for (verb, what, namespace) in [
        ("get", "secrets  ", &namespace),
        ("list", "secrets  ", &namespace),
        ("get", "secrets  other", &namespace),
        ("delete", "secrets  ", &namespace),
        ("create", "pods  ", &namespace),
        ("create", "pods exec ", &namespace),
        ("update", "trafficreplays.countersign.dev  ", &namespace),
        ("create", "roles.rbac.authorization.k8s.io  ", &namespace),
        ("create", "deployments.apps  ", &other),
        ("get", "trafficreplays.countersign.dev  ", &other),
        ("get", "leases.coordination.k8s.io  ", &other),
    ] {
        assert!(!may(verb, what, namespace), "it may {verb} {what}");
    }

    // An upgrade changes what the values say, and nothing that cannot be changed.
    let more = ["--set", "operator.replicas=3", "--set", "image.tag=0.2.0"];
    drop(cluster.helm(&[&["upgrade", "countersign"], &fixed[..], &more].concat()).ok());
    let get = |what: &str, path: &str| {
        cluster
            .kubectl(&["get", what, "-n", &namespace, "-o", &format!("jsonpath={path}")])
            .ok()
            .stdout()
    };
    assert_eq!(get("deployment/countersign-operator", "{.spec.replicas}"), "3");
    let image =
        get("statefulset/countersign-control-plane", "{.spec.template.spec.containers[0].image}");
    assert_eq!(image, "countersign-control-plane:0.2.0");
    drop(cluster.helm(&["uninstall", "countersign", "-n", &namespace]).ok());
    assert_eq!(cluster.kubectl(&["get", "all", "-n", &namespace, "-o", "name"]).ok().stdout(), "");
}

#[tokio::test]
async fn wrong_values_are_refused_with_their_path() {
    let Some(cluster) = Cluster::start().await else { return };
    let chart = chart();
    for (value, path) in [
        ("controlplane.mode=embedded", "controlplane"),
        ("controlPlane.mode=cluster", "/controlPlane/mode"),
        ("controlPlane.mode=distributed", "/controlPlane/postgres/url"),
        (
            "controlPlane.postgres.url=postgres://user:password@host/db",
            "/controlPlane/postgres/url",
        ),
        ("controlPlane.persistence.size=big", "/controlPlane/persistence/size"),
        ("tls.mode=off", "/tls/mode"),
        ("operator.replicas=0", "/operator/replicas"),
        ("operator.secretAccess={Not A Name}", "/operator/secretAccess/0"),
        ("responders.service.ports={4141}", "/responders/service/ports/0"),
        ("responders.maxUnavailable=0", "/responders/maxUnavailable"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ] {
        let refused =
            cluster.helm(&["template", "x", &chart, "--kube-version", "1.35", "--set", value]);
        assert_ne!(refused.code(), 0, "{value}");
        assert!(
            refused.text().contains("schema") && refused.text().contains(path),
            "{value}: {}",
            refused.text()
        );
    }
    let lost = ["--set", "controlPlane.enabled=false"];
    let refused =
        cluster.helm(&[&["template", "x", &chart, "--kube-version", "1.35"], &lost[..]].concat());
    assert!(refused.text().contains("controlPlaneUrl is needed"), "{}", refused.text());
}

#[tokio::test]
async fn plain_manifests_are_what_the_chart_makes() {
    let Some(cluster) = Cluster::start().await else { return };
    for (name, settings) in MANIFESTS {
        let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        // They belong to no release.
        let of_helm = ["helm.sh/chart:", "app.kubernetes.io/managed-by: Helm", "# Source:"];
        let text = template(cluster, "countersign", &settings);
        let kept = text.lines().filter(|line| !of_helm.iter().any(|word| line.contains(word)));
        let text = kept.fold(String::new(), |text, line| text + line + "\n");
        let path = root("deploy/manifests").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{name} is not what the chart makes: UPDATE_DOCS=1 writes it");
    }
}

#[test]
fn the_chart_has_the_operators_definition_and_rules() {
    for name in ["trafficreplays.yaml", "operator-role.yaml"] {
        let theirs = fs::read_to_string(root("deploy/crd").join(name)).unwrap();
        let path = root("deploy/helm/countersign/files").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &theirs).unwrap();
        }
        let ours = fs::read_to_string(&path).unwrap_or_default();
        assert!(ours == theirs, "{name} is not deploy/crd/{name}: UPDATE_DOCS=1 copies it");
    }
}

/// The leaves of values, by path, as JSON.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{name}"), found);
            }
        }
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

#[test]
fn the_table_of_values_is_that_of_the_chart() {
    let values = fs::read_to_string(root("deploy/helm/countersign/values.yaml")).unwrap();
    let mut theirs = BTreeMap::new();
    leaves(&serde_saphyr::from_str(&values).unwrap(), "", &mut theirs);
    let document = fs::read_to_string(root("docs/helm.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let rows = rows.filter_map(|(path, rest)| Some((path, rest.split_once("` |")?.0)));
    let ours: BTreeMap<String, String> =
        rows.map(|(path, value)| (path.to_owned(), value.to_owned())).collect();
    let told: Vec<_> =
        theirs.iter().filter(|(path, value)| ours.get(*path) != Some(value)).collect();
    assert!(told.is_empty(), "docs/helm.md lacks {told:#?}");
    let gone: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(gone.is_empty(), "docs/helm.md has {gone:?}, which are no values");
}

#[tokio::test]
async fn binaries_understand_the_arguments_of_every_container() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut seen = BTreeSet::new();
    for set in SETS {
        let documents = documents(&template(cluster, "countersign", &["-f", &values(set)]));
        for (object, container) in containers(&documents) {
            let image = container["image"].as_str().unwrap();
            let binary = image.rsplit('/').next().unwrap().split(':').next().unwrap();
            let arguments = container["args"].as_array().unwrap().iter();
            // What is wrong is refused before help is reached.
            let arguments = arguments.map(|text| text.as_str().unwrap()).chain(["--help"]);
            let variables: Vec<_> = container["env"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|one| {
                    Some((one["name"].as_str()?.to_owned(), one["value"].as_str()?.to_owned()))
                })
                .collect();
            let run = process::run_in(binary, arguments, &variables);
            assert!(
                run.code() == 0 && run.text().contains("Usage:"),
                "{set}: {object}: {}",
                run.text()
            );
            seen.insert(binary.to_owned());
        }
    }
    let all = ["countersign-control-plane", "countersign-operator", "countersign-responder"];
    assert_eq!(seen, all.map(str::to_owned).into());
    let wrong = process::run("countersign-responder", ["--listen=nowhere", "--help"]);
    assert_eq!(wrong.code(), 2, "{}", wrong.text());
}
