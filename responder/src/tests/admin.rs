//! The admin listener through its socket.

use super::{
    KEY, RESIGN, body, config, exchange, fake::ControlPlane, get, get_admin, in_time, json, login,
    pair, serving, status,
};
use crate::app;

#[tokio::test(flavor = "multi_thread")]
async fn tells_how_it_is() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("demo")).unwrap();
    std::fs::write(secrets.path().join("demo/key"), KEY).unwrap();
    let mut plane = ControlPlane::start().await;
    let running = app::start(config(secrets.path(), Some(&plane))).await.unwrap();
    let addr = running.admin_addr();
    assert_eq!(status(&get_admin(addr, "/healthz").await), "200");
    let waiting = get_admin(addr, "/readyz").await;
    assert_eq!(status(&waiting), "503");
    assert_eq!(json(&waiting)["reasons"].as_array().unwrap().len(), 1);

    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    let bundle = plane.put(vec![login()], Some(RESIGN));
    stream.delta(1, 1, &[("r", bundle, 4)], &[], true).await;
    in_time(running.ready()).await;
    assert_eq!(status(&get_admin(addr, "/readyz").await), "200");
    get(running.data_addr(), "/login").await;
    get(running.data_addr(), "/nothing").await;

    let metrics = get_admin(addr, "/metrics").await;
    assert!(metrics.contains("content-type: application/openmetrics-text"));
    for line in [
        r#"countersign_requests_total{result="hit"} 1"#,
        r#"countersign_requests_total{result="miss"} 1"#,
        r#"countersign_tokens_total{result="signed"} 1"#,
        "countersign_bundle_swaps_total 1",
        "countersign_ready 1",
        "countersign_subscription_connected 1",
    ] {
        assert!(body(&metrics).lines().any(|l| l == line), "no `{line}` in {metrics}");
    }
    let text = get_admin(addr, "/status").await;
    assert!(!text.contains(KEY), "no key material");
    let told = json(&text);
    assert_eq!(told["replays"][0]["name"], "projects/default/replays/r");
    assert_eq!(told["replays"][0]["bundle"], bundle.to_string());
    assert_eq!(told["replays"][0]["pairs"], 1);
    assert_eq!(told["replays"][0]["required_secrets"][0], "demo/key");
    assert_eq!(told["secrets"][0]["resolved"], true);
    assert_eq!(
        (told["source"].as_str(), told["control_plane"]["connected"].as_bool()),
        (Some("control_plane"), Some(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_told_and_begun_anew() {
    let pairs = ["1", "2", "3"].map(|answer| pair("GET", "/n", answer)).to_vec();
    let (running, _plane, _stream) = serving(pairs, |_| {}).await;
    let (admin, data) = (running.admin_addr(), running.data_addr());
    for expected in ["1", "2"] {
        assert_eq!(body(&get(data, "/n").await), expected);
    }
    let told = json(&get_admin(admin, "/status").await)["replays"][0]["sequences"].clone();
    assert_eq!(told, serde_json::json!({ "all": 1, "moved": 1, "steps": 2, "shared": null }));
    let post = |target: &str, more: &str| {
        format!("POST {target} HTTP/1.1\r\nhost: localhost\r\n{more}connection: close\r\n\r\n")
    };
    for (target, more, expected) in [
        ("/reset?replay=unknown", "", "404"),
        ("/reset", "origin: http://page.example\r\n", "403"),
        ("/reset", "", "200"),
    ] {
        assert_eq!(body(&get(data, "/n").await).len(), 1);
        assert_eq!(
            status(&exchange(admin, &post(target, more)).await),
            expected,
            "{target} {more}"
        );
    }
    assert_eq!(body(&get(data, "/n").await), "1");
    assert_eq!(status(&get_admin(admin, "/reset").await), "405");
    let told = json(&exchange(admin, &post("/reset?replay=r", "")).await);
    assert_eq!(told["reset"], serde_json::json!(["projects/default/replays/r"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tells_and_only_whom_it_may() {
    let secrets = tempfile::tempdir().unwrap();
    let running = app::start(config(secrets.path(), None)).await.unwrap();
    let addr = running.admin_addr();
    assert_eq!(status(&get_admin(addr, "/").await), "404");
    let post = "POST /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(addr, post).await), "405");
    let rebound = "GET /status HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(addr, rebound).await), "421");
}
