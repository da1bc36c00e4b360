//! A recording proxy: everything goes through to the real host and back, and a pair of each exchange is written.
//!
//! With an upstream it stands in that host's place; without one it is a forward proxy for plain HTTP. Bodies are passed on as they come;
//! what is recorded of them is bounded. An exchange that breaks off is not recorded, because it could not be replayed.

mod exchange;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use crate::{
    drain::Drain,
    recorder::{self, Recorder, Writing},
    upstream::{
        client::{TrustError, Upstream},
        policy::{Policy, Rule},
    },
};

/// Connections at a time.
const CONNECTIONS: usize = 1_000;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What is recorded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The real host, `http://` or `https://`; `None` for whatever the client asks for.
    pub upstream: Option<Uri>,
    /// Hosts and addresses that may be reached beside what may be anyway.
    pub allow: Vec<Rule>,
    /// A file of certificates that are trusted beside the system's.
    pub trust: Option<PathBuf>,
    /// How long the head of an answer may take.
    pub head: Duration,
    /// How long a body may pause.
    pub pause: Duration,
    /// Where and how it is written.
    pub recording: recorder::Settings,
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be written to.
    #[error("the directory {} cannot be recorded to", dir.display())]
    Record {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The upstream is no URL of a host.
    #[error("{0} is no URL of a host; it looks like https://api.example.com")]
    Upstream(Uri),
    /// A proxy for any host would serve everybody.
    #[error(
        "without an upstream this is a proxy to any host, and {0} can be reached from other hosts; use a loopback address, or name an upstream"
    )]
    Open(SocketAddr),
    /// The certificates that are to be trusted cannot be used.
    #[error("hosts cannot be reached with TLS")]
    Trust(#[source] TrustError),
}

impl StartError {
    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Listen { .. })
    }
}

/// What came of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pairs that were written.
    pub pairs: u64,
    /// Pairs that could not be written.
    pub lost: u64,
    /// Exchanges that failed or broke off, and so were not recorded.
    pub broken: u64,
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    proxy: Arc<Proxy>,
    drain: Drain,
    accepting: JoinHandle<()>,
    writing: Writing,
}

/// What every exchange shares.
#[derive(Debug)]
struct Proxy {
    upstream: Upstream,
    /// The real host; `None` for whatever the client asks for.
    fixed: Option<Uri>,
    recorder: Arc<Recorder>,
    pause: Duration,
    broken: AtomicU64,
    bodies: TaskTracker,
    drain: Drain,
}

/// Starts a proxy on the current runtime.
///
/// # Errors
/// When the address, the directory or the upstream cannot be used.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    if let Some(url) = &settings.upstream
        && (!matches!(url.scheme_str(), Some("http" | "https"))
            || url.host().is_none_or(str::is_empty))
    {
        return Err(StartError::Upstream(url.clone()));
    }
    if settings.upstream.is_none() && !settings.listen.ip().is_loopback() {
        return Err(StartError::Open(settings.listen));
    }
    let listen = |source| StartError::Listen { addr: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let policy = Policy::anywhere(settings.allow, vec![addr]);
    let upstream =
        Upstream::new(policy, settings.trust, settings.head).map_err(StartError::Trust)?;
    let dir = settings.recording.dir.clone();
    let (recorder, writing) =
        Recorder::start(settings.recording).map_err(|source| StartError::Record { dir, source })?;
    let drain = Drain::default();
    let proxy = Arc::new(Proxy {
        upstream,
        fixed: settings.upstream,
        recorder,
        pause: settings.pause,
        broken: AtomicU64::new(0),
        bodies: TaskTracker::new(),
        drain: drain.clone(),
    });
    let accepting = tokio::spawn(accept(listener, Arc::clone(&proxy), drain.clone()));
    Ok(Running { addr, proxy, drain, accepting, writing })
}

impl Running {
    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was recorded so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (pairs, lost) = self.proxy.recorder.counts();
        Counts { pairs, lost, broken: self.proxy.broken.load(Ordering::Relaxed) }
    }

    /// Ends gracefully: no new connections, then what is in flight finishes or its time is up, then everything is on the disk.
    ///
    /// # Errors
    /// When the recording could not be written to its end.
    pub async fn shutdown(self, limit: Duration) -> io::Result<Counts> {
        let (accepting, bodies) = (self.accepting, self.proxy.bodies.clone());
        let ended = async move {
            // It ends, or it had a defect; either way it accepts nothing more.
            drop(accepting.await);
            bodies.close();
            bodies.wait().await;
        };
        self.drain.run(limit, ended).await;
        let broken = self.proxy.broken.load(Ordering::Relaxed);
        drop(self.proxy);
        let written = tokio::task::spawn_blocking(move || self.writing.finish()).await;
        let (pairs, lost) = written.map_err(io::Error::other)??;
        Ok(Counts { pairs, lost, broken })
    }
}

async fn accept(listener: TcpListener, proxy: Arc<Proxy>, drain: Drain) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = drain.stopping() => break,
            next = next => match next {
                Some(next) => next,
                None => break,
            },
        };
        match accepted {
            Ok((stream, _)) => {
                let (proxy, drain) = (Arc::clone(&proxy), drain.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = drain.killed() => {}
                        () = serve(stream, proxy, &drain) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve(stream: TcpStream, proxy: Arc<Proxy>, drain: &Drain) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, std::convert::Infallible>(proxy.exchange(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}
