//! Fetches one document over HTTP/1.1 and TLS, within bounds. No redirects, so that nobody else is asked than the one who is trusted.

use std::{io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::OidcError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest document.
const MAX_SIZE: usize = 1024 * 1024;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("it was asked a moment ago")]
    Resting,
    #[error("`{0}` is no URL that may be asked")]
    Url(String),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {MAX_SIZE} bytes")]
    TooLarge,
    #[error("its answer cannot be read: {0}")]
    Body(String),
    #[error("it did not answer in time")]
    TooSlow,
}

/// Whether a URL is asked over TLS, or of this machine.
pub(super) fn may_be_asked(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    }
}

/// Asks servers that these authorities vouch for.
#[derive(Debug)]
pub(super) struct Fetcher {
    tls: Arc<ClientConfig>,
}

impl Fetcher {
    pub(super) fn new(authorities: Option<&Path>) -> Result<Self, OidcError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = authorities {
            for authority in countersign_tls::files::authorities(path)? {
                roots.add(authority).map_err(|error| OidcError::Tls(error.to_string()))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| OidcError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config) })
    }

    /// The document at a URL.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let refused = || FetchError::Url(url.chars().take(200).collect());
        let url: Uri = url.parse().map_err(|_| refused())?;
        if !may_be_asked(&url) {
            return Err(refused());
        }
        timeout(PATIENCE, self.ask(&url)).await.map_err(|_| FetchError::TooSlow)?
    }

    async fn ask(&self, url: &Uri) -> Result<Bytes, FetchError> {
        let is_tls = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((&*host, port)).await.map_err(FetchError::Connect)?;
        if !is_tls {
            return exchange(stream, url).await;
        }
        let name = ServerName::try_from(host);
        let name = name.map_err(|_| FetchError::Url(url.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let secured = connector.connect(name, stream).await.map_err(FetchError::Connect)?;
        exchange(secured, url).await
    }
}

async fn exchange<S>(stream: S, url: &Uri) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url(url.to_string()))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_SIZE).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => FetchError::TooLarge,
            None => FetchError::Body(error.to_string()),
        })?;
        Ok(body.to_bytes())
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_leads_to_other_machines() {
        for (url, may) in [
            ("https://a", true),
            ("http://localhost:1/x", true),
            ("http://[::1]:1", true),
            ("http://127.1.2.3", true),
            ("http://a", false),
            ("http://localhost.evil.example", false),
            ("http://169.254.169.254/", false),
            ("ftp://a", false),
            ("/x", false),
        ] {
            assert_eq!(may_be_asked(&url.parse().unwrap()), may, "{url}");
        }
    }
}
