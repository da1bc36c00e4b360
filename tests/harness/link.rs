//! A TCP link between two processes that can be slow, cut or silent, as networks are.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Every piece of data comes later by so much.
    Slow(Duration),
    /// Open connections end, new ones are closed at once.
    Cut,
    /// Connections stay open, and nothing passes until it is over.
    Silent,
}

/// A link that listens on a port of its own and leads to one server, until it is dropped.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    fault: watch::Sender<Fault>,
    server: Arc<watch::Sender<SocketAddr>>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// Starts on a free port.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let (fault, faults) = watch::channel(Fault::None);
        let server = Arc::new(watch::Sender::new(server));
        let led = Arc::clone(&server);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let server = *led.borrow();
                tokio::spawn(carry(client, server, faults.clone()));
            }
        });
        Self { addr, fault, server, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes it so.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Leads new connections to another server.
    pub fn lead(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections end with the link.
        self.fault.send_replace(Fault::Cut);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut fault: watch::Receiver<Fault>) {
    if passes(&mut fault).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::join!(
        one_way(client_in, server_out, fault.clone()),
        one_way(server_in, client_out, fault)
    );
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
) {
    let mut piece = vec![0; 64 * 1024];
    let mut cuts = fault.clone();
    let moved = async {
        loop {
            let read = from.read(&mut piece).await.unwrap_or(0);
            if read == 0 || passes(&mut fault).await.is_err() {
                break;
            }
            if to.write_all(piece.get(..read).unwrap_or_default()).await.is_err() {
                break;
            }
        }
    };
    let cut = async { drop(cuts.wait_for(|fault| *fault == Fault::Cut).await) };
    tokio::select! {
        () = moved => {}
        () = cut => return,
    }
    drop(to.shutdown().await);
}

struct Ended;

/// Waits as long as the link holds data back.
async fn passes(fault: &mut watch::Receiver<Fault>) -> Result<(), Ended> {
    let begin = Instant::now();
    loop {
        let now = *fault.borrow_and_update();
        match now {
            Fault::None => return Ok(()),
            Fault::Cut => return Err(Ended),
            Fault::Silent => fault.changed().await.map_err(|_| Ended)?,
            Fault::Slow(by) => match timeout_at(begin + by, fault.changed()).await {
                Ok(changed) => changed.map_err(|_| Ended)?,
                Err(_) => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        addr
    }

    /// Whether a byte comes back within a time.
    async fn answers(stream: &mut TcpStream, within: Duration) -> bool {
        let turn = async {
            stream.write_all(b"x").await.ok()?;
            stream.read_u8().await.ok()
        };
        tokio::time::timeout(within, turn).await.is_ok_and(|answer| answer == Some(b'x'))
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_link_passes_holds_back_and_ends() {
        let link = Link::to(echo().await).await;
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        assert!(answers(&mut stream, LONG).await);
        link.set(Fault::Silent);
        assert!(!answers(&mut stream, SHORT).await);
        link.set(Fault::None);
        assert_eq!(stream.read_u8().await.unwrap(), b'x', "nothing is lost");
        let begin = Instant::now();
        link.set(Fault::Slow(SHORT));
        assert!(answers(&mut stream, LONG).await);
        assert!(begin.elapsed() >= 2 * SHORT, "there and back");
        link.set(Fault::Cut);
        assert!(!answers(&mut stream, LONG).await, "the connection ended");
        let mut refused = TcpStream::connect(link.addr()).await.unwrap();
        assert!(!answers(&mut refused, LONG).await);
        link.set(Fault::None);
        link.lead(echo().await);
        assert!(answers(&mut TcpStream::connect(link.addr()).await.unwrap(), LONG).await);
    }
}
