//! The control plane that the swarm subscribes to, a process of its own, and the user who publishes.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use countersign_proto::control::v1::{
    CreateReplayRequest, Replay, StartReplayRequest, replay_service_client::ReplayServiceClient,
};
use countersign_tls::{
    client::{ClientTls, Settings},
    identity::TrustDomain,
    issue::{DAY, Leaf, NewAuthority, authority_in, issue},
};
use harness::{binaries, process, recording};
use rustls::ClientConfig;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use super::client::PROJECT;
use crate::server::{Place, Server};

/// The largest answer of the control plane: it may tell of each responder.
const LARGEST: usize = 64 * 1024 * 1024;

/// A control plane, its directory, and a user's connection.
pub(crate) struct Plane {
    dir: tempfile::TempDir,
    secure: bool,
    server: Server,
    user: ReplayServiceClient<Channel>,
}

impl Plane {
    /// Starts one that has a replay to start, with certificates or without.
    pub(crate) async fn start(secure: bool) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        if secure {
            certificates(dir.path())?;
        }
        let server = spawn(dir.path(), secure, "127.0.0.1:0")?;
        let user = user(dir.path(), secure, server.address("grpc")?)?;
        let plane = Self { dir, secure, server, user };
        plane.import()?;
        let mut user = plane.user.clone();
        let replay = Replay { snapshot: format!("{PROJECT}/snapshots/swarm"), ..Replay::default() };
        let request = CreateReplayRequest {
            parent: PROJECT.to_owned(),
            replay_id: "swarm".to_owned(),
            replay: Some(replay),
            ..CreateReplayRequest::default()
        };
        user.create_replay(request).await?;
        Ok(plane)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.server.address("grpc")
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// What responders show.
    pub(crate) fn responder(&self) -> anyhow::Result<Option<Arc<ClientConfig>>> {
        if !self.secure {
            return Ok(None);
        }
        Ok(Some(ClientTls::read(settings(self.dir.path(), "responder"))?.config()))
    }

    /// Starts the replay once more. Tells the generation, when it was asked for, and how long the answer took.
    pub(crate) async fn publish(&mut self) -> anyhow::Result<(u64, Instant)> {
        let begin = Instant::now();
        let request = StartReplayRequest {
            name: format!("{PROJECT}/replays/swarm"),
            ..StartReplayRequest::default()
        };
        let started = self.user.start_replay(request).await?.into_inner();
        Ok((started.generation, begin))
    }

    /// Kills it, as `kill -9` does, and starts it again where it was. Tells when it was killed.
    pub(crate) fn kill_and_restart(&mut self) -> anyhow::Result<Instant> {
        let listen = self.address()?.to_string();
        let begin = Instant::now();
        self.server.kill()?;
        self.server = spawn(self.dir.path(), self.secure, &listen)?;
        Ok(begin)
    }

    fn import(&self) -> anyhow::Result<()> {
        let file = self.path("swarm.jsonl");
        fs::write(&file, recording::line("GET", "/value", &json!({"value": 1})))?;
        let mut variables = vec![("COUNTERSIGN_SERVER", self.url()?)];
        if self.secure {
            let text = |path: PathBuf| path.to_string_lossy().into_owned();
            variables.extend([
                ("COUNTERSIGN_SERVER_CA", text(self.path("ca/tls.crt"))),
                ("COUNTERSIGN_CLIENT_CERT", text(self.path("user/tls.crt"))),
                ("COUNTERSIGN_CLIENT_KEY", text(self.path("user/tls.key"))),
            ]);
        }
        let variables: Vec<(String, String)> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let file = file.to_string_lossy().into_owned();
        let imported = process::run_in(
            "countersign",
            ["snapshot", "import", &file, "--id", "swarm"],
            &variables,
        );
        anyhow::ensure!(imported.code() == 0, "{}", imported.text());
        Ok(())
    }

    fn url(&self) -> anyhow::Result<String> {
        Ok(url(self.secure, self.address()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn url(secure: bool, address: SocketAddr) -> String {
    format!("{}://{address}", if secure { "https" } else { "http" })
}

fn spawn(dir: &Path, secure: bool, listen: &str) -> anyhow::Result<Server> {
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut arguments =
        vec!["--listen".to_owned(), listen.to_owned(), "--data-dir".to_owned(), at("data")];
    if secure {
        for (flag, name) in [
            ("--tls-cert", "control-plane/tls.crt"),
            ("--tls-key", "control-plane/tls.key"),
            ("--client-ca", "ca/tls.crt"),
        ] {
            arguments.extend([flag.to_owned(), at(name)]);
        }
    }
    let program = binaries::path("countersign-control-plane");
    Server::start(Place::Anywhere, &program, arguments, &["grpc"])
}

fn certificates(dir: &Path) -> anyhow::Result<()> {
    let domain: TrustDomain = "swarm".parse()?;
    let wanted = NewAuthority { name: "swarm", life: DAY * 2, domain: Some(&domain) };
    authority_in(&dir.join("ca"), &wanted, false)?;
    let hosts = ["127.0.0.1".to_owned()];
    for (role, into) in [
        ("control-plane/main", "control-plane"),
        ("responder/default", "responder"),
        ("user/swarm", "user"),
    ] {
        let ends = SystemTime::now() + DAY;
        let leaf = Leaf { role: role.parse()?, hosts: &hosts, ends, domain: None };
        issue(&dir.join("ca"), &leaf, &dir.join(into))?;
    }
    Ok(())
}

fn settings(dir: &Path, shown: &str) -> Settings {
    let shown = dir.join(shown);
    Settings {
        authorities: Some(dir.join("ca/tls.crt")),
        certificate: Some((shown.join("tls.crt"), shown.join("tls.key"))),
        server: None,
    }
}

fn user(
    dir: &Path,
    secure: bool,
    address: SocketAddr,
) -> anyhow::Result<ReplayServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(url(secure, address)).context("an address")?;
    let endpoint = endpoint.tcp_nodelay(true);
    let channel = if secure {
        endpoint.connect_with_connector_lazy(ClientTls::read(settings(dir, "user"))?.connector())
    } else {
        endpoint.connect_lazy()
    };
    Ok(ReplayServiceClient::new(channel).max_decoding_message_size(LARGEST))
}
