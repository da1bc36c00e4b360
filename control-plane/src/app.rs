//! Wiring: configuration → stores → services → server.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use countersign_telemetry::Tracer;
use countersign_tls::{CertificateError, accept::accept, server::ServerTls};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::server::TcpIncoming;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admin::{Admin, may_listen},
    audit::Audit,
    auth::{AuthError, Authority},
    config::{Config, Ui},
    connections::bounded,
    fleet::Fleet,
    import::{sort::Scratch, staging::Staging, uploads::Uploads},
    lock::lock,
    metrics::Metrics,
    publish::Publisher,
    scrub::{self, Scrubbing},
    service::{
        Appending, Open, Plane, Quota,
        access::{Connection, Guard},
        health, members, rollout, roster, routes,
    },
    store::{StoreError, blocking, now},
    sweep,
    turns::{FOLLOWING, HEAVY, LOOKING, Turns},
    web,
};

/// The name of this process's service in traces.
const SERVICE: &str = "countersign-control-plane";
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
    ui: Option<(SocketAddr, AbortOnDropHandle<Result<(), tonic::transport::Error>>)>,
    tls: Option<Arc<ServerTls>>,
    audit: Audit,
    /// Read certificates and users again, and bring the audit log to the disk.
    #[expect(dead_code, reason = "they end with their owner")]
    upkeep: Vec<AbortOnDropHandle<()>>,
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

    /// Where the web UI listens, if anywhere.
    #[must_use]
    pub fn ui_addr(&self) -> Option<SocketAddr> {
        self.ui.as_ref().map(|ui| ui.0)
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
        if let Some((_, mut ui)) = self.ui.take() {
            // What is still open then is dropped.
            drop(timeout(self.grace, &mut ui).await);
        }
        for task in &mut self.last_words {
            if timeout(self.grace, &mut *task).await.is_err() {
                task.abort();
            }
        }
        self.audit.finish();
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
         listen on 127.0.0.1, have clients show certificates or tokens (--tls-cert and --tls-key with --client-ca, --users or --oidc-issuer), or pass --allow-insecure when the \
         network is trusted"
    )]
    Insecure {
        /// The address.
        listen: SocketAddr,
    },
    /// Tokens would be sent in the clear.
    #[error(
        "refusing to listen on {listen}: tokens would be sent in the clear, for whoever is between to take; speak TLS (--tls-cert and --tls-key), or pass \
         --allow-insecure when something else does before this address"
    )]
    Cleartext {
        /// The address.
        listen: SocketAddr,
    },
    /// Callers cannot be told apart.
    #[error("callers cannot be told apart")]
    Auth(#[from] AuthError),
    /// The audit log cannot be written.
    #[error("cannot open the audit log {}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
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
    /// Somebody else listens where the web UI was to.
    #[error(
        "address already in use: {listen}; stop the process that listens there, or choose another port, or `none`, with --ui-listen"
    )]
    UiInUse {
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
            | Self::Cleartext { .. }
            | Self::Certificates(_)
            | Self::Auth(_)
            | Self::Audit { .. } => true,
            Self::Store { source } => matches!(**source, StoreError::Settings(_)),
            _ => false,
        }
    }

    /// The exit code, by what would mend it: 2 when other settings would, 78 (`EX_CONFIG`) when what lies in the data directory has to be seen to,
    /// and 1 when starting again may.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Data { source, .. } if source.is_unusable() => 78,
            _ if self.is_config() => 2,
            _ => 1,
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
    let is_mutual = tls.as_ref().is_some_and(|tls| tls.is_mutual());
    let authority = Authority::new(config.auth.clone(), is_mutual)?;
    let audit = Audit::open(config.audit_log.as_deref()).map_err(|source| StartError::Audit {
        path: config.audit_log.clone().unwrap_or_default(),
        source,
    })?;
    // First, so that a second process on the same port does not touch the data.
    let listener = listen(config.listen)?;
    let addr = local(&listener, config.listen)?;
    let ui = listen_ui(config.ui)?;
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
    let last_words = work(&plane, &health);
    let guard = Guard::new(Arc::clone(&authority), audit.clone());
    let routes = routes::all(&plane, &health).await;
    let routes = routes.map_err(|source| StartError::Describe { source })?;
    let metrics = Metrics::new(tracer.clone()).of_plane(&plane).of_certificate(tls.as_ref());
    let layers = (metrics.observe(), guard);
    let ui = ui.map(|(listener, addr)| {
        let (routes, stopping) = (routes.clone(), stopping.clone());
        let layers = (layers.0.clone(), layers.1.clone().behind_door());
        let tls = (tls.as_ref(), config.timing.opening);
        (addr, web::serve(listener, addr, routes, layers, tls, stopping))
    });
    let router = routes::server(layers).add_routes(routes);
    let ended = stopping.clone().cancelled_owned();
    let server = if let Some(tls) = &tls {
        let incoming = accept(listener, Arc::clone(tls)).map(|one| one.map(Connection::from));
        let incoming = bounded(incoming, config.timing.opening);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    } else {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let incoming = bounded(incoming, config.timing.opening);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    };
    let mut upkeep = vec![tokio::spawn(authority.poll()), tokio::spawn(audit.clone().run())];
    upkeep.extend(tls.clone().map(|tls| tokio::spawn(tls.poll())));
    let upkeep = upkeep.into_iter().map(AbortOnDropHandle::new).collect();
    let admin_addr = admin.as_ref().and_then(|admin| admin.local_addr().ok());
    if let Some(listener) = admin {
        let admin = Admin { plane: Arc::clone(&plane), metrics, any_host: config.allow_insecure };
        tokio::spawn(Arc::new(admin).run(listener));
    }
    let ui_addr = ui.as_ref().map(|ui| tracing::field::display(ui.0));
    tracing::info!(%addr, ui = ui_addr, tls = tls.is_some(), data_dir = %config.data_dir.display(), "control plane listens");
    Ok(Running {
        addr,
        admin_addr,
        tracer,
        stopping,
        health,
        server,
        ui,
        tls,
        audit,
        upkeep,
        last_words,
        replaced,
        grace: config.shutdown_grace,
        _lock: lock,
    })
}

