//! A plain TCP balancer as operators put before a fleet: each connection goes to the next server that takes
//! it, bytes are passed on as they are.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A balancer that runs until it is dropped.
#[derive(Debug)]
pub struct Balancer {
    addr: SocketAddr,
    taken: Arc<[AtomicUsize]>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    /// Starts on a free port.
    pub async fn start(servers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let taken: Arc<[AtomicUsize]> = servers.iter().map(|_| AtomicUsize::new(0)).collect();
        let (servers, counted) = (Arc::<[SocketAddr]>::from(servers), Arc::clone(&taken));
        let accepting = tokio::spawn(async move {
            for nth in (0..servers.len()).cycle() {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let (servers, counted) = (Arc::clone(&servers), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Some(mut server) = connect(&servers, nth, &counted).await else { return };
                    let _broken = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { addr, taken, accepting }
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
        self.accepting.abort();
    }
}
