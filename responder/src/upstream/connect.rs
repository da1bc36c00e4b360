//! Connections to real hosts: resolve, check every address, connect to one of those, and speak TLS where that is meant.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::policy::{Policy, Refused};

/// How long one of the steps to a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the name {0} cannot be resolved")]
    Resolve(String, #[source] io::Error),
    #[error("{0} cannot be connected to")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("no TLS with {0}")]
    Tls(String, #[source] io::Error),
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    #[error("it took too long to connect to {0}")]
    TooSlow(String),
}

/// Connects to what a policy allows.
#[derive(Clone)]
pub(crate) struct Connector {
    policy: Arc<Policy>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    pub(crate) fn new(policy: Arc<Policy>, tls: Arc<ClientConfig>) -> Self {
        Self { policy, tls }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let tcp = self.tcp(&host, port).await?;
        if !tls {
            return Ok(TokioIo::new(Stream::Plain(tcp)));
        }
        let name =
            ServerName::try_from(host.clone()).map_err(|_| ConnectError::Name(host.clone()))?;
        let handshake = TlsConnector::from(self.tls).connect(name, tcp);
        let stream = timeout(CONNECT_TIME, handshake)
            .await
            .map_err(|_| ConnectError::TooSlow(host.clone()))?
            .map_err(|source| ConnectError::Tls(host, source))?;
        Ok(TokioIo::new(Stream::Tls(Box::new(stream))))
    }

    /// A connection to one of the addresses that a name leads to and that may be reached. The name is not resolved again.
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut refused = None;
        let mut failed = None;
        for addr in resolve(host, port).await? {
            if let Err(why) = self.policy.check(host, addr) {
                refused.get_or_insert(why);
                continue;
            }
            match timeout(CONNECT_TIME, TcpStream::connect(addr)).await {
                Ok(Ok(stream)) => {
                    // What is connected to is what was checked.
                    let peer =
                        stream.peer_addr().map_err(|source| ConnectError::Connect(addr, source))?;
                    self.policy.check(host, peer)?;
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    return Ok(stream);
                }
                Ok(Err(source)) => failed = Some(ConnectError::Connect(addr, source)),
                Err(_) => failed = Some(ConnectError::TooSlow(host.to_owned())),
            }
        }
        let nothing = || {
            let source = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            ConnectError::Resolve(host.to_owned(), source)
        };
        Err(failed.or_else(|| refused.map(ConnectError::from)).unwrap_or_else(nothing))
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = timeout(CONNECT_TIME, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| ConnectError::TooSlow(host.to_owned()))?
        .map_err(|source| ConnectError::Resolve(host.to_owned(), source))?;
    Ok(found.take(16).collect())
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to a real host.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().extra(Spoken { h2: true }).negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

/// Beside a response: what the connection speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoken {
    /// HTTP/2 was agreed on within TLS.
    pub(crate) h2: bool,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
