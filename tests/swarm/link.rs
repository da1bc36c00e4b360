//! A link between the swarm and its control plane that can stop passing bytes, without closing anything, and go on again.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Connections that wait to be accepted, as at a control plane.
const BACKLOG: u32 = 4096;
/// Bytes that are passed on at a time.
const PIECE: usize = 4096;

/// A link that lives until it is dropped.
pub(crate) struct Link {
    address: SocketAddr,
    passes: Arc<watch::Sender<bool>>,
    accepting: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Link {
    /// A link to this server, on a free port.
    pub(crate) fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let passes = Arc::new(watch::Sender::new(true));
        let gate = passes.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(both(near, server, gate.clone()));
            }
        });
        Ok(Self { address, passes, accepting })
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether bytes pass.
    pub(crate) fn pass(&self, whether: bool) {
        self.passes.send_replace(whether);
    }
}

async fn both(near: TcpStream, server: SocketAddr, mut gate: watch::Receiver<bool>) {
    // Nothing comes of a connection either while nothing passes.
    if gate.wait_for(|passes| *passes).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(server).await else { return };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::spawn(one(far_in, near_out, gate.clone()));
    one(near_in, far_out, gate).await;
}

async fn one(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await;
        if gate.wait_for(|passes| *passes).await.is_err() {
            return;
        }
        let Some(read) = read.ok().filter(|read| *read > 0).and_then(|read| piece.get(..read))
        else {
            return;
        };
        if to.write_all(read).await.is_err() {
            return;
        }
    }
}
