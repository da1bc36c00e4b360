//! Listens and accepts: a thread with a socket of its own for each core, or one socket on the caller's runtime.
//!
//! Connections are bounded over all threads. An error of `accept` never ends the loop.

pub(crate) mod bodies;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod connection;
mod frames;
mod framing;
#[cfg(fuzzing)]
pub mod fuzz;
mod io;
pub(crate) mod read;
pub(crate) mod route;
mod sniff;
mod tls;
mod tunnel;
pub(crate) mod write;

use std::{
    io::{Error, ErrorKind, Result},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use countersign_tls::places::{Place, Places};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tokio_util::task::TaskTracker;

use self::route::Route;
use crate::{
    config::RuntimeKind,
    drain::Drain,
    metrics::{Lane, Metrics},
    serve_request::Plane,
};

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 4096;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Sockets that listen; nobody accepts yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For each accept loop one socket of each door.
    sockets: Vec<Vec<(TcpListener, Arc<Door>)>>,
    /// The address of the first door.
    addr: SocketAddr,
}

/// What is special about a listening address.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// What is known of requests that come in here.
    pub(crate) route: Route,
    /// Plain connections are closed.
    pub(crate) tls_only: bool,
}

/// The accept loops that run.
#[derive(Debug)]
pub(crate) struct Workers(Vec<oneshot::Receiver<()>>);

/// What an accept loop needs.
#[derive(Debug, Clone)]
struct Worker {
    plane: Arc<Plane>,
    lane: Arc<Lane>,
    connections: Arc<Semaphore>,
    sources: Arc<Places>,
    drain: Drain,
}

/// The right to be connected: one of all places, and one of those of its source.
type Room = (OwnedSemaphorePermit, Place);

/// Counts an open connection, whatever ends it.
struct Open(Arc<Metrics>);

impl Open {
    fn count(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// Listens on the address, with as many sockets as there will be accept loops.
pub(crate) fn listen(addr: SocketAddr, runtime: RuntimeKind) -> Result<Listeners> {
    let sockets = (0..workers(runtime)).map(|_| Vec::new()).collect();
    let mut listeners = Listeners { sockets, addr };
    listeners.addr = listeners.add(addr, Door::default())?;
    Ok(listeners)
}

/// How many accept loops there will be.
pub(crate) fn workers(runtime: RuntimeKind) -> usize {
    match runtime {
        RuntimeKind::PerCore => cores(),
        RuntimeKind::Shared => 1,
    }
}

/// How many threads run at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn bind(addr: SocketAddr, share: bool) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

impl Listeners {
    /// Where they listen.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on a further address; tells which one it is.
    pub(crate) fn add(&mut self, addr: SocketAddr, door: Door) -> Result<SocketAddr> {
        let door = Arc::new(door);
        // The first bind does not share its port: with SO_REUSEPORT a second process could take the same port without a word. Once it holds
        // the port it lets our other sockets in, before any of them listens.
        let first = bind(addr, false)?;
        let addr = first.local_addr()?.as_socket().unwrap_or(addr);
        first.set_reuse_port(self.sockets.len() > 1)?;
        let mut sockets = vec![first];
        for _ in 1..self.sockets.len() {
            sockets.push(bind(addr, true)?);
        }
        for (worker, socket) in self.sockets.iter_mut().zip(sockets) {
            socket.listen(BACKLOG)?;
            worker.push((socket.into(), Arc::clone(&door)));
        }
        Ok(addr)
    }

    /// Accepts from now on.
    pub(crate) fn run(
        self,
        runtime: RuntimeKind,
        plane: &Arc<Plane>,
        drain: &Drain,
    ) -> Result<Workers> {
        let connections =
            Arc::new(Semaphore::new(plane.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let sources = Places::new(usize::MAX, plane.limits.connections_per_source);
        let mut ended = Vec::new();
        for (index, sockets) in self.sockets.into_iter().enumerate() {
            let worker = Worker {
                plane: Arc::clone(plane),
                lane: plane.metrics.lane(index),
                connections: Arc::clone(&connections),
                sources: Arc::clone(&sources),
                drain: drain.clone(),
            };
            let (end, wait) = oneshot::channel();
            ended.push(wait);
            match runtime {
                RuntimeKind::Shared => drop(tokio::spawn(worker.run(sockets, end))),
                RuntimeKind::PerCore => worker.spawn_thread(index, sockets, end)?,
            }
        }
        Ok(Workers(ended))
    }
}

impl Workers {
    /// Completes when all accept loops and their connections have ended.
    pub(crate) async fn wait(self) {
        for worker in self.0 {
            // A sender that was dropped has ended as well.
            drop(worker.await);
        }
    }
}

impl Worker {
    fn spawn_thread(
        self,
        index: usize,
        sockets: Vec<(TcpListener, Arc<Door>)>,
        end: oneshot::Sender<()>,
    ) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()?;
        thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || runtime.block_on(self.run(sockets, end)))?;
        Ok(())
    }

    async fn run(self, sockets: Vec<(TcpListener, Arc<Door>)>, end: oneshot::Sender<()>) {
        let accepting = sockets.into_iter().map(|(socket, door)| {
            let worker = self.clone();
            tokio::spawn(async move {
                if let Err(error) = worker.accept(socket, door).await {
                    tracing::error!(%error, "data listener failed");
                }
            })
        });
        for accepting in accepting.collect::<Vec<_>>() {
            // One that was dropped has ended as well.
            drop(accepting.await);
        }
        drop(end);
    }

    async fn accept(&self, socket: TcpListener, door: Arc<Door>) -> Result<()> {
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let tasks = TaskTracker::new();
        while let Some((stream, room)) = self.next(&listener).await {
            self.plane.metrics.accepted.inc();
            tasks.spawn(self.clone().serve(stream, room, Arc::clone(&door)));
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// The next connection, once there is room for it; `None` when no more may be taken.
    async fn next(&self, listener: &tokio::net::TcpListener) -> Option<(TcpStream, Room)> {
        let next = async {
            let mut backoff = ACCEPT_BACKOFF;
            let (stream, place) = loop {
                match listener.accept().await {
                    Ok((stream, from)) => match self.sources.take(from.ip()) {
                        Some(place) => break (stream, place),
                        None => drop(self.plane.metrics.crowded.inc()),
                    },
                    // The client left before it was accepted.
                    Err(error) if is_the_clients(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        self.plane.metrics.accept_errors.inc();
                        tokio::time::sleep(backoff).await;
                        backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                    }
                }
            };
            // Only now: a listener that waits for a connection must not keep others from theirs.
            let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
            Some((stream, (permit, place)))
        };
        tokio::select! {
            biased;
            () = self.drain.stopping() => None,
            next = next => next,
        }
    }

    async fn serve(self, stream: TcpStream, room: Room, door: Arc<Door>) {
        let open = Open::count(&self.plane.metrics);
        connection::serve(stream, self.plane, self.lane, self.drain, door).await;
        drop((open, room));
    }
}

fn is_the_clients(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests;
