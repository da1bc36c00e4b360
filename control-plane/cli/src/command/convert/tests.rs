//! Manifests in, manifests and findings out.

use super::*;
use crate::output::Format;

const SEED: &str = "\
# The replay of the login.
apiVersion: speedscale.com/v1 # theirs
kind: TrafficReplay
metadata: { name: replay-jwt-resign }
spec:
  snapshotID: 3bde4a60-580e-451d-90d1-0effc2f83c92
  workloadRef: { kind: Deployment, name: user }
  secretRefs:
  - name: jwt-demo # the key
";

fn converted(text: &str) -> (String, Vec<String>, usize) {
    let mut found = Findings::default();
    let file = file(Path::new("a.yaml"), text.to_owned(), &mut found);
    let lines = found
        .lines()
        .into_iter()
        .map(|(is_error, line)| format!("{}{line}", if is_error { "error: " } else { "" }));
    (file.after, lines.collect(), file.errors)
}

#[test]
fn the_seed_needs_another_group_and_nothing_else() {
    let (after, found, errors) = converted(SEED);
    assert_eq!(after, SEED.replace("speedscale.com/v1", "countersign.dev/v1"));
    assert_eq!(errors, 0);
    assert_eq!(
        found,
        ["a.yaml: document 1: spec.testConfigID: it is not given, and is `standard` then"]
    );
    // What is ours already stays.
    let (again, found, _) = converted(&after);
    assert_eq!((again, found), (after, vec![]));
}

#[test]
fn other_documents_stay_byte_for_byte() {
    let before = format!(
        "%YAML 1.2\n---\nkind:   Service # mine\nmetadata: {{name: \"x\"}}\n...\n---\r\n{{{{ template }}}}: [\r\n--- # next\n{SEED}---\n"
    );
    let (after, found, errors) = converted(&before);
    assert_eq!(after, before.replace("speedscale.com/v1", "countersign.dev/v1"));
    assert_eq!(errors, 0);
    assert!(found[0].starts_with("a.yaml: document 2: it is no YAML, and is kept"), "{found:?}");
    assert!(found[1].starts_with("a.yaml: document 3: spec.testConfigID"), "{found:?}");
}

