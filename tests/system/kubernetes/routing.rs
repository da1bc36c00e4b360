//! Workloads that are led to the responders, and get back what they had.

use harness::wait_until;
use serde_json::{Value, json};

use super::world::{Responder, World, mount_key};

const BEFORE: &str = "countersign.dev/host-aliases-before";

/// A workload with a name of its own for one of the recorded hosts, led to the responders.
async fn routed(world: &World) -> Responder {
    mount_key(world);
    world.workload("user", &had());
    world.replay("demo", &json!({ "workloadRef": { "kind": "Deployment", "name": "user" } }));
    let responder = world.respond("responder-demo", "one").await;
    let told = world.wait_condition("demo", "WorkloadsRouted", "False", "MocksNotReady").await;
    assert!(told.contains("0 of 1 responders are ready"), "{told}");
    assert_eq!(aliases(world), had());
    world.pods_are_ready("responder-demo", 1);
    world.wait_condition("demo", "WorkloadsRouted", "False", "RollingOut").await;
    responder
}

fn had() -> Value {
    json!([{ "ip": "10.9.9.9", "hostnames": ["db", "api.example.com"] }])
}

fn aliases(world: &World) -> Value {
    world.get("deployment", "user").unwrap()["spec"]["template"]["spec"]["hostAliases"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_hosts_lead_to_the_responders_until_the_replay_is_deleted() {
    let Some(world) = World::new("route").await else { return };
    let _operator = world.operator("one", &[]);
    let _responder = routed(&world).await;
    let ip = world.get("service", "responder-demo").unwrap()["spec"]["clusterIP"].clone();
    assert_eq!(
        aliases(&world),
        json!([
            { "ip": "10.9.9.9", "hostnames": ["db"] },
            { "ip": ip, "hostnames": ["api.example.com", "auth.example.com"] },
        ])
    );
    world.pods_are_ready("user", 1);
    world.wait_condition("demo", "Ready", "True", "MocksReady").await;

    // Another replay leaves it alone, and says so.
    world.replay("other", &json!({ "workloadRef": { "name": "user" } }));
    let _other = world.respond("responder-other", "other").await;
    world.pods_are_ready("responder-other", 1);
    let taken = world.wait_condition("other", "Ready", "False", "WorkloadTaken").await;
    assert_eq!(taken, "Deployment user belongs to the replay demo");

    // What somebody adds meanwhile stays; what was there before comes back.
    let added = json!([{ "op": "add", "path": "/spec/template/spec/hostAliases/-",
        "value": { "ip": "10.8.8.8", "hostnames": ["new"] } }]);
    drop(
        world
            .kubectl(&["patch", "deployment", "user", "--type=json", "-p", &added.to_string()])
            .ok(),
    );
    drop(world.kubectl(&["delete", "trafficreplay", "other", "demo"]).ok());
    assert_eq!(
        aliases(&world),
        json!([
            { "ip": "10.9.9.9", "hostnames": ["db", "api.example.com"] },
            { "ip": "10.8.8.8", "hostnames": ["new"] },
        ])
    );
    let metadata = world.get("deployment", "user").unwrap()["metadata"].clone();
    assert_eq!(metadata["annotations"].get(BEFORE), None);
    assert_eq!(metadata["labels"].get("countersign.dev/routed-to"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_killed_is_gone_on_for_by_the_next() {
    let Some(world) = World::new("killed").await else { return };
    let mut first = world.mortal_operator("first");
    let _responder = routed(&world).await;
    first.kill();
    assert_ne!(aliases(&world), had());
    drop(world.kubectl(&["delete", "trafficreplay", "demo", "--wait=false"]).ok());
    assert!(world.get("trafficreplay", "demo").is_some(), "nobody has taken anything back");
    let _second = world.mortal_operator("second");
    world.wait_gone("trafficreplay", "demo").await;
    assert_eq!(aliases(&world), had());
    world.wait_gone("deployment", "responder-demo").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_that_are_missing_or_of_another_namespace_are_named() {
    let Some(world) = World::new("target").await else { return };
    let _operator = world.operator("one", &[]);
    mount_key(&world);
    world.replay(
        "absent",
        &json!({ "workloads": [{ "ref": { "name": "nobody" }, "mocks": ["*"] }] }),
    );
    let _responder = world.respond("responder-absent", "one").await;
    world.pods_are_ready("responder-absent", 1);
    let message = world.wait_condition("absent", "Ready", "False", "WorkloadMissing").await;
    assert_eq!(message, "Deployment nobody is not there");
    world.workload("nobody", &Value::Null);
    world.wait_condition("absent", "WorkloadsRouted", "False", "RollingOut").await;
    let led = || {
        world.get("deployment", "nobody").unwrap()["spec"]["template"]["spec"]["hostAliases"]
            .clone()
    };
    assert_eq!(led().as_array().unwrap().len(), 1);
    // It is tested no more.
    world.replay("absent", &json!({ "workloads": [] }));
    wait_until("it has what it had", || async { led().is_null().then_some(()) }).await;

    world.replay(
        "stranger",
        &json!({ "workloadRef": { "name": "user", "namespace": "kube-system" } }),
    );
    let message =
        world.wait_condition("stranger", "WorkloadsRouted", "False", "WorkloadNotAllowed").await;
    assert!(message.starts_with("Deployment user of namespace kube-system: "), "{message}");
}
