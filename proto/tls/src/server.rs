//! The side that is connected to: its certificate and the authorities of its clients, read again when their files change.
//!
//! A state is immutable and swapped whole; a file that cannot be used never replaces a state that could. TLS 1.3 only, and nothing is resumed:
//! a client has to show a certificate that is good now each time that it connects.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::{self, sign::any_supported_type},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::CertificateDer;

use crate::{
    CertificateError, chain,
    describe::About,
    files,
    identity::{Identity, TrustDomain},
    telling::Telling,
};

/// How often files are read again.
pub const POLL: Duration = Duration::from_secs(1);

/// Which files, and whom to believe.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificate and those that signed it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of clients, PEM. Clients have to show a certificate if there are any, unless they may show something else.
    pub client_ca: Option<PathBuf>,
    /// Whose identities are believed; the domain of the own certificate if not given.
    pub trust_domain: Option<TrustDomain>,
    /// Whether clients may connect without a certificate, because they show later who they are.
    pub is_optional: bool,
}

/// The server's side of TLS.
#[derive(Debug)]
pub struct ServerTls {
    settings: Settings,
    current: ArcSwap<State>,
    problem: Mutex<Option<String>>,
}

/// Everything that was read at one moment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Arc<ServerConfig>,
    /// Whose identities are believed; `None` where clients show no certificate.
    pub(crate) domain: Option<TrustDomain>,
    about: About,
    fingerprint: [u8; 32],
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn read(settings: Settings) -> Result<Arc<Self>, CertificateError> {
        let state = State::read(&settings)?;
        let problem = state.about.problem(SystemTime::now());
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "clients may refuse the certificate");
        }
        let (current, problem) = (ArcSwap::from_pointee(state), Mutex::new(problem));
        Ok(Arc::new(Self { settings, current, problem }))
    }

    /// Whether clients are asked for a certificate.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.settings.client_ca.is_some()
    }

    /// When the certificate that is shown now ends.
    #[must_use]
    pub fn ends(&self) -> SystemTime {
        self.current.load().about.ends
    }

    /// Reads the files again, for ever.
    pub async fn poll(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            // That the runtime ends is no failure.
            drop(tokio::task::spawn_blocking(move || this.reload()).await);
        }
    }

    /// Reads the files again, and takes them over if they have changed and can be used. Open connections go on.
    pub fn reload(&self) {
        let before = self.current.load_full();
        let problem = match State::read(&self.settings) {
            Ok(state) => {
                let problem = state.about.problem(SystemTime::now());
                if state.fingerprint != before.fingerprint {
                    tracing::info!(subject = %state.about.subject, "certificates taken over");
                    self.current.store(Arc::new(state));
                }
                problem
            }
            Err(error) => Some(chain(&error)),
        };
        let mut told = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != problem {
            if let Some(problem) = &problem {
                tracing::warn!(%problem, "certificates are not as they should be");
            }
            *told = problem;
        }
    }

    /// What the next handshake is done with.
    pub(crate) fn current(&self) -> Arc<State> {
        self.current.load_full()
    }
}

impl State {
    fn read(settings: &Settings) -> Result<Self, CertificateError> {
        let pair = files::pair(&settings.certificate, &settings.key)?;
        let authorities = settings.client_ca.as_deref().map(files::authorities).transpose()?;
        let fingerprint =
            files::fingerprint(Some(&pair), authorities.as_deref().unwrap_or_default());
        let about = About::of(pair.chain.first(), &pair.path)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (verifier, domain): (Arc<dyn ClientCertVerifier>, _) =
            match (&settings.client_ca, authorities) {
                (Some(path), Some(authorities)) => {
                    let roots = roots(authorities).map_err(|reason| refused(path, reason))?;
                    let verifier = WebPkiClientVerifier::builder_with_provider(
                        Arc::new(roots),
                        Arc::clone(&provider),
                    );
                    let verifier = if settings.is_optional {
                        verifier.allow_unauthenticated()
                    } else {
                        verifier
                    };
                    let built = verifier.build().map_err(|e| refused(path, e.to_string()))?;
                    (Arc::new(Telling(built)), Some(domain(settings, &pair)?))
                }
                _ => (Arc::new(NoClientAuth), None),
            };
        let key = any_supported_type(&pair.key).map_err(CertificateError::Tls)?;
        let certified = CertifiedKey::new(pair.chain, key);
        certified.keys_match().map_err(|_| CertificateError::Mismatch { path: pair.path })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(CertificateError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), domain, about, fingerprint })
    }
}

fn domain(settings: &Settings, pair: &files::Pair) -> Result<TrustDomain, CertificateError> {
    if let Some(domain) = &settings.trust_domain {
        return Ok(domain.clone());
    }
    let own = pair.chain.first().and_then(|own| Identity::of(own).ok());
    let none = || CertificateError::NoTrustDomain { path: pair.path.clone() };
    own.map(|own| own.domain).ok_or_else(none)
}

fn refused(path: &std::path::Path, reason: String) -> CertificateError {
    CertificateError::Authorities { path: path.to_owned(), whom: "clients", reason }
}

/// Authorities that something is checked with.
pub(crate) fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}
