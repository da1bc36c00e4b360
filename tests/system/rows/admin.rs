//! Users, their tokens, and what they may see: through the binaries, with tokens that `countersign token create` and an identity provider have given out.

use std::{net::SocketAddr, sync::Mutex};

use countersign_tls::files;
use harness::has_openssl;
use jsonwebtoken::{EncodingKey, Header, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;

const KEY: &str = "a canary of a key that nobody may see";

/// A control plane that knows users, a responder with a token of its own, and a replay that is served.
struct Users {
    dir: tempfile::TempDir,
    grpc: SocketAddr,
    plane: Process,
    responder: Process,
    client: Client,
    /// What commands have printed.
    told: Mutex<String>,
}

impl Users {
    async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        for (name, role, project) in [
            ("anna", "operator", "default"),
            ("eve", "operator", "other"),
            ("vera", "viewer", "default"),
            ("pods", "responder", "default"),
        ] {
            create_token(dir.path(), name, role, project);
        }
        let [data, users, audit] = ["data", "users", "audit"].map(path);
        let own = ["--listen", "127.0.0.1:0", "--data-dir", &data, "--users", &users];
        let mut plane = Process::start(
            "countersign-control-plane",
            [&own[..], &["--audit-log", &audit], more].concat(),
        );
        let grpc = plane.address("grpc").await;
        drop(recording::secret_dir(dir.path(), "k", KEY.as_bytes()));
        let (url, secrets, token) = (format!("http://{grpc}"), path("secrets"), path("pods.token"));
        let own = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--name", "r"];
        let from = ["--control-plane", &url, "--secret-dir", &secrets, "--token-file", &token];
        let mut responder = Process::start("countersign-responder", [&own[..], &from].concat());
        let client = Client::new(responder.address("data").await);
        let users = Self { dir, grpc, plane, responder, client, told: Mutex::default() };
        let body = json!({"access_token": of_alg("HS256")});
        fs::write(users.path("a.jsonl"), recording::line("GET", "/probe", &body)).unwrap();
        fs::write(users.path("t.json"), recording::seed_template("t", "k")).unwrap();
        for arguments in [
            &["snapshot", "import", &users.path("a.jsonl"), "--id", "a"][..],
            &["transform", "put", &users.path("t.json")],
            &["replay", "start", "a", "--transform", "t", "--wait"],
        ] {
            drop(users.run("anna", arguments).ok());
        }
        users
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// The token of somebody.
    fn token(&self, who: &str) -> String {
        fs::read_to_string(self.path(&format!("{who}.token"))).unwrap().trim().to_owned()
    }

    /// A command as somebody.
    fn run(&self, who: &str, arguments: &[&str]) -> Finished {
        self.run_with(&self.token(who), arguments)
    }

    /// A command with this token.
    fn run_with(&self, token: &str, arguments: &[&str]) -> Finished {
        let variables = [
            ("COUNTERSIGN_TOKEN".to_owned(), token.to_owned()),
            ("COUNTERSIGN_SERVER".to_owned(), format!("http://{}", self.grpc)),
        ];
        let out = process::run_in("countersign", arguments, &variables);
        self.told.lock().unwrap().push_str(&out.text());
        out
    }

    /// Asserts that a command ends so and says this.
    fn fails(&self, out: &Finished, code: i32, says: &str) {
        assert_eq!(out.code(), code, "{}", out.text());
        assert!(out.text().contains(says), "no `{says}` in {}", out.text());
    }

    /// Ends, after it was seen that the replay is served and that no token was told to anybody.
    async fn end(mut self) -> String {
        let answer = self.client.get("/probe").await.json();
        assert!(verifies(answer["access_token"].as_str().unwrap(), KEY.as_bytes()));
        assert!(self.responder.terminate().await.success());
        assert!(self.plane.terminate().await.success());
        let audit = fs::read_to_string(self.path("audit")).unwrap();
        let commands = self.told.lock().unwrap().clone();
        let told = format!("{commands}{audit}{}{}", self.plane.text(), self.responder.text());
        for who in ["anna", "eve", "vera", "pods"] {
            assert!(!told.contains(&self.token(who)), "a token was told: {told}");
        }
        assert!(!told.contains("panicked"), "{told}");
        told
    }
}

/// Makes a token, and the line for it.
fn create_token(dir: &Path, name: &str, role: &str, project: &str) {
    let users = dir.join("users").to_string_lossy().into_owned();
    let own = ["token", "create", "--name", name, "--role", role, "--users", &users];
    let out = process::run("countersign", [&own[..], &["--project", project]].concat()).ok();
    fs::write(dir.join(format!("{name}.token")), out.stdout()).unwrap();
}

/// An identity provider that answers over TLS on a free port: its URL.
async fn provider(certificates: &Path, jwks: String) -> String {
    let pair = files::pair(
        &certificates.join("control-plane/tls.crt"),
        &certificates.join("control-plane/tls.key"),
    )
    .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key.clone_key())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let described = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap_or_default();
            let is_keys = asked[..read].starts_with(b"GET /keys ");
            let body = if is_keys { &jwks } else { &described };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            drop(stream.shutdown().await);
        }
    });
    url
}

