//! What is promised of bad inputs and faults, a test for each: the code that is told, the place that is named, that a recorded response is served as it was
//! recorded, and that all the while another route is served with good tokens.
//!
//! The names begin with the letter of the topic and a number: `j` tokens and keys, `k` the files of keys, `s` imports, `t` transforms, `u` users and the
//! web UI, `h` requests over HTTP, `g` calls of gRPC, `r` what is used up, `d` what the control plane stores, `c` several nodes and what is between them.

mod admin;
mod calls;
mod cluster;
mod console;
mod exhaustion;
mod floods;
mod handshakes;
mod imports;
mod jwt;
mod keys;
mod node;
mod raw;
mod requests;
mod setup;
mod slow;
mod smuggling;
mod store;
mod templates;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use harness::{
    binaries,
    client::Client,
    frames,
    process::{self, Finished, Process},
    recording, wait_until,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use setup::Setup;
use tokio::task::JoinHandle;

/// What the probe's tokens are signed with.
const PROBE: &[u8] = b"the secret of the probe, long enough for HS256";
/// The recorded claims of tokens that do not have others.
const TIMES: &str = r#"{"sub":"a","iat":1700000000,"exp":1700000600}"#;

/// A route with one token, and the key that is to sign it.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    token: String,
    /// The file of the key; none is written without.
    key: Option<Vec<u8>>,
    /// More settings of `jwt_resign`.
    config: Value,
    /// Other steps than those that sign the token.
    steps: Option<Value>,
    /// Another body than the one with the token.
    answer: Option<Vec<u8>>,
    /// Another recorded pair than this makes.
    line: Option<String>,
}

/// A token with this JOSE header and claims, as they are written.
fn token(header: &str, claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(header), part(claims), part("an old JWS signature"))
}

/// A token of an algorithm.
fn of_alg(alg: &str) -> String {
    token(&json!({"alg": alg, "typ": "JWT"}).to_string(), TIMES)
}

impl Case {
    fn new(name: &str, token: String, key: &[u8]) -> Self {
        let (name, key) = (name.into(), Some(key.to_vec()));
        let config = json!({});
        Self { name, token, key, config, steps: None, answer: None, line: None }
    }

    /// A route that is answered with this body, on which these steps work.
    fn of_steps(name: &str, answer: impl Into<Vec<u8>>, steps: Value) -> Self {
        let (steps, answer) = (Some(steps), Some(answer.into()));
        Self { key: None, steps, answer, ..Self::new(name, String::new(), b"") }
    }

    /// A pair of which no more is known here; nothing works on it.
    fn of_line(name: &str, line: String) -> Self {
        Self { line: Some(line), ..Self::of_steps(name, "", json!([])) }
    }

    /// With one more setting.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.config[name] = json!(value);
        self
    }

    fn without_key(self) -> Self {
        Self { key: None, ..self }
    }

    fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// The body as it was recorded.
    fn body(&self) -> Vec<u8> {
        let answer = self.answer.clone();
        answer.unwrap_or_else(|| json!({"access_token": self.token}).to_string().into_bytes())
    }

    /// The recorded pair.
    fn line(&self) -> String {
        if let Some(line) = &self.line {
            return line.clone();
        }
        let mut pair: Value =
            serde_json::from_str(&recording::line("GET", &self.path(), &json!(null)))
                .unwrap_or_default();
        let body = base64::engine::general_purpose::STANDARD.encode(self.body());
        pair["http"]["res"]["bodyBase64"] = json!(body);
        pair.to_string()
    }

    fn chain(&self) -> Value {
        if let Some(steps) = &self.steps {
            return json!({
                "filters": {"filters": [{"include": true, "detectedLocation": self.path()}]},
                "extractor": {"type": "res_body"},
                "transforms": steps,
            });
        }
        let mut config = self.config.clone();
        if config["secretPath"].is_null() {
            config["secretPath"] = json!(format!("${{{{secret:keys/{}}}}}", self.name));
        }
        json!({
            "filters": {"filters": [{"include": true, "detectedLocation": self.path()}]},
            "extractor": {"type": "res_body"},
            "transforms": [
                {"type": "json_path", "config": {"path": "access_token"}},
                {"type": "jwt_resign", "config": config}
            ]
        })
    }
}

/// A control plane and a responder that serve some cases and a probe.
struct World {
    dir: tempfile::TempDir,
    cases: Vec<Case>,
    server: String,
    plane: Process,
    responder: Process,
    /// Where it serves.
    data: SocketAddr,
    admin_at: SocketAddr,
    client: Client,
    admin: Client,
    probe: Probe,
}

/// Asks for a route all the time.
struct Probe {
    ended: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: JoinHandle<Vec<String>>,
}

