//! The certificates of the data port: read, made, renewed, and read again when their files change.
//!
//! A state is immutable and swapped whole; a file that cannot be used never replaces a state that could. Keys are not in any log, error or
//! debug output, and the bytes that they are read into are wiped.

mod authority;
mod leaves;
pub mod make;
pub(crate) mod name;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
pub use countersign_tls::CertificateError;
use countersign_tls::{chain, describe::About, files};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer, sign::any_supported_type},
    },
    server::{NoClientAuth, ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::Semaphore};

use self::{authority::Authority, leaves::Leaves, name::Name};
use crate::transport::{ClientAuth, Identity, Tls};

/// Certificates that are made at a time. The key of an authority may be a large RSA key, at ten milliseconds a signature.
const MAKERS: usize = 2;

/// The certificates of a data plane.
#[derive(Debug)]
pub(crate) struct Certificates {
    tls: Tls,
    current: ArcSwap<State>,
    problem: ArcSwap<Option<String>>,
    makers: Arc<Semaphore>,
    control: Handle,
}

/// Everything that was read at one moment.
#[derive(Debug)]
struct State {
    shown: Shown,
    about: About,
    /// What the next reading is compared with.
    fingerprint: [u8; 32],
    client_authorities: usize,
}

/// What is shown to clients.
#[derive(Debug)]
enum Shown {
    One(Arc<ServerConfig>),
    Made(Arc<Maker>),
}

/// Makes and keeps certificates.
#[derive(Debug)]
struct Maker {
    authority: Authority,
    /// A configuration for no name in particular.
    template: ServerConfig,
    leaves: Leaves,
}

impl Certificates {
    /// Reads the files. `control` is the runtime that makes certificates.
    pub(crate) fn read(tls: Tls, control: Handle) -> Result<Self, CertificateError> {
        let state = State::read(&tls)?;
        let problem = state.about.problem(SystemTime::now());
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "clients may refuse the certificate");
        }
        Ok(Self {
            tls,
            current: ArcSwap::from_pointee(state),
            problem: ArcSwap::from_pointee(problem),
            makers: Arc::new(Semaphore::new(MAKERS)),
            control,
        })
    }

    /// The configuration that shows a certificate for this name.
    pub(crate) async fn config(&self, name: Name) -> Result<Arc<ServerConfig>, CertificateError> {
        let maker = match &self.current.load().shown {
            Shown::One(config) => return Ok(Arc::clone(config)),
            Shown::Made(maker) => Arc::clone(maker),
        };
        let now = SystemTime::now();
        if let Some(config) = maker.leaves.get(&name, now) {
            return Ok(config);
        }
        let permit = Arc::clone(&self.makers).acquire_owned().await;
        let permit = permit.map_err(|_| CertificateError::Ending)?;
        let making = self.control.spawn_blocking(move || {
            let made = maker.make(name, now);
            drop(permit);
            made
        });
        making.await.map_err(|_| CertificateError::Ending)?
    }

    /// Reads the files again, for ever.
    pub(crate) async fn poll(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            // That the runtime ends is no failure.
            drop(tokio::task::spawn_blocking(move || this.reload()).await);
        }
    }

    /// Reads the files again, and takes them over if they have changed and can be used.
    pub(crate) fn reload(&self) {
        let before = self.current.load_full();
        let problem = match State::read(&self.tls) {
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
        if **self.problem.load() != problem {
            if let Some(problem) = &problem {
                tracing::warn!(%problem, "certificates are not as they should be");
            }
            self.problem.store(Arc::new(problem));
        }
    }

    /// What may be told about them.
    pub(crate) fn status(&self) -> Value {
        let state = self.current.load();
        let (kind, made) = match &state.shown {
            Shown::One(_) => ("certificate", None),
            Shown::Made(maker) => ("authority", Some(maker.leaves.len())),
        };
        json!({
            "kind": kind,
            "subject": state.about.subject,
            "not_after_unix": state.about.ends_unix(),
            "made": made,
            "client_auth": match self.tls.client_auth {
                ClientAuth::None => "none",
                ClientAuth::Optional => "optional",
                ClientAuth::Required => "required",
            },
            "client_authorities": state.client_authorities,
            "problem": **self.problem.load(),
        })
    }
}

impl Maker {
    fn make(&self, name: Name, now: SystemTime) -> Result<Arc<ServerConfig>, CertificateError> {
        // Another connection may have waited for the same.
        if let Some(config) = self.leaves.get(&name, now) {
            return Ok(config);
        }
        let leaf = self.authority.make(&name, now)?;
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(leaf.certified));
        let config = Arc::new(config);
        self.leaves.put(name, Arc::clone(&config), leaf.renew_at);
        Ok(config)
    }
}

impl State {
    fn read(tls: &Tls) -> Result<Self, CertificateError> {
        let pair = match &tls.identity {
            Identity::Authority(path) => files::directory_or_file(path)?,
            Identity::Certificate { certificate, key } => files::pair(certificate, key)?,
        };
        let client_ca = match &tls.client_ca {
            Some(path) if tls.client_auth != ClientAuth::None => files::authorities(path)?,
            _ => Vec::new(),
        };
        let fingerprint = files::fingerprint(Some(&pair), &client_ca);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(tls, &client_ca, &provider)?;
        let tickets = Ticketer::new().map_err(CertificateError::Tls)?;
        let configure = |certified: Arc<CertifiedKey>| {
            configuration(&provider, Arc::clone(&verifier), Arc::clone(&tickets), certified)
        };
        let (shown, about) = match &tls.identity {
            Identity::Authority(_) => {
                let authority = Authority::new(pair)?;
                let about = authority.about().clone();
                let here = Name::Here(IpAddr::from([127, 0, 0, 1]));
                let template = configure(authority.make(&here, SystemTime::now())?.certified)?;
                let leaves = Leaves::default();
                (Shown::Made(Arc::new(Maker { authority, template, leaves })), about)
            }
            Identity::Certificate { .. } => {
                let about = About::of(pair.chain.first(), &pair.path)?;
                let key = any_supported_type(&pair.key).map_err(CertificateError::Tls)?;
                let certified = CertifiedKey::new(pair.chain, key);
                certified
                    .keys_match()
                    .map_err(|_| CertificateError::Mismatch { path: pair.path })?;
                (Shown::One(Arc::new(configure(Arc::new(certified))?)), about)
            }
        };
        Ok(Self { shown, about, fingerprint, client_authorities: client_ca.len() })
    }
}

fn configuration(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    tickets: Arc<dyn ProducesTickets>,
    certified: Arc<CertifiedKey>,
) -> Result<ServerConfig, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    let protocols: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).to_vec();
    config.ticketer = tickets;
    Ok(config)
}

fn verifier(
    tls: &Tls,
    authorities: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let (Some(path), false) = (&tls.client_ca, tls.client_auth == ClientAuth::None) else {
        return Ok(Arc::new(NoClientAuth));
    };
    let whom = "clients";
    let refused = |reason| CertificateError::Authorities { path: path.clone(), whom, reason };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| refused(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match tls.client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required | ClientAuth::None => builder,
    };
    builder.build().map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests;
