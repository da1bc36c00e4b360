//! What is promised of bad inputs and faults, a test for each: the code that is told, the place that is named, that a recorded response is served as it was
//! recorded, and that all the while another route is served with good tokens.
//!
//! The names begin with the letter of the topic and a number: `j` tokens and keys, `k` the files of keys, `u` users and their tokens, `h` requests
//! over HTTP, `g` calls of gRPC, `r` what is used up.

mod admin;
mod calls;
mod exhaustion;
mod floods;
mod frames;
mod handshakes;
mod jwt;
mod keys;
mod node;
mod raw;
mod requests;
mod slow;
mod smuggling;

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
    client::Client,
    process::{self, Finished, Process},
    recording, wait_until,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
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
        Self { name: name.into(), token, key: Some(key.to_vec()), config: json!({}) }
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

    fn body(&self) -> Value {
        json!({"access_token": self.token})
    }

    fn chain(&self) -> Value {
        let mut config = self.config.clone();
        config["secretPath"] = json!(format!("${{{{secret:keys/{}}}}}", self.name));
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

/// What is served beside the cases, and how the responder is started.
#[derive(Debug, Clone, Default)]
struct Setup {
    /// Lines of a recording.
    lines: Vec<String>,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    /// The program that starts it, with its arguments.
    before: Vec<String>,
    /// The error that the probe may be answered with, too. Idle connections may be closed then, also under a request that is just being sent.
    tolerated: &'static str,
}

impl Setup {
    /// With these flags, separated by spaces.
    fn flags(text: &str) -> Self {
        Self { flags: text.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Serving one more answer to a GET.
    fn line(mut self, path: &str, body: &Value) -> Self {
        self.lines.push(recording::line("GET", path, body));
        self
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

    /// The same and more.
    async fn serve_with(cases: Vec<Case>, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        fs::create_dir_all(secrets.join("keys")).unwrap();
        let probe = Case::new("probe", of_alg("HS256"), PROBE);
        let all: Vec<&Case> = cases.iter().chain([&probe]).collect();
        for case in &all {
            if let Some(key) = &case.key {
                fs::write(secrets.join("keys").join(&case.name), key).unwrap();
            }
        }
        let lines = all.iter().map(|case| recording::line("GET", &case.path(), &case.body()));
        let lines: Vec<String> = lines.chain(setup.lines.iter().cloned()).collect();
        fs::write(dir.path().join("all.jsonl"), lines.join("\n")).unwrap();
        let chains: Vec<Value> = all.iter().map(|case| case.chain()).collect();
        let template = json!({"id": "t", "responder": chains}).to_string();
        fs::write(dir.path().join("t.json"), template).unwrap();

        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let cache = dir.path().join("cache");
        let arguments = process::responder_arguments("r", grpc, &secrets, Some(&cache));
        let mut responder =
            process::responder_by(&setup.before, arguments, &setup.flags, &setup.variables);
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
        let recorded = self.cases.iter().find(|one| one.name == case).unwrap().body().to_string();
        assert_eq!(String::from_utf8_lossy(&answer.body), recorded, "{case}");
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

/// Validates a template with one `jwt_resign`, which must be refused with this code at this setting.
async fn refused_at_upload(config: &Value, code: &str, field: &str) {
    let world = World::serve(Vec::new()).await;
    let chain = json!({"extractor": {"type": "res_body"}, "transforms": [
        {"type": "json_path", "config": {"path": "a"}}, {"type": "jwt_resign", "config": config}]});
    let file = world.dir.path().join("bad.json");
    fs::write(&file, json!({"id": "bad", "responder": [chain]}).to_string()).unwrap();
    let out = world.cli(&["transform", "put", &file.to_string_lossy()]);
    assert_eq!(out.code(), 2, "{config}: {}", out.text());
    let place = format!("responder[0].transforms[1].config.{field}");
    assert!(out.text().contains(&place), "{config}: no {place} in {}", out.text());
    assert!(out.text().contains(&format!("[{code}]")), "{config}: no {code} in {}", out.text());
    let listed = world.cli(&["transform", "list", "--output", "json"]).ok();
    assert!(!listed.stdout().contains("transforms/bad"), "nothing is stored");
    drop(world.end().await);
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
