//! The chart, and the manifests that are made from it, against a real Kubernetes API.

use harness::kubernetes::Cluster;
use serde_json::json;

#[tokio::test]
async fn the_tests_api_judges_as_a_cluster_does() {
    let Some(cluster) = Cluster::start().await else { return };
    let namespace = cluster.namespace("judged");
    // Who may do nothing is refused, who may do one thing does it.
    let account = cluster.service_account(&namespace, "default");
    let ask = || cluster.kubectl_as(&account, &["get", "configmaps", "-n", &namespace]);
    assert!(ask().text().contains("Forbidden"), "{}", ask().text());
    let name = json!({"name": "reader", "namespace": namespace});
    cluster.apply(&[
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": name,
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}}),
    ]);
    harness::wait_until("the role is granted", || async { (ask().code() == 0).then_some(()) })
        .await;
    // A pod with more rights than it needs is not admitted.
    let pod = cluster.kubectl(&["run", "root", "--image=x", "-n", &namespace]);
    assert!(pod.text().contains("violates PodSecurity"), "{}", pod.text());
}
