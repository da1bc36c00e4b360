//! `countersign load` against real services that verify tokens with the libraries of their language, in front of two responders: re-signing
//! is what lets every token pass, and without it none does.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    has_openssl, notice,
    process::{self, Process},
    recording,
    scripts::Script,
    shared_data,
    turns::agreed,
};
use serde_json::{Value, json};

use crate::{sessions, tls};

/// Where the examples are.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples")
}

/// A control plane, two responders that share turns, and a snapshot.
struct World {
    dir: tempfile::TempDir,
    _plane: Process,
    grpc: SocketAddr,
    responders: [Process; 2],
}

impl World {
    /// Imports a recording and stores what a replay of it needs; `key` is what signs.
    async fn start(recording: &Path, key: &[u8], template: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        fs::create_dir_all(secrets.join("shop")).unwrap();
        fs::write(secrets.join("shop/tls.key"), key).unwrap();
        fs::write(dir.path().join("t.json"), template.to_string()).unwrap();
        let shared = json!({"id": "shared", "responder": {"sequence": {"across": "fleet"}}});
        fs::write(dir.path().join("c.json"), shared.to_string()).unwrap();
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let url = format!("http://{grpc}");
        let responders = ["one", "two"].map(|name| {
            let listen = ["--listen", "--admin-listen", "--peer-listen"];
            let anywhere = listen.iter().flat_map(|listen| [*listen, "127.0.0.1:0"]);
            let own = ["--name", name, "--control-plane", &url, "--secret-dir"];
            let all: Vec<String> = anywhere.chain(own).map(str::to_owned).collect();
            let secrets = secrets.to_string_lossy().into_owned();
            Process::start("countersign-responder", all.into_iter().chain([secrets]))
        });
        let world = Self { dir, _plane: plane, grpc, responders };
        world.done(&["snapshot", "import", &recording.to_string_lossy(), "--id", "recorded"]);
        world.done(&["test-config", "put", &world.path("c.json")]);
        world.done(&["transform", "put", &world.path("t.json")]);
        world
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn cli(&self, arguments: &[&str]) -> process::Finished {
        let server = format!("http://{}", self.grpc);
        process::run("countersign", ["--server", &server].iter().chain(arguments))
    }

    fn done(&self, arguments: &[&str]) {
        let ended = self.cli(arguments);
        assert_eq!(ended.code(), 0, "{}", ended.text());
    }

    /// Serves the recording, with tokens signed anew or as they were recorded; the responders' URLs.
    async fn replay(&mut self, signed: bool) -> String {
        let id = if signed { "signed" } else { "recorded" };
        let own = ["--id", id, "--test-config", "shared", "--serve", "all", "--wait"];
        let template = ["--transform", "shop"];
        let base = ["replay", "start", "--snapshot", "recorded"].into_iter().chain(own);
        let arguments: Vec<&str> = base.chain(template.into_iter().filter(|_| signed)).collect();
        self.done(&arguments);
        agreed(&mut self.responders, &["one", "two"]).await;
        let mut urls = Vec::new();
        for responder in &mut self.responders {
            urls.push(format!("http://{}", responder.address("data").await));
        }
        urls.join(",")
    }

    /// Drives the recording against a service, with all turns at their beginning; the report, and how the command ended.
    fn load(&self, to: SocketAddr, more: &[&str]) -> (Value, process::Finished) {
        let (to, report) = (format!("http://{to}"), self.path("report"));
        let base = ["load", "--snapshot", "recorded", "--to", &to, "--report", &report];
        let goals = ["--goal", "token-acceptance>=100%", "--goal", "own-answers>=99.9%"];
        let ended = self.cli(&[&base[..], &goals, more].concat());
        let text = fs::read_to_string(format!("{report}/report.json"));
        let text = text.unwrap_or_else(|why| panic!("{why}: {}", ended.text()));
        (serde_json::from_str(&text).unwrap(), ended)
    }

    fn stop(&self, id: &str) {
        self.done(&["replay", "stop", id]);
    }
}

/// Tokens of answers are signed anew by responders, and those of requests by the generator.
fn template() -> Value {
    let sign = json!({"type": "jwt_resign", "config": {"secretPath": "${{secret:shop/tls.key}}"}});
    json!({
        "id": "shop",
        "responder": [{
            "filters": {"filters": [{"include": true, "detectedLocation": "/login"}]}, "extractor": {"type": "http_res_body"},
            "transforms": [{"type": "json_path", "config": {"path": "access_token", "create": "false"}}, sign],
        }],
        "generator": [{
            "extractor": {"type": "http_req_header", "config": {"name": "Authorization"}}, "transforms": [sign],
        }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_stock_verifier_accepts_what_is_signed_anew_and_nothing_else() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let modules = "jwt, requests";
    let Some(script) =
        Script::python("A service in Python", &examples().join("python/sut.py"), modules)
    else {
        return;
    };
    // Two users logged in before the recording began, so that no answer gives them a token: theirs are signed by the generator.
    let key = sessions::KEY.as_bytes();
    let mut world = World::start(&folder, key, &template()).await;
    let secret = world.path("secrets/shop/tls.key");
    let serve =
        |upstream: String| script.serve(&[("UPSTREAM", upstream), ("HS256_KEY", secret.clone())]);

    let service = serve(world.replay(true).await);
    let secrets = world.path("secrets");
    let signing = ["--transform", "shop", "--secret-dir", &secrets];
    let (report, ended) = world.load(service.address, &signing);
    assert_eq!(ended.code(), 0, "{}", ended.text());
    let counts = &report["counts"];
    assert_eq!(counts["requests"], 1048);
    assert_eq!(report["rates"]["tokenAcceptance"], 100.0, "{counts}");
    assert!(report["rates"]["ownAnswers"].as_f64().unwrap() >= 99.9, "{counts}");
    assert_eq!((&report["rates"]["match"], &report["passed"]), (&json!(100.0), &json!(true)));
    let html = fs::read_to_string(world.path("report/report.html")).unwrap();
    assert!(html.contains("100.00 %</b>token acceptance"), "the report shows it");
    let presented = counts["tokensPresented"].as_u64().unwrap();
    notice(&format!(
        "load on sessions-demo: {presented} of {presented} tokens accepted, {} of 1048 own answers",
        counts["own"]
    ));
    drop(service);
    world.stop("signed");

    // All recorded tokens have expired, and nobody signs new ones.
    let service = serve(world.replay(false).await);
    let (report, ended) = world.load(service.address, &[]);
    assert_eq!(ended.code(), 1, "{}", ended.text());
    assert_eq!(report["rates"]["tokenAcceptance"], 0.0, "{}", report["counts"]);
    assert_eq!(report["counts"]["tokensPresented"], presented);
    assert!(ended.text().contains("MISSED   token-acceptance>=100%"), "{}", ended.text());
    let files = ["report.html", "report.json", "junit.xml"];
    for name in files {
        let text = fs::read_to_string(world.path(&format!("report/{name}"))).unwrap();
        assert!(!text.contains("eyJ"), "{name} holds a token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_several_languages_verify_by_the_key_set() {
    if !has_openssl() {
        return;
    }
    let root = examples();
    let scripts = [
        Script::python(
            "The example in Python",
            &root.join("python/sut.py"),
            "jwt, requests, cryptography",
        ),
        Script::node("The example in Node.js", &root.join("node/sut.mjs")),
        Script::built("The example in Go", "COUNTERSIGN_GO_SUT"),
        Script::java("The example in Java", &root.join("java/Sut.java")),
    ];
    let key = Command::new("openssl").args(["genrsa", "2048"]).output().unwrap().stdout;
    let recording = root.join("recording/shop.jsonl");
    let written = fs::read(root.join("recording/transform.json")).unwrap();
    let template: Value = serde_json::from_slice(&written).unwrap();
    let mut world = World::start(&recording, &key, &template).await;
    for signed in [true, false] {
        let upstream = world.replay(signed).await;
        let keys = format!("{}/.well-known/jwks.json", upstream.split(',').next().unwrap());
        for script in scripts.iter().flatten() {
            let service =
                script.serve(&[("UPSTREAM", upstream.clone()), ("JWKS_URL", keys.clone())]);
            let (report, ended) = world.load(service.address, &["--speed", "max", "--vus", "4"]);
            let (name, counts) = (script.name(), &report["counts"]);
            let text = ended.text();
            assert_eq!(counts["tokensPresented"], 15, "{name}: {text}");
            let accepted = if signed { 15 } else { 0 };
            assert_eq!(counts["tokensAccepted"], accepted, "{name}: {text}");
            assert_eq!(ended.code(), i32::from(!signed), "{name}: {text}");
            if signed {
                assert_eq!(
                    (&counts["own"], &counts["requests"]),
                    (&json!(19), &json!(19)),
                    "{name}: {text}"
                );
                notice(&format!("{name}: 15 of 15 tokens accepted, 19 of 19 own answers"));
            }
        }
        world.stop(if signed { "signed" } else { "recorded" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responders_are_driven_directly_over_tls_and_http2() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let ca = tls::authority(dir.path());
    let shop = examples().join("recording/shop.jsonl").to_string_lossy().into_owned();
    let frame = b"\0\0\0\0\x02\x08\x07";
    let end = json!({"grpc-status": ["0"]});
    let call = recording::call("/shop.v1.Shop/Get", frame, frame, &json!({}), &end);
    fs::write(path("calls.jsonl"), call + "\n").unwrap();
    fs::write(path("other.jsonl"), recording::line("GET", "/nowhere", &json!({})) + "\n").unwrap();
    let anywhere = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let own = ["dev", &shop, &path("calls.jsonl"), "--serve", "all", "--tls-ca", &ca];
    let mut dev = Process::start("countersign", own.iter().chain(&anywhere));
    let server = dev.address("data").await;
    let (plain, secured) = (format!("http://{server}"), format!("https://{server}"));
    let certificate = format!("{ca}/tls.crt");
    let load = |recording: &str, to: &str, more: &[&str]| {
        let base =
            ["--output", "json", "load", recording, "--to", to, "--goal", "match-rate>=100%"];
        let ended = process::run("countersign", base.iter().chain(more));
        let report: Value = serde_json::from_str(&ended.stdout()).unwrap_or_default();
        (report, ended)
    };
    let fast = ["--speed", "max", "--ca", &certificate];
    for more in [&fast[..], &[&fast[..], &["--http2"]].concat()] {
        let (report, ended) = load(&shop, &secured, more);
        assert_eq!((ended.code(), &report["counts"]["own"]), (0, &json!(19)), "{}", ended.text());
    }
    // Nobody vouches for the mock without its authority.
    let (report, ended) = load(&shop, &secured, &["--speed", "max"]);
    assert_eq!((ended.code(), &report["noAnswer"]["tls"]), (1, &json!(19)), "{}", ended.text());
    let (report, ended) = load(&path("calls.jsonl"), &plain, &[]);
    assert_eq!((ended.code(), &report["counts"]["own"]), (0, &json!(1)), "{}", ended.text());
    let (report, ended) = load(&path("other.jsonl"), &plain, &[]);
    assert_eq!((ended.code(), &report["rates"]["match"]), (1, &json!(0.0)), "{}", ended.text());
    let (_, ended) = load(&path("nothing.jsonl"), &plain, &[]);
    assert_eq!(ended.code(), 2, "{}", ended.text());
}