impl Probe {
    fn start(client: Client, tolerated: &'static str) -> Self {
        let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (Arc::clone(&ended), Arc::clone(&answered));
        let asking = tokio::spawn(async move {
            let mut wrong = Vec::new();
            let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
            while !end.load(Ordering::Relaxed) {
                ticks.tick().await;
                let answer = client
                    .try_send(http::Method::GET, "/probe", Default::default(), Default::default())
                    .await;
                let is_good = answer.as_ref().is_ok_and(|answer| {
                    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
                    let token = body.as_ref().and_then(|body| body["access_token"].as_str());
                    let error = body.as_ref().and_then(|body| body["error"].as_str());
                    (answer.status == 200 && token.is_some_and(|token| verifies(token, PROBE)))
                        || error.is_some_and(|error| error == tolerated)
                });
                let is_good = is_good || (answer.is_err() && !tolerated.is_empty());
                if is_good {
                    count.fetch_add(1, Ordering::Relaxed);
                } else {
                    wrong.push(format!("{answer:?}"));
                }
            }
            wrong
        });
        Self { ended, answered, asking }
    }
}

/// Whether an independent verifier takes a token of HS256.
fn verifies(token: &str, secret: &[u8]) -> bool {
    decode::<Value>(token, &DecodingKey::from_secret(secret), &Validation::new(Algorithm::HS256))
        .is_ok()
}

impl World {
    /// Serves these cases.
    async fn serve(cases: Vec<Case>) -> Self {
        Self::serve_with(cases, &Setup::default()).await
    }

    /// The same in other circumstances.
    async fn serve_with(cases: Vec<Case>, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data").to_string_lossy().into_owned();
        let own = ["--listen", "127.0.0.1:0", "--data-dir", &data].map(str::to_owned);
        let flags = own.into_iter().chain(setup.of_plane.iter().cloned());
        let mut plane = Process::start("countersign-control-plane", flags);
        let grpc = plane.address("grpc").await;
        Self::begin(dir, (plane, grpc), cases, setup).await
    }

    /// The same by a control plane that runs already.
    async fn serve_from(
        dir: tempfile::TempDir,
        plane: (Process, SocketAddr),
        cases: Vec<Case>,
    ) -> Self {
        Self::begin(dir, plane, cases, &Setup::default()).await
    }

    async fn begin(
        dir: tempfile::TempDir,
        (plane, grpc): (Process, SocketAddr),
        cases: Vec<Case>,
        setup: &Setup,
    ) -> Self {
        let secrets = dir.path().join("secrets");
        setup.write(dir.path(), &cases, &secrets);
        let cache = dir.path().join("cache");
        let arguments = process::responder_arguments("r", grpc, &secrets, Some(&cache));
        let (before, variables) = (setup.before(dir.path()), &setup.variables);
        let mut responder = process::responder_by(&before, arguments, &setup.flags, variables);
        let data = responder.address("data").await;
        let client = Client::new(data);
        let admin_at = responder.address("admin").await;
        let admin = Client::new(admin_at);
        let server = format!("http://{grpc}");
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        for arguments in [
            &["snapshot", "import", &path("all.jsonl"), "--id", "all"][..],
            &["transform", "put", &path("t.json")],
            &["replay", "start", "all", "--transform", "t", "--wait"],
        ] {
            drop(process::run("countersign", ["--server", &server].iter().chain(arguments)).ok());
        }
        let probe = Probe::start(client.clone(), setup.tolerated);
        Self { dir, cases, server, plane, responder, data, admin_at, client, admin, probe }
    }

    fn cli(&self, arguments: &[&str]) -> Finished {
        process::run("countersign", ["--server", &self.server].iter().chain(arguments))
    }

    /// The directory of the secret with the cases' keys.
    fn keys(&self) -> PathBuf {
        self.dir.path().join("secrets/keys")
    }

    /// The token that a case is served with.
    async fn token(&self, case: &str) -> String {
        let answer = self.client.get(&format!("/{case}")).await;
        assert_eq!(answer.status, 200, "{case}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn recorded(&self, case: &str) -> &str {
        &self.cases.iter().find(|one| one.name == case).unwrap().token
    }

    /// What is told of the replay and of its secrets.
    async fn status(&self) -> Value {
        self.admin.get("/status").await.json()
    }

    /// The findings of a code.
    async fn findings(&self, code: &str) -> Vec<Value> {
        let status = self.status().await;
        let found = status["replays"][0]["diagnostics"].as_array().unwrap();
        found.iter().filter(|found| found["code"] == code).cloned().collect()
    }

    /// Asserts that a case is served byte for byte as recorded, and that the reason is told with its place.
    async fn unchanged(&self, case: &str, code: &str) {
        let answer = self.client.get(&format!("/{case}")).await;
        let recorded = self.cases.iter().find(|one| one.name == case).unwrap().body();
        let shown =
            |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        assert!(*answer.body == *recorded, "{case}: {} is not as recorded", shown(&answer.body));
        self.told(case, code).await;
    }

    /// Asserts that this code is told of a case: of its key by its name, of its token by the place in the template and the pair.
    async fn told(&self, case: &str, code: &str) {
        let nth = self.cases.iter().position(|one| one.name == case).unwrap();
        let (key, chain) = (format!("keys/{case}"), format!("responder[{nth}]"));
        let pair = format!("GET /{case}");
        let found = self.findings(code).await;
        let is_of_it = |finding: &&Value| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            text("subject") == key || (text("path") == chain && text("subject") == pair)
        };
        let all = self.status().await["replays"][0]["diagnostics"].clone();
        assert!(
            found.iter().any(|f| is_of_it(&f)),
            "{case}: no {code} at {key} or {chain} in {all:#}"
        );
    }

