//! Bytes over TCP, as no client library sends them.

use std::{io, time::Duration};

use harness::DEADLINE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::*;

/// A connection of bytes.
#[derive(Debug)]
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.unwrap())
    }

    /// From this address, for example another one of the loopback interface.
    pub(super) async fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self(socket.connect(to).await?))
    }

    /// One that takes few bytes at a time.
    pub(super) async fn narrow(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self(socket.connect(to).await.unwrap())
    }

    /// Sends all of it; false when the other side has closed.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(DEADLINE, self.0.write_all(bytes.as_ref())).await;
        sent.unwrap().is_ok()
    }

    /// Everything until the other side closes; a reset counts as a close.
    pub(super) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = async { while self.0.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {} };
        let closed = timeout(DEADLINE, read).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(closed.is_ok(), "the responder did not close after {text}");
        text
    }

    /// Everything until these bytes have come.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while !bytes.ends_with(end.as_bytes()) {
                let read = self.0.read_buf(&mut bytes).await.unwrap_or_default();
                assert!(read > 0, "closed after {}", String::from_utf8_lossy(&bytes));
            }
        };
        timeout(DEADLINE, read).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a byte after the other, with so much time between, until the other side closes; what it said.
    pub(super) async fn drip(self, bytes: impl AsRef<[u8]>, every: Duration) -> String {
        let (mut read, mut write) = self.0.into_split();
        let bytes = bytes.as_ref().to_vec();
        let dripping = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            for byte in bytes {
                ticks.tick().await;
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
            write
        });
        let mut told = Vec::new();
        let reading = async { while read.read_buf(&mut told).await.is_ok_and(|read| read > 0) {} };
        timeout(DEADLINE, reading).await.unwrap();
        dripping.abort();
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

impl World {
    pub(super) async fn connect(&self) -> Raw {
        Raw::connect(self.data).await
    }

    /// Sends these bytes, and reads until the responder closes.
    pub(super) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.rest().await
    }
}

/// How many responses there are in what was read. What a response says of HTTP/1.1 is none.
pub(super) fn responses(text: &str) -> usize {
    let final_ones = text.split("HTTP/1.").skip(1).filter(|rest| {
        let [_, b' ', status @ .., _] = rest.as_bytes().get(..6).unwrap_or_default() else {
            return false;
        };
        status.iter().all(u8::is_ascii_digit) && status != b"100"
    });
    final_ones.count()
}

/// The status of the first one.
pub(super) fn status(text: &str) -> &str {
    text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default()
}
