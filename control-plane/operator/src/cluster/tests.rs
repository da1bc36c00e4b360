//! What a real API server does too seldom: conflicts, and answers in the middle of something.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{workloads::ATTEMPTS, *};
use crate::{
    fake::{self, Asked, refusal},
    plan::tests::{facts, replay},
    routing::BEFORE,
    settings::tests::settings,
    status::Route,
};

fn plan() -> Plan {
    let asked = replay(&json!({ "workloadRef": { "name": "user" }, "generateKey": "ES256" }));
    Plan::new(&asked, &facts(r#"{"id":"a"}"#), &settings(&[]))
}

fn workload(version: usize, aliases: &Value) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "user", "namespace": "shop", "resourceVersion": version.to_string(), "generation": 1 },
        "spec": { "replicas": 1, "template": { "spec": { "hostAliases": aliases } } },
    })
    .to_string()
}

#[tokio::test]
async fn a_workload_that_somebody_else_writes_at_the_same_time_is_looked_at_again() {
    let patches = AtomicUsize::new(0);
    let (client, asked) = fake::client(move |asked| match asked.method.as_str() {
        "PATCH" if patches.fetch_add(1, Ordering::Relaxed) < 2 => refusal(409, "Conflict"),
        "PATCH" => (200, workload(9, &Value::Null)),
        _ => {
            let version = patches.load(Ordering::Relaxed);
            (
                200,
                workload(
                    version,
                    &json!([{ "ip": format!("10.0.0.{version}"), "hostnames": ["db"] }]),
                ),
            )
        }
    });
    let cluster = Cluster::new(client, "shop".into());
    let (plan, hosts) = (plan(), ["api.example.com".to_owned()]);
    let route = cluster.route(&plan, &plan.targets[0], "10.1.1.1", &hosts).await.unwrap();
    assert_eq!(route, Route::RollingOut);
    let asked = asked.lock().unwrap();
    let patches: Vec<&Asked> = asked.iter().filter(|asked| asked.method == "PATCH").collect();
    assert_eq!(patches.len(), 3);
    for (version, patch) in patches.into_iter().enumerate() {
        // Each is of what was seen last, and says what that was.
        assert_eq!(patch.body["metadata"]["resourceVersion"], version.to_string());
        let noted = patch.body["metadata"]["annotations"][BEFORE].as_str().unwrap();
        assert!(noted.contains(&format!("10.0.0.{version}")), "{noted}");
    }
}

#[tokio::test]
async fn one_that_is_written_all_the_time_is_left_for_later() {
    let (client, asked) = fake::client(|asked| match asked.method.as_str() {
        "PATCH" => refusal(409, "Conflict"),
        _ => (200, workload(1, &Value::Null)),
    });
    let cluster = Cluster::new(client, "shop".into());
    let plan = plan();
    let busy = cluster.route(&plan, &plan.targets[0], "10.1.1.1", &["a.example".to_owned()]).await;
    assert!(matches!(busy, Err(ClusterError::Busy(_))));
    assert_eq!(asked.lock().unwrap().len(), 2 * ATTEMPTS);
}

#[tokio::test]
async fn what_is_somebody_elses_is_neither_applied_over_nor_deleted() {
    let (client, asked) = fake::client(|asked| {
        let kind = if asked.target.contains("services") { "Service" } else { "Deployment" };
        let theirs = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "responder-replay-jwt-resign" } });
        (200, theirs.to_string())
    });
    let cluster = Cluster::new(client, "shop".into());
    let refused = cluster.apply_responders(&plan(), &settings(&[])).await;
    assert!(matches!(refused, Err(ClusterError::NotOurs { .. })), "{refused:?}");
    cluster.delete_responders("responder-replay-jwt-resign").await.unwrap();
    assert!(asked.lock().unwrap().iter().all(|asked| asked.method == "GET"));
}

#[tokio::test]
async fn a_secret_that_is_there_is_left_as_it_is() {
    let (client, asked) = fake::client(|_| refusal(409, "AlreadyExists"));
    let cluster = Cluster::new(client, "shop".into());
    assert_eq!(cluster.make_keys(&plan()).await.unwrap(), Vec::<String>::new());
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].target.contains("dryRun=All") && asked[0].body["data"].is_null(), "{asked:?}");
}
