//! A namespace with an operator, a control plane that has the example, and hands for what the cluster's controllers would do.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use harness::{
    kubernetes::{Cluster, pem},
    process::{self, Finished, Process},
    wait_until,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a test works in.
pub(super) struct World {
    pub(super) cluster: &'static Cluster,
    pub(super) namespace: String,
    pub(super) dir: tempfile::TempDir,
    pub(super) grpc: SocketAddr,
    pub(super) plane: Process,
    account: PathBuf,
}

impl World {
    /// A world with the example's snapshot `login` and its transform `jwt`; `None` where there is no Kubernetes API.
    pub(super) async fn new(prefix: &str) -> Option<Self> {
        let cluster = Cluster::start().await?;
        install(cluster).await;
        let namespace = cluster.namespace(prefix);
        let account = operator_account(cluster, &namespace);
        let dir = tempfile::tempdir().unwrap();
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let world = Self { cluster, namespace, dir, grpc, plane, account };
        let example = format!("{ROOT}/deploy/example");
        world.cli(&["snapshot", "import", &format!("{example}/recording"), "--id", "login"]);
        world.cli(&["transform", "put", &format!("{example}/transform.json"), "--id", "jwt"]);
        Some(world)
    }

    /// The command, with the control plane as a user has it.
    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let server = format!("http://{}", self.grpc);
        let global = ["--server", &server, "--output", "json"];
        process::run("countersign", global.iter().chain(arguments)).ok().stdout()
    }

    /// What the control plane knows of this resource's replays.
    pub(super) fn replays(&self, name: &str) -> Vec<Value> {
        let found: Vec<Value> = serde_json::from_str(&self.cli(&["replay", "list"])).unwrap();
        let cut: String = self.namespace.chars().take(20).collect();
        let prefix = format!("/{cut}.{name}_");
        found.into_iter().filter(|one| one["name"].as_str().unwrap().contains(&prefix)).collect()
    }

    /// An operator of this namespace, as its service account. It leads for as long as a test may take.
    pub(super) fn operator(&self, name: &str, more: &[&str]) -> Process {
        let times = ["--lease-duration", "10m", "--renew-deadline", "9m"];
        self.operator_for(name, &[&times, more].concat())
    }

    /// One whose lease soon runs out, so that others need not wait for long. It must not be held up for as long.
    pub(super) fn mortal_operator(&self, name: &str) -> Process {
        self.operator_for(name, &["--lease-duration", "10s", "--renew-deadline", "9s"])
    }

    fn operator_for(&self, name: &str, more: &[&str]) -> Process {
        let plane = format!("http://{}", self.grpc);
        let mut arguments = vec!["--control-plane", &plane, "--namespace", &self.namespace];
        arguments.extend(["--lease-namespace", &self.namespace, "--lease-identity", name]);
        arguments.extend(["--health-listen", "127.0.0.1:0", "--resync", "1s"]);
        arguments.extend(["--retry-period", "200ms"]);
        arguments.extend(more);
        let account = self.account.to_string_lossy().into_owned();
        let variables =
            [("KUBECONFIG".to_owned(), account), ("RUST_LOG".to_owned(), "info".to_owned())];
        Process::start_in("countersign-operator", arguments, &variables)
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Finished {
        let namespace = ["-n", &self.namespace];
        self.cluster.kubectl(&[&namespace, arguments].concat())
    }

    /// An object; `None` where there is none.
    pub(super) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "json"]).ok();
        let text = found.stdout();
        (!text.trim().is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// An object, once it is there.
    pub(super) async fn wait_for(&self, kind: &str, name: &str) -> Value {
        wait_until(&format!("there is the {kind} {name}"), || async { self.get(kind, name) }).await
    }

    pub(super) async fn wait_gone(&self, kind: &str, name: &str) {
        wait_until(&format!("the {kind} {name} is gone"), || async {
            self.get(kind, name).is_none().then_some(())
        })
        .await;
    }

    pub(super) fn apply(&self, manifest: &Value) {
        let mut manifest = manifest.clone();
        manifest["metadata"]["namespace"] = json!(self.namespace);
        self.cluster.apply(&[manifest]);
    }

    /// Applies a replay of the example.
    pub(super) fn replay(&self, name: &str, spec: &Value) {
        let mut whole = json!({ "snapshotID": "login", "transformID": "jwt" });
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        self.apply(&json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "TrafficReplay",
            "metadata": { "name": name },
            "spec": whole,
        }));
    }

    /// A workload that is tested, with these host aliases.
    pub(super) fn workload(&self, name: &str, aliases: &Value) {
        let labels = json!({ "app": name });
        let security =
            json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
        let mut pod = json!({
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "sut", "image": "sut", "securityContext": security }],
        });
        if !aliases.is_null() {
            pod["hostAliases"] = aliases.clone();
        }
        self.apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod },
            },
        }));
    }

    /// Plays the Deployment's controller: all pods are as they should be, and so many of them ready.
    pub(super) fn pods_are_ready(&self, deployment: &str, ready: i64) {
        let found = self.get("deployment", deployment).unwrap();
        let replicas = found["spec"]["replicas"].as_i64().unwrap();
        self.patch_status(
            "deployment",
            deployment,
            &json!({
                "observedGeneration": found["metadata"]["generation"],
                "replicas": replicas,
                "updatedReplicas": replicas,
                "readyReplicas": ready,
                "availableReplicas": ready,
            }),
        );
    }

    pub(super) fn patch_status(&self, kind: &str, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let arguments = ["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch];
        drop(self.kubectl(&arguments).ok());
    }

    /// What a condition of a replay says: status, reason, message.
    pub(super) fn condition(&self, name: &str, kind: &str) -> Option<[String; 3]> {
        let replay = self.get("trafficreplay", name)?;
        let conditions = replay["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == kind)?;
        Some(["status", "reason", "message"].map(|field| found[field].as_str().unwrap().to_owned()))
    }

    /// Waits until a condition has this status and reason, and returns its message.
    pub(super) async fn wait_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let what = format!("{kind} of {name} is {status} because {reason}");
        wait_until(&what, || async {
            let found = self.condition(name, kind);
            if let Some([is, why, message]) = found
                && is == status
                && why == reason
            {
                return Some(message);
            }
            None
        })
        .await
    }

    /// Runs what a pod of the responders would run, on free ports and with directories of the test in the place of its mounts.
    pub(super) async fn respond(&self, deployment: &str, name: &str) -> Responder {
        let made = self.wait_for("deployment", deployment).await;
        let container = &made["spec"]["template"]["spec"]["containers"][0];
        let mut arguments: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
        for (flag, value) in [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--admin-listen", "127.0.0.1:0".to_owned()),
            ("--cache-dir", self.path(&format!("cache-{name}"))),
        ] {
            let place = arguments.iter().position(|argument| argument == flag).unwrap();
            arguments[place + 1] = value;
        }
        if let Some(place) = arguments.iter().position(|argument| argument == "--peer-listen") {
            arguments[place + 1] = "127.0.0.1:0".to_owned();
        }
        fs::create_dir_all(self.path("secrets")).unwrap();
        arguments.extend(["--secret-dir".to_owned(), self.path("secrets")]);
        let variables = [("COUNTERSIGN_NAME".to_owned(), name.to_owned())];
        let mut process = Process::start_in("countersign-responder", arguments, &variables);
        let data = process.address("data").await;
        Responder { process, data }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// What the operator told of a replay.
    pub(super) fn events(&self, name: &str) -> Vec<String> {
        let found = self.kubectl(&["get", "events.events.k8s.io", "-o", "json"]).ok().stdout();
        let found: Value = serde_json::from_str(&found).unwrap();
        let about = |event: &&Value| event["regarding"]["name"] == name;
        let of = found["items"].as_array().unwrap().iter().filter(about);
        of.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }
}

/// A responder that a test runs.
pub(super) struct Responder {
    pub(super) process: Process,
    pub(super) data: SocketAddr,
}

/// Installs the definition and the role, once for all tests.
async fn install(cluster: &Cluster) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            drop(cluster.kubectl(&["apply", "-f", &format!("{ROOT}/deploy/crd")]).ok());
            let established =
                ["wait", "--for=condition=Established", "crd/trafficreplays.countersign.dev"];
            drop(cluster.kubectl(&established).ok());
        })
        .await;
}

/// A service account that has the operator's role in one namespace.
fn operator_account(cluster: &Cluster, namespace: &str) -> PathBuf {
    let name = "countersign-operator";
    let metadata = json!({ "name": name, "namespace": namespace });
    cluster.apply(&[
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        }),
    ]);
    cluster.service_account(namespace, name)
}

/// Writes a secret as the kubelet mounts it: files in a directory of their own, links to them through `..data`.
pub(super) fn mount(dir: &Path, files: &[(&str, &[u8])]) {
    let generation = "..2026_01_01_00_00_00.000000001";
    fs::create_dir_all(dir.join(generation)).unwrap();
    for (name, content) in files {
        let file = dir.join(generation).join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        symlink(format!("..data/{name}"), dir.join(name)).unwrap();
    }
    symlink(generation, dir.join("..data")).unwrap();
}

/// An RSA key pair, PEM: the private half and the public one.
pub(super) fn key_pair() -> (String, String) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
}

/// Writes the secret that the example's template names, for responders of [`World::respond`].
pub(super) fn mount_key(world: &World) {
    let (private, _) = key_pair();
    mount(&world.dir.path().join("secrets/jwt-demo"), &[("tls.key", private.as_bytes())]);
}
