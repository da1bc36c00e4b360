//! Nothing secret is told: keys and recorded signatures, as canaries, are looked for in everything that anybody can get hold of.
//!
//! Every call of both planes, every page and endpoint, every command, the logs at their most talkative, what is stored, cached, exported and backed
//! up, and the memory of the processes, which is what a core file would hold.

mod calls;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use harness::{
    client::Client,
    has_openssl, memory, notice,
    process::{self, Process},
    recording, wait_until,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

const HMAC: &[u8] = b"canary-of-a-mounted-hmac-secret-0123456789abcdef";
const NEXT: &[u8] = b"the-secret-that-comes-after-the-canary-0123456789";
const JWK: &[u8] = b"canary-of-a-secret-in-a-jwk-0123456789abcdef-xyz";
const INLINE: &[u8] = b"canary-of-a-key-in-a-template-0123456789abcdef-xyz";
const SIGNATURE: &[u8] = b"canary of a recorded signature that is nobody's business";

/// A secret thing, in all the ways in which it may be spelled.
struct Canary {
    name: &'static str,
    spellings: BTreeSet<Vec<u8>>,
}

impl Canary {
    fn new(name: &'static str, secret: &[u8]) -> Self {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
        let escaped: String = secret.iter().map(|byte| format!("\\u{byte:04x}")).collect();
        let mut spellings: BTreeSet<Vec<u8>> =
            [hex.to_uppercase(), hex, percent, escaped].map(String::into_bytes).into();
        // In base64 it looks different at each place of a larger text; at its ends its neighbours have a part in it.
        for before in 0..3 {
            let shifted = [&vec![0; before], secret].concat();
            for encoded in [STANDARD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                let own = before.div_ceil(3) * 4..shifted.len() / 3 * 4;
                spellings.insert(encoded.as_bytes()[own].to_vec());
            }
        }
        // Patterns are lines.
        if !secret.contains(&b'\n') {
            spellings.insert(secret.to_vec());
        }
        Self { name, spellings }
    }
}

/// The files below a place that hold one of these.
fn holding<'c>(canaries: impl IntoIterator<Item = &'c Canary>, place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for canary in canaries {
        let patterns = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<&[u8]> = canary.spellings.iter().map(Vec::as_slice).collect();
        patterns.as_file().write_all(&lines.join(&b'\n')).unwrap();
        let mut grep = Command::new("grep");
        grep.env("LC_ALL", "C").args(["-rlaF", "-f"]).arg(patterns.path()).arg(place);
        let text = String::from_utf8(grep.output().unwrap().stdout).unwrap();
        found.extend(text.lines().map(|file| format!("{}: {file}", canary.name)));
    }
    found
}

/// The RSA key as canaries: a line of its PEM, and a part of its private exponent as it stands in DER.
fn of_rsa(pem: &[u8]) -> [Canary; 2] {
    let text = std::str::from_utf8(pem).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    // Behind version, modulus and public exponent. A pattern is a line, and must have no zero in it.
    let part =
        der[400..].windows(24).find(|part| !part.contains(&0) && !part.contains(&b'\n')).unwrap();
    [Canary::new("a line of the PEM", lines[9].as_bytes()), Canary::new("a private number", part)]
}

/// Both planes, started with a key for each of the tokens that were recorded.
struct World {
    dir: tempfile::TempDir,
    plane: Process,
    responder: Process,
    grpc: SocketAddr,
    api: SocketAddr,
    client: Client,
    pages: Vec<(Client, &'static [&'static str])>,
    /// Where everything that was told is written.
    told: PathBuf,
}

const NAMES: [(&str, &str); 3] = [("rsa", "RS256"), ("hmac", "HS256"), ("jwk", "HS256")];

/// A recorded token with the signature that nobody may see again.
fn token(alg: &str) -> String {
    let whole = recording::old_token(
        alg,
        &json!({"sub": "alice", "iat": 1_700_000_000, "exp": 1_700_003_600}),
    );
    let (message, _) = whole.rsplit_once('.').unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(SIGNATURE))
}

/// A template that re-signs each of them, as chains of their own.
fn template(id: &str, config: impl Fn(&str) -> Value) -> String {
    let chain = |(name, _): (&str, &str)| {
        json!({"filters": {"filters": [{"include": true, "location": format!("/{name}")}]},
            "extractor": {"type": "http_res_body"},
            "transforms": [{"type": "json_path", "config": {"path": "access_token"}}, {"type": "jwt_resign", "config": config(name)}]})
    };
    json!({"id": id, "responder": NAMES.map(chain)}).to_string()
}

