//! Wiring: configuration → stores → services → server.

use std::{
    fs, io,
    io::{Read as _, Seek as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_telemetry::Tracer;
use countersign_tls::{CertificateError, accept::accept, server::ServerTls};
use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::server::TcpIncoming;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admin::{Admin, may_listen},
    config::Config,
    fleet::Fleet,
    import::{sort::Scratch, staging::Staging, uploads::Uploads},
    metrics::Metrics,
    publish::Publisher,
    service::{
        Appending, Plane,
        access::{Connection, Guard},
        health, members, rollout, roster, routes,
    },
    store::{StoreError, blob::io_error, blocking, now},
    sweep,
};

/// The name of this process's service in traces.
const SERVICE: &str = "countersign-control-plane";
/// Imports and compilations that run at the same time.
const HEAVY: usize = 2;
/// Imports that read along with an upload at a time; others wait until theirs is there.
const FOLLOWING: usize = 2;
/// Connections that wait to be accepted, for the moment when a whole fleet reconnects.
const BACKLOG: u32 = 4096;

/// A control plane that runs.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    tracer: Option<Tracer>,
    stopping: CancellationToken,
    health: HealthReporter,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    tls: Option<Arc<ServerTls>>,
    /// Reads the certificates again.
    #[expect(dead_code, reason = "it ends with its owner")]
    renewal: Option<AbortOnDropHandle<()>>,
    /// Have something to say to the store at last.
    last_words: [JoinHandle<()>; 2],
    replaced: CancellationToken,
    grace: Duration,
    // Held open as long as the directory is used.
    _lock: fs::File,
}

impl Running {
    /// Where the gRPC services listen.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the admin listener is, if anywhere.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Whether they are spoken to over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Resolves when the server ends by itself, which is a failure, or has to because another store is where its own was.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), StartError> {
        let ended = tokio::select! {
            ended = &mut self.server => ended,
            () = self.replaced.cancelled() => return Err(StartError::Replaced),
        };
        match ended {
            Ok(Ok(())) | Err(_) => Err(StartError::Ended),
            Ok(Err(source)) => Err(StartError::Serve { source }),
        }
    }

    /// Takes no new calls, lets open ones end for a bounded time, and stops.
    pub async fn shutdown(mut self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.stopping.cancel();
        if !self.server.is_finished() && timeout(self.grace, &mut self.server).await.is_err() {
            tracing::warn!("calls were still open at the end of the shutdown grace");
            self.server.abort();
            // An aborted task only says that it was.
            drop((&mut self.server).await);
        }
        for task in &mut self.last_words {
            if timeout(self.grace, &mut *task).await.is_err() {
                task.abort();
            }
        }
        if let Some(tracer) = &self.tracer {
            tracer.finish(self.grace).await;
        }
    }
}

/// Why a control plane does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not loopback, and callers are not authenticated.
    #[error(
        "refusing to listen on {listen}: callers are not authenticated, so that whoever reaches the port can read and change everything; \
         listen on 127.0.0.1, have clients show certificates (--tls-cert, --tls-key and --client-ca), or pass --allow-insecure when the \
         network is trusted"
    )]
    Insecure {
        /// The address.
        listen: SocketAddr,
    },
    /// The admin listener has no authentication.
    #[error(
        "the admin listener has no authentication and {listen} can be reached from other hosts; use a loopback address, or allow it with \
         --allow-insecure"
    )]
    InsecureAdmin {
        /// The address.
        listen: SocketAddr,
    },
    /// A certificate or key cannot be used.
    #[error("TLS cannot be spoken")]
    Certificates(#[from] CertificateError),
    /// Traces cannot be sent as it is told.
    #[error(transparent)]
    Telemetry(#[from] countersign_telemetry::SettingsError),
    /// Somebody else listens there.
    #[error(
        "address already in use: {listen}; stop the process that listens there, or choose another port with --listen"
    )]
    InUse {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// The stores cannot be used.
    #[error("cannot open the stores")]
    Store {
        /// Why not.
        #[source]
        source: Box<StoreError>,
    },
    /// The descriptors for reflection cannot be read.
    #[error("cannot describe the services")]
    Describe {
        /// What is wrong with them.
        #[source]
        source: tonic_reflection::server::Error,
    },
    /// The server failed.
    #[error("the server failed")]
    Serve {
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// Another store is where the control plane's own was.
    #[error(
        "another store, or an older state of the same, is where this control plane's was; restart it, so that it begins anew with what is there"
    )]
    Replaced,
    /// The server ended although nobody asked for it.
    #[error("the server ended unexpectedly")]
    Ended,
}

impl StartError {
    /// The settings of the stores are of no use.
    #[must_use]
    pub fn settings(error: StoreError) -> Self {
        Self::Store { source: Box::new(error) }
    }

    /// Whether other settings would mend it.
    #[must_use]
    pub fn is_config(&self) -> bool {
        match self {
            Self::Insecure { .. }
            | Self::InsecureAdmin { .. }
            | Self::Telemetry(_)
            | Self::Certificates(_) => true,
            Self::Store { source } => matches!(**source, StoreError::Settings(_)),
            _ => false,
        }
    }
}

