//! Wiring: configuration → stores → services → server.

use std::{
    fs, io,
    io::{Read as _, Seek as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{net::TcpSocket, sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    config::Config,
    fleet::Fleet,
    import::{sort::Scratch, staging::Staging, uploads::Uploads},
    publish::Publisher,
    service::{Appending, Plane, members, roster, routes},
    store::{StoreError, blob::io_error, blocking},
    sweep,
};

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
    stopping: CancellationToken,
    health: HealthReporter,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    roster: JoinHandle<()>,
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
        // Its last words.
        if timeout(self.grace, &mut self.roster).await.is_err() {
            self.roster.abort();
        }
    }
}

/// Why a control plane does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not loopback, and callers are not authenticated.
    #[error(
        "refusing to listen on {listen}: callers are not authenticated, so that whoever reaches the port can read and change everything; \
         listen on 127.0.0.1, or pass --allow-insecure when the network is trusted"
    )]
    Insecure {
        /// The address.
        listen: SocketAddr,
    },
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
            Self::Insecure { .. } => true,
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
    // First, so that a second process on the same port does not touch the data.
    let incoming = listen(config.listen)?;
    let addr = incoming
        .local_addr()
        .map_err(|source| StartError::Listen { listen: config.listen, source })?;
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
    let plane = Arc::new(plane);
    let replaced = plane.meta.replaced();
    let roster = tokio::spawn(roster::run(Arc::clone(&plane)));
    tokio::spawn(members::run(Arc::clone(&plane)));
    if config.places.is_shared() {
        tokio::spawn(sweep::run(Arc::clone(&plane)));
    }
    let router = routes::all(&plane, &health).await;
    let router = router.map_err(|source| StartError::Describe { source })?;
    let serve = router.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
    let server = tokio::spawn(serve);
    tracing::info!(%addr, data_dir = %config.data_dir.display(), "control plane listens");
    Ok(Running {
        addr,
        stopping,
        health,
        server,
        roster,
        replaced,
        grace: config.shutdown_grace,
        _lock: lock,
    })
}

fn check_exposure(config: &Config) -> Result<(), StartError> {
    if config.listen.ip().is_loopback() {
        return Ok(());
    }
    if !config.allow_insecure {
        return Err(StartError::Insecure { listen: config.listen });
    }
    tracing::warn!(listen = %config.listen, "listening off loopback without authentication");
    Ok(())
}

fn listen(listen: SocketAddr) -> Result<TcpIncoming, StartError> {
    let bind = || {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        socket.listen(BACKLOG)
    };
    match bind() {
        Ok(listener) => Ok(TcpIncoming::from(listener).with_nodelay(Some(true))),
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
