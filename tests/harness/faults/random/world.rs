//! The processes, and a link between each two of them that can break.

use std::{fs, net::SocketAddr};

use crate::{
    balancer::Balancer,
    disks::Disks,
    fleet::{Node, Publisher},
    link::Link,
    servers::{Postgres, S3Server},
    shared::Plane,
    versions,
};

pub(super) const PLANES: usize = 3;
pub(super) const NODES: usize = 5;

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
            let data = dir.path().join(format!("plane-{nth}"));
            planes.push(Plane::start(&data, &database, &blobs, &bucket).await);
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
}
