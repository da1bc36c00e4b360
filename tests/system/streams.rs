//! Streams as stock clients have them, plain and over TLS: a WebSocket conversation with ws, events with undici and with curl.

use std::{fs, net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{
    client::Client,
    process::Process,
    python::{self, Ask},
    recording,
    scripts::Script,
    wait_until,
};
use serde_json::{Value, json};

use crate::{
    clients::trust,
    tls::{authority, curl, told},
};

const KEY: &str = "a secret that is long enough to sign with";
/// Messages that a server says in one go.
const BURST: usize = 40;
/// Events beside the one with the token.
const TICKS: usize = 300;
/// What befalls handshakes, by their path.
const CHAOS: [(&str, &str); 3] =
    [("/failing", "status=503"), ("/breaking", "connection=reset"), ("/late", "latency=20ms")];

fn old_token() -> String {
    recording::old_token(
        "HS256",
        &json!({"sub": "alice", "iat": 1_700_000_000, "exp": 1_700_000_600}),
    )
}

/// A recorded pair of `GET path`.
fn pair(path: &str, asked: &[u8], fields: &Value, status: u16, answered: &[u8]) -> Value {
    json!({
        "msgType": "rrpair", "ts": "2024-01-02T03:04:05.678901234Z", "l7protocol": "http", "direction": "OUT",
        "network_address": "api.example:80", "command": "GET", "location": path, "status": status.to_string(),
        "http": {
            "req": {"url": path, "uri": path, "version": "1.1", "method": "GET", "host": "api.example",
                "headers": {}, "bodyBase64": STANDARD.encode(asked)},
            "res": {"statusCode": status, "headers": fields, "bodyBase64": STANDARD.encode(answered)}
        }
    })
}

/// The events as they were sent.
fn events(token: &str) -> String {
    let ticks: String = (0..TICKS)
        .map(|nth| format!("id: {nth}\nevent: tick\ndata: {{\"nth\":{nth}}}\n\n"))
        .collect();
    format!("event: token\ndata: {token}\n\n{ticks}")
}

fn recorded() -> String {
    let id = STANDARD.encode([7; 16]);
    let upgraded =
        json!({"Upgrade": ["websocket"], "Sec-WebSocket-Protocol": ["chat"], "X-Kept": ["yes"]});
    let handshake = |path: &str| pair(path, b"", &upgraded, 101, b"");
    let mut talkative = handshake("/ws");
    talkative["uuid"] = json!(id);
    let issued = json!({"access_token": old_token()}).to_string();
    let shown = json!({"token": old_token()}).to_string();
    let mut said: Vec<(&[u8], Vec<u8>)> = vec![
        (b"", b"welcome".into()),
        (b"login", issued.into()),
        (shown.as_bytes(), "hello, älice".into()),
        (b"\xff\x00", b"\x00\xff\xfe".into()),
        (b"", b"and by the way".into()),
        (b"burst", b"0".into()),
    ];
    said.extend((1..BURST).map(|nth| (&b""[..], nth.to_string().into_bytes())));
    let exchange = |(nth, (asked, answered)): (usize, (&[u8], Vec<u8>))| {
        let mut pair = pair("/ws", asked, &json!({}), 101, &answered);
        pair["partOfStreamUUID"] = json!(id);
        pair["streamSeqNum"] = json!((nth + 1).to_string());
        pair
    };
    let kind = json!({"Content-Type": ["text/event-stream"], "Cache-Control": ["no-cache"]});
    let mut all =
        vec![pair("/events", b"", &kind, 200, events(&old_token()).as_bytes()), talkative];
    all.extend(said.into_iter().enumerate().map(exchange));
    all.extend(CHAOS.map(|(path, _)| handshake(path)));
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Serves it, plain and over TLS; the CA lies in `ca`.
fn serve(dir: &Path) -> Process {
    let resign = json!({"type": "jwt_resign", "config": {"secretPath": "${{secret:jwt-demo/k}}"}});
    let chain = |path: &str, find: Value| {
        json!({
            "filters": {"filters": [{"include": true, "detectedLocation": path}]},
            "extractor": {"type": "res_body"}, "transforms": [find, resign],
        })
    };
    let member =
        json!({"type": "json_path", "config": {"path": "access_token", "create": "false"}});
    let within =
        json!({"type": "regex", "config": {"pattern": "data: (ey\\S+)", "captureGroup": "1"}});
    let template =
        json!({"id": "t", "responder": [chain("/ws", member), chain("/events", within)]});
    fs::write(dir.join("t.json"), template.to_string()).unwrap();
    fs::write(dir.join("streams.jsonl"), recorded()).unwrap();
    let secrets = recording::secret_dir(dir, "k", KEY.as_bytes());
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (recording, template, ca) = (path("streams.jsonl"), path("t.json"), authority(dir));
    let rules = CHAOS.map(|(path, effect)| format!("(location IS \"{path}\"): {effect}"));
    let files = ["dev", &recording, "--transform", &template, "--tls-ca", &ca];
    let files = files.into_iter().chain(rules.iter().flat_map(|rule| ["--chaos", rule]));
    let rest = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--secret-dir"];
    let rest = rest.into_iter().map(str::to_owned);
    let arguments = files.map(str::to_owned).chain(rest);
    Process::start("countersign", arguments.chain([secrets.to_string_lossy().into_owned()]))
}

#[tokio::test]
async fn ws_and_undici_hear_what_was_recorded_in_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/clients/streams.mjs");
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path());
    let address = dev.address("data").await;
    let mut heard = vec![
        json!("welcome"),
        json!({"subject": "alice"}),
        json!("hello, älice"),
        json!({"binary": "00fffe"}),
        json!("and by the way"),
    ];
    heard.extend((0..BURST).map(|nth| json!(nth.to_string())));
    let mut events = vec![json!({"event": "token", "data": "token of alice"})];
    let tick = |nth| json!({"id": format!("{nth}"), "event": "tick", "data": format!("{{\"nth\":{nth}}}")});
    events.extend((0..TICKS).map(tick));
    let expected = json!({
        "heard": heard, "closed": [4001, "enough"], "kind": "text/event-stream", "events": events,
        "tried": {"/failing": 503, "/breaking": "ECONNRESET", "/late": "effect=latency;latency=20ms;rule=chaos-3"},
    });
    let paths = CHAOS.map(|(path, _)| path);
    for scheme in ["http", "https"] {
        let Some(script) = Script::node("Node.js with ws", &path) else { return };
        let script = script.after(dir.path(), &trust::lines("Node.js"));
        let plan = json!({"base": format!("{scheme}://{address}"), "key": KEY, "burst": BURST, "try": paths});
        assert_eq!(script.run(&plan), expected, "{scheme}");
    }
    journal(dev.address("admin").await).await;
}

