//! A plain TCP balancer as operators put before a fleet: each connection goes to the next server, bytes are passed on as they are.

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
        let (servers, counted) = (servers.to_vec(), Arc::clone(&taken));
        let accepting = tokio::spawn(async move {
            for nth in (0..servers.len()).cycle() {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                counted[nth].fetch_add(1, Ordering::Relaxed);
                let server = servers[nth];
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
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

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
