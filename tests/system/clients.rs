//! Real clients against real binaries: they log in, verify what they got through our key set, call on with it, get their own recorded answers, and
//! refresh. All users act at once. And what is unsound in one way, each of their libraries refuses for that reason.

mod plan;
pub(crate) mod trust;

use std::{fs, net::SocketAddr, path::Path, process::Command};

use harness::{
    client::Client,
    has_openssl, notice,
    process::Process,
    python::{self, AskWithKeys},
    recording,
    scripts::Script,
    shared_data,
};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::tls;

/// Users of the third-party recording.
const USERS: usize = 12;

struct World {
    dir: tempfile::TempDir,
    _dev: Process,
    base: SocketAddr,
    admin: SocketAddr,
    plan: Value,
}

/// Writes a fresh key for RS256.
fn write_key(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let key = Command::new("openssl").args(["genrsa", "2048"]).output().unwrap();
    assert!(key.status.success(), "openssl genrsa");
    fs::write(dir.join("rsa"), key.stdout).unwrap();
}

impl World {
    async fn start() -> Option<Self> {
        if !has_openssl() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write_key(&path("secrets/keys"));
        fs::create_dir(path("recording")).unwrap();
        fs::write(path("recording/oauth.jsonl"), plan::oauth_recording()).unwrap();
        fs::write(path("t.json"), plan::template()).unwrap();
        let folder = shared_data("sessions-demo");
        let mut users = plan::oauth_users();
        let mut arguments = vec!["dev".to_owned()];
        let recordings = folder.clone().into_iter().chain([path("recording")]);
        arguments.extend(recordings.map(|path| path.to_string_lossy().into_owned()));
        if let Some(folder) = &folder {
            users.extend(plan::users(&recording::read(folder).pairs, USERS));
            assert_eq!(users.len(), USERS + 2);
        }
        for (name, value) in [("--transform", path("t.json")), ("--secret-dir", path("secrets"))] {
            arguments.extend([name.to_owned(), value.to_string_lossy().into_owned()]);
        }
        for listener in ["--listen", "--admin-listen", "--api-listen"] {
            arguments.extend([listener, "127.0.0.1:0"].map(str::to_owned));
        }
        arguments.extend(["--tls-ca".to_owned(), tls::authority(dir.path())]);
        arguments.extend(["--serve", "all"].map(str::to_owned));
        let mut dev = Process::start("countersign", arguments);
        let base = dev.address("data").await;
        let (api, admin) = (dev.address("api").await, dev.address("admin").await);
        let plan = json!({
            "base": format!("http://{base}"), "jwks": format!("http://{base}{}", plan::KEYS), "jwks_path": plan::KEYS,
            "api": api.to_string(), "algs": ["RS256"], "tokens": ["access_token", "refresh_token"], "users": users,
        });
        Some(Self { dir, _dev: dev, base, admin, plan })
    }

    fn steps(&self) -> impl Iterator<Item = &Value> {
        let users = self.plan["users"].as_array().unwrap().iter();
        users.flat_map(|user| user["steps"].as_array().unwrap())
    }

    /// How many answers hold how many tokens.
    fn tokens(&self) -> usize {
        let names = self.plan["tokens"].as_array().unwrap();
        let held = |step: &Value| {
            names.iter().filter(|name| !step["expected"][name.as_str().unwrap()].is_null()).count()
        };
        self.steps().map(held).sum()
    }

    /// Everybody begins anew.
    async fn reset(&self) {
        // Clients take longer than the admin listener keeps a connection.
        let admin = Client::new(self.admin);
        let reset = admin.send(Method::POST, "/reset", HeaderMap::new(), "".into()).await;
        assert_eq!(reset.status, 200);
    }

