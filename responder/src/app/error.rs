//! Why a responder did not start.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{certificates::CertificateError, control_plane::SettingsError, passthrough};

/// Why a responder did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is in use, not ours or not allowed.
    #[error("cannot listen on {addr} for {purpose}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What it was for.
        purpose: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The admin listener has no authentication.
    #[error(
        "the admin listener has no authentication and {0} can be reached from other hosts; use a loopback address, or allow it with \
         --allow-insecure"
    )]
    InsecureAdmin(SocketAddr),
    /// The API has no authentication.
    #[error(
        "the API has no authentication, can end the responder, and {0} can be reached from other hosts; use a loopback address, or allow it \
         with --allow-insecure"
    )]
    InsecureApi(SocketAddr),
    /// The listener for other responders has no authentication.
    #[error(
        "the listener for other responders has no authentication and {0} can be reached from other hosts; have responders show certificates \
         (--control-plane-ca, --client-cert and --client-key), use a loopback address, or allow it with --allow-insecure"
    )]
    InsecurePeers(SocketAddr),
    /// Other responders cannot be shown who this is.
    #[error("other responders cannot be spoken to over TLS")]
    PeerTls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Traces cannot be sent as it is told.
    #[error(transparent)]
    Telemetry(#[from] countersign_telemetry::SettingsError),
    /// Other responders would not know where to go.
    #[error(
        "{0} is no address that other responders can reach; say which one is with --peer-advertise"
    )]
    PeerAddress(SocketAddr),
    /// The Redis cannot be used, whatever it answers.
    #[error("turns cannot be kept in Redis")]
    Redis(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The secret directory cannot be used.
    #[error("the secret directory {} cannot be read", dir.display())]
    SecretDir {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The cache directory cannot be used.
    #[error("the cache directory {} cannot be used", dir.display())]
    CacheDir {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The API cannot be served.
    #[error("the API cannot be served on {addr}")]
    Api {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The control plane cannot be reached as it is told.
    #[error(transparent)]
    ControlPlane(#[from] SettingsError),
    /// Real hosts cannot be reached, or what passes through not be recorded.
    #[error(transparent)]
    Passthrough(#[from] passthrough::StartError),
    /// A certificate or key cannot be used.
    #[error("TLS cannot be answered")]
    Certificates(#[from] CertificateError),
    /// What a port is mapped to is no host.
    #[error("{0} is no host that a port can be mapped to")]
    Map(String),
    /// A thread or runtime could not be created.
    #[error("the workers of the data plane cannot be started")]
    Workers(#[source] io::Error),
}

impl StartError {
    /// Whether other arguments would help.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::InsecureAdmin(_)
            | Self::InsecureApi(_)
            | Self::InsecurePeers(_)
            | Self::PeerAddress(_)
            | Self::PeerTls(_)
            | Self::Telemetry(_)
            | Self::Redis(_)
            | Self::SecretDir { .. }
            | Self::CacheDir { .. }
            | Self::Passthrough(_)
            | Self::ControlPlane(_)
            | Self::Certificates(_)
            | Self::Map(_) => true,
            Self::Listen { .. } | Self::Api { .. } | Self::Workers(_) => false,
        }
    }
}
