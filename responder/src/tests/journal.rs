//! The journal through the sockets.

use super::{KEY, RECORDED, body, exchange, get, get_admin, json, login, pair, serving, status};

fn with(path: &str, authorization: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: api.example\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_told_without_credentials() {
    let mut me = pair("GET", "/me", "alice");
    me.request.as_mut().unwrap().headers.push(countersign_engine::snapshot::Header {
        name: "Authorization".into(),
        value: format!("Bearer {RECORDED}").into(),
    });
    let (running, _plane, _stream) = serving(vec![login(), me], |config| {
        config.journal.bodies = true;
    })
    .await;
    let (admin, data) = (running.admin_addr(), running.data_addr());
    get(data, "/login").await;
    exchange(data, &with("/me", &format!("Bearer {RECORDED}"))).await;
    exchange(
        data,
        &with(&format!("/you?access_token=opaque-secret&t={RECORDED}"), "Basic Ym9iOmh1bnRlcjI="),
    )
    .await;
    exchange(data, "GET /a HTTP/1.1\r\nconnection: close\r\n\r\n").await;

    let text = get_admin(admin, "/journal").await;
    for hidden in RECORDED.split('.').chain(["opaque-secret", "Ym9iOmh1bnRlcjI", "hunter2", KEY]) {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let told = json(&text);
    let entries = told["requests"].as_array().unwrap();
    let outcomes: Vec<_> = entries.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "miss", "hit", "hit"]);
    let miss = &entries[1];
    assert_eq!((miss["status"].as_u64(), miss["path"].as_str()), (Some(404), Some("/you")));
    assert_eq!(miss["headers"]["authorization"][0], "Basic <the user bob>");
    assert_eq!(miss["credentials"][0]["place"], "header authorization");
    assert!(miss["nearest"][0]["differing"].is_array(), "{miss}");
    let hit = &entries[2];
    assert_eq!(hit["replay"], "projects/default/replays/r");
    assert_eq!((hit["record"].as_u64(), hit["response_body"].as_str()), (Some(1), Some("alice")));
    assert_eq!(hit["signature"]["http:url"], "/me");
    assert!(entries[3]["response_body"].as_str().unwrap().contains("access_token"));
    assert!(hit["duration_us"].is_u64() && hit["time"].as_str().unwrap().ends_with('Z'), "{hit}");

    for (filter, expected) in [
        ("limit=1", 1),
        ("outcome=hit", 2),
        ("path=/me", 1),
        ("host=API.example:80", 3),
        ("host=other", 0),
        ("outcome=borrowed", 0),
    ] {
        let told = json(&get_admin(admin, &format!("/journal?{filter}")).await);
        assert_eq!(told["requests"].as_array().unwrap().len(), expected, "{filter}");
    }
    assert_eq!(status(&get_admin(admin, "/journal?limit=x").await), "400");
    let lines = get_admin(admin, "/journal?format=jsonl").await;
    assert!(lines.contains("content-type: application/jsonl"));
    assert_eq!(body(&lines).lines().count(), 4);

    let delete = |more: &str| {
        format!("DELETE /journal HTTP/1.1\r\nhost: localhost\r\n{more}connection: close\r\n\r\n")
    };
    let page = exchange(admin, &delete("origin: http://page.example\r\n")).await;
    assert_eq!(status(&page), "403");
    assert_eq!(json(&exchange(admin, &delete("")).await)["forgotten"], 4);
    assert_eq!(json(&get_admin(admin, "/journal").await)["requests"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_the_answer_of_somebody_else_is_told() {
    let me = |sub: &str| {
        let mut me = pair("GET", "/me", sub);
        let value = format!("Basic {}", if sub == "ann" { "YW5uOng=" } else { "Ym9iOng=" });
        let request = me.request.as_mut().unwrap();
        let header = countersign_engine::snapshot::Header {
            name: "Authorization".into(),
            value: value.into(),
        };
        request.headers.push(header);
        me
    };
    let (running, _plane, _stream) = serving(vec![me("ann"), me("bob")], |_| {}).await;
    exchange(running.data_addr(), &with("/me", "Basic Ym9iOng=")).await;
    exchange(running.data_addr(), &with("/me", "Basic ZXZlOng=")).await;
    let told = json(&get_admin(running.admin_addr(), "/journal?outcome=borrowed").await);
    let entries = told["requests"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{told}");
    assert_eq!(entries[0]["asked_by"], "user eve");
    assert_eq!(entries[0]["answered_for"], "user ann");
    assert!(entries[0].get("request_body").is_none());
    let metrics = get_admin(running.admin_addr(), "/metrics").await;
    assert!(metrics.contains("countersign_borrowed_hits_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_noted_where_nothing_is_to_be() {
    let (running, _plane, _stream) =
        serving(vec![login()], |config| config.journal.entries = 0).await;
    get(running.data_addr(), "/login").await;
    assert_eq!(status(&get_admin(running.admin_addr(), "/journal").await), "404");
}
