//! `countersign replay start --kubernetes`.

use harness::process;
use serde_json::{Value, json};

use super::world::{World, mount_key};

/// The command, by the kubeconfig of somebody who may do everything. The control plane that it would ask is none.
fn start(world: &World, arguments: &[&str]) -> process::Finished {
    let kubeconfig = world.cluster.kubeconfig().to_string_lossy().into_owned();
    let global =
        ["--server", "http://127.0.0.1:1", "--output", "json", "replay", "start", "--kubernetes"];
    let place = ["--namespace", &world.namespace];
    process::run_in(
        "countersign",
        [&global[..], &place, arguments].concat(),
        &[("KUBECONFIG".into(), kubeconfig)],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_printed_applied_and_waited_for() {
    let Some(world) = World::new("command").await else { return };
    let asked = ["login", "--transform", "jwt", "--secret", "more", "--ttl-after-ready", "1h"];
    let printed: Value =
        serde_json::from_str(&start(&world, &[&asked[..], &["--dry-run"]].concat()).ok().stdout())
            .unwrap();
    assert_eq!(
        printed["spec"],
        json!({
            "snapshotID": "login", "testConfigID": "standard", "transformID": "jwt",
            "secretRefs": [{ "name": "more" }], "ttlAfterReady": "1h",
        })
    );
    assert!(world.get("trafficreplay", "login").is_none(), "nothing is applied");

    let late = start(&world, &[&asked[..], &["--wait=1s"]].concat());
    assert_eq!(late.code(), 5, "{}", late.text());
    assert!(late.text().contains("no operator has seen it"), "{}", late.text());

    let _operator = world.operator("one", &[]);
    mount_key(&world);
    let _responder = world.respond("responder-login", "one").await;
    world.pods_are_ready("responder-login", 1);
    let ready = start(&world, &[&asked[..], &["--wait"]].concat()).ok();
    let ready: Value = serde_json::from_str(&ready.stdout()).unwrap();
    assert_eq!(ready["status"]["conditions"].as_array().unwrap().last().unwrap()["status"], "True");

    let refused = start(&world, &["login", "--secret", "No_Secret"]);
    assert_ne!(refused.code(), 0);
    assert!(refused.text().contains("secretRefs[0].name"), "{}", refused.text());
}
