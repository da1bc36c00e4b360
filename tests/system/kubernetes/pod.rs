//! The seed of it all: a manifest that names the secret, and a responder that is started with exactly what the pod says.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    process::Command,
};

use harness::{
    client::Client,
    notice,
    process::Process,
    python::{Ask, verify},
    wait_until,
};
use serde_json::{Value, json};

use super::{
    secrets::login,
    world::{World, key_pair, mount},
};

const SNAPSHOT: &str = "3bde4a60-580e-451d-90d1-0effc2f83c92";

/// The manifest that users have, of which only the group is another.
const SEED: &str = "\
apiVersion: countersign.dev/v1
kind: TrafficReplay
metadata:
  name: replay-jwt-resign
spec:
  snapshotID: 3bde4a60-580e-451d-90d1-0effc2f83c92
  workloadRef:
    kind: Deployment
    name: user
  secretRefs:
  - name: jwt-demo
";

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_of_users_mounts_its_secret_and_its_pod_serves_the_login() {
    let Some(world) = World::new("seed").await else { return };
    let _operator = world.operator("one", &[]);
    world.workload("user", &Value::Null);
    let manifest = world.path("replay.yaml");
    fs::write(&manifest, SEED).unwrap();
    drop(world.kubectl(&["apply", "-f", &manifest]).ok());
    let message = world.wait_condition("replay-jwt-resign", "Ready", "False", "PartMissing").await;
    assert_eq!(message, format!("the control plane has no snapshot {SNAPSHOT}"));

    import_with_its_template(&world);
    let name = "responder-replay-jwt-resign";
    let made = world.wait_for("deployment", name).await;
    let pod = &made["spec"]["template"]["spec"];
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let path = "/home/speedscale/secret/jwt-demo";
    let mount_of = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap();
    assert_eq!((&mount_of["readOnly"], mount_of.get("subPath")), (&json!(true), None));
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount_of["name"]).unwrap();
    assert_eq!(volume["secret"]["secretName"], "jwt-demo");
    assert_eq!(
        volume["secret"].get("items"),
        None,
        "the whole directory, so that a rotation shows"
    );

    let (private, public) = key_pair();
    mount(&world.dir.path().join("secret"), &[("tls.key", private.as_bytes())]);
    let made = world.get("deployment", name).unwrap();
    let (_pod, data) = run(&world, &made["spec"]["template"]["spec"], &world.path("secret")).await;
    world.pods_are_ready(name, 1);
    world.wait_condition("replay-jwt-resign", "MocksReady", "True", "Served").await;
    world.wait_condition("replay-jwt-resign", "SecretsMounted", "True", "Resolved").await;
    let token = login(&Client::new(data)).await;
    let ask = Ask { token, key: public, alg: "RS256".into() };
    let claims = verify(&[ask]).remove(0).unwrap();
    assert_eq!(claims["sub"], "alice", "{claims}");
}

/// Imports the example as users have recordings: with the chains that re-sign it in the snapshot's metadata.
fn import_with_its_template(world: &World) {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/example");
    let snapshot = world.dir.path().join(SNAPSHOT);
    let copied =
        Command::new("cp").args(["-r", &format!("{example}/recording")]).arg(&snapshot).status();
    assert!(copied.unwrap().success());
    let template = fs::read_to_string(format!("{example}/transform.json")).unwrap();
    let template: Value = serde_json::from_str(&template).unwrap();
    let metadata =
        json!({ "id": SNAPSHOT, "tokenConfigId": "standard", "tokenizerConfig": template });
    fs::write(world.path(&format!("{SNAPSHOT}.json")), metadata.to_string()).unwrap();
    world.cli(&["snapshot", "import", &snapshot.to_string_lossy(), "--id", SNAPSHOT]);
}

/// Starts the container of a pod as the kubelet would: its arguments, its variables, its mounts where it has them. The directory of the secret `jwt-demo` is this one.
///
/// Where mount namespaces are not allowed, which is noticed, directories are given as flags instead.
async fn run(world: &World, pod: &Value, secret: &str) -> (Process, SocketAddr) {
    let container = &pod["containers"][0];
    let arguments: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
    let variables = variables(&container["env"]);
    let allowed =
        Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        notice("mount namespaces are not allowed here, a pod's directories are given as flags");
        let mut own = arguments;
        let cache = world.path("cache");
        for (flag, value) in [
            ("--listen", "127.0.0.1:0"),
            ("--admin-listen", "127.0.0.1:0"),
            ("--cache-dir", &cache),
        ] {
            let place = own.iter().position(|argument| argument == flag).unwrap();
            value.clone_into(&mut own[place + 1]);
        }
        fs::create_dir_all(world.path("secrets")).unwrap();
        symlink(secret, world.path("secrets/jwt-demo")).unwrap();
        own.extend(["--secret-dir".to_owned(), world.path("secrets")]);
        let mut process = Process::start_in("countersign-responder", own, &variables);
        let data = process.address("data").await;
        return (process, data);
    }
    // The ports are the pod's own; nobody else may have them here.
    for port in [4140, 4141] {
        wait_until(&format!("port {port} is free"), || async {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok().map(drop)
        })
        .await;
    }
    let mut script = String::from("set -e\nexec 9<\"$1\"\nshift\n");
    for mount in container["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        let volume =
            pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == mount["name"]).unwrap();
        // Above the mount everything is hidden, so that nothing of this machine is touched.
        let top = path.split('/').nth(1).unwrap();
        script.push_str(&format!(
            "mountpoint -q /{top} || mount -t tmpfs tmpfs /{top}\nmkdir -p {path}\n"
        ));
        if volume["secret"]["secretName"] == "jwt-demo" {
            script.push_str(&format!(
                "mount --bind '{secret}' {path}\nmount -o remount,bind,ro {path}\n"
            ));
        }
    }
    script.push_str("exec /proc/self/fd/9 \"$@\"\n");
    let binary = harness::binaries::path("countersign-responder");
    let mut command =
        vec!["-rm".to_owned(), "sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    command.push(binary.to_string_lossy().into_owned());
    command.extend(arguments);
    let mut process = Process::start_program("unshare", command, &variables);
    let data = process.address("data").await;
    assert_eq!(data.port(), 4140);
    (process, SocketAddr::from((Ipv4Addr::LOCALHOST, data.port())))
}

/// A container's variables as the kubelet fills them in.
fn variables(listed: &Value) -> Vec<(String, String)> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for variable in listed.as_array().unwrap() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => "responder-replay-jwt-resign-6d4cf56db6-x7k2p".to_owned(),
            Some("status.podIP") => "127.0.0.1".to_owned(),
            other => {
                assert_eq!(other, None, "the kubelet knows this one, and the test does not");
                let text = variable["value"].as_str().unwrap().to_owned();
                known
                    .iter()
                    .fold(text, |text, (name, value)| text.replace(&format!("$({name})"), value))
            }
        };
        known.insert(variable["name"].as_str().unwrap().to_owned(), value);
    }
    known.into_iter().collect()
}
