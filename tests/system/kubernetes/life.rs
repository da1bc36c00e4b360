//! From creation to deletion.

use std::fs;

use harness::wait_until;
use serde_json::{Value, json};

use super::world::{World, mount_key};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_becomes_responders_that_serve_and_goes_as_it_came() {
    let Some(world) = World::new("life").await else { return };
    let _operator = world.operator("one", &[]);
    world.replay("demo", &json!({}));
    let object = "responder-demo";
    let deployment = world.wait_for("deployment", object).await;
    for kind in ["service", "poddisruptionbudget", "networkpolicy"] {
        let made = world.wait_for(kind, object).await;
        assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "demo", "{kind}");
    }
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(
        world.wait_condition("demo", "Accepted", "True", "Accepted").await,
        "all that it names is there"
    );
    world.wait_condition("demo", "MocksReady", "False", "PodsNotReady").await;

    mount_key(&world);
    let _first = world.respond(object, "first").await;
    world.pods_are_ready(object, 1);
    world.wait_condition("demo", "MocksReady", "True", "Served").await;
    world.wait_condition("demo", "SecretsMounted", "True", "Resolved").await;
    world.wait_condition("demo", "Ready", "True", "MocksReady").await;
    let status = &world.get("trafficreplay", "demo").unwrap()["status"];
    assert_eq!((&status["active"], &status["observedGeneration"]), (&json!(true), &json!(1)));
    assert!(status["startedTime"].is_string() && status["initializedTime"].is_string(), "{status}");
    assert_eq!(status["conditions"].as_array().unwrap().last().unwrap()["type"], "Ready");
    let ids = world.replays("demo");
    assert_eq!((ids.len(), &ids[0]["state"]), (1, &json!("RUNNING")));
    assert!(ids[0]["name"].as_str().unwrap().ends_with(status["reportID"].as_str().unwrap()));
    wait_until("it is told", || async {
        world.events("demo").contains(&"Served".to_owned()).then_some(())
    })
    .await;
    let columns = world.kubectl(&["get", "replay", "demo"]).ok().stdout();
    assert!(columns.contains("ACTIVE") && columns.contains("login is served"), "{columns}");

    // Other parts are another replay: it begins beside the one before, which ends when the new one is served.
    let config = world.path("two.json");
    fs::write(&config, r#"{"id":"two","responder":{"numReplicas":2}}"#).unwrap();
    world.cli(&["testconfig", "put", &config]);
    world.replay("demo", &json!({ "testConfigID": "two" }));
    replicas(&world, object, 2).await;
    world.wait_condition("demo", "Ready", "False", "PodsNotReady").await;
    assert_eq!(running(&world), 2);
    let _others = [world.respond(object, "second").await, world.respond(object, "third").await];
    world.pods_are_ready(object, 2);
    world.wait_condition("demo", "Ready", "True", "MocksReady").await;
    wait_until("the one before has ended", || async { (running(&world) == 1).then_some(()) }).await;

    // A test config that changes scales what is there.
    fs::write(&config, r#"{"id":"two","responder":{"numReplicas":3}}"#).unwrap();
    world.cli(&["testconfig", "put", &config]);
    replicas(&world, object, 3).await;
    world.wait_condition("demo", "Ready", "False", "PodsNotReady").await;

    drop(world.kubectl(&["delete", "trafficreplay", "demo", "--wait=false"]).ok());
    for (kind, name) in [("deployment", object), ("service", object), ("trafficreplay", "demo")] {
        world.wait_gone(kind, name).await;
    }
    assert!(world.get("networkpolicy", object).is_none() && world.get("pdb", object).is_none());
    assert_eq!((running(&world), world.replays("demo").len()), (0, 2), "reports stay");
}

async fn replicas(world: &World, object: &str, wanted: i64) {
    wait_until(&format!("there are {wanted} replicas"), || async {
        let found = world.get("deployment", object)?;
        (found["spec"]["replicas"] == wanted).then_some(())
    })
    .await;
}

fn running(world: &World) -> usize {
    world.replays("demo").iter().filter(|replay| replay["state"] == "RUNNING").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_at_the_control_plane_is_named_until_it_is_there() {
    let Some(world) = World::new("missing").await else { return };
    let _operator = world.operator("one", &[]);
    world.replay("demo", &json!({ "testConfigID": "later" }));
    let message = world.wait_condition("demo", "Ready", "False", "PartMissing").await;
    assert_eq!(message, "the control plane has no test config later");
    assert!(world.get("deployment", "responder-demo").is_none());
    let config = world.path("later.json");
    fs::write(&config, r#"{"id":"later"}"#).unwrap();
    world.cli(&["testconfig", "put", &config]);
    world.wait_for("deployment", "responder-demo").await;
    world.wait_condition("demo", "Accepted", "True", "Accepted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_away_stops_nothing() {
    let Some(mut world) = World::new("away").await else { return };
    let _operator = world.operator("one", &[]);
    world.replay("demo", &json!({}));
    world.wait_for("deployment", "responder-demo").await;
    world.wait_condition("demo", "Accepted", "True", "Accepted").await;
    world.plane.kill();
    world.wait_condition("demo", "Accepted", "Unknown", "ControlPlaneUnavailable").await;
    assert!(world.get("deployment", "responder-demo").is_some());
    let failures = || {
        let replay = world.get("trafficreplay", "demo").unwrap();
        replay["status"]["reconcileFailures"].as_i64().unwrap()
    };
    wait_until("failures are counted", || async { (failures() > 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_make_no_sense_are_refused_and_deprecated_fields_are_told_of() {
    let Some(world) = World::new("schema").await else { return };
    let refused: [(Value, &str); 8] = [
        (json!({ "mode": "both" }), "spec.mode"),
        (json!({ "timeout": "soon" }), "spec.timeout"),
        (json!({ "ttlAfterReady": "0s" }), "at least a second"),
        (json!({ "secretRefs": [{ "name": "No_Secret" }] }), "spec.secretRefs[0].name"),
        (json!({ "workloads": [{}] }), "either ref or customURI"),
        (
            json!({ "workloads": [{ "ref": { "name": "x" }, "customURI": "http://x" }] }),
            "either ref or customURI",
        ),
        (
            json!({ "workloadRef": { "name": "x", "kind": "Job" } }),
            "Deployment, StatefulSet or DaemonSet",
        ),
        (
            json!({ "workloadRef": { "name": "x" }, "workloads": [{ "customURI": "http://x" }] }),
            "exclude each other",
        ),
    ];
    for (spec, why) in refused {
        let told = apply(&world, "refused", &spec);
        assert!(told.contains(why), "{spec}: {told}");
    }
    let deprecated = json!({
        "mode": "responder-only",
        "collectLogs": true,
        "sidecar": { "inject": true, "tls": { "out": true } },
        "workloads": [{ "customURI": "http://x", "inTrafficKeys": { "any": ["thing"] } }],
    });
    assert_eq!(apply(&world, "old", &deprecated), "");
    let kept = world.get("trafficreplay", "old").unwrap()["spec"].clone();
    assert_eq!(kept["workloads"], deprecated["workloads"]);
    assert_eq!(
        (&kept["sidecar"], &kept["testConfigID"]),
        (&deprecated["sidecar"], &json!("standard"))
    );
    let told = apply(&world, "old", &json!({ "mode": "full-replay" }));
    assert!(told.contains("cannot be changed"), "{told}");
    let _operator = world.operator("one", &[]);
    let message = world.wait_condition("old", "Accepted", "True", "AcceptedInPart").await;
    assert_eq!(message, "without effect: collectLogs, sidecar, workloads[].inTrafficKeys");
}

/// What kubectl says when a manifest is refused; empty when it is not.
fn apply(world: &World, name: &str, spec: &Value) -> String {
    let mut whole = json!({ "snapshotID": "login" });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    let manifest = json!({
        "apiVersion": "countersign.dev/v1", "kind": "TrafficReplay", "metadata": { "name": name }, "spec": whole,
    });
    let path = world.path("manifest.json");
    fs::write(&path, manifest.to_string()).unwrap();
    let applied = world.kubectl(&["apply", "-f", &path]);
    if applied.code() == 0 { String::new() } else { applied.text() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_stay_stays_and_times_are_kept() {
    let Some(world) = World::new("times").await else { return };
    let _operator = world.operator("one", &[]);
    // It is not ready in time, and ends.
    world.replay("late", &json!({ "timeout": "1s" }));
    world.wait_condition("late", "Ready", "False", "TimedOut").await;
    world.wait_gone("deployment", "responder-late").await;
    let status = world.get("trafficreplay", "late").unwrap()["status"].clone();
    assert!(status["active"] == false && status["finishedTime"].is_string(), "{status}");

    // It is kept for a second once it is ready, and then is gone.
    mount_key(&world);
    world.replay("brief", &json!({ "ttlAfterReady": "1s" }));
    let _brief = world.respond("responder-brief", "brief").await;
    world.pods_are_ready("responder-brief", 1);
    world.wait_gone("trafficreplay", "brief").await;
    world.wait_gone("deployment", "responder-brief").await;

    // Nothing of it is taken back.
    world.replay("kept", &json!({ "cleanup": "none" }));
    world.wait_for("deployment", "responder-kept").await;
    world.wait_condition("kept", "MocksReady", "False", "PodsNotReady").await;
    drop(world.kubectl(&["delete", "trafficreplay", "kept"]).ok());
    let kept = world.get("deployment", "responder-kept").unwrap();
    assert_eq!(kept["metadata"].get("ownerReferences"), None);
    assert_eq!(world.replays("kept")[0]["state"], "RUNNING");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_generated_once_and_their_outcome_is_the_replays() {
    let Some(world) = World::new("load").await else { return };
    let _operator = world.operator("one", &[]);
    for (name, condition, status, reason) in
        [("good", "Complete", "True", "TestSucceeded"), ("bad", "Failed", "False", "TestFailed")]
    {
        world.replay(name, &json!({ "mode": "generator-only", "customURL": "http://user:8080" }));
        world.wait_condition(name, "Ready", "False", "Generating").await;
        assert!(world.get("deployment", &format!("responder-{name}")).is_none());
        let job = job(&world, name).await;
        let arguments = &job["spec"]["template"]["spec"]["containers"][0]["args"];
        assert_eq!(
            arguments.as_array().unwrap()[..5],
            ["load", "--snapshot", "login", "--to", "http://user:8080"]
        );
        let now = "2026-01-01T00:00:00Z";
        let before = if condition == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
        let conditions = [before, condition].map(|kind| {
            json!({ "type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Done", "message": "it ended" })
        });
        let mut outcome = json!({ "startTime": now, "conditions": conditions });
        if condition == "Complete" {
            (outcome["completionTime"], outcome["succeeded"]) = (json!(now), json!(1));
        }
        world.patch_status("job", job["metadata"]["name"].as_str().unwrap(), &outcome);
        world.wait_condition(name, "Ready", status, reason).await;
        let told = world.get("trafficreplay", name).unwrap()["status"].clone();
        assert!(told["active"] == false && told["finishedTime"].is_string(), "{told}");
    }
}

/// The job of a replay.
async fn job(world: &World, name: &str) -> Value {
    let label = format!("countersign.dev/replay=responder-{name}");
    wait_until("there is a job", || async {
        let found = world.kubectl(&["get", "jobs", "-l", &label, "-o", "json"]).ok().stdout();
        let found: Value = serde_json::from_str(&found).unwrap();
        found["items"].as_array().unwrap().first().cloned()
    })
    .await
}
