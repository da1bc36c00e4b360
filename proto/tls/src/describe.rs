//! What may be told about a certificate, and whether it may sign others.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::CertificateError;

/// Certificates that end sooner than this are told about.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct About {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
    /// The whole public key (SPKI).
    pub public_key: Vec<u8>,
    /// Whether it may sign others.
    signs: bool,
}

impl About {
    /// Reads the certificate; `path` is where it came from.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(
        certificate: Option<&CertificateDer<'_>>,
        path: &Path,
    ) -> Result<Self, CertificateError> {
        let none = || CertificateError::NoCertificate { path: path.to_owned() };
        let (_, parsed) =
            X509Certificate::from_der(certificate.ok_or_else(none)?).map_err(|_| none())?;
        let may_sign =
            parsed.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            begins: moment(parsed.validity().not_before.timestamp()),
            ends: moment(parsed.validity().not_after.timestamp()),
            public_key: parsed.public_key().raw.to_vec(),
            signs: parsed.is_ca() && may_sign,
        })
    }

    /// Refuses what may not sign others: clients would refuse what it signed.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_authority(&self, path: &Path) -> Result<(), CertificateError> {
        if self.signs {
            return Ok(());
        }
        Err(CertificateError::NoAuthority { path: path.to_owned(), subject: self.subject.clone() })
    }

    /// What is wrong with it now, or will be soon.
    #[must_use]
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let Self { subject, issuer, .. } = self;
        let end = self.ends_unix();
        if now >= self.ends {
            Some(format!("{subject}, signed by {issuer}, ended at {end} (Unix time)"))
        } else if now < self.begins {
            Some(format!("{subject}, signed by {issuer}, is not valid yet"))
        } else if now + SOON >= self.ends {
            Some(format!("{subject}, signed by {issuer}, ends soon, at {end} (Unix time)"))
        } else {
            None
        }
    }

    /// When it ends, in seconds.
    #[must_use]
    pub fn ends_unix(&self) -> u64 {
        self.ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

fn moment(seconds: i64) -> SystemTime {
    // X.509 reaches to the year 9999, and back to 1950.
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds >= 0 { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_from_a_certificate_that_has_ended() {
        let day = Duration::from_secs(24 * 3600);
        let begins = UNIX_EPOCH + 1000 * day;
        let about = About {
            subject: "CN=one".into(),
            issuer: "CN=all".into(),
            begins,
            ends: begins + 90 * day,
            public_key: Vec::new(),
            signs: false,
        };
        assert_eq!(about.problem(begins + day), None);
        for (now, says) in [
            (begins - day, "CN=one, signed by CN=all, is not valid yet"),
            (begins + 84 * day, "CN=one, signed by CN=all, ends soon, at 94176000 (Unix time)"),
            (begins + 90 * day, "CN=one, signed by CN=all, ended at 94176000 (Unix time)"),
        ] {
            assert_eq!(about.problem(now).as_deref(), Some(says));
        }
    }
}
