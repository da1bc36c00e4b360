//! A plain TCP balancer as operators put before a fleet: each connection goes to the next server that takes it and is ready, as far as that is
//! known; bytes are passed on as they are.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::client::Client;

/// A balancer that runs until it is dropped.
#[derive(Debug)]
pub struct Balancer {
    addr: SocketAddr,
    taken: Arc<[AtomicUsize]>,
    tasks: Vec<JoinHandle<()>>,
}

/// How often a server is asked whether it is ready.
const PROBE: Duration = Duration::from_millis(50);

impl Balancer {
    /// Starts on a free port, before servers all of which count as ready.
    pub async fn start(servers: &[SocketAddr]) -> Self {
        Self::probing(servers, &[]).await
    }

    /// Starts on a free port, before servers that tell at `/readyz` of another address whether they are ready.
    pub async fn probing(servers: &[SocketAddr], probed: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let taken: Arc<[AtomicUsize]> = servers.iter().map(|_| AtomicUsize::new(0)).collect();
        let (servers, counted) = (Arc::<[SocketAddr]>::from(servers), Arc::clone(&taken));
        let ready: Arc<[AtomicBool]> = servers.iter().map(|_| AtomicBool::new(true)).collect();
        let mut tasks = Vec::new();
        for (nth, admin) in probed.iter().enumerate() {
            tasks.push(tokio::spawn(probe(*admin, Arc::clone(&ready), nth)));
        }
        tasks.push(tokio::spawn(async move {
            for nth in (0..servers.len()).cycle() {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let (servers, counted) = (Arc::clone(&servers), Arc::clone(&counted));
                let ready = Arc::clone(&ready);
                tokio::spawn(async move {
                    let nth = next(&ready, nth);
                    let Some(mut server) = connect(&servers, nth, &counted).await else { return };
                    let _broken = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }));
        Self { addr, taken, tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections each server was given.
    #[must_use]
    pub fn taken(&self) -> Vec<usize> {
        self.taken.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

async fn probe(admin: SocketAddr, ready: Arc<[AtomicBool]>, nth: usize) {
    let mut ticks = tokio::time::interval(PROBE);
    loop {
        ticks.tick().await;
        // A connection of its own, since the server may be another one than a moment ago.
        let client = Client::new(admin);
        let asked = client.try_send(Method::GET, "/readyz", HeaderMap::new(), "".into()).await;
        ready[nth].store(asked.is_ok_and(|answer| answer.status == 200), Ordering::Relaxed);
    }
}

/// The number of the first server from this one on that is ready; this one, if none is.
fn next(ready: &[AtomicBool], first: usize) -> usize {
    let mut all = (0..ready.len()).cycle().skip(first).take(ready.len());
    all.find(|nth| ready[*nth].load(Ordering::Relaxed)).unwrap_or(first)
}

/// Connects to the server of this number, or to one after it.
async fn connect(
    servers: &[SocketAddr],
    first: usize,
    counted: &[AtomicUsize],
) -> Option<TcpStream> {
    for nth in (0..servers.len()).cycle().skip(first).take(servers.len()) {
        if let Ok(server) = TcpStream::connect(servers[nth]).await {
            counted[nth].fetch_add(1, Ordering::Relaxed);
            return Some(server);
        }
    }
    None
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
