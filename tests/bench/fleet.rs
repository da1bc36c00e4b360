//! The servers under measurement: real binaries, each pinned to one core.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use harness::{binaries, recording};
use serde_json::{Value, json};

/// The algorithms that are measured.
pub(crate) const ALGS: [&str; 4] = ["HS256", "EdDSA", "ES256", "RS256"];

/// A control plane and a responder that serve tokens of every algorithm.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) responder: SocketAddr,
    /// This program, asked for before the binaries are built, which may put another file in its place.
    pub(crate) own: PathBuf,
    dir: tempfile::TempDir,
    _processes: Vec<Server>,
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    /// Kept, so that the child does not write into a closed pipe.
    _out: BufReader<ChildStdout>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that runs on one core.
pub(crate) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

impl Fleet {
    pub(crate) fn start(tokens: usize) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let dir = tempfile::tempdir()?;
        let root = dir.path();
        write_keys(&root.join("secrets/bench"))?;
        fs::write(root.join("recording.jsonl"), recording(tokens))?;
        fs::write(root.join("transform.json"), template().to_string())?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let plane = Server::start(
            1,
            &binaries::path("countersign-control-plane"),
            ["--listen", "127.0.0.1:0", "--data-dir", &text(root.join("data"))],
            "grpc",
        )?;
        let server = format!("http://{}", plane.address);
        let cli = |arguments: &[&str]| -> anyhow::Result<()> {
            let out = Command::new(binaries::path("countersign"))
                .args(["--server", &server])
                .args(arguments)
                .output()?;
            anyhow::ensure!(
                out.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            Ok(())
        };
        cli(&["snapshot", "import", &text(root.join("recording.jsonl")), "--id", "bench"])?;
        cli(&["transform", "put", &text(root.join("transform.json"))])?;
        let responder = Server::start(
            0,
            &binaries::path("countersign-responder"),
            [
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--control-plane",
                &server,
                "--secret-dir",
                &text(root.join("secrets")),
            ],
            "data",
        )?;
        cli(&["replay", "start", "--snapshot", "bench", "--transform", "bench", "--wait"])?;
        Ok(Self { responder: responder.address, own, dir, _processes: vec![plane, responder] })
    }

    /// A bare server that sends what the responder sends for this path.
    pub(crate) fn bare(&self, path: &str) -> anyhow::Result<Server> {
        let body = self.dir.path().join("body");
        fs::write(&body, fetch(self.responder, &format!("{path}?u=0"))?)?;
        Server::start(0, &self.own, ["bare", &body.to_string_lossy()], "bare")
    }
}

impl Server {
    fn start<S: AsRef<OsStr>>(
        core: usize,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        listener: &str,
    ) -> anyhow::Result<Self> {
        Self::spawn(pinned(core, program), arguments, listener)
    }

    /// A server that may use every core.
    pub(crate) fn free<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        listener: &str,
    ) -> anyhow::Result<Self> {
        Self::spawn(Command::new(program), arguments, listener)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn spawn<S: AsRef<OsStr>>(
        mut command: Command,
        arguments: impl IntoIterator<Item = S>,
        listener: &str,
    ) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("piped")?);
        let wanted = format!("{listener} listening on http://");
        let mut line = String::new();
        while out.read_line(&mut line)? > 0 {
            if let Some(address) = line.strip_prefix(&wanted) {
                return Ok(Self { address: address.trim().parse()?, child, _out: out });
            }
            line.clear();
        }
        anyhow::bail!("{} ended before it listened", Path::new(&program).display())
    }
}

fn write_keys(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let rng = SystemRandom::new();
    let failed = |_| anyhow::anyhow!("no key could be made");
    let rsa = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().map_err(failed)?;
    fs::write(dir.join("rs256"), pkcs8.as_ref())?;
    fs::write(
        dir.join("es256"),
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            .map_err(failed)?
            .as_ref(),
    )?;
    fs::write(dir.join("eddsa"), Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?.as_ref())?;
    fs::write(dir.join("hs256"), [7; 64])?;
    Ok(())
}

/// Responses of about 600 bytes with a token in them.
fn recording(tokens: usize) -> String {
    let mut lines = String::new();
    for alg in ALGS {
        for user in 0..tokens {
            let claims = json!({"sub": format!("user-{user:06}"), "role": "customer", "iat": 1_700_000_000, "exp": 1_700_003_600});
            let body = json!({"access_token": recording::old_token(alg, &claims), "token_type": "Bearer", "expires_in": 3600, "padding": "x".repeat(200)});
            lines.push_str(&recording::line(
                "GET",
                &format!("/{}?u={user}", alg.to_ascii_lowercase()),
                &body,
            ));
            lines.push('\n');
        }
    }
    lines
}

fn template() -> Value {
    let chain = |alg: &&str| {
        let name = alg.to_ascii_lowercase();
        json!({
        "filters": {"filters": [{"include": true, "operator": "CONTAINS", "detectedLocation": format!("/{name}")}]},
        "extractor": {"type": "res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("bench/{name}")}}
        ]})
    };
    json!({"id": "bench", "responder": ALGS.iter().map(chain).collect::<Vec<_>>()})
}

/// The body that a server sends.
fn fetch(server: SocketAddr, target: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET {target} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
    anyhow::ensure!(
        response.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&response)
    );
    Ok(response.split_off(end + 4))
}