    /// Asserts that a case is served with a token that is signed anew by this HMAC secret.
    async fn signed(&self, case: &str, secret: &[u8]) {
        let token = self.token(case).await;
        assert_ne!(token, self.recorded(case), "{case} is not signed");
        assert!(verifies(&token, secret), "{case}: {token}");
    }

    /// Asserts that it is signed by what openssl calls the public half of a key.
    async fn signed_by(&self, case: &str, alg: &str, public: &str) {
        let token = self.token(case).await;
        assert_ne!(token, self.recorded(case), "{case} is not signed");
        let ask = harness::python::Ask { token, key: public.to_owned(), alg: alg.to_owned() };
        let verdict = harness::python::verify(&[ask]).remove(0);
        assert!(verdict.is_ok(), "{case}: {verdict:?}");
    }

    /// Waits until a secret is told of with this code; none is what a good one has.
    async fn secret(&self, case: &str, code: Option<&str>) -> Value {
        let name = format!("keys/{case}");
        wait_until(&format!("{name} is told of as {code:?}"), || async {
            let status = self.status().await;
            let mut known = status["secrets"].as_array().unwrap().iter();
            let found = known.find(|secret| secret["ref"] == *name)?.clone();
            (found["problem"]["code"].as_str() == code).then_some(found)
        })
        .await
    }

    /// Waits until the probe was answered so many times more.
    async fn served(&self, times: u64) {
        let until = self.probe.answered.load(Ordering::Relaxed) + times;
        wait_until("the probe was answered", || {
            let answered = self.probe.answered.load(Ordering::Relaxed);
            let ended = self.probe.asking.is_finished();
            async move { (answered >= until || ended).then_some(()) }
        })
        .await;
    }

    /// Ends, after it was seen that the probe was served all the time; what both processes have printed.
    async fn end(mut self) -> String {
        // What happened last may not have been met by the probe yet.
        self.served(3).await;
        assert_eq!(self.metric("countersign_panics_total").await, 0, "{}", self.responder.text());
        self.probe.ended.store(true, Ordering::Relaxed);
        let wrong = self.probe.asking.await.unwrap();
        assert!(wrong.is_empty(), "the probe was not served: {wrong:?}");
        assert!(self.responder.terminate().await.success());
        let printed = format!("{}{}", self.plane.text(), self.responder.text());
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }
}

impl World {
    /// Uploads a template, which must be refused at each of these places with this code, all in one answer, and nothing be stored; what is said.
    fn refuses(&self, template: &str, findings: &[(&str, &str)]) -> String {
        let file = self.dir.path().join("bad.json");
        fs::write(&file, template).unwrap();
        let out = self.cli(&["transform", "put", &file.to_string_lossy(), "--id", "bad"]);
        let shown: String = template.chars().take(300).collect();
        assert_eq!(out.code(), 2, "{shown}: {}", out.text());
        for (place, code) in findings {
            let is_it = |line: &str| line.contains(place) && line.contains(&format!("[{code}]"));
            let text = out.text();
            assert!(text.lines().any(is_it), "{shown}: no {code} at {place} in {text}");
        }
        let listed = self.cli(&["transform", "list", "--output", "json"]).ok();
        assert!(!listed.stdout().contains("transforms/bad"), "nothing is stored");
        out.text()
    }
}

/// Validates a template with one `jwt_resign`, which must be refused with this code at this setting.
async fn refused_at_upload(config: &Value, code: &str, field: &str) {
    let world = World::serve(Vec::new()).await;
    let chain = json!({"extractor": {"type": "res_body"}, "transforms": [
        {"type": "json_path", "config": {"path": "a"}}, {"type": "jwt_resign", "config": config}]});
    let place = format!("responder[0].transforms[1].config.{field}");
    let template = json!({"id": "bad", "responder": [chain]}).to_string();
    drop(world.refuses(&template, &[(&*place, code)]));
    drop(world.end().await);
}

/// How much memory a process has now, and at the most so far, in bytes.
fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// Runs openssl, whose keys are made by an implementation that is not ours.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl").args(arguments).output().unwrap();
    assert!(
        out.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// A private key in PEM, and its public half.
fn pair(arguments: &str) -> (Vec<u8>, String) {
    let key = openssl(&arguments.split(' ').collect::<Vec<_>>());
    let public = convert(&key, "pkey -pubout");
    (key, String::from_utf8(public).unwrap())
}

/// What openssl makes of a key.
fn convert(key: &[u8], arguments: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, key).unwrap();
    let file = file.to_string_lossy().into_owned();
    let mut words: Vec<&str> = arguments.split(' ').collect();
    words.splice(1..1, ["-in", &file]);
    openssl(&words)
}

/// Writes a file at once, as who replaces files with care does.
fn replace(path: &Path, content: &[u8]) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, path).unwrap();
}
