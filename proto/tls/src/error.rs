//! Why certificates cannot be used.

use std::{io, path::PathBuf};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is none in the file.
    #[error("{} holds no PEM certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is none in the file.
    #[error("{} holds no PEM private key without a passphrase", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is another one's.
    #[error("the private key does not fit the certificate in {}", path.display())]
    Mismatch {
        /// The certificate's file.
        path: PathBuf,
    },
    /// Clients would refuse what it signs.
    #[error("{subject} in {} may not sign other certificates; use it with --tls-cert and --tls-key", path.display())]
    NoAuthority {
        /// The certificate's file.
        path: PathBuf,
        /// Who it says that it is.
        subject: String,
    },
    /// A certificate could not be made.
    #[error("no certificate can be made with or for {}", path.display())]
    Make {
        /// The authority's file, or the name.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: rcgen::Error,
    },
    /// There is something already.
    #[error("there is an authority in {} already; `countersign certs issue` makes certificates with it, --force makes a new one", path.display())]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// What a certificate is to be made for is neither a host nor an address.
    #[error("`{0}` is no host name and no address")]
    Host(String),
    /// The TLS library refuses them.
    #[error("the certificates cannot be used")]
    Tls(#[source] rustls::Error),
    /// The authorities of the other side cannot be used.
    #[error("the certificates in {} cannot check {whom}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Who would be checked.
        whom: &'static str,
        /// What the library says.
        reason: String,
    },
    /// This machine trusts nobody.
    #[error("this system has no certificates that a server could be checked with; name some: {0}")]
    NoSystemAuthorities(String),
    /// Whose identities are believed is not known.
    #[error("{} names no trust domain (spiffe://…); name one with --trust-domain", path.display())]
    NoTrustDomain {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The process ends.
    #[error("the process ends")]
    Ending,
}

/// The error and its sources on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut causes: Vec<String> = causes.map(ToString::to_string).collect();
    // Libraries of others do repeat themselves.
    causes.dedup();
    causes.join(": ")
}
