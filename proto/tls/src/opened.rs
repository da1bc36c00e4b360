//! A connection whose server has let us in.
//!
//! In TLS 1.3 the client's side of a handshake is done before the server has looked at its certificate. A server of HTTP/2 speaks first, so
//! that its first bytes say that it has let us in, and an alert instead of them says why not. Later that would be lost among the errors of
//! whatever call is under way.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// How long to wait for a server that speaks first. There may be others.
const PATIENCE: Duration = Duration::from_secs(1);
/// As much as a server says at first.
const FIRST: usize = 64;

/// A connection, and what was read of it already.
#[derive(Debug)]
pub struct Opened {
    stream: TlsStream<TcpStream>,
    first: Vec<u8>,
}

impl Opened {
    /// Waits for the server's first bytes.
    pub(crate) async fn new(mut stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let mut first = Vec::with_capacity(FIRST);
        if let Ok(read) = timeout(PATIENCE, stream.read_buf(&mut first)).await
            && read? == 0
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { stream, first })
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let fits = self.first.len().min(buf.remaining());
        let rest = self.first.split_off(fits);
        buf.put_slice(&self.first);
        self.first = rest;
        Poll::Ready(Ok(()))
    }
}

crate::forward_write!(Opened, stream);
