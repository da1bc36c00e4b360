//! A certificate authority: makes short-lived certificates for names, all with one key of this process.
//!
//! What is made lives for an hour and began an hour ago, for clients whose clock differs; it never outlives the authority.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use countersign_tls::{
    CertificateError,
    describe::About,
    files::Pair,
    issue::{AuthorityKey, issuer},
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::name::Name;

/// How long a certificate lives from now on.
const LIFE: Duration = Duration::from_secs(3600);
/// How long ago it began.
const SKEW: Duration = Duration::from_secs(3600);
/// A certificate with less than this left is made anew.
const RENEWAL: Duration = Duration::from_secs(1200);
/// The longest common name that X.509 allows.
const MAX_COMMON_NAME: usize = 64;

/// Signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, AuthorityKey>,
    /// Those that signed the authority, for clients that trust only the topmost one.
    chain: Vec<CertificateDer<'static>>,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    about: About,
}

/// A certificate that was made, and when to make the next one.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) renew_at: SystemTime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Authority {
    /// Takes a pair for an authority, if it is one.
    pub(super) fn new(pair: Pair) -> Result<Self, CertificateError> {
        let (issuer, about) = issuer(&pair)?;
        let Pair { mut chain, path, .. } = pair;
        let refused = |source| CertificateError::Make { path: path.clone(), source };
        // The topmost one is what clients trust already.
        let mut topmost = false;
        chain.retain(|one| {
            let kept = !topmost;
            topmost |= About::of(Some(one), &path).is_ok_and(|about| about.subject == about.issuer);
            kept && !topmost
        });
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(refused)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialized_der()));
        let leaf_signer = any_supported_type(&private).map_err(CertificateError::Tls)?;
        Ok(Self { issuer, chain, leaf_key, leaf_signer, about })
    }

    /// What may be told about it.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Makes a certificate for one name.
    pub(super) fn make(&self, name: &Name, now: SystemTime) -> Result<Leaf, CertificateError> {
        let refused = |source| CertificateError::Make { path: name.to_string().into(), source };
        let ends = (now + LIFE).min(self.about.ends.max(now));
        let mut params = CertificateParams::default();
        params.not_before = (now - SKEW).max(self.about.begins).min(ends).into();
        params.not_after = ends.into();
        params.subject_alt_names = name.alternatives().ok_or_else(|| {
            refused(rcgen::Error::InvalidAsn1String(rcgen::InvalidAsn1String::Ia5String(
                name.to_string(),
            )))
        })?;
        params.distinguished_name = DistinguishedName::new();
        let common = name.to_string();
        if common.len() <= MAX_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(uuid::Uuid::new_v4().as_bytes().to_vec().into());
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(refused)?;
        let mut chain = vec![leaf.into()];
        chain.extend(self.chain.iter().cloned());
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.leaf_signer)));
        Ok(Leaf { certified, renew_at: now + LIFE - RENEWAL })
    }
}