// Commands are waited for without giving way, and the provider has to answer meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u05_only_good_tokens_are_let_in_and_roles_are_kept() {
    if !has_openssl() {
        return;
    }
    let certs = tempfile::tempdir().unwrap();
    let root = certs.path().join("c");
    let root_text = root.to_string_lossy().into_owned();
    drop(process::run("countersign", ["certs", "init", &root_text]).ok());
    let (key, _) = pair("ecparam -name prime256v1 -genkey -noout");
    let key = convert(&key, "pkcs8 -topk8 -nocrypt -outform DER");
    let public = countersign_engine::jwt::key::SigningKey::parse(&key).unwrap();
    let public = countersign_engine::jwt::key::PublicKey::of(&public).unwrap();
    let jwks = json!({"keys": [public.published("one", &[])]}).to_string();
    let issuer = provider(&root, jwks).await;
    let ca = root.join("ca/tls.crt").to_string_lossy().into_owned();
    let users = Users::start(&[
        "--oidc-issuer",
        &issuer,
        "--oidc-audience",
        "countersign",
        "--oidc-ca",
        &ca,
    ])
    .await;
    let list = ["snapshot", "list"];
    drop(users.run("vera", &list).ok());
    users.fails(&users.run("vera", &["replay", "stop", "a"]), 1, "may not call");
    users.fails(&users.run_with("cst_wrong", &list), 1, "not good here");

    let claims = |more: Value| {
        let mut claims = json!({
            "iss": issuer, "aud": "countersign", "sub": "olga", "exp": harness::now() + 600,
            "countersign_role": "editor", "countersign_projects": ["default"],
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let sign = |claims: Value| {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &EncodingKey::from_ec_der(&key)).unwrap()
    };
    let olga = sign(claims(json!({})));
    drop(users.run_with(&olga, &list).ok());
    drop(users.run_with(&olga, &["transform", "put", &users.path("t.json")]).ok());
    users.fails(&users.run_with(&olga, &["replay", "stop", "a"]), 1, "may not call");
    let (message, _) = olga.rsplit_once('.').unwrap();
    let unsigned = token(r#"{"alg":"none"}"#, &claims(json!({})).to_string());
    for (bad, says) in [
        (sign(claims(json!({"exp": harness::now() - 600}))), "has expired"),
        (sign(claims(json!({"aud": "another"}))), "not good here"),
        (sign(claims(json!({"iss": "https://id.example"}))), "not good here"),
        (unsigned, "not good here"),
        (format!("{message}.AAAA"), "not good here"),
    ] {
        users.fails(&users.run_with(&bad, &list), 1, says);
    }
    drop(users.end().await);
}

#[tokio::test]
async fn u06_what_is_another_projects_is_not_found() {
    let users = Users::start(&[]).await;
    let there = users.run("eve", &["snapshot", "show", "projects/default/snapshots/a"]);
    let absent = users.run("eve", &["snapshot", "show", "projects/default/snapshots/b"]);
    users.fails(&there, 3, "there is no snapshot");
    let same = |out: &Finished| out.text().replace("snapshots/a", "X").replace("snapshots/b", "X");
    assert_eq!(same(&there), same(&absent));
    for arguments in [
        &["snapshot", "list", "--project", "default"][..],
        &["snapshot", "tokens", "projects/default/snapshots/a"],
        &["snapshot", "export", "projects/default/snapshots/a", "--out", &users.path("out")],
        &["snapshot", "delete", "projects/default/snapshots/a"],
        &["replay", "status", "projects/default/replays/a"],
        &["replay", "stop", "projects/default/replays/a"],
        &["transform", "get", "projects/default/transforms/t"],
        &["responder", "list", "--project", "default"],
    ] {
        let out = users.run("eve", arguments);
        assert!([2, 3].contains(&out.code()), "{arguments:?}: {}", out.text());
        assert!(!out.text().contains("Usage"), "{arguments:?}: {}", out.text());
    }
    drop(users.run("eve", &["snapshot", "list", "--project", "other"]).ok());
    // A responder's token opens nothing that is for users.
    users.fails(&users.run("pods", &["snapshot", "list"]), 1, "may not call");
    drop(users.end().await);
}

#[tokio::test]
async fn u09_guesses_are_counted_logged_and_then_refused_unseen() {
    let users = Users::start(&[]).await;
    let list = ["snapshot", "list"];
    for nth in 0..10 {
        users.fails(&users.run_with(&format!("cst_guess{nth}"), &list), 1, "not good here");
    }
    wait_until("guesses are refused unseen", || async {
        users.run_with("cst_guess", &list).text().contains("too many tokens").then_some(())
    })
    .await;
    // Who has a good one is not locked out by a neighbour.
    drop(users.run("vera", &list).ok());
    // A token that ends is refused when it has, and a line that is taken out at once.
    let text = fs::read_to_string(users.path("users")).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("vera ")).collect();
    replace(Path::new(&users.path("users")), kept.join("\n").as_bytes());
    wait_until("vera is out", || async { (users.run("vera", &list).code() == 1).then_some(()) })
        .await;
    drop(users.run("anna", &list).ok());
    let told = users.end().await;
    assert!(told.contains("a token was refused"), "{told}");
    assert!(told.contains(r#""outcome":"UNAUTHENTICATED""#), "{told}");
}

#[tokio::test]
async fn u10_a_key_in_a_template_is_taken_and_never_shown() {
    let users = Users::start(&[]).await;
    let inline = "an inline key that nobody is shown again";
    let chain = json!({"filters": {"filters": [{"include": true}]}, "extractor": {"type": "res_body"},
        "transforms": [{"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"key": inline}}]});
    let file = users.path("inline.json");
    fs::write(&file, json!({"id": "inline", "responder": [chain]}).to_string()).unwrap();
    let put = users.run("anna", &["transform", "put", &file]).ok();
    assert!(put.text().contains("secretPath"), "{}", put.text());
    let shown = users.run("anna", &["transform", "get", "inline"]).ok();
    assert!(shown.text().contains("(redacted)"), "{}", shown.text());
    drop(users.run("vera", &["transform", "list", "--output", "json"]).ok());
    drop(
        users
            .run(
                "anna",
                &[
                    "replay",
                    "start",
                    "inline",
                    "--snapshot",
                    "a",
                    "--transform",
                    "inline",
                    "--wait",
                ],
            )
            .ok(),
    );
    wait_until("the inline key signs", || async {
        let answer = users.client.get("/probe").await.json();
        verifies(answer["access_token"].as_str().unwrap(), inline.as_bytes()).then_some(())
    })
    .await;
    drop(users.run("anna", &["replay", "delete", "inline"]).ok());
    wait_until("the mounted key signs again", || async {
        let answer = users.client.get("/probe").await.json();
        verifies(answer["access_token"].as_str().unwrap(), KEY.as_bytes()).then_some(())
    })
    .await;
    let told = users.end().await;
    assert!(!told.contains(inline), "{told}");
}
