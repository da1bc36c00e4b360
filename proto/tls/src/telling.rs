//! Checks certificates as another verifier does, and tells of whom it refuses: a library's error names neither the certificate nor who signed it.

use std::{path::Path, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::describe::About;

/// Checks clients, and logs whom it refuses.
#[derive(Debug)]
pub(crate) struct Telling(pub(crate) Arc<dyn ClientCertVerifier>);

/// A certificate in words, for an error about it.
pub(crate) fn shown(certificate: &CertificateDer<'_>) -> String {
    match About::of(Some(certificate), Path::new("")) {
        Ok(about) => {
            let (subject, issuer, end) = (&about.subject, &about.issuer, about.ends_unix());
            format!("subject={subject}, issuer={issuer}, notAfter={end} (Unix time)")
        }
        Err(_) => "a certificate that cannot be read".to_owned(),
    }
}

impl ClientCertVerifier for Telling {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now);
        if let Err(error) = &verified {
            tracing::info!(certificate = shown(end_entity), %error, "a client's certificate is refused");
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
