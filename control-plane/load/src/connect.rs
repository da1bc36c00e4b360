//! Connections to the service: HTTP/1.1 with keep-alive, HTTP/2 by prior knowledge or by what TLS agrees on.
//!
//! A pool belongs to one thread. A connection of HTTP/1.1 serves one request at a time and comes back when its answer was read whole; one
//! of HTTP/2 is shared.

use std::{
    cell::RefCell,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Authority};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long it may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The other side may close a connection that was idle for longer, just when the next request is written.
const STALE: Duration = Duration::from_millis(500);
/// So many connections of HTTP/1.1 wait for their next request.
const MAX_IDLE: usize = 4096;

/// The version of HTTP that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without asking first where there is no TLS.
    Http2,
}

/// Where requests are sent.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: Authority,
    /// Goes before each path; empty or without a slash at its end.
    pub(crate) base: String,
    url: String,
}

/// Why a URL is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is no URL.
    #[error("{0} is no URL such as http://127.0.0.1:8080")]
    Url(String),
    /// It has a query.
    #[error("{0} has a query; requests have their own")]
    Query(String),
}

impl Target {
    /// Reads `http://host:port/base` or `https://…`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let no_url = || TargetError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(no_url()),
        };
        let authority =
            uri.authority().filter(|it| !it.as_str().contains('@')).ok_or_else(no_url)?;
        if uri.query().is_some() {
            return Err(TargetError::Query(url.to_owned()));
        }
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.clone(),
            base: uri.path().trim_end_matches('/').to_owned(),
            url: url.to_owned(),
        })
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.tls
    }

    /// The URL as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates cannot be read.
    #[error("the certificates in {0} cannot be read: {1}")]
    Read(String, String),
    /// There is nobody to trust.
    #[error("{0} holds no certificate that can be trusted")]
    Nobody(String),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The client's side of TLS: who is trusted, a file of PEM certificates or the system's, and what is spoken.
///
/// # Errors
/// When the certificates cannot be read.
pub fn tls(ca: Option<&Path>, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let from = match ca {
        Some(path) => {
            let name = path.display().to_string();
            let read = |why: &dyn std::fmt::Display| TlsError::Read(name.clone(), why.to_string());
            let all = CertificateDer::pem_file_iter(path).map_err(|why| read(&why))?;
            for certificate in all {
                roots.add(certificate.map_err(|why| read(&why))?).map_err(|why| read(&why))?;
            }
            name
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the system's store".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(TlsError::Nobody(from));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the answer is no HTTP, or broke off")]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the request cannot be written")]
    Request,
    #[error("the answer is too large")]
    TooLarge,
}

impl SendError {
    /// What kind of failure it is, for counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Http(why) if why.is_incomplete_message() || why.is_closed() => "closed",
            Self::Http(_) => "protocol",
            Self::Timeout => "timeout",
            Self::Request => "request",
            Self::TooLarge => "too_large",
        }
    }
}

/// A connection.
pub(crate) enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Shared(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Sends a request; the answer's head. A request that never left comes back with the failure.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (SendError, Option<Request<Full<Bytes>>>)> {
        let sent = match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Shared(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut failed| {
            let back = failed.take_message();
            (SendError::Http(failed.into_error()), back)
        })
    }
}

/// The connections of a thread.
pub(crate) struct Pool {
    target: Target,
    protocol: Protocol,
    tls: Option<TlsConnector>,
    /// Each with when it was used last.
    idle: RefCell<Vec<(http1::SendRequest<Full<Bytes>>, Instant)>>,
    shared: RefCell<Option<http2::SendRequest<Full<Bytes>>>>,
}

impl Pool {
    pub(crate) fn new(target: Target, protocol: Protocol, tls: Option<Arc<ClientConfig>>) -> Self {
        let tls = tls.map(TlsConnector::from);
        Self { target, protocol, tls, idle: RefCell::default(), shared: RefCell::default() }
    }

    /// A connection that is ready for a request, and whether it has been idle for so long that the other side may be closing it.
    pub(crate) async fn take(&self) -> Result<(Connection, bool), SendError> {
        if self.protocol == Protocol::Http2 {
            let known = self.shared.borrow().clone().filter(|sender| !sender.is_closed());
            if let Some(mut sender) = known
                && sender.ready().await.is_ok()
            {
                return Ok((Connection::Shared(sender), false));
            }
            let connection = self.connect().await?;
            if let Connection::Shared(sender) = &connection {
                *self.shared.borrow_mut() = Some(sender.clone());
            }
            return Ok((connection, false));
        }
        loop {
            let known = self.idle.borrow_mut().pop();
            let Some((mut sender, used)) = known else {
                return Ok((self.connect().await?, false));
            };
            if sender.ready().await.is_ok() {
                return Ok((Connection::One(sender), used.elapsed() > STALE));
            }
        }
    }

    /// Takes a connection back whose answer was read.
    pub(crate) fn give(&self, connection: Connection) {
        if let Connection::One(sender) = connection
            && !sender.is_closed()
            && self.idle.borrow().len() < MAX_IDLE
        {
            self.idle.borrow_mut().push((sender, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<Connection, SendError> {
        let late = |_| SendError::Connect(io::ErrorKind::TimedOut.into());
        let Target { host, port, .. } = &self.target;
        let stream = timeout(CONNECT_TIME, TcpStream::connect((host.as_str(), *port)))
            .await
            .map_err(late)?
            .map_err(SendError::Connect)?;
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        let Some(tls) = &self.tls else { return self.speak(stream).await };
        let name = ServerName::try_from(host.clone())
            .map_err(|why| SendError::Tls(io::Error::new(io::ErrorKind::InvalidInput, why)))?;
        let secured = timeout(CONNECT_TIME, tls.connect(name, stream)).await.map_err(late)?;
        self.speak(secured.map_err(SendError::Tls)?).await
    }

    async fn speak<S>(&self, stream: S) -> Result<Connection, SendError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        // What ends a connection is told to whoever waits for an answer on it.
        if self.protocol == Protocol::Http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            drop(tokio::task::spawn_local(async move { drop(connection.await) }));
            return Ok(Connection::Shared(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        drop(tokio::task::spawn_local(async move { drop(connection.await) }));
        Ok(Connection::One(sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_with_a_host() {
        let target = Target::parse("https://[::1]/api/").unwrap();
        assert_eq!(
            (target.tls, &*target.host, target.port, &*target.base),
            (true, "::1", 443, "/api")
        );
        let target = Target::parse("http://sut:8080").unwrap();
        assert_eq!(
            (target.tls, &*target.host, target.port, &*target.base),
            (false, "sut", 8080, "")
        );
        for url in ["sut:8080", "ftp://sut", "/x", "http://a:b@sut", "http://"] {
            assert!(matches!(Target::parse(url), Err(TargetError::Url(_))), "{url}");
        }
        assert!(matches!(Target::parse("http://sut/?a=1"), Err(TargetError::Query(_))));
    }
}
