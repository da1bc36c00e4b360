//! Who a process or a person is to the planes: the SPIFFE ID in a certificate.
//!
//! `spiffe://DOMAIN/responder/PROJECT/NAME`, `spiffe://DOMAIN/responder/PROJECT` for any name in that project,
//! `spiffe://DOMAIN/control-plane/NAME` and `spiffe://DOMAIN/user/NAME`. What does not read like one of these is nobody.

use std::{fmt, str::FromStr};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const SCHEME: &str = "spiffe://";
/// As the SPIFFE specification has it.
const MAX_LENGTH: usize = 2048;
const MAX_DOMAIN: usize = 255;

/// Why nobody is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No URI of the kind.
    #[error(
        "the certificate has no SPIFFE ID; it needs one URI such as spiffe://example.org/user/anna among its alternative names"
    )]
    None,
    /// More than one.
    #[error("the certificate has more than one SPIFFE ID")]
    Several,
    /// Not X.509, or the names in it cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It reads otherwise.
    #[error(
        "`{0}` is no identity: one looks like spiffe://DOMAIN/responder/PROJECT/NAME, spiffe://DOMAIN/responder/PROJECT, \
         spiffe://DOMAIN/control-plane/NAME or spiffe://DOMAIN/user/NAME"
    )]
    Malformed(String),
    /// No trust domain.
    #[error("`{0}` is no trust domain: one has up to 255 of a-z, 0-9, `.`, `-` and `_`")]
    Domain(String),
    /// Somebody else's trust domain.
    #[error("{found} is of another trust domain than {expected}")]
    Foreign {
        /// Who it is.
        found: Identity,
        /// The domain whose identities are believed.
        expected: TrustDomain,
    },
    /// Somebody, but not the one.
    #[error("{found} is not {expected}")]
    Other {
        /// Who it is.
        found: Identity,
        /// Who is expected.
        expected: String,
    },
}

/// Whose certificates belong together: what one organisation or cluster calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Box<str>);

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if text.is_empty() || text.len() > MAX_DOMAIN || !text.chars().all(is_good) {
            return Err(IdentityError::Domain(shown(text)));
        }
        Ok(Self(text.into()))
    }
}

impl TrustDomain {
    /// The domain that an authority says it is of.
    #[must_use]
    pub fn of_authority(certificate: &CertificateDer<'_>) -> Option<Self> {
        uri(certificate).ok()?.strip_prefix(SCHEME)?.parse().ok()
    }

    /// As a URI, which authorities have in their certificates.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody is, and what they are called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// A responder of a project.
    Responder {
        /// The project's id.
        project: Box<str>,
        /// Its name; `None` stands for any, where several share a certificate.
        name: Option<Box<str>>,
    },
    /// A control plane.
    ControlPlane {
        /// Its name.
        name: Box<str>,
    },
    /// Who works with the control plane: a person, or a program on their behalf.
    User {
        /// Its name.
        name: Box<str>,
    },
}

impl FromStr for Role {
    type Err = IdentityError;

    /// The part behind the trust domain, such as `responder/default/one`.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let parts: Vec<&str> = text.split('/').collect();
        let malformed = || IdentityError::Malformed(shown(text));
        if !parts.iter().all(|part| is_segment(part)) {
            return Err(malformed());
        }
        match parts.as_slice() {
            ["responder", project] => {
                Ok(Self::Responder { project: (*project).into(), name: None })
            }
            ["responder", project, name] => {
                Ok(Self::Responder { project: (*project).into(), name: Some((*name).into()) })
            }
            ["control-plane", name] => Ok(Self::ControlPlane { name: (*name).into() }),
            ["user", name] => Ok(Self::User { name: (*name).into() }),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Responder { project, name: None } => write!(f, "responder/{project}"),
            Self::Responder { project, name: Some(name) } => {
                write!(f, "responder/{project}/{name}")
            }
            Self::ControlPlane { name } => write!(f, "control-plane/{name}"),
            Self::User { name } => write!(f, "user/{name}"),
        }
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Who vouches for it.
    pub domain: TrustDomain,
    /// What it is.
    pub role: Role,
}

impl Identity {
    /// Whom a certificate names. That it is a good one has to be known already.
    ///
    /// # Errors
    /// When it names nobody, or more than one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        uri(certificate)?.parse()
    }

    /// The same, of this domain only.
    ///
    /// # Errors
    /// When it names nobody, or somebody of another domain.
    pub fn within(
        certificate: &CertificateDer<'_>,
        expected: &TrustDomain,
    ) -> Result<Self, IdentityError> {
        let found = Self::of(certificate)?;
        if found.domain == *expected {
            return Ok(found);
        }
        Err(IdentityError::Foreign { found, expected: expected.clone() })
    }

    /// Whether somebody is the one who is meant here: the same, or, where a responder of a project without a name is, any responder of that
    /// project.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is_meant = match (&self.role, &other.role) {
            (
                Role::Responder { project, name: None },
                Role::Responder { project: its_project, .. },
            ) => project == its_project,
            (role, its_role) => role == its_role,
        };
        self.domain == other.domain && is_meant
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed(shown(text));
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_LENGTH);
        let parts = rest.and_then(|rest| rest.split_once('/'));
        let (domain, role) = parts.ok_or_else(malformed)?;
        let domain = domain.parse().map_err(|_| malformed())?;
        Ok(Self { domain, role: role.parse().map_err(|_| malformed())? })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.domain, self.role)
    }
}

/// The one SPIFFE ID among the alternative names.
fn uri(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = parsed.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some((*uri).to_owned()),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        (Some(_), Some(_)) => Err(IdentityError::Several),
        (None, _) => Err(IdentityError::None),
    }
}

/// What may stand between two slashes of a SPIFFE ID.
fn is_segment(part: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !part.is_empty() && part != "." && part != ".." && part.chars().all(is_good)
}

/// What somebody else wrote, as far as it fits into a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_as_they_are_written() {
        let text = "spiffe://example.org/responder/shop/pod-1.a_B";
        let identity: Identity = text.parse().unwrap();
        let (project, name) = ("shop".into(), Some("pod-1.a_B".into()));
        assert_eq!(identity.role, Role::Responder { project, name });
        assert_eq!(identity.domain, "example.org".parse().unwrap());
        for text in [
            text,
            "spiffe://example.org/responder/shop",
            "spiffe://a_b-c.d/control-plane/one",
            "spiffe://1/user/anna",
        ] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn whatever_reads_otherwise_is_nobody() {
        let long = format!("spiffe://a/user/{}", "x".repeat(MAX_LENGTH));
        let wide = format!("spiffe://{}/user/x", "x".repeat(MAX_DOMAIN + 1));
        for text in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a/user",
            "spiffe://a/user/",
            "spiffe://a/user/x/",
            "spiffe://a/user/x/y",
            "spiffe://a//user/x",
            "spiffe://a/user/..",
            "spiffe://a/user/*",
            "spiffe://a/user/x?y",
            "spiffe://a/user/x%2Fy",
            "spiffe://a/User/x",
            "spiffe://A/user/x",
            "spiffe://a:1/user/x",
            "spiffe://u@a/user/x",
            "SPIFFE://a/user/x",
            "https://a/user/x",
            "spiffe://a/responder",
            "spiffe://a/responder/p/n/more",
            "spiffe://a/admin/x",
            "spiffe://a/user/ä",
            &long,
            &wide,
        ] {
            let refused = text.parse::<Identity>();
            assert!(matches!(refused, Err(IdentityError::Malformed(_))), "{text}: {refused:?}");
        }
    }
}
