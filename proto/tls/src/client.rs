//! The side that connects: whom it trusts, what it shows, and whom it expects.
//!
//! Files are read again for each connection, so that the next one uses the new ones; what cannot be used never replaces what could. A server
//! that has an identity has to be a control plane, so that no responder can pass for one, whatever its certificate is signed by.

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, sign::any_supported_type},
        verify_tls12_signature, verify_tls13_signature,
    },
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::{
    CertificateError, Opened, chain,
    describe::About,
    files,
    identity::{Identity, IdentityError, Role},
    server::roots,
    telling,
};

/// Which files, and whom to expect.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The authorities of the server, PEM; the system's if not given.
    pub authorities: Option<PathBuf>,
    /// The certificate that is shown, and its private key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The identity that the server has to have, see [`Identity::covers`]. Its host name is not looked at then.
    pub server: Option<Identity>,
}

impl Settings {
    /// Whether anything is given that only TLS has a use for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.authorities.is_some() || self.certificate.is_some() || self.server.is_some()
    }

    /// Whether both sides can show who they are: there is a certificate, and authorities that those of others are checked with.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.authorities.is_some() && self.certificate.is_some()
    }
}

/// The client's side of TLS.
#[derive(Debug)]
pub struct ClientTls {
    settings: Settings,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ClientConfig>,
    refused: Refused,
    fingerprint: [u8; 32],
    /// What was wrong when the files were read last.
    problem: Option<String>,
}

