//! Which protocol a connection speaks, by its first bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::io::{Abort, Progress};

/// What every HTTP/2 connection starts with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a TLS handshake starts with.
const HANDSHAKE: u8 = 0x16;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Tls,
    /// Nothing that we know.
    Unknown,
}

/// What connections are, above and below TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Abort + Send + Unpin + 'static> Stream for S {}

impl Abort for AnyStream {
    fn abort(&self) {
        (**self).abort();
    }
}

impl<S: Abort> Abort for TlsStream<S> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// The socket below cannot be reached; it is told by way of its progress.
impl Abort for TokioIo<Upgraded> {
    fn abort(&self) {}
}

/// A stream of any kind.
pub(super) type AnyStream = Box<dyn Stream>;

/// What the first bytes tell; `None` while they could become several protocols.
fn protocol(seen: &[u8]) -> Option<Protocol> {
    match seen.first()? {
        &HANDSHAKE => Some(Protocol::Tls),
        _ if seen.starts_with(PREFACE) => Some(Protocol::Http2),
        _ if PREFACE.starts_with(seen) => None,
        // A method, or an empty line before it.
        b'!'..=b'~' | b'\r' | b'\n' => Some(Protocol::Http1),
        _ => Some(Protocol::Unknown),
    }
}

/// Looks at the first bytes without taking them; `None` when the peer leaves without a word.
///
/// As long as they could become several protocols the socket counts as not readable, so that the next look waits for more of them.
pub(super) async fn peek(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let look = || {
        let mut seen = [0; PREFACE.len()];
        let (length, _) = recv(stream, seen.as_mut_slice(), RecvFlags::PEEK)?;
        match seen.get(..length).unwrap_or_default() {
            [] => Ok(None),
            seen => protocol(seen).map(Some).ok_or_else(|| io::ErrorKind::WouldBlock.into()),
        }
    };
    stream.async_io(Interest::READABLE, look).await
}

/// Takes the first bytes, and puts them back; `None` when the peer leaves without a word. `outer` is the progress of the connection that a
/// tunnel is made of.
pub(super) async fn read<S: Stream>(
    mut stream: S,
    outer: Option<Progress>,
) -> io::Result<Option<(Protocol, AnyStream)>> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    loop {
        let room = PREFACE.len() - seen.len();
        let before = seen.len();
        (&mut stream).take(u64::try_from(room).unwrap_or_default()).read_buf(&mut seen).await?;
        if seen.len() == before {
            return Ok(None);
        }
        if let Some(protocol) = protocol(&seen) {
            let stream = Rewound { first: seen, taken: 0, stream, outer };
            return Ok(Some((protocol, Box::new(stream))));
        }
    }
}

/// A stream whose first bytes were looked at.
struct Rewound<S> {
    first: Vec<u8>,
    taken: usize,
    stream: S,
    outer: Option<Progress>,
}

impl<S: Abort> Abort for Rewound<S> {
    fn abort(&self) {
        match &self.outer {
            Some(outer) => outer.reset(),
            None => self.stream.abort(),
        }
    }
}

impl<S: Stream> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(left) = this.first.get(this.taken..).filter(|left| !left.is_empty()) else {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        };
        let size = left.len().min(buf.remaining());
        buf.put_slice(left.get(..size).unwrap_or_default());
        this.taken += size;
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_tell() {
        assert_eq!(protocol(b"\x16"), Some(Protocol::Tls));
        assert_eq!(protocol(b"GET"), Some(Protocol::Http1));
        assert_eq!(protocol(b"\r\nGET"), Some(Protocol::Http1));
        assert_eq!(protocol(b"PRI * HTTP/1"), Some(Protocol::Http1));
        assert_eq!(protocol(&PREFACE[..23]), None);
        assert_eq!(protocol(PREFACE), Some(Protocol::Http2));
        assert_eq!(protocol(b"\0\0\0\x08\x04\xd2\x16\x2f"), Some(Protocol::Unknown));
    }

    impl Abort for tokio::io::DuplexStream {
        fn abort(&self) {}
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"PRI * HTTP/2.0\r").await.unwrap();
        drop(client);
        assert!(read(server, None).await.unwrap().is_none(), "it never became clear");
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"PRINT /a").await.unwrap();
        drop(client);
        let (protocol, mut stream) = read(server, None).await.unwrap().unwrap();
        assert_eq!(protocol, Protocol::Http1);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "PRINT /a");
    }
}
