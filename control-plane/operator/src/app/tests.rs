//! A watch that the API server ends, because what it was to go on from is no longer known.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use super::*;
use crate::{
    fake::{self, refusal},
    settings::tests::settings,
};

const LIST: &str = "/apis/countersign.dev/v1/trafficreplays?";

#[tokio::test]
async fn a_watch_that_has_expired_begins_anew_and_sees_what_was_missed() {
    let lists = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&lists);
    let (client, asked) = fake::client(move |asked| {
        let is_watch = asked.target.contains("watch=true");
        if asked.target.starts_with(LIST) && is_watch {
            let gone: serde_json::Value = serde_json::from_str(&refusal(410, "Expired").1).unwrap();
            return (200, format!("{}\n", json!({ "type": "ERROR", "object": gone })));
        }
        let mut items = Vec::new();
        if asked.target.starts_with(LIST) && seen.fetch_add(1, Ordering::Relaxed) > 0 {
            // It was made while nobody watched.
            let metadata = json!({ "name": "missed", "namespace": "shop", "uid": "u", "resourceVersion": "8", "generation": 1 });
            items.push(json!({ "metadata": metadata, "spec": { "snapshotID": "login" } }));
        }
        if asked.target.ends_with("/trafficreplays/missed") {
            return refusal(404, "NotFound");
        }
        if is_watch {
            return (200, String::new());
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "7" }, "items": items });
        (200, list.to_string())
    });
    let (watches, changes) = Watches::new();
    let settings = settings(&[]);
    let plane = Plane::new(&settings).unwrap();
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context { client, plane, settings, recorder, watches });
    let (_end, ended) = watch::channel(false);
    let looks = async {
        let is_look = |asked: &fake::Asked| {
            asked.method == "GET" && asked.target.ends_with("/trafficreplays/missed")
        };
        while !asked.lock().unwrap().iter().any(is_look) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = control(context, changes, ended) => panic!("it has ended"),
        looked = tokio::time::timeout(Duration::from_secs(60), looks) => looked.unwrap(),
    }
    assert!(lists.load(Ordering::Relaxed) >= 2);
}
