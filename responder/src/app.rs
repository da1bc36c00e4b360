//! Wires a responder up: listeners, keys, cache, subscription. Nothing here serves.

mod background;
mod check;
mod error;
mod follow;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use check::{check, listen, listen_peers};
use countersign_telemetry::Tracer;
use follow::{follow, restore};
use http::Uri;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use error::StartError;

pub use crate::entrances::Mapped;
use crate::{
    admin::{self, Admin},
    api::{self, ApiError, Shared},
    config::{Config, Limits},
    control_plane::Way,
    drain::Drain,
    entrances::Entrances,
    fetch::{Blobs, disk::Disk},
    journal::Journal,
    limits::open_files,
    materials::Allowed,
    metrics::Metrics,
    passthrough::Passing,
    readiness::Readiness,
    report::Reporter,
    room::Room,
    secrets::Secrets,
    sequence::{self, Sequences},
    serve_request::Plane,
    server::{self, Workers},
    snapshots::Snapshots,
    subscription::apply::Applier,
    trace::SERVICE,
};

/// How long others may take to take over the turns that this node keeps, when it ends.
const LEAVE: Duration = Duration::from_secs(1);

/// A responder that runs; dropped, it ends at once.
#[derive(Debug)]
pub struct Running {
    entrances: Entrances,
    admin_addr: SocketAddr,
    admin: admin::Running,
    api: Option<api::Running>,
    end: CancellationToken,
    readiness: Arc<Readiness>,
    drain: KillOnDrop,
    workers: Workers,
    tasks: Vec<AbortOnDropHandle<()>>,
    sequences: Arc<Sequences>,
    peers: Option<sequence::Running>,
    config: Box<Config>,
    passing: Option<Passing>,
    reporter: Option<Arc<Reporter>>,
    tracer: Option<Tracer>,
}

#[derive(Debug)]
struct KillOnDrop(Drain);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Starts a responder on the current runtime, which does everything but serve connections. Those are accepted once what the disk cache has is served.
///
/// # Errors
/// When an address, a directory or the control plane's URL cannot be used. That the control plane is away is no error.
pub async fn start(mut config: Config) -> Result<Running, StartError> {
    let way = check(&config)?;
    let disk = disk(&config)?;
    let tracer = tracer(&config)?;
    config.limits = fitting(&config);
    let (entrances, data) = Entrances::open(&config)?;
    let (admin_listener, admin_addr) = listen(config.admin_listen, "administration")?;
    let api_listener = config.api_listen.map(|addr| listen(addr, "the API")).transpose()?;
    let (peer_listener, peer_tls) = listen_peers(&config)?;

    config.name = name(&config, data.addr());
    let workers = server::workers(config.runtime);
    // The API counts apart from the workers.
    let metrics = Arc::new(Metrics::new(workers + 1).showing(way.as_ref().and_then(Way::tls)));
    let snapshots = Arc::new(Snapshots::new(Arc::clone(&metrics), config.keep_previous));
    let secrets = Arc::new(Secrets::of(&config, &snapshots, &metrics));
    let readiness = Arc::new(Readiness::new(Arc::clone(&snapshots), config.expects_replay));
    let journal = Journal::new(config.journal).map(Arc::new);
    let open = api_listener.iter().chain(&peer_listener).map(|open| open.1);
    let own = entrances.addresses().into_iter().chain(open).chain([admin_addr]).collect();
    let (sequences, peers) = sequence::start(&config, peer_listener, peer_tls, &metrics)?;
    let passing = Passing::start(&config.passthrough, own)?;
    let plane = Plane::new(
        Arc::clone(&snapshots),
        Arc::clone(&metrics),
        config.limits,
        journal.clone(),
        passing.as_ref().map(Passing::passthrough),
        (Arc::clone(&sequences), Handle::current()),
    );
    let plane = Arc::new(plane.reached_by(&entrances).traced_by(tracer.clone()));
    let session_id = uuid::Uuid::new_v4().to_string();
    let reporter =
        Reporter::new(&config, way.as_ref(), &session_id, (&snapshots, &secrets), journal.as_ref());
    let admin = Arc::new(Admin {
        name: config.name.clone(),
        project: config.project_name(),
        control_plane: config.control_plane.as_ref().map(Uri::to_string),
        entrances: entrances.clone(),
        any_host: config.allow_insecure,
        snapshots: Arc::clone(&snapshots),
        secrets: Arc::clone(&secrets),
        readiness: Arc::clone(&readiness),
        metrics: Arc::clone(&metrics),
        sequences: Arc::clone(&sequences),
        journal,
    });
    let served = (snapshots, Arc::clone(&secrets), Arc::clone(&sequences));
    let blobs = Blobs::new(disk, Room::of(&config), metrics.fetched.clone());
    let applier = Arc::new(Applier { tracer: tracer.clone(), ..applier(&config, served, blobs) });

    let end = CancellationToken::new();
    let shared =
        Shared::new(Arc::clone(&plane), metrics.lane(workers), Arc::clone(&admin), end.clone());
    let api = api_listener.map(|open| serve_api(open, shared)).transpose()?;
    let (data_addr, drain) = (data.addr(), KillOnDrop(Drain::default()));
    let admin = admin::start(admin, admin_listener).map_err(StartError::Workers)?;
    let kept = (secrets, entrances.certificates.clone());
    let watched = (drain.0.clone(), Arc::clone(&metrics));
    let mut tasks = background::begin(&config, kept, reporter.clone(), watched);
    // What the disk has is there for the first connection, which waits for it.
    let restored = restore(&applier, &readiness).await;
    let workers = data.run(config.runtime, &plane, &drain.0).map_err(StartError::Workers)?;
    let (named, known) = ((config.name.clone(), session_id), Arc::clone(&readiness));
    tasks.push(follow(way, named, data_addr, applier, known, metrics, restored));
    Ok(Running {
        entrances,
        admin_addr,
        admin,
        api,
        end,
        readiness,
        drain,
        workers,
        tasks,
        sequences,
        peers,
        config: Box::new(config),
        passing,
        reporter,
        tracer,
    })
}

