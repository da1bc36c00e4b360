//! A control plane on a PostgreSQL and an S3 server, with a link to each of them that can break.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    link::Link,
    process::Process,
    servers::{Postgres, S3Server},
};

/// A control plane, and its links.
#[derive(Debug)]
pub struct Plane {
    /// Its process.
    pub process: Process,
    /// To the database.
    pub database: Link,
    /// To the S3 server.
    pub blobs: Link,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The variables that tell where its stores are, by way of the links.
    pub variables: Vec<(String, String)>,
    dir: PathBuf,
}

impl Plane {
    /// Starts one with a data directory of its own; `bucket` is where its blobs are.
    pub async fn start(dir: &Path, database: &Postgres, blobs: &S3Server, bucket: &str) -> Self {
        let (url, own) = (database.url(), blobs.environment());
        let at = authority(&url);
        let database = Link::to(at).await;
        let by_link = url.replace(&at.to_string(), &database.addr().to_string());
        let mut variables = vec![("COUNTERSIGN_META".to_owned(), by_link)];
        variables.push(("COUNTERSIGN_BLOBS".to_owned(), bucket.to_owned()));
        let (endpoints, others): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(name, _)| name == "AWS_ENDPOINT_URL");
        let blobs = Link::to(authority(&endpoints[0].1)).await;
        variables.extend(others);
        variables.push(("COUNTERSIGN_ADMIN_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
        variables.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", blobs.addr())));
        let mut process = launch(dir, SocketAddr::from(([127, 0, 0, 1], 0)), &variables);
        let addr = process.address("grpc").await;
        Self { process, database, blobs, addr, variables, dir: dir.to_owned() }
    }

    /// Starts it again, once it has ended.
    pub async fn revive(&mut self) {
        self.process = launch(&self.dir, self.addr, &self.variables);
        assert_eq!(self.process.address("grpc").await, self.addr);
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> SocketAddr {
    let rest = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
    let addr = rest.and_then(|rest| rest.rsplit('@').next());
    addr.and_then(|addr| addr.parse().ok()).expect("an address")
}

fn launch(dir: &Path, listen: SocketAddr, variables: &[(String, String)]) -> Process {
    let (listen, dir) = (listen.to_string(), dir.to_string_lossy());
    let arguments = ["--listen", &listen, "--data-dir", &dir];
    Process::start_in("countersign-control-plane", arguments, variables)
}