#[test]
fn what_a_cluster_exported_loses_what_belongs_to_the_old_resource() {
    let before = "\
apiVersion: v1
items:
- apiVersion: speedscale.com/v1
  kind: TrafficReplay
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {\"apiVersion\":\"speedscale.com/v1\"}
      team: pay
    creationTimestamp: \"2025-01-01T00:00:00Z\"
    finalizers:
    - replay.speedscale.com/finalizer
    generation: 2
    name: one
    uid: 0c1d
  spec:
    collectLogs: true
    mode: responder-only
    sidecar:
      inject: true
    snapshotID: s1
    testConfigID: standard
    workloads:
    - mocks: ['*']
      routing: nat
      ref: {name: user}
  status:
    active: true
    conditions:
    - type: Ready
kind: List
metadata:
  resourceVersion: \"\"
";
    let (after, found, errors) = converted(before);
    let wanted = "\
apiVersion: v1
items:
- apiVersion: countersign.dev/v1
  kind: TrafficReplay
  metadata:
    annotations:
      team: pay
    name: one
  spec:
    collectLogs: true
    mode: responder-only
    sidecar:
      inject: true
    snapshotID: s1
    testConfigID: standard
    workloads:
    - mocks: ['*']
      routing: nat
      ref: {name: user}
kind: List
metadata:
  resourceVersion: \"\"
";
    assert_eq!(after, wanted);
    assert_eq!(errors, 0);
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").nth(2).unwrap()).collect();
    assert_eq!(
        places,
        [
            "items[0].metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
            "items[0].metadata.creationTimestamp",
            "items[0].metadata.finalizers",
            "items[0].metadata.generation",
            "items[0].metadata.uid",
            "items[0].spec.collectLogs",
            "items[0].spec.sidecar",
            "items[0].spec.workloads[0].routing",
            "items[0].status",
        ]
    );
}

#[test]
fn annotations_of_a_workload_become_a_replay_behind_it() {
    let before = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: user
  namespace: pay
  annotations:
    replay.speedscale.com/snapshot-id: 3bde4a60-580e-451d-90d1-0effc2f83c92
    replay.speedscale.com/mode: responder-only
    replay.speedscale.com/env-id: e
spec:
  template:
    metadata:
      annotations: {sidecar.speedscale.com/inject: \"true\"}";
    let (after, found, errors) = converted(before);
    let made = "
---
# From the annotations of Deployment user.
apiVersion: countersign.dev/v1
kind: TrafficReplay
metadata:
  name: user-replay
  namespace: pay
spec:
  snapshotID: \"3bde4a60-580e-451d-90d1-0effc2f83c92\"
  testConfigID: standard
  mode: responder-only
  workloadRef:
    kind: Deployment
    name: user
";
    assert_eq!(after, format!("{before}{made}"));
    assert_eq!(errors, 0);
    let fields: Vec<_> = found.iter().filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    assert_eq!(
        fields,
        [
            "replay.speedscale.com/snapshot-id",
            "replay.speedscale.com/env-id",
            "sidecar.speedscale.com/inject",
        ]
    );
    // What was made is a replay that needs nothing more.
    assert_eq!(converted(after.strip_prefix(before).unwrap()).1, Vec::<String>::new());
    let (_, found, errors) = converted(&before.replace("kind: Deployment", "kind: CronJob"));
    assert_eq!(errors, 1, "{found:?}");
}

#[test]
fn what_cannot_be_converted_is_named() {
    for (change, with, what) in [
        ("  secretRefs", "  secretReferences", "spec.secretReferences: no TrafficReplay has"),
        (
            "kind: TrafficReplay",
            "kind: Capture",
            "there is nothing like Capture of speedscale.com/v1",
        ),
        (
            "speedscale.com/v1 ",
            "speedscale.com/v2 ",
            "there is nothing like TrafficReplay of speedscale.com/v2",
        ),
        ("speedscale.com/v1 ", "&v speedscale.com/v1 ", "apiVersion: write `apiVersion"),
        ("snapshotID", "testConfigID", "spec.snapshotID: it is required"),
        ("  secretRefs:", "  workloads: []\n  secretRefs:", "spec.workloadRef: it excludes"),
        ("name: replay-jwt-resign", "name: a, uid: b", "metadata.uid: it belongs"),
        ("spec:", "spec: [", "it is no YAML"),
        ("kind: TrafficReplay", "kind: TrafficReplay\nextra: 1", "extra: no TrafficReplay has"),
        ("Deployment, name: user", "Deployment", "spec.workloadRef.name: it is required"),
    ] {
        let (_, found, errors) = converted(&SEED.replacen(change, with, 1));
        assert_eq!(errors, 1, "{with}: {found:?}");
        assert!(
            found.iter().any(|line| line.starts_with("error: ") && line.contains(what)),
            "{found:?}"
        );
    }
}

#[test]
fn json_stays_json() {
    let before = r#"{"apiVersion": "speedscale.com/v1", "kind": "TrafficReplay", "metadata": {"name": "a"},
        "spec": {"snapshotID": "s", "testConfigID": "t"}}"#;
    let (after, found, _) = converted(before);
    assert_eq!(after, before.replace("speedscale.com/v1", "countersign.dev/v1"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn files_are_written_in_place_unless_something_in_them_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.yaml"), dir.path().join("bad.yaml"));
    fs::write(&good, SEED).unwrap();
    let refused = SEED.replace("secretRefs", "secrets");
    fs::write(&bad, format!("{SEED}---\n{refused}")).unwrap();
    let out = Output::new(Format::Json);
    let run_on = |files: &[&PathBuf], in_place| {
        let files = files.iter().map(|file| (*file).clone()).collect();
        run(&ConvertArgs { files, in_place }, &out)
    };
    let failure = run_on(&[&good, &bad], true).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(fs::read_to_string(&good).unwrap().contains("countersign.dev/v1"));
    assert_eq!(fs::read_to_string(&bad).unwrap(), format!("{SEED}---\n{refused}"));
    assert!(run_on(&[&good], true).is_ok());
    assert!(run_on(&[&PathBuf::from("-")], true).is_err());
    assert_eq!(run_on(&[&dir.path().join("none")], false).unwrap_err().exit_code(), 2);
}

#[test]
fn several_files_are_one_stream() {
    let one = |text: &str, errors| Converted {
        file: PathBuf::from("x"),
        before: String::new(),
        after: text.to_owned(),
        converted: 1,
        made: 0,
        errors,
    };
    let files = [one("a: 1", 0), one("refused", 1), one("---\nb: 2\n", 0), one("c: 3\n", 0)];
    assert_eq!(joined(&files), "a: 1\n---\nb: 2\n---\nc: 3\n");
}