    async fn run(&self, script: &Script, plan: &Value) {
        self.reset().await;
        let told = script.run(plan);
        let name = script.name();
        assert_eq!(told["wrong"], json!([]), "{name}");
        let all = self.steps().count();
        assert_eq!((&told["requests"], &told["own"]), (&json!(all), &json!(all)), "{name}: {told}");
        let verified = told["verified"].as_object().unwrap();
        assert!(!verified.is_empty(), "{name}");
        for (library, count) in verified {
            assert_eq!(*count, json!(self.tokens()), "{name}: {library}");
        }
        notice(&format!(
            "{name}: {all} of {all} own answers, {} tokens verified by {}",
            self.tokens(),
            verified.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
    }

    /// Sends a step with curl; the status, the version of HTTP and the body.
    fn curl(&self, version: &str, step: &Value, bearer: &str, body: &str) -> (String, Value) {
        let text = |name: &str| step[name].as_str().unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-s", version, "-X", text("method"), "-w", "\n%{http_version} %{http_code}"]);
        for (name, value) in step["headers"].as_object().unwrap() {
            curl.args(["-H", &format!("{name}: {}", value.as_str().unwrap())]);
        }
        if step["auth"] == true {
            curl.args(["-H", &format!("authorization: Bearer {bearer}")]);
        }
        if !body.is_empty() {
            curl.args(["--data-raw", body]);
        }
        let out = curl.arg(format!("http://{}{}", self.base, text("path"))).output().unwrap();
        let out = String::from_utf8(out.stdout).unwrap();
        let (body, line) = out.rsplit_once('\n').unwrap();
        (line.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| body.into()))
    }

    /// Everything with curl, one user after the other; PyJWT verifies.
    async fn run_curl(&self, version: &str, shown: &str) {
        self.reset().await;
        let mut asks = Vec::new();
        for user in self.plan["users"].as_array().unwrap() {
            let mut held = json!({});
            for step in user["steps"].as_array().unwrap() {
                let refresh = held["refresh_token"].as_str().unwrap_or_default();
                let body = step["body"].as_str().unwrap().replace("{refresh_token}", refresh);
                let bearer = held["access_token"].as_str().unwrap_or_default().to_owned();
                let (line, mut got) = self.curl(version, step, &bearer, &body);
                assert_eq!(line, format!("{shown} {}", step["status"]), "{step}");
                let mut expected = step["expected"].clone();
                for name in self.plan["tokens"].as_array().unwrap() {
                    let name = name.as_str().unwrap();
                    if got[name].is_null() {
                        continue;
                    }
                    held[name] = got[name].take();
                    expected[name] = Value::Null;
                    asks.push(AskWithKeys {
                        token: held[name].as_str().unwrap().to_owned(),
                        alg: "RS256".to_owned(),
                        uri: self.plan["jwks"].as_str().unwrap().to_owned(),
                        keys: String::new(),
                    });
                }
                assert_eq!(got, expected, "{step}");
            }
        }
        assert_eq!(asks.len(), self.tokens());
        for verdict in python::verify_with_keys(&asks).into_iter().flatten() {
            verdict.unwrap();
        }
    }
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("system/clients").join(name)
}

#[tokio::test]
async fn each_gets_the_own_answers_and_tokens_that_verify() {
    let Some(world) = World::start().await else { return };
    let http = "jwt, cryptography, requests, authlib";
    let api = "jwt, cryptography, grpc, grpc_reflection, grpc_health";
    let scripts = [
        Script::python("Python over HTTP", &script("sut.py"), http),
        Script::python("Python over the gRPC API", &script("embedded.py"), api),
        Script::node("Node.js over HTTP", &script("sut.mjs")),
        Script::go("Go over HTTP"),
        Script::java("Java over HTTP", &script("Client.java")),
    ];
    for script in scripts.iter().flatten() {
        world.run(script, &world.plan).await;
    }
    if Command::new("curl").arg("--version").output().is_err() {
        return notice("curl is not run: there is none");
    }
    world.run_curl("--http1.1", "1.1").await;
    world.run_curl("--http2-prior-knowledge", "2").await;
}

/// A fault of tokens, and why libraries refuse them.
const FAULTS: [(&str, &str); 11] = [
    ("none", "accepted"),
    ("expired", "expired"),
    ("not-yet-valid", "not yet valid"),
    ("wrong-key", "bad signature"),
    ("bad-signature", "bad signature"),
    ("unknown-kid", "no such key"),
    ("alg-none", "algorithm not allowed"),
    ("alg-confusion", "algorithm not allowed"),
    ("wrong-aud", "wrong audience"),
    ("wrong-iss", "wrong issuer"),
    ("truncated", "malformed"),
];

/// What Nimbus says of a key that it does not find, be it for the key's id or for the algorithm.
const NIMBUS: &str = "no key of this algorithm and kid";

#[tokio::test]
async fn unsound_tokens_are_refused_for_the_right_reason() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).to_string_lossy().into_owned();
    let names = FAULTS.map(|(name, _)| name);
    write_key(&path("secrets/keys"));
    fs::write(path("tokens.jsonl"), plan::fault_recording(&names)).unwrap();
    fs::write(path("t.json"), plan::template()).unwrap();
    fs::write(path("c.json"), plan::fault_config(&names)).unwrap();
    let (recording, template) = (text("tokens.jsonl"), text("t.json"));
    let (config, secrets) = (text("c.json"), text("secrets"));
    let mut dev = Process::start(
        "countersign",
        [
            &["dev", &*recording, "--transform", &template, "--test-config", &config][..],
            &["--secret-dir", &secrets, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        ]
        .concat(),
    );
    let base = format!("http://{}", dev.address("data").await);
    let faults: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "path": format!("/token/{name}")})).collect();
    let plan = json!({
        "base": base, "jwks": format!("{base}{}", plan::KEYS), "algs": ["RS256"], "faults": faults, "issuer": plan::ISSUER,
        "audience": plan::AUDIENCE, "tokens": ["access_token"], "users": [],
    });
    let scripts = [
        Script::python("Python", &script("sut.py"), "jwt, cryptography, requests, authlib"),
        Script::node("Node.js", &script("sut.mjs")),
        Script::go("Go"),
        Script::java("Java", &script("Client.java")),
    ];
    for script in scripts.iter().flatten() {
        for (library, told) in script.run(&plan).as_object().unwrap() {
            for (fault, expected) in FAULTS {
                let both = ["unknown-kid", "alg-confusion"].contains(&fault);
                let expected = if both && library == "Nimbus JOSE" { NIMBUS } else { expected };
                assert_eq!(told[fault], json!(expected), "{library}, {fault}: {told}");
            }
            notice(&format!("{library} refuses each unsound token for its own reason"));
        }
    }
}

