//! Sends requests to real hosts over pooled connections, each of which was checked when it was made.

use std::{error::Error as StdError, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, uri::PathAndQuery};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::timeout;

use super::{
    connect::{ConnectError, Connector},
    hop,
    policy::{Destination, Policy, Refused},
};

/// How long a pooled connection may be idle.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections that are kept for each host.
const IDLE_PER_HOST: usize = 32;

/// The body of a request to a real host.
pub(crate) type OutBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Why the trust in servers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of certificates cannot be used.
    #[error("the certificates in {} cannot be used: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// rustls refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Why a request got no answer from a real host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// It may not go there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It has come through here before.
    #[error("the request has come through this process already")]
    Loop,
    /// The target is none.
    #[error("the request's target cannot be passed on")]
    Target,
    /// There is no answer.
    #[error("{0}")]
    Failed(String),
    /// The answer took too long to begin.
    #[error("{0} did not answer within {1:?}")]
    TooSlow(String, Duration),
}

/// A request as it goes on.
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) destination: Destination,
    pub(crate) target: PathAndQuery,
    /// What `Host` says.
    pub(crate) authority: String,
    /// How it came.
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: OutBody,
}

/// Clients that share a policy.
#[derive(Debug)]
pub(crate) struct Upstream {
    policy: Arc<Policy>,
    /// What this process is called in `x-countersign-hop` and `Via`.
    own: String,
    /// HTTP/1.1, or what TLS agrees on.
    any: Client<Connector, OutBody>,
    /// HTTP/2 from the first byte, for what came so and goes on without TLS.
    h2: Client<Connector, OutBody>,
    head: Duration,
}

impl Upstream {
    /// `trust` names certificates that are trusted beside the system's; `head` is how long the head of an answer may take.
    pub(crate) fn new(
        policy: Policy,
        trust: Option<PathBuf>,
        head: Duration,
    ) -> Result<Self, TrustError> {
        let policy = Arc::new(policy);
        let connector = Connector::new(Arc::clone(&policy), Arc::new(tls(trust)?));
        let client = |h2: bool| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .http2_only(h2)
                .build(connector.clone())
        };
        let (any, h2) = (client(false), client(true));
        let own = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { policy, own, any, h2, head })
    }

    /// Where a request for this authority may go.
    pub(crate) fn destination(
        &self,
        authority: &str,
        scheme: Option<&str>,
    ) -> Result<Destination, Refused> {
        self.policy.destination(authority, scheme)
    }

    /// What this process is called on the way.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// Sends a request and waits for the head of its answer. What belongs to either connection only is taken out of both.
    pub(crate) async fn send(
        &self,
        outbound: Outbound,
    ) -> Result<http::Response<Incoming>, SendError> {
        let Outbound { method, destination, target, authority, version, mut headers, body } =
            outbound;
        if hop::is_loop(&headers, &self.own) {
            return Err(SendError::Loop);
        }
        hop::strip(&mut headers);
        headers.remove(header::EXPECT);
        hop::note(&mut headers, &self.own, version, true);
        // HTTP/2 has the authority in its place, and the client makes a length anew that it knows.
        if body.size_hint().exact().is_some() {
            headers.remove(header::CONTENT_LENGTH);
        }
        headers.remove(header::HOST);
        let plain_h2 = version == Version::HTTP_2 && !destination.tls;
        if !plain_h2 && let Ok(host) = HeaderValue::from_str(&authority) {
            headers.insert(header::HOST, host);
        }
        let uri = Uri::builder()
            .scheme(if destination.tls { "https" } else { "http" })
            .authority(destination.to_string())
            .path_and_query(target)
            .build()
            .map_err(|_| SendError::Target)?;
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.version_mut() = if plain_h2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let client = if plain_h2 { &self.h2 } else { &self.any };
        let answer = timeout(self.head, client.request(request)).await;
        let mut response = answer
            .map_err(|_| SendError::TooSlow(destination.to_string(), self.head))?
            .map_err(|error| failed(&error))?;
        hop::strip(response.headers_mut());
        Ok(response)
    }
}

/// Why a client failed; what a policy refused stays that.
fn failed(error: &hyper_util::client::legacy::Error) -> SendError {
    let mut all: Vec<String> = Vec::new();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ConnectError::Refused(refused)) = error.downcast_ref() {
            return SendError::Refused(refused.clone());
        }
        all.push(error.to_string());
        cause = error.source();
    }
    all.dedup();
    SendError::Failed(all.join(": "))
}

fn tls(trust: Option<PathBuf>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be used");
    }
    let (used, _) = roots.add_parsable_certificates(found.certs);
    if let Some(path) = trust {
        let refused = |why: String| TrustError::File { path: path.clone(), why };
        let certificates =
            CertificateDer::pem_file_iter(&path).map_err(|error| refused(error.to_string()))?;
        let mut added = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(refused("it holds none".to_owned()));
        }
    } else if used == 0 {
        tracing::warn!(
            "the system has no certificates to trust, so that no host can be reached with TLS"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