/// Starts a control plane and returns when it listens.
///
/// # Errors
/// When the data directory cannot be used or the address cannot be listened on.
pub async fn start(config: Config) -> Result<Running, StartError> {
    check_exposure(&config)?;
    let tls = config.tls.clone().map(ServerTls::read).transpose()?;
    // First, so that a second process on the same port does not touch the data.
    let listener = listen(config.listen)?;
    let addr = listener
        .local_addr()
        .map_err(|source| StartError::Listen { listen: config.listen, source })?;
    let admin = config.admin_listen.map(listen).transpose()?;
    let tracer = config.telemetry.as_ref();
    let instance = addr.to_string();
    let tracer = tracer.map(|it| Tracer::start(it, SERVICE, &instance)).transpose()?;
    let stopping = CancellationToken::new();
    let unusable = |error| match error {
        StoreError::Unavailable { .. }
        | StoreError::Refused { .. }
        | StoreError::Full { .. }
        | StoreError::Settings(_) => StartError::settings(error),
        error => StartError::Data { path: config.data_dir.clone(), source: Box::new(error) },
    };
    let (plane, lock) = open(&config, stopping.clone()).await.map_err(unusable)?;

    let health = HealthReporter::new();
    let plane = Arc::new(Plane { tracer: tracer.clone(), ..plane });
    let replaced = plane.meta.replaced();
    let last_words = [
        tokio::spawn(roster::run(Arc::clone(&plane))),
        tokio::spawn(rollout::run(Arc::clone(&plane))),
    ];
    tokio::spawn(members::run(Arc::clone(&plane)));
    if config.places.is_shared() {
        tokio::spawn(sweep::run(Arc::clone(&plane)));
    }
    tokio::spawn(health::run(Arc::clone(&plane), health.clone()));
    let guard = Guard { closed: tls.as_ref().is_some_and(|tls| tls.is_mutual()) };
    let metrics = Metrics::new(tracer.clone()).of_plane(&plane);
    let router = routes::all(&plane, &health, (metrics.observe(), guard)).await;
    let router = router.map_err(|source| StartError::Describe { source })?;
    let ended = stopping.clone().cancelled_owned();
    let server = if let Some(tls) = &tls {
        let incoming = accept(listener, Arc::clone(tls)).map(|one| one.map(Connection::from));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    } else {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    };
    let admin_addr = admin.as_ref().and_then(|admin| admin.local_addr().ok());
    if let Some(listener) = admin {
        let admin = Admin { plane: Arc::clone(&plane), metrics, any_host: config.allow_insecure };
        tokio::spawn(Arc::new(admin).run(listener));
    }
    let renewal = tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.poll())));
    tracing::info!(%addr, tls = tls.is_some(), data_dir = %config.data_dir.display(), "control plane listens");
    Ok(Running {
        addr,
        admin_addr,
        tracer,
        stopping,
        health,
        server,
        tls,
        renewal,
        last_words,
        replaced,
        grace: config.shutdown_grace,
        _lock: lock,
    })
}

fn check_exposure(config: &Config) -> Result<(), StartError> {
    let admin = config.admin_listen;
    if let Some(listen) = admin.filter(|addr| !may_listen(*addr, config.allow_insecure)) {
        return Err(StartError::InsecureAdmin { listen });
    }
    let is_mutual = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if config.listen.ip().is_loopback() || is_mutual {
        return Ok(());
    }
    if !config.allow_insecure {
        return Err(StartError::Insecure { listen: config.listen });
    }
    tracing::warn!(listen = %config.listen, "listening off loopback without authentication");
    Ok(())
}

fn listen(listen: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        socket.listen(BACKLOG)
    };
    match bind() {
        Ok(listener) => Ok(listener),
        Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(StartError::InUse { listen })
        }
        Err(source) => Err(StartError::Listen { listen, source }),
    }
}

async fn open(
    config: &Config,
    stopping: CancellationToken,
) -> Result<(Plane, fs::File), StoreError> {
    let (dir, limit) = (config.data_dir.clone(), config.max_upload);
    let scratch = Scratch::new(dir.join("scratch"), Scratch::BUDGET);
    let to_clear = scratch.clone();
    let (lock, staging) = blocking(move || {
        let lock = lock(&dir)?;
        to_clear.clear()?;
        Ok::<_, StoreError>((lock, Staging::new(dir.join("staging"), limit)))
    })
    .await??;
    let (meta, blobs) = config.places.open().await?;
    sweep::uploads(&*meta, staging.clone()).await?;
    if !config.places.is_shared() {
        sweep::blobs(&*meta, &*blobs).await?;
    }
    let plane = Plane {
        replica: uuid::Uuid::new_v4().to_string(),
        began: now(),
        publisher: Publisher::start(Arc::clone(&meta), stopping.clone()).await?,
        meta,
        blobs,
        staging,
        scratch,
        uploads: Uploads::default(),
        appending: Appending::default(),
        fleet: Fleet::default(),
        members: members::Announced::default(),
        timing: config.timing,
        heavy: Semaphore::new(HEAVY),
        following: Semaphore::new(FOLLOWING),
        tracer: None,
        stopping,
    };
    Ok((plane, lock))
}

/// Takes the directory for this process.
pub(crate) fn lock(dir: &Path) -> Result<fs::File, StoreError> {
    fs::create_dir_all(dir).map_err(io_error("make", dir))?;
    let path = dir.join("lock");
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(io_error("open", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let known = file.take(32).read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
        return Err(StoreError::Locked {
            path: dir.to_owned(),
            holder: known.then(|| holder.trim().to_owned()),
        });
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(io_error("write", &path))?;
    Ok(file)
}