/// Begins what goes on beside the calls; those that are returned have something to say to the store at last.
fn work(plane: &Arc<Plane>, health: &HealthReporter) -> [JoinHandle<()>; 2] {
    tokio::spawn(members::run(Arc::clone(plane)));
    tokio::spawn(sweep::run(Arc::clone(plane)));
    tokio::spawn(scrub::run(Arc::clone(plane)));
    tokio::spawn(health::run(Arc::clone(plane), health.clone()));
    [tokio::spawn(roster::run(Arc::clone(plane))), tokio::spawn(rollout::run(Arc::clone(plane)))]
}

fn check_exposure(config: &Config) -> Result<(), StartError> {
    let admin = config.admin_listen;
    if let Some(listen) = admin.filter(|addr| !may_listen(*addr, config.allow_insecure)) {
        return Err(StartError::InsecureAdmin { listen });
    }
    let tokens = config.auth.is_any();
    let is_mutual = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    for listen in [Some(config.listen), config.ui.addr()].into_iter().flatten() {
        if listen.ip().is_loopback() || is_mutual || (tokens && config.tls.is_some()) {
            continue;
        }
        match (config.allow_insecure, tokens) {
            (false, false) => return Err(StartError::Insecure { listen }),
            (false, true) => return Err(StartError::Cleartext { listen }),
            (true, false) => {
                tracing::warn!(%listen, "listening off loopback without authentication");
            }
            (true, true) => tracing::warn!(%listen, "tokens are sent in the clear off loopback"),
        }
    }
    Ok(())
}

fn local(listener: &TcpListener, listen: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { listen, source })
}

/// Listens for the web UI, where it is wanted.
fn listen_ui(ui: Ui) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(addr) = ui.addr() else { return Ok(None) };
    match listen(addr) {
        Ok(listener) => {
            let addr = local(&listener, addr)?;
            Ok(Some((listener, addr)))
        }
        Err(StartError::InUse { listen }) if ui == Ui::IfFree(listen) => {
            tracing::warn!(%listen, "the web UI is not served, because its port is in use");
            Ok(None)
        }
        Err(StartError::InUse { listen }) => Err(StartError::UiInUse { listen }),
        Err(error) => Err(error),
    }
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
        kept: config.places.kinds(),
        staging,
        quota: Quota::new(config.project_quota),
        scratch,
        scrubbing: Scrubbing::new(config.scrub_every),
        uploads: Uploads::default(),
        appending: Appending::default(),
        fleet: Fleet::default(),
        members: members::Announced::default(),
        timing: config.timing,
        heavy: Turns::new(HEAVY.0, HEAVY.1),
        following: Turns::new(FOLLOWING.0, FOLLOWING.1),
        looking: Turns::new(LOOKING.0, LOOKING.1),
        open: Open::default(),
        tracer: None,
        stopping,
    };
    Ok((plane, lock))
}
