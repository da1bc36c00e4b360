//! Manifests of the incumbent, converted by the real command and judged by a real Kubernetes API.

use std::{fs, process::Stdio};

use harness::{binaries, kubernetes::Cluster, process};

use crate::helm::judge;

const REPLAY: &str = "\
# The replay of the login.
apiVersion: speedscale.com/v1
kind: TrafficReplay
metadata:
  name: replay-jwt-resign
  resourceVersion: \"17\"
  uid: 3b1d
  finalizers: [replay.speedscale.com/finalizer]
spec:
  snapshotID: 3bde4a60-580e-451d-90d1-0effc2f83c92
  mode: responder-only
  collectLogs: true
  timeout: 30m
  sidecar: {inject: true, tls: {out: true, in: {secret: s, private: tls.key, public: tls.crt}}}
  workloadRef: {kind: Deployment, name: user}
  secretRefs:
  - name: jwt-demo # the key
status:
  active: true
";
const WORKLOAD: &str = "\
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: user
  annotations:
    replay.speedscale.com/snapshot-id: 3bde4a60-580e-451d-90d1-0effc2f83c92
    replay.speedscale.com/mode: responder-only
    sidecar.speedscale.com/inject: \"true\"
spec:
  selector: {matchLabels: {app: user}}
  template:
    metadata: {labels: {app: user}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: user
        image: user
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

#[tokio::test]
async fn what_is_converted_is_taken_by_the_api_without_a_warning() {
    let Some(cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("converted");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.yaml").to_string_lossy().into_owned();
    fs::write(&path, format!("{REPLAY}{WORKLOAD}")).unwrap();
    let run = process::run("countersign", ["convert", &path]).ok();
    let text = run.stdout();
    assert!(
        text.starts_with("# The replay of the login.\napiVersion: countersign.dev/v1\n"),
        "{text}"
    );
    assert!(text.contains("- name: jwt-demo # the key\n---\napiVersion: apps/v1\n"), "{text}");
    for field in [
        "metadata.uid",
        "spec.collectLogs",
        "spec.sidecar",
        "status",
        "sidecar.speedscale.com/inject",
    ] {
        assert!(run.text().contains(field), "nothing is said of {field}: {}", run.text());
    }
    // The replay, the workload, and the replay that the workload's annotations ask for.
    assert_eq!(crate::helm::documents(&text).len(), 3);
    assert_eq!(judge(cluster, &namespace, &text), "");
    // As they were, there would be no such kind.
    let apply = ["apply", "--dry-run=server", "-n", &namespace, "-f", &path];
    let refused = cluster.kubectl(&apply);
    assert!(refused.text().contains("no matches for kind"), "{}", refused.text());
}

#[test]
fn a_manifest_may_come_through_a_pipe_and_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong.yaml");
    fs::write(&path, REPLAY.replace("timeout", "timeOut")).unwrap();
    let mut command = std::process::Command::new(binaries::path("countersign"));
    command.args(["convert", "-"]).stdin(fs::File::open(&path).unwrap()).stderr(Stdio::piped());
    let out = command.output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{told}");
    assert!(
        told.contains("stdin: document 1: spec.timeOut: no TrafficReplay has such a field"),
        "{told}"
    );
}
