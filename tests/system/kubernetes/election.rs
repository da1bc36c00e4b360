//! Several operators: one works, and the next one goes on.

use harness::wait_until;
use serde_json::json;

use super::world::World;

/// Who holds the lease.
fn leader(world: &World) -> Option<String> {
    let lease = world.get("lease", "countersign-operator")?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

async fn leads(world: &World, who: &str) {
    wait_until(&format!("{who} leads"), || async { (leader(world)? == who).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_leads_and_the_other_takes_over() {
    let Some(world) = World::new("elect").await else { return };
    let mut first = world.mortal_operator("first");
    leads(&world, "first").await;
    let mut second = world.mortal_operator("second");
    second.address("health").await;
    world.replay("one", &json!({}));
    world.wait_for("deployment", "responder-one").await;
    assert!(!second.text().contains("leads"), "{}", second.text());
    first.kill();
    leads(&world, "second").await;
    let lease = world.get("lease", "countersign-operator").unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    world.replay("two", &json!({}));
    world.wait_for("deployment", "responder-two").await;

    // One that ends as it should lets the next one lead at once.
    assert_eq!(second.terminate().await.code(), Some(0));
    assert_eq!(leader(&world).as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_cannot_renew_steps_down() {
    let Some(world) = World::new("depose").await else { return };
    let mut only = world.mortal_operator("only");
    leads(&world, "only").await;
    drop(world.kubectl(&["delete", "rolebinding", "countersign-operator"]).ok());
    let status = only.ended().await;
    assert_eq!(status.code(), Some(1), "{}", only.text());
    assert!(only.text().contains("this operator leads no more"), "{}", only.text());
}
