//! A real Kubernetes API of the tests' own: etcd and kube-apiserver on free ports, with RBAC on, one for all tests of the process.
//!
//! There is no kubelet, no scheduler and no controller: nothing runs pods, fills in statuses, collects what has lost its owner or finishes
//! deleting namespaces; tests play those parts. Each test takes a namespace of its own, so that they do not meet. Both servers end with the
//! process that started them, however it ends, and their directory goes with them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{DEADLINE, notice, process::Finished, wait_until};

/// Runs a server until the pipe to its stdin breaks, which is when who started it is gone.
const WHILE_WANTED: &str =
    r#"exec 3<&0; { cat <&3 >/dev/null; kill -9 $$; } & exec "$@" </dev/null 3<&-"#;
/// The same for their directory, in which they may still be writing.
const REMOVE: &str = r#"cat >/dev/null; until rm -rf -- "$1"; do :; done"#;

static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();

/// A running API server.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    server: String,
    authority: String,
    /// Their stdin holds them.
    held: Vec<Child>,
}

impl Cluster {
    /// The cluster that the tests of this process share, which the first one starts; `None`, with a notice, where `CI_KUBE` is 0.
    ///
    /// Its binaries are in the directory that `COUNTERSIGN_KUBE_BIN` names, or where `.ci/run kube` puts them.
    pub async fn start() -> Option<&'static Self> {
        SHARED.get_or_init(Self::start_one).await.as_ref()
    }

    async fn start_one() -> Option<Self> {
        if std::env::var_os("CI_KUBE").is_some_and(|value| value == "0") {
            notice("CI_KUBE is 0, tests with a Kubernetes API are not run");
            return None;
        }
        let bin = binaries();
        for program in ["etcd", "kube-apiserver", "kubectl", "helm"] {
            let here = bin.join(program).is_file();
            assert!(
                here,
                "there is no {program} in {}: `bash .ci/run kube` builds it",
                bin.display()
            );
        }
        let dir = tempfile::tempdir().expect("a directory").keep();
        let janitor = held(Command::new("sh").args(["-c", REMOVE, "sh"]).arg(&dir), &dir, "rm");
        let authority = write_credentials(&dir);
        let [clients, peers, secure] = free_ports();
        let etcd = start(&etcd(&bin, &dir, clients, peers), &dir, "etcd");
        let apiserver = start(&apiserver(&bin, &dir, clients, secure), &dir, "kube-apiserver");
        let server = format!("https://127.0.0.1:{secure}");
        let held = vec![etcd, apiserver, janitor];
        let mut cluster = Self { bin, dir, server, authority, held };
        cluster.write_kubeconfig(
            &cluster.kubeconfig(),
            "default",
            &json!({
                "client-certificate": cluster.dir.join("admin.crt"),
                "client-key": cluster.dir.join("admin.key"),
            }),
        );
        cluster.wait_until_ready().await;
        cluster.define();
        Some(cluster)
    }

    /// A kubeconfig, the path of its file, of somebody who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The directory of its programs, and of definitions of others in `crds`.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        &self.bin
    }

    /// The URL of the API.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate, PEM, that the API is checked with.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Makes a namespace that no other test uses and that admits restricted pods only, and returns its name.
    ///
    /// It has the service account `default`, as it would have in a cluster with controllers.
    #[must_use]
    pub fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", uuid::Uuid::new_v4().simple());
        let level = "restricted";
        let labels = json!({
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/warn": level,
        });
        self.apply(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}),
        ]);
        name
    }

    /// Applies manifests, in their order.
    pub fn apply(&self, manifests: &[serde_json::Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        let path = self.scratch("apply", "json");
        fs::write(&path, list.to_string()).expect("a file");
        drop(self.kubectl(&["apply", "-f", &path.to_string_lossy()]).ok());
    }

    /// Runs kubectl as somebody who may do everything.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> Finished {
        self.kubectl_as(&self.kubeconfig(), arguments)
    }

    /// The same as whoever the kubeconfig says.
    #[must_use]
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.tool("kubectl", kubeconfig);
        command.arg("--cache-dir").arg(self.dir.join("kubectl-cache")).args(arguments);
        Finished::of(&mut command)
    }

    /// Runs helm as somebody who may do everything; it keeps its files below the cluster's directory.
    #[must_use]
    pub fn helm(&self, arguments: &[&str]) -> Finished {
        let mut command = self.tool("helm", &self.kubeconfig());
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.dir.join("helm"));
        }
        Finished::of(command.args(arguments))
    }

    /// The kubeconfig of a service account that exists, with a token of an hour.
    #[must_use]
    pub fn service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", name, "-n", namespace]).ok().stdout();
        let path = self.scratch(&format!("{namespace}-{name}"), "kubeconfig");
        self.write_kubeconfig(&path, namespace, &json!({"token": token.trim()}));
        path
    }

    fn tool(&self, name: &str, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("KUBECONFIG", kubeconfig).env("HOME", &self.dir).stdin(Stdio::null());
        command
    }

    /// The path of a file that is not there yet.
    fn scratch(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}-{}.{extension}", uuid::Uuid::new_v4()))
    }

    fn write_kubeconfig(&self, path: &Path, namespace: &str, user: &serde_json::Value) {
        let cluster = json!({
            "server": self.server,
            "certificate-authority-data": STANDARD.encode(&self.authority),
        });
        let context = json!({"cluster": "tests", "user": "tests", "namespace": namespace});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": context}],
        });
        fs::write(path, config.to_string()).expect("a file");
    }

    async fn wait_until_ready(&mut self) {
        let mut servers = std::mem::take(&mut self.held);
        let begin = Instant::now();
        wait_until("the Kubernetes API is ready", || {
            let asked = self.kubectl(&["get", "--raw", "/readyz"]);
            let ready =
                asked.code() == 0 && self.kubectl(&["get", "namespace", "default"]).code() == 0;
            let ended = servers.iter_mut().any(|server| server.try_wait().unwrap().is_some());
            // What the servers said tells more than that the deadline has passed.
            let late = begin.elapsed() + Duration::from_secs(5) > DEADLINE;
            assert!(ready || !(ended || late), "{}\n{}", asked.text(), self.logs());
            async move { ready.then_some(()) }
        })
        .await;
        self.held = servers;
    }

    /// Installs the definition of `TrafficReplay`, before any test could meet another one that does.
    fn define(&self) {
        let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crd");
        drop(self.kubectl(&["apply", "-f", definition]).ok());
        let crd = "crd/trafficreplays.countersign.dev";
        drop(self.kubectl(&["wait", "--for=condition=Established", crd]).ok());
    }

    /// The ends of the servers' logs, for failures.
    #[must_use]
    pub fn logs(&self) -> String {
        ["etcd", "kube-apiserver"]
            .map(|name| {
                let text = fs::read(self.dir.join(format!("{name}.log"))).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<_> = text.lines().collect();
                format!("--- {name}:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
            })
            .join("\n")
    }
}

