//! The processes, and a link between each two of them that can break.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    balancer::Balancer,
    fleet::{Node, Publisher},
    link::Link,
    notice,
    process::Process,
    servers::{Postgres, S3Server},
    versions,
};
use anyhow::Context as _;

pub(super) const PLANES: usize = 3;
pub(super) const NODES: usize = 5;

/// A control plane, and its links.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) process: Process,
    pub(super) database: Link,
    pub(super) blobs: Link,
    addr: SocketAddr,
    dir: PathBuf,
    variables: Vec<(String, String)>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) planes: Vec<Plane>,
    pub(super) nodes: Vec<Node>,
    /// Between each responder and the control planes.
    pub(super) subscriptions: Vec<Link>,
    /// Between the balancer and each responder.
    pub(super) data: Vec<Link>,
    /// Before the responders.
    pub(super) door: Balancer,
    /// Small disks of a responder's cache and a control plane's data; only root can have them.
    pub(super) disks: Option<Disks>,
    pub(super) database: Postgres,
    /// Before the control planes.
    entrance: Balancer,
    pub(super) blobs: S3Server,
    dir: tempfile::TempDir,
}

impl World {
    pub(super) async fn start() -> anyhow::Result<Option<Self>> {
        let Some((database, blobs)) = Postgres::start().zip(S3Server::start()) else {
            return Ok(None);
        };
        let bucket = blobs.bucket("faults") + "/store";
        let dir = tempfile::tempdir()?;
        let disks = Disks::mount(dir.path(), &["cache-r0", "plane-0"]);
        let mut planes = Vec::new();
        for nth in 0..PLANES {
            planes.push(plane(dir.path(), nth, &database, &blobs, &bucket).await?);
        }
        let all: Vec<SocketAddr> = planes.iter().map(|plane: &Plane| plane.addr).collect();
        let entrance = Balancer::start(&all).await;
        let (mut nodes, mut subscriptions, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for nth in 0..NODES {
            let link = Link::to(entrance.addr()).await;
            let node = Node::start(&format!("r{nth}"), link.addr(), dir.path()).await;
            data.push(Link::to(node.data).await);
            subscriptions.push(link);
            nodes.push(node);
        }
        let all: Vec<SocketAddr> = data.iter().map(Link::addr).collect();
        let admin: Vec<SocketAddr> = nodes.iter().map(|node| node.admin).collect();
        let door = Balancer::probing(&all, &admin).await;
        let world = Self {
            planes,
            nodes,
            subscriptions,
            data,
            door,
            disks,
            database,
            entrance,
            blobs,
            dir,
        };
        let recording = world.dir.path().join("versions.jsonl");
        fs::write(&recording, versions::recording())?;
        let publisher = world.publisher();
        let file = recording.to_string_lossy();
        let imported = publisher.cli(&["snapshot", "import", &file, "--id", versions::ID]);
        anyhow::ensure!(imported.code() == 0, "{}", imported.text());
        publisher.publish(1).map_err(anyhow::Error::msg)?;
        Ok(Some(world))
    }

    pub(super) fn publisher(&self) -> Publisher {
        Publisher { plane: self.entrance.addr(), dir: self.dir.path().to_owned() }
    }

    /// Starts a control plane again, once it has ended.
    pub(super) async fn revive(&mut self, nth: usize) {
        let plane = &mut self.planes[nth];
        plane.process = launch(&plane.dir, plane.addr, &plane.variables);
        assert_eq!(plane.process.address("grpc").await, plane.addr);
    }
}

async fn plane(
    dir: &Path,
    nth: usize,
    database: &Postgres,
    blobs: &S3Server,
    bucket: &str,
) -> anyhow::Result<Plane> {
    let (url, own) = (database.url(), blobs.environment());
    let addr = |url: &str| -> anyhow::Result<SocketAddr> {
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        Ok(authority.and_then(|rest| rest.rsplit('@').next()).context("an address")?.parse()?)
    };
    let at = addr(&url)?;
    let database = Link::to(at).await;
    let mut variables = vec![(
        "COUNTERSIGN_META".to_owned(),
        url.replace(&at.to_string(), &database.addr().to_string()),
    )];
    variables.push(("COUNTERSIGN_BLOBS".to_owned(), bucket.to_owned()));
    let endpoint =
        own.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").context("an endpoint")?;
    let blobs = Link::to(addr(&endpoint.1)?).await;
    variables.extend(own.iter().filter(|(name, _)| name != "AWS_ENDPOINT_URL").cloned());
    variables.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", blobs.addr())));
    let dir = dir.join(format!("plane-{nth}"));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut process = launch(&dir, anywhere, &variables);
    let addr = process.address("grpc").await;
    Ok(Plane { process, database, blobs, addr, dir, variables })
}

fn launch(dir: &Path, listen: SocketAddr, variables: &[(String, String)]) -> Process {
    let (listen, dir) = (listen.to_string(), dir.to_string_lossy());
    let arguments = ["--listen", &listen, "--data-dir", &dir];
    Process::start_in("countersign-control-plane", arguments, variables)
}

/// Disks of 8 MiB each, in memory.
#[derive(Debug)]
pub(super) struct Disks(Vec<PathBuf>);

impl Disks {
    fn mount(dir: &Path, names: &[&str]) -> Option<Self> {
        let mut disks = Self(Vec::new());
        for name in names {
            let disk = dir.join(name);
            fs::create_dir_all(&disk).ok()?;
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&disk);
            if !mount.output().is_ok_and(|out| out.status.success()) {
                notice("only root can mount small disks, no disk gets full");
                return None;
            }
            disks.0.push(disk);
        }
        Some(disks)
    }

    /// Fills a disk.
    pub(super) fn fill(&self, nth: usize) -> anyhow::Result<()> {
        let mut filler = fs::File::create(self.filler(nth)?)?;
        let zeros = vec![0; 64 * 1024];
        // Whatever the error is, there is no room any more.
        while std::io::Write::write_all(&mut filler, &zeros).is_ok() {}
        Ok(())
    }

    /// Gives it back what filled it.
    pub(super) fn empty(&self, nth: usize) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler(nth)?)?)
    }

    fn filler(&self, nth: usize) -> anyhow::Result<PathBuf> {
        Ok(self.0.get(nth).context("a disk")?.join("filler"))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.0 {
            // Lazily, for whoever uses it ends a moment later.
            drop(Command::new("umount").arg("-l").arg(disk).output());
        }
    }
}