#[tokio::test]
async fn the_documented_example_of_the_api_works() {
    let modules = "grpc, grpc_reflection";
    let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = has_openssl() && Script::python("The example", Path::new(""), modules).is_some();
    if !has {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    write_key(&dir.path().join("jwt-demo"));
    fs::rename(dir.path().join("jwt-demo/rsa"), dir.path().join("jwt-demo/tls.key")).unwrap();
    let example = root.join("deploy/example");
    let (recording, template) = (example.join("recording"), example.join("transform.json"));
    let mut arguments = vec!["dev".to_owned(), recording.to_string_lossy().into_owned()];
    for (name, value) in [("--transform", &*template), ("--secret-dir", dir.path())] {
        arguments.extend([name.to_owned(), value.to_string_lossy().into_owned()]);
    }
    for listener in ["--listen", "--admin-listen", "--api-listen"] {
        arguments.extend([listener, "127.0.0.1:0"].map(str::to_owned));
    }
    let mut dev = Process::start("countersign", arguments);
    let api = dev.address("api").await.to_string();
    let document = fs::read_to_string(root.join("docs/api.md")).unwrap();
    let program = document.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let program = program.replace("127.0.0.1:4142", &api);
    let out = Command::new(python).args(["-c", &program]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let why = String::from_utf8_lossy(&out.stderr);
    assert!(told.starts_with("answer\n200 b'{") && told.contains("access_token"), "{told}{why}");
}