impl World {
    async fn start(rsa: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        drop(recording::secret_dir(dir.path(), "rsa", rsa));
        drop(recording::secret_dir(dir.path(), "hmac", HMAC));
        let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(JWK)}).to_string();
        let secrets = recording::secret_dir(dir.path(), "jwk", jwk.as_bytes());
        let variables = [
            ("RUST_LOG".to_owned(), "trace".to_owned()),
            ("COUNTERSIGN_UI_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        let (data, audit) = (path("data"), path("told-audit"));
        let own = [
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
            &data,
            "--audit-log",
            &audit,
        ];
        let mut plane = Process::start_in("countersign-control-plane", own, &variables);
        let grpc = plane.address("grpc").await;
        let cache = dir.path().join("cache");
        let arguments = process::responder_arguments("r", grpc, &secrets, Some(&cache));
        let flags = [
            "--api-listen",
            "127.0.0.1:0",
            "--journal-bodies",
            "--secret-grace",
            "0s",
            "--key-grace",
            "0s",
        ]
        .map(str::to_owned);
        let mut responder = process::responder_by(&[], arguments, &flags, &variables);
        let client = Client::new(responder.address("data").await);
        let pages = vec![
            (
                Client::new(responder.address("admin").await),
                &[
                    "/status",
                    "/metrics",
                    "/readyz",
                    "/healthz",
                    "/journal",
                    "/journal?format=jsonl",
                    "/reset",
                ][..],
            ),
            (Client::new(plane.address("admin").await), &["/metrics", "/readyz", "/healthz"][..]),
            (
                Client::new(plane.address("ui").await),
                &["/", "/index.html", "/snapshots/a", "/config.json"][..],
            ),
        ];
        let api = responder.address("api").await;
        let told = dir.path().join("told");
        fs::create_dir(&told).unwrap();
        Self { dir, plane, responder, grpc, api, client, pages, told }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Imports a recording with the template that re-signs its tokens, and serves it: that template, one with a key in it, and the recording.
    fn import(&self) -> [String; 3] {
        let line = |(name, alg): (&str, &str)| {
            recording::line("GET", &format!("/{name}"), &json!({"access_token": token(alg)}))
        };
        let lines = NAMES.map(line).join("\n");
        let mounted = template("t", |name| json!({"secretPath": format!("jwt-demo/{name}")}));
        let key = std::str::from_utf8(INLINE).unwrap();
        let written = template("inline", |_| json!({"key": key, "alg": "HS256"}));
        let all = [("t.json", &mounted), ("inline.json", &written), ("a.jsonl", &lines)];
        for (name, text) in all {
            fs::write(self.path(name), text).unwrap();
        }
        self.does(&["transform", "put", &self.text("t.json")]);
        self.does(&["snapshot", "import", &self.text("a.jsonl"), "--id", "a", "--transform", "t"]);
        self.does(&["replay", "start", "a", "--transform", "t", "--wait"]);
        [mounted, written, lines]
    }

    /// Replaces secrets, and waits until nothing of those before is in memory.
    async fn forgets(&self, canaries: &[&Canary]) {
        for name in ["hmac", "jwk"] {
            drop(recording::secret_dir(self.dir.path(), name, NEXT));
            wait_until("the new secret signs", || async {
                let token = self.ask(&format!("/{name}"), "").await["access_token"].take();
                let key = DecodingKey::from_secret(NEXT);
                let rules = Validation::new(Algorithm::HS256);
                decode::<Value>(token.as_str()?, &key, &rules).ok().map(drop)
            })
            .await;
        }
        wait_until("the old secrets are forgotten", || async {
            self.held(canaries).is_none_or(|found| found.is_empty()).then_some(())
        })
        .await;
    }

    fn tell(&self, name: &str, text: &str) {
        let name: String =
            name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        fs::write(self.told.join(name), text).unwrap();
    }

    /// A command, in both ways of printing.
    fn run(&self, arguments: &[&str]) -> String {
        let server = format!("http://{}", self.grpc);
        let mut told = String::new();
        for output in ["table", "json"] {
            let all = [&["--server", &server][..], arguments, &["--output", output]].concat();
            told.push_str(&process::run("countersign", all).text());
        }
        self.tell(&arguments.join(" "), &told);
        told
    }

    /// A command that has to work.
    fn does(&self, arguments: &[&str]) {
        let server = format!("http://{}", self.grpc);
        let done = process::run("countersign", [&["--server", &server], arguments].concat()).ok();
        self.tell(&arguments.join(" "), &done.text());
    }

    async fn ask(&self, path: &str, token: &str) -> Value {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = self.client.send(http::Method::GET, path, headers, Default::default()).await;
        if answer.status == 200 {
            answer.json()
        } else {
            self.tell(path, &String::from_utf8_lossy(&answer.body));
            Value::Null
        }
    }

    async fn read_pages(&self) {
        for (nth, (client, paths)) in self.pages.iter().enumerate() {
            for path in *paths {
                let page = client.get(path).await;
                self.tell(
                    &format!("page {nth} {path}"),
                    &format!("{:?}\n{}", page.headers, String::from_utf8_lossy(&page.body)),
                );
            }
        }
    }

    /// Which of these the responder has in memory; `None` for who may not look.
    fn held(&self, canaries: &[&Canary]) -> Option<Vec<String>> {
        let dump = self.path("memory");
        fs::write(&dump, memory::of(self.responder.id())?).unwrap();
        Some(holding(canaries.iter().copied(), &dump))
    }

    fn holds_no(&self, canaries: &[&Canary], when: &str) {
        match self.held(canaries) {
            Some(found) => assert_eq!(found, Vec::<String>::new(), "{when}"),
            None => notice("only root may look into a responder's memory; it is not searched"),
        }
    }

    fn commands(&self) {
        for arguments in [
            &["replay", "status", "a"][..],
            &["replay", "list"],
            &["replay", "report", "a"],
            &["responder", "list"],
            &["snapshot", "list"],
            &["snapshot", "show", "a"],
            &["snapshot", "tokens", "a"],
            &["snapshot", "explain", "a", "http://api.example/rsa"],
            &["transform", "get", "t"],
            &["transform", "get", "inline"],
            &["transform", "list"],
            &["transform", "suggest", "a"],
            &["transform", "preview", "inline", "--snapshot", "a"],
            &["testconfig", "list"],
        ] {
            drop(self.run(arguments));
        }
    }
}

// Commands are waited for without giving way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_and_no_recorded_signature_is_anywhere() {
    let Some(grpcurl) = calls::grpcurl().filter(|_| has_openssl()) else {
        return notice("there is no grpcurl; canaries are not looked for");
    };
    let rsa = Command::new("openssl").args(["genrsa", "2048"]).output().unwrap().stdout;
    let [pem, number] = of_rsa(&rsa);
    let keys = [pem, number, Canary::new("the HMAC secret", HMAC), Canary::new("the JWK", JWK)];
    let jwk = Canary::new("the JWK in base64", URL_SAFE_NO_PAD.encode(JWK).as_bytes());
    let inline = Canary::new("the key in a template", INLINE);
    let text = URL_SAFE_NO_PAD.encode(SIGNATURE);
    let signature = Canary::new("the recorded signature", SIGNATURE);
    let as_text = Canary::new("the recorded signature in base64", text.as_bytes());
    let world = World::start(&rsa).await;
    let [mounted, written, lines] = world.import();

    // With all keys in use, and the signature presented by who has it.
    for (name, alg) in NAMES {
        let served = world.ask(&format!("/{name}"), &token(alg)).await;
        let served = served["access_token"].as_str().unwrap().to_owned();
        assert_ne!(served, token(alg));
        world.tell(&format!("served {name}"), &served);
    }
    drop(world.ask("/rsa/but/not", &token("RS256")).await);
    world.read_pages().await;
    world.commands();
    world.does(&["snapshot", "export", "a", "--out", &world.text("exported")]);
    world.holds_no(&[&keys[0], &keys[1]], "while it is in use");
    let plane = calls::Server { grpcurl: &grpcurl, address: world.grpc };
    let asked = calls::of_control_plane("t", &mounted, &lines);
    plane.offers(&asked);
    let answers = plane.answers(&asked);
    world.tell("control plane", &answers);
    // A key in a template is stored with it, so this comes after what was stored was looked through.
    let stored = ["data", "cache", "exported", "told", "told-audit"].map(|place| world.path(place));
    let all: Vec<&Canary> = keys.iter().chain([&jwk, &inline, &signature, &as_text]).collect();
    let found = |places: &[PathBuf]| -> Vec<String> {
        places.iter().flat_map(|place| holding(all.iter().copied(), place)).collect()
    };
    assert_eq!(found(&stored), Vec::<String>::new(), "before a key stands in a template");
    world.does(&["transform", "put", &world.text("inline.json")]);
    let answers = plane.answers(&calls::of_control_plane("inline", &written, &lines));
    world.tell("control plane with a key in a template", &answers);
    world.commands();
    let responder = calls::Server { grpcurl: &grpcurl, address: world.api };
    let mut asked = calls::of_responder(&token("RS256"));
    responder.offers(&asked);
    asked.retain(|(method, _)| !method.ends_with("/Drain"));
    world.tell("responder", &responder.answers(&asked));
    world.read_pages().await;
    world.tell("log of the control plane", &world.plane.text());
    world.tell("log of the responder", &world.responder.text());
    let told = ["told", "told-audit", "cache", "exported"].map(|place| world.path(place));
    assert_eq!(found(&told), Vec::<String>::new());
    // What finds nothing has to be able to: an HMAC secret is kept as long as it is in use.
    assert!(world.held(&[&keys[2]]).is_none_or(|found| !found.is_empty()));
    fs::write(world.path("planted"), STANDARD.encode([b"?", HMAC].concat())).unwrap();
    assert_eq!(holding(&keys, &world.path("planted")).len(), 1);

    let gone: Vec<&Canary> = keys.iter().chain([&jwk]).collect();
    world.forgets(&gone).await;
}