/// The conversations are told when they are over: how much was said in them, and not what.
async fn journal(admin: SocketAddr) {
    let told = wait_until("both conversations are told", || async {
        let told = Client::new(admin).get("/journal?path=/ws&outcome=miss").await;
        (told.json()["requests"].as_array().unwrap().len() == 2).then_some(told)
    })
    .await;
    let text = String::from_utf8_lossy(&told.body).into_owned();
    assert!(!text.contains("eyJ") && !text.contains("by the way"), "{text}");
    for entry in told.json()["requests"].as_array().unwrap() {
        let counts = json!({"client": 5, "not_recorded": 1, "server": BURST + 5});
        assert_eq!((&entry["messages"], &entry["status"]), (&counts, &json!(101)), "{entry}");
    }
    let hits = Client::new(admin).get("/journal?outcome=hit").await.json();
    let statuses = |path: &str| -> Vec<Value> {
        let all = hits["requests"].as_array().unwrap().iter();
        all.filter(|entry| entry["path"] == path).map(|entry| entry["status"].clone()).collect()
    };
    assert_eq!((statuses("/ws"), statuses("/failing")), (vec![json!(101); 2], vec![json!(503); 2]));
}

#[tokio::test]
async fn curl_reads_all_events_with_a_fresh_token_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path());
    let address = dev.address("data").await;
    let ca = dir.path().join("ca/tls.crt").to_string_lossy().into_owned();
    for (url, version) in
        [(format!("http://{address}/events"), "1.1"), (format!("https://{address}/events"), "2")]
    {
        let (body, last) = told(&curl(&["-N", "--cacert", &ca, &url], &[]));
        assert_eq!(last, format!("200 {version}"));
        let token = body.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
        assert_eq!(body, events(token));
        let ask = Ask { token: token.to_owned(), key: KEY.to_owned(), alg: "HS256".to_owned() };
        assert_eq!(python::verify(&[ask]).remove(0).unwrap()["sub"], "alice");
    }
}
