//! Connections of the gRPC port and the UI: so many at a time, of one address no more than half of them, and none that is opened and says nothing.
//!
//! Behind a proxy all come from its address, so that half of them is much.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use countersign_tls::places::{Place, Places};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::Connected;

use crate::service::access::Connection;

/// So many at a time. A responder has a few.
const ALL: usize = 32 * 1024;
/// What HTTP/2 begins with (RFC 9113, section 3.4), in bytes; the shortest request of HTTP/1 has about as many.
const PREFACE: usize = 24;

/// A connection that knows from where it comes.
pub(crate) trait Remote {
    /// The address at the other end.
    fn remote(&self) -> Option<IpAddr>;
}

impl Remote for TcpStream {
    fn remote(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|from| from.ip())
    }
}

impl Remote for Connection {
    fn remote(&self) -> Option<IpAddr> {
        self.peer().map(|from| from.ip())
    }
}

/// A connection that has a place as long as it is open.
#[derive(Debug)]
pub(crate) struct Bounded<C> {
    inner: C,
    _place: Place,
    /// Until when it has to have said so many bytes more.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
}

/// Closes connections for which there is no place, and those that do not begin within `patience`.
pub(crate) fn bounded<C: Remote>(
    incoming: impl Stream<Item = io::Result<C>>,
    patience: Duration,
) -> impl Stream<Item = io::Result<Bounded<C>>> {
    within(incoming, Places::new(ALL, ALL / 2), patience)
}

fn within<C: Remote>(
    incoming: impl Stream<Item = io::Result<C>>,
    places: Arc<Places>,
    patience: Duration,
) -> impl Stream<Item = io::Result<Bounded<C>>> {
    incoming.filter_map(move |inner| {
        let inner = match inner {
            Ok(inner) => inner,
            Err(error) => return Some(Err(error)),
        };
        let place = inner.remote().and_then(|from| places.take(from));
        let Some(place) = place else {
            tracing::debug!("connection closed, there are too many");
            return None;
        };
        let opening = Some((Box::pin(sleep(patience)), PREFACE));
        Some(Ok(Bounded { inner, _place: place, opening }))
    })
}

impl<C: Connected> Connected for Bounded<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Bounded<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Some((end, left)) = &mut this.opening {
            *left = left.saturating_sub(buf.filled().len().saturating_sub(before));
            if *left == 0 {
                this.opening = None;
            } else if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Bounded<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    impl Remote for DuplexStream {
        fn remote(&self) -> Option<IpAddr> {
            Some(IpAddr::from([10, 0, 0, 1]))
        }
    }

    #[tokio::test]
    async fn connections_for_which_there_is_no_place_are_closed() {
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (client, server) = duplex(64);
            clients.push(client);
            servers.push(Ok(server));
        }
        let incoming = tokio_stream::iter(servers);
        let open: Vec<_> =
            within(incoming, Places::new(9, 2), Duration::from_secs(60)).collect().await;
        assert_eq!(open.len(), 2);
        assert_eq!(clients[2].read(&mut [0]).await.unwrap(), 0, "it is closed");
    }

    #[tokio::test]
    async fn a_connection_that_does_not_begin_ends_and_one_that_did_does_not() {
        for (said, ends) in [(&b""[..], true), (b"PRI * HTTP/2", true), (&[b'x'; PREFACE], false)] {
            let (mut client, server) = duplex(64);
            let incoming = tokio_stream::iter([Ok(server)]);
            let places = Places::new(1, 1);
            let open: Vec<_> = within(incoming, places, Duration::from_millis(5)).collect().await;
            let mut open = open.into_iter().next().unwrap().unwrap();
            client.write_all(said).await.unwrap();
            let mut heard = vec![0; said.len()];
            open.read_exact(&mut heard).await.unwrap();
            let waits = tokio::spawn(async move { open.read(&mut [0]).await });
            if ends {
                let ended = waits.await.unwrap().unwrap_err();
                assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
            } else {
                client.write_all(b"y").await.unwrap();
                assert_eq!(waits.await.unwrap().unwrap(), 1);
            }
        }
    }
}
