//! The gRPC API: asking for recorded answers, looking inside, and steering, with health and reflection beside.
//!
//! It has a listener of its own, which is off unless it is asked for: it has no authentication, and whoever reaches it can end the responder. Recorded
//! gRPC services are not served here, so that reflection tells of this API and of nothing that was recorded.

mod admin;
pub(crate) mod connections;
mod explain;
pub(crate) mod problem;
mod request;
mod respond;

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use countersign_proto::{
    FILE_DESCRIPTOR_SET,
    responder::v1::{
        admin_service_server::{AdminServiceServer, SERVICE_NAME as ADMIN},
        responder_service_server::{ResponderServiceServer, SERVICE_NAME as RESPONDER},
    },
};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Router};
use tonic_health::{
    ServingStatus,
    pb::health_server::{HealthServer, SERVICE_NAME as HEALTH},
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::{Builder, Error as ReflectionError};

use crate::{admin::Admin, metrics::Lane, serve_request::Plane};

/// The most connections at a time.
const CONNECTIONS: usize = 256;
/// The most calls at a time on a connection.
const CALLS: u32 = 200;
/// Explanations at a time: they cost more than answers.
const EXPLANATIONS: usize = 4;
/// What a request may have around its body.
const AROUND_BODY: usize = 256 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What the services share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Answers requests.
    pub(crate) plane: Arc<Plane>,
    /// Counts them.
    pub(crate) lane: Arc<Lane>,
    /// What there is to tell.
    pub(crate) admin: Arc<Admin>,
    /// Cancelled when somebody asks the responder to end.
    pub(crate) end: CancellationToken,
    explanations: Semaphore,
    stopping: CancellationToken,
}

/// The API as it is served.
#[derive(Debug)]
pub(crate) struct Running {
    addr: SocketAddr,
    stopping: CancellationToken,
    server: JoinHandle<()>,
    health: JoinHandle<()>,
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The socket cannot be used.
    #[error("the socket cannot be used")]
    Socket(#[from] io::Error),
    /// The services cannot be described.
    #[error("the services cannot be described")]
    Describe(#[from] ReflectionError),
}

impl Shared {
    pub(crate) fn new(
        plane: Arc<Plane>,
        lane: Arc<Lane>,
        admin: Arc<Admin>,
        end: CancellationToken,
    ) -> Self {
        let (explanations, stopping) = (Semaphore::new(EXPLANATIONS), CancellationToken::new());
        Self { plane, lane, admin, end, explanations, stopping }
    }
}

/// Serves on this socket from now on.
pub(crate) fn serve(listener: TcpListener, shared: Shared) -> Result<Running, ApiError> {
    let addr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Arc::new(shared);
    let reporter = HealthReporter::new();
    let router = routes(&shared, &reporter)?;
    let stopping = shared.stopping.clone();
    let serving = router.serve_with_incoming_shutdown(
        connections::accept(listener, CONNECTIONS),
        stopping.clone().cancelled_owned(),
    );
    let server = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the API listener failed");
        }
    });
    let health = tokio::spawn(report(shared, reporter));
    Ok(Running { addr, stopping, server, health })
}

fn routes(shared: &Arc<Shared>, reporter: &HealthReporter) -> Result<Router, ReflectionError> {
    let describe = || {
        let described =
            Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        let described =
            described.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        [RESPONDER, ADMIN, HEALTH].into_iter().fold(described, Builder::with_service_name)
    };
    let responder = respond::Responder { shared: Arc::clone(shared) };
    let limit = shared.plane.limits.body.saturating_add(AROUND_BODY);
    Ok(Server::builder()
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(HealthServer::new(HealthService::from_health_reporter(reporter.clone())))
        .add_service(describe().build_v1()?)
        .add_service(describe().build_v1alpha()?)
        .add_service(ResponderServiceServer::new(responder).max_decoding_message_size(limit))
        .add_service(AdminServiceServer::new(admin::Administration { shared: Arc::clone(shared) })))
}

/// Keeps health as it is: the process lives, the admin service can be asked, answers are there once the responder is ready, and each replay is
/// served or not.
async fn report(shared: Arc<Shared>, mut reporter: HealthReporter) {
    let readiness = &shared.admin.readiness;
    let mut watch = readiness.watch();
    let mut told = BTreeSet::new();
    reporter.set_service_status(ADMIN, ServingStatus::Serving).await;
    loop {
        let ready = readiness.reasons().is_empty();
        let draining = readiness.flags().draining;
        let status = |good| if good { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status(RESPONDER, status(ready)).await;
        let table = shared.admin.snapshots.load_full();
        let names = table.targets.keys().map(String::as_str);
        let names = names.chain(table.replays.iter().map(|it| it.assignment.name.as_str()));
        let known: BTreeSet<String> = names.map(str::to_owned).collect();
        for name in told.difference(&known) {
            reporter.clear_service_status(&format!("replay:{name}")).await;
        }
        for name in &known {
            let serves = table.active(name).is_some() && !table.is_behind(name);
            let status = status(serves && !draining);
            reporter.set_service_status(format!("replay:{name}"), status).await;
        }
        told = known;
        drop(table);
        watch.changed().await;
    }
}

impl Running {
    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more calls, and lets those in flight finish within this time.
    pub(crate) async fn end(mut self, limit: Duration) {
        self.stopping.cancel();
        if timeout(limit, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
        self.health.abort();
    }
}
