//! A control plane and several responders behind a balancer, which serve a replay of [`versions`].

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::{HeaderMap, Method};

use crate::{
    balancer::Balancer,
    client::Client,
    process::{self, Finished, Process},
    versions::{self, ID},
    wait_until,
};

/// A responder that keeps its address and its cache when it is started again.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where it answers.
    pub data: SocketAddr,
    /// Where it tells whether it is ready.
    pub admin: SocketAddr,
    name: String,
    plane: SocketAddr,
    cache: PathBuf,
}

impl Node {
    /// Starts one with a cache of its own below a directory.
    pub async fn start(name: &str, plane: SocketAddr, dir: &Path) -> Self {
        let cache = dir.join(format!("cache-{name}"));
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = launch(name, plane, &cache, [anywhere; 2]);
        let (data, admin) = (process.address("data").await, process.address("admin").await);
        Self { process, data, admin, name: name.to_owned(), plane, cache }
    }

    /// Starts it again, once it has ended.
    pub async fn restart(&mut self) {
        self.process = launch(&self.name, self.plane, &self.cache, [self.data, self.admin]);
        assert_eq!(self.process.address("data").await, self.data);
    }

    /// Where its cache is.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The version that it serves; `None` while it does not answer.
    pub async fn version(&self) -> Option<u64> {
        let client = Client::new(self.data);
        let asked = client.try_send(Method::GET, "/version/0", HeaderMap::new(), "".into()).await;
        versions::version(0, &asked.ok()?).ok()
    }
}

fn launch(name: &str, plane: SocketAddr, cache: &Path, listen: [SocketAddr; 2]) -> Process {
    let ([data, admin], plane) = (listen.map(|addr| addr.to_string()), format!("http://{plane}"));
    let cache = cache.to_string_lossy();
    let arguments = [
        ["--listen", &data],
        ["--admin-listen", &admin],
        ["--name", name],
        ["--control-plane", &plane],
        ["--cache-dir", &cache],
    ];
    Process::start("countersign-responder", arguments.concat())
}

/// The fleet.
#[derive(Debug)]
pub struct Fleet {
    /// The control plane.
    pub plane: Process,
    /// Where it listens.
    pub grpc: SocketAddr,
    /// The responders.
    pub nodes: Vec<Node>,
    /// Before the responders.
    pub door: Balancer,
    /// Where everything is kept.
    pub dir: tempfile::TempDir,
}

impl Fleet {
    /// Starts everything, with the first version served by all.
    pub async fn start(responders: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let mut nodes = Vec::new();
        for nth in 0..responders {
            nodes.push(Node::start(&format!("r{nth}"), grpc, dir.path()).await);
        }
        let data: Vec<SocketAddr> = nodes.iter().map(|node| node.data).collect();
        let admin: Vec<SocketAddr> = nodes.iter().map(|node| node.admin).collect();
        let door = Balancer::probing(&data, &admin).await;
        let fleet = Self { plane, grpc, nodes, door, dir };
        let recording = fleet.dir.path().join("versions.jsonl");
        fs::write(&recording, versions::recording()).unwrap();
        let publisher = fleet.publisher();
        drop(publisher.cli(&["snapshot", "import", &recording.to_string_lossy(), "--id", ID]).ok());
        publisher.publish(1).expect("the first version is served");
        fleet.serves(1).await;
        fleet
    }

    /// What publishes versions.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher { plane: self.grpc, dir: self.dir.path().to_owned() }
    }

    /// Waits until each responder serves this version.
    pub async fn serves(&self, version: u64) {
        for node in &self.nodes {
            wait_until(&format!("{} serves version {version}", node.name), || async {
                (node.version().await == Some(version)).then_some(())
            })
            .await;
        }
    }

    /// Kills the control plane and starts it again with what it has stored.
    pub async fn replace_plane(&mut self) {
        self.plane.kill();
        self.revive_plane().await;
    }

    /// Starts the control plane again, once it has ended.
    pub async fn revive_plane(&mut self) {
        let data = self.dir.path().join("data");
        self.plane = process::control_plane(&data, &self.grpc.to_string());
        assert_eq!(self.plane.address("grpc").await, self.grpc);
    }
}

/// Publishes versions through a control plane.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The control plane, or what leads to one.
    pub plane: SocketAddr,
    /// Where the transform is written to.
    pub dir: PathBuf,
}

impl Publisher {
    /// Runs `countersign`.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        let server = format!("http://{}", self.plane);
        process::run("countersign", ["--server", &server].iter().chain(arguments))
    }

    /// Publishes a version, and waits until all that are connected serve it.
    ///
    /// # Errors
    /// What the command says.
    pub fn publish(&self, version: u64) -> Result<(), String> {
        let file = self.dir.join("version.json");
        fs::write(&file, versions::template(version).to_string()).unwrap();
        let done = |finished: Finished| match finished.code() {
            0 => Ok(()),
            code => Err(format!("version {version}: {code}: {}", finished.text())),
        };
        done(self.cli(&["transform", "put", &file.to_string_lossy()]))?;
        done(self.cli(&["replay", "start", "--snapshot", ID, "--transform", ID, "--wait"]))
    }
}