/// As many connections as there may be open files; what passes through needs one more.
fn fitting(config: &Config) -> Limits {
    let each = if config.passthrough.allow.is_empty() { 1 } else { 2 };
    config.limits.within(open_files(), each)
}

fn tracer(config: &Config) -> Result<Option<Tracer>, StartError> {
    let settings = config.telemetry.as_ref();
    Ok(settings.map(|settings| Tracer::start(settings, SERVICE, &config.name)).transpose()?)
}

fn serve_api(
    (listener, addr): (TcpListener, SocketAddr),
    shared: Shared,
) -> Result<api::Running, StartError> {
    let failed = |error: ApiError| StartError::Api { addr, source: Box::new(error) };
    api::serve(listener, shared).map_err(failed)
}

impl Running {
    /// Where recorded traffic is served.
    #[must_use]
    pub fn data_addr(&self) -> SocketAddr {
        self.entrances.data
    }

    /// Where it is served with TLS only.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.entrances.tls
    }

    /// The ports that are mapped to hosts.
    #[must_use]
    pub fn mapped(&self) -> &[Mapped] {
        &self.entrances.maps
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Where the gRPC API is, if anywhere.
    #[must_use]
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(api::Running::addr)
    }

    /// Where other responders share turns with this one, if anywhere.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peers.as_ref().map(sequence::Running::addr)
    }

    /// Whether they do so over TLS.
    #[must_use]
    pub fn is_peer_tls(&self) -> bool {
        self.peers.as_ref().is_some_and(sequence::Running::is_tls)
    }

    /// Waits until somebody asks over the API that the responder ends; whoever runs it then calls [`Self::shutdown`].
    pub async fn asked_to_end(&self) {
        self.end.cancelled().await;
    }

    /// Waits until everything that is assigned is served.
    pub async fn ready(&self) {
        self.readiness.ready().await;
    }

    /// Ends gracefully: not ready any more and every connection closed with its next response, then no new connections, then what is in flight
    /// finishes or its time is up.
    pub async fn shutdown(self) {
        self.readiness.note(|flags| flags.draining = true);
        self.drain.0.leave();
        if !self.config.drain_delay.is_zero() {
            sleep(self.config.drain_delay).await;
        }
        let limit = self.config.drain_timeout;
        let api = async {
            if let Some(api) = self.api {
                api.end(limit).await;
            }
        };
        let drain = self.drain.0.run(limit, self.workers.wait());
        let (clean, (), ()) = tokio::join!(drain, api, self.sequences.leave(LEAVE));
        if let Some(peers) = self.peers {
            peers.end(LEAVE).await;
        }
        if !clean {
            tracing::warn!(timeout = ?self.config.drain_timeout, "requests in flight were dropped");
        }
        if let Some(reporter) = &self.reporter {
            reporter.finish(LEAVE).await;
        }
        if let Some(tracer) = &self.tracer {
            tracer.finish(LEAVE).await;
        }
        for task in self.tasks {
            task.abort();
            // That it was aborted is what was asked for.
            drop(task.await);
        }
        drop(self.admin);
        if let Some(passing) = self.passing {
            passing.finish(self.config.drain_timeout).await;
        }
    }
}

fn disk(config: &Config) -> Result<Option<Disk>, StartError> {
    let open = |dir: PathBuf| {
        Disk::open(dir.clone(), config.cache_size)
            .map_err(|source| StartError::CacheDir { dir, source })
    };
    config.cache_dir.clone().map(open).transpose()
}

/// What takes over what the control plane says.
fn applier(
    config: &Config,
    (snapshots, secrets, sequences): (Arc<Snapshots>, Arc<Secrets>, Arc<Sequences>),
    blobs: Blobs,
) -> Applier {
    Applier {
        project: config.project_name(),
        selectors: config.selectors(),
        snapshots,
        secrets,
        sequences,
        blobs: Arc::new(blobs),
        allowed: Arc::new(Allowed {
            files_dir: config.files_dir.clone(),
            environment: config.template_env.clone(),
        }),
        serve_jwks: config.serve_jwks,
        tracer: None,
    }
}

/// What it is told, else the host's name and the port, so that several responders on a host differ.
fn name(config: &Config, data_addr: SocketAddr) -> String {
    if !config.name.is_empty() {
        return config.name.clone();
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_str().ok().filter(|name| !name.is_empty());
    format!("{}-{}", host.unwrap_or("responder"), data_addr.port())
}