/// The certificate, in words, that a verifier refused last.
type Refused = Arc<Mutex<Option<String>>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL names nobody.
    #[error("{0} names no host")]
    Host(Uri),
    /// No connection.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something else is spoken there.
    #[error("{host}:{port} does not speak TLS; is it http:// there?")]
    Plaintext {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The server did not let us in.
    #[error("{host}:{port} refused the connection")]
    Refused {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The handshake failed.
    #[error("the TLS handshake with {host}:{port} failed{}", shown.as_ref().map(|shown| format!(", which showed {shown}")).unwrap_or_default())]
    Handshake {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The server's certificate in words, where that was refused.
        shown: Option<String>,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn read(settings: Settings) -> Result<Arc<Self>, CertificateError> {
        let files = Files::read(&settings)?;
        let (fingerprint, problem) = (files.fingerprint(), files.problem());
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "servers may refuse the certificate");
        }
        let refused = Refused::default();
        let config = files.config(&settings, &refused)?;
        let current = Mutex::new(Current { config, refused, fingerprint, problem });
        Ok(Arc::new(Self { settings, current }))
    }

    /// Connects as this client.
    #[must_use]
    pub fn connector(self: &Arc<Self>) -> Connector {
        Connector(Arc::clone(self))
    }

    /// What the next handshake is done with. Reads files.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let read = Files::read(&self.settings).and_then(|files| {
            let fingerprint = files.fingerprint();
            let is_new = self.lock().fingerprint != fingerprint;
            let problem = files.problem();
            let refused = Arc::clone(&self.lock().refused);
            let config = is_new.then(|| files.config(&self.settings, &refused)).transpose()?;
            Ok((config.map(|config| (config, fingerprint)), problem))
        });
        let mut current = self.lock();
        let problem = match read {
            Ok((new, problem)) => {
                if let Some((config, fingerprint)) = new {
                    tracing::info!("certificates taken over");
                    (current.config, current.fingerprint) = (config, fingerprint);
                }
                problem
            }
            Err(error) => Some(format!("{}; the old ones go on", chain(&error))),
        };
        if current.problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(%problem, "certificates are not as they should be");
            }
            current.problem = problem;
        }
        Arc::clone(&current.config)
    }

    /// When the certificate that the next connection shows ends; `None` where none is shown. Reads the file.
    #[must_use]
    pub fn ends(&self) -> Option<SystemTime> {
        let (certificate, key) = self.settings.certificate.as_ref()?;
        let pair = files::pair(certificate, key).ok()?;
        About::of(pair.chain.first(), &pair.path).ok().map(|about| about.ends)
    }

    /// The certificate that was refused last, told once.
    fn refused(&self) -> Option<String> {
        let refused = Arc::clone(&self.lock().refused);
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read at one moment.
struct Files {
    pair: Option<files::Pair>,
    authorities: Option<Vec<CertificateDer<'static>>>,
}

impl Files {
    fn read(settings: &Settings) -> Result<Self, CertificateError> {
        let pair = |(certificate, key): &(PathBuf, PathBuf)| files::pair(certificate, key);
        Ok(Self {
            pair: settings.certificate.as_ref().map(pair).transpose()?,
            authorities: settings.authorities.as_deref().map(files::authorities).transpose()?,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        files::fingerprint(self.pair.as_ref(), self.authorities.as_deref().unwrap_or_default())
    }

    /// What the other side may have against the certificate.
    fn problem(&self) -> Option<String> {
        let pair = self.pair.as_ref()?;
        About::of(pair.chain.first(), &pair.path).ok()?.problem(SystemTime::now())
    }

    fn config(
        self,
        settings: &Settings,
        refused: &Refused,
    ) -> Result<Arc<ClientConfig>, CertificateError> {
        let roots = match (self.authorities, &settings.authorities) {
            (Some(authorities), Some(path)) => roots(authorities).map_err(|reason| {
                CertificateError::Authorities { path: path.clone(), whom: "servers", reason }
            })?,
            _ => system()?,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (server, refused) = (settings.server.clone(), Arc::clone(refused));
        let verifier = Verifier { roots, provider: Arc::clone(&provider), server, refused };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(CertificateError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.pair {
            Some(pair) => config.with_client_cert_resolver(shown(pair)?),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn shown(pair: files::Pair) -> Result<Arc<SingleCertAndKey>, CertificateError> {
    let key = any_supported_type(&pair.key).map_err(CertificateError::Tls)?;
    let certified = CertifiedKey::new(pair.chain, key);
    certified.keys_match().map_err(|_| CertificateError::Mismatch { path: pair.path })?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

fn system() -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good > 0 {
        return Ok(roots);
    }
    let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    Err(CertificateError::NoSystemAuthorities(why.join("; ")))
}

/// Checks a server: signed by whom we trust, and either of the name that was asked for, and no responder's, or of the expected identity.
struct Verifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    server: Option<Identity>,
    refused: Refused,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Verifier {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        if self.server.is_none() {
            verify_server_name(&certificate, server_name)?;
        }
        self.check_identity(end_entity)
            .map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))?;
        Ok(ServerCertVerified::assertion())
    }

    fn check_identity(&self, end_entity: &CertificateDer<'_>) -> Result<(), IdentityError> {
        let found = Identity::of(end_entity);
        let expected = match (&self.server, &found) {
            (Some(expected), Ok(found)) if expected.covers(found) => return Ok(()),
            (Some(expected), _) => expected.to_string(),
            (None, Err(IdentityError::None)) => return Ok(()),
            (None, Ok(found)) if matches!(found.role, Role::ControlPlane { .. }) => return Ok(()),
            (None, _) => "a control plane".to_owned(),
        };
        Err(IdentityError::Other { found: found?, expected })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verify(end_entity, intermediates, server_name, now);
        if verified.is_err() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some(telling::shown(end_entity));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Opens connections behind TLS, each with what the files hold then.
#[derive(Debug, Clone)]
pub struct Connector(Arc<ClientTls>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Opened>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move { connect(client, &url).await.map(TokioIo::new) })
    }
}

async fn connect(client: Arc<ClientTls>, url: &Uri) -> Result<Opened, ConnectError> {
    let nobody = || ConnectError::Host(url.clone());
    let host = url.host().ok_or_else(nobody)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| nobody())?;
    let unreachable = |source| ConnectError::Connect { host: host.to_owned(), port, source };
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let told = Arc::clone(&client);
    let reading = tokio::task::spawn_blocking(move || client.config());
    let config = reading.await.map_err(|error| unreachable(io::Error::other(error)))?;
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    let shaken = shaken.map_err(|source| {
        let host = host.to_owned();
        if is_plaintext(&source) {
            ConnectError::Plaintext { host, port }
        } else {
            ConnectError::Handshake { host, port, shown: told.refused(), source }
        }
    })?;
    let opened = Opened::new(shaken).await;
    opened.map_err(|source| ConnectError::Refused { host: host.to_owned(), port, source })
}

/// Whether what came was no TLS at all.
fn is_plaintext(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let corrupt = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    inner == Some(&corrupt)
}
