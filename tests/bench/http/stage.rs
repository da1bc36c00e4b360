//! A control plane and a responder that serve a recording, and bare servers beside them that send the same bytes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::binaries;
use serde_json::{Value, json};

use super::{
    ask::{ALGS, Ask},
    bare, keys,
    load::Speak,
};
use crate::server::{self, Place, Server};

/// Servers, and the directory that they live in.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) responder: Server,
    pub(crate) plane: Server,
}

/// A recorded response as a client gets it.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Stage {
    /// Serves what `record` writes, on one core, with the chains that re-sign every algorithm.
    pub(crate) fn start(
        record: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = temporary()?;
        let root = dir.path();
        keys::write(&root.join("secrets/bench"))?;
        let mut out =
            BufWriter::with_capacity(1 << 20, File::create(root.join("recording.jsonl"))?);
        record(&mut out)?;
        out.flush()?;
        fs::write(root.join("transform.json"), template().to_string())?;
        certificate(root)?;
        let plane = Server::start(
            Place::Beside,
            &binaries::path("countersign-control-plane"),
            ["--listen", "127.0.0.1:0", "--data-dir", &text(&root.join("data"))],
            &["grpc"],
        )?;
        let url = url(&plane)?;
        let cli = |arguments: &[&str]| countersign(&url, arguments);
        cli(&["snapshot", "import", &text(&root.join("recording.jsonl")), "--id", "bench"])?;
        cli(&["transform", "put", &text(&root.join("transform.json"))])?;
        let responder = responder(root, Place::Measured, Some(&url), more)?;
        cli(&["replay", "start", "--snapshot", "bench", "--transform", "bench", "--wait=600s"])?;
        Ok(Self { dir, responder, plane })
    }

    /// Where recorded traffic is served.
    pub(crate) fn data(&self) -> anyhow::Result<SocketAddr> {
        self.responder.address("data")
    }

    /// Where the control plane is.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        url(&self.plane)
    }

    /// The file of the key that signs this algorithm.
    pub(crate) fn key(&self, alg: &str) -> PathBuf {
        self.dir.path().join("secrets/bench").join(alg.to_ascii_lowercase())
    }

    /// The certificate that the servers show.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("tls.crt")
    }

    /// What a client gets for the first target.
    pub(crate) fn sample(&self, ask: &Ask) -> anyhow::Result<Sample> {
        let mut request = Vec::new();
        ask.write(0, &mut request)?;
        fetch(self.data()?, &request)
    }

    /// A bare server that sends this.
    pub(crate) fn bare(
        &self,
        speak: Speak,
        sample: &Sample,
        more: impl FnOnce(&mut bare::Config),
    ) -> anyhow::Result<Server> {
        let mut config = bare::Config {
            speak,
            headers: sample.headers.clone(),
            trailers: Vec::new(),
            body: sample.body.clone(),
            reads: false,
            signs: None,
            tls: Some((self.certificate(), self.dir.path().join("tls.key"))),
        };
        more(&mut config);
        let path = self.dir.path().join("bare.json");
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Server::start(Place::Measured, server::own()?, ["bare", &text(&path)], &["bare"])
    }
}

fn url(plane: &Server) -> anyhow::Result<String> {
    Ok(format!("http://{}", plane.address("grpc")?))
}

/// A directory for what a measurement needs; `COUNTERSIGN_BENCH_DIR` says on which disk.
pub(crate) fn temporary() -> anyhow::Result<tempfile::TempDir> {
    let on = std::env::var_os("COUNTERSIGN_BENCH_DIR");
    Ok(tempfile::tempdir_in(on.map_or_else(std::env::temp_dir, Into::into))?)
}

/// A responder that serves what is kept in a directory of a stage.
pub(crate) fn responder(
    root: &Path,
    place: Place,
    control_plane: Option<&str>,
    more: &[&str],
) -> anyhow::Result<Server> {
    let mut arguments: Vec<String> =
        ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"].map(str::to_owned).into();
    arguments.extend(["--secret-dir".to_owned(), text(&root.join("secrets"))]);
    arguments.extend(["--tls-cert".to_owned(), text(&root.join("tls.crt"))]);
    arguments.extend(["--tls-key".to_owned(), text(&root.join("tls.key"))]);
    if let Some(url) = control_plane {
        arguments.extend(["--control-plane".to_owned(), url.to_owned()]);
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    let program = binaries::path("countersign-responder");
    Server::start(place, &program, arguments, &["data", "admin"])
}

/// Runs the command against a control plane.
pub(crate) fn countersign(url: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(binaries::path("countersign"));
    let out = command.args(["--server", url]).args(arguments).stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{arguments:?}: {told}");
    Ok(())
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn certificate(root: &Path) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["api.example".to_owned()])?;
    fs::write(root.join("tls.crt"), pem("CERTIFICATE", made.cert.der()))?;
    fs::write(root.join("tls.key"), pem("PRIVATE KEY", &made.signing_key.serialize_der()))?;
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = der.chunks(48).map(|line| STANDARD.encode(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The template that re-signs tokens with the keys of a stage.
pub(crate) fn template() -> Value {
    let chain = |alg: &str, path: String| {
        json!({
        "filters": {"filters": [{"include": true, "operator": "CONTAINS", "detectedLocation": path}]},
        "extractor": {"type": "res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": format!("bench/{}", alg.to_ascii_lowercase())}}
        ]})
    };
    let all = ALGS.iter().flat_map(|alg| {
        let name = alg.to_ascii_lowercase();
        [chain(alg, format!("/{name}")), chain(alg, format!("/fresh-{name}"))]
    });
    let logins = chain("HS256", "/oauth/token".to_owned());
    json!({"id": "bench", "responder": all.chain([logins]).collect::<Vec<_>>()})
}

/// Sends a request of HTTP/1.1 and reads what comes until the server is done.
pub(crate) fn fetch(server: SocketAddr, request: &[u8]) -> anyhow::Result<Sample> {
    let mut stream = TcpStream::connect(server)?;
    let end = request.windows(2).position(|window| window == b"\r\n").context("a request")?;
    let (line, rest) = request.split_at(end);
    stream.write_all(&[line, b"\r\nconnection: close", rest].concat())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").context("a head")?;
    let body = response.split_off(end + 4);
    let head = String::from_utf8(response)?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}{}", String::from_utf8_lossy(&body));
    let headers = head.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| {
        // These are hyper's to send.
        !["date", "content-length", "connection"].contains(&&*name.to_ascii_lowercase())
    });
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Sample { headers, body })
}