fn binaries() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools/kube");
    std::env::var_os("COUNTERSIGN_KUBE_BIN").map_or(built, PathBuf::from)
}

fn etcd(bin: &Path, dir: &Path, clients: u16, peers: u16) -> Command {
    let (clients, peers) =
        (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut command = Command::new(bin.join("etcd"));
    command.args(["--name", "tests", "--unsafe-no-fsync", "--log-level", "warn", "--data-dir"]);
    command.arg(dir.join("etcd"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("tests={peers}")]);
    command
}

fn apiserver(bin: &Path, dir: &Path, etcd: u16, port: u16) -> Command {
    let mut command = Command::new(bin.join("kube-apiserver"));
    command.args([
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
    ]);
    command.arg(format!("--secure-port={port}"));
    command.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"));
    for (flag, file) in [
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "accounts.pub"),
        ("service-account-signing-key-file", "accounts.key"),
        ("cert-dir", "certs"),
    ] {
        command.arg(format!("--{flag}={}", dir.join(file).display()));
    }
    command
}

/// Starts a server that is held by us.
fn start(server: &Command, dir: &Path, log: &str) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", WHILE_WANTED, "sh"]).arg(server.get_program()).args(server.get_args());
    held(&mut shell, dir, log)
}

fn held(command: &mut Command, dir: &Path, log: &str) -> Child {
    let log = File::create(dir.join(format!("{log}.log"))).expect("a file");
    let errors = log.try_clone().expect("a file");
    let command = command.stdin(Stdio::piped()).stdout(log).stderr(errors);
    command.spawn().expect("there is a shell")
}

/// Three ports that are free at the same time.
fn free_ports() -> [u16; 3] {
    [(); 3]
        .map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .map(|listener| listener.local_addr().expect("an address").port())
}

/// Writes what the servers and the administrator show each other, and returns the authority's certificate.
fn write_credentials(dir: &Path) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Kubernetes of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    let authority = pem("CERTIFICATE", params.self_signed(&key).expect("a certificate").der());
    write(&dir.join("ca.crt"), &authority);
    let issuer = Issuer::new(params, key);

    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
        .expect("names");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(dir, "server", &server, &issuer);

    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(dir, "admin", &admin, &issuer);

    let accounts = KeyPair::generate().expect("a key");
    write(&dir.join("accounts.key"), &pem("PRIVATE KEY", &accounts.serialize_der()));
    write(&dir.join("accounts.pub"), &pem("PUBLIC KEY", &accounts.subject_public_key_info()));
    authority
}

fn issue(dir: &Path, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    write(&dir.join(format!("{name}.crt")), &pem("CERTIFICATE", certificate.der()));
    write(&dir.join(format!("{name}.key")), &pem("PRIVATE KEY", &key.serialize_der()));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}

/// Text of this kind (RFC 7468).
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = der.chunks(48).map(|line| STANDARD.encode(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
