//! Makes certificate authorities, and certificates signed by them, and writes them down.
//!
//! A key is written before its certificate, readable by its owner only, and each file whole or not at all. What reads them meanwhile sees a key
//! that does not fit, and waits.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SignatureAlgorithm, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, DnsName};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    CertificateError,
    describe::About,
    files::{self, AUTHORITY, CERTIFICATE, KEY, Pair},
    identity::{Identity, Role, TrustDomain},
};

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long ago certificates began, for those whose clock is behind.
const SKEW: Duration = Duration::from_secs(3600);
/// The length of a PEM line.
const LINE: usize = 48;
/// The longest common name that X.509 allows.
const MAX_COMMON_NAME: usize = 64;

/// A key that leaves no copy of itself behind.
pub struct AuthorityKey(KeyPair);

impl Drop for AuthorityKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthorityKey")
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        rcgen::SigningKey::sign(&self.0, message)
    }
}

/// Takes a pair for an authority.
///
/// # Errors
/// When it is none, or its key is another one's.
pub fn issuer(pair: &Pair) -> Result<(Issuer<'static, AuthorityKey>, About), CertificateError> {
    let path = &pair.path;
    let refused = |source| CertificateError::Make { path: path.clone(), source };
    let about = About::of(pair.chain.first(), path)?;
    about.check_authority(path)?;
    let key = AuthorityKey(KeyPair::try_from(&*pair.key).map_err(refused)?);
    if key.subject_public_key_info() != about.public_key {
        return Err(CertificateError::Mismatch { path: path.clone() });
    }
    let none = || CertificateError::NoCertificate { path: path.clone() };
    let certificate = pair.chain.first().ok_or_else(none)?;
    Ok((Issuer::from_ca_cert_der(certificate, key).map_err(refused)?, about))
}

/// What a new authority is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewAuthority<'a> {
    /// What it is called; a number of its own follows, since two of one name would be taken for each other.
    pub name: &'a str,
    /// How long it lives from now on.
    pub life: Duration,
    /// The trust domain that it vouches for.
    pub domain: Option<&'a TrustDomain>,
}

/// An authority that was written down, or was there already.
#[derive(Debug, Clone)]
pub struct AuthorityFiles {
    /// The certificate, which others have to trust.
    pub certificate: PathBuf,
    /// The private key, which nobody else may read.
    pub key: PathBuf,
    /// Whether it was made just now.
    pub made: bool,
}

/// Makes an authority in this directory unless there is one; `force` makes a new one all the same.
///
/// # Errors
/// When the directory cannot be written to, or holds only one of the two files.
pub fn authority_in(
    dir: &Path,
    wanted: &NewAuthority<'_>,
    force: bool,
) -> Result<AuthorityFiles, CertificateError> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    if !force && (certificate.exists() || key.exists()) {
        issuer(&files::directory_or_file(dir)?)?;
        return Ok(AuthorityFiles { certificate, key, made: false });
    }
    let (made, made_key) = authority(wanted, SystemTime::now())
        .map_err(|source| CertificateError::Make { path: dir.to_owned(), source })?;
    put(dir, &made, &made_key)?;
    Ok(AuthorityFiles { certificate, key, made: true })
}

/// A new authority: its certificate and its key.
fn authority(
    wanted: &NewAuthority<'_>,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, Zeroizing<String>), rcgen::Error> {
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let id = id.get(..8).unwrap_or_default();
    let mut params = named(&format!("{} {id}", wanted.name));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + wanted.life).into();
    if let Some(domain) = wanted.domain {
        params.subject_alt_names = vec![SanType::URI(domain.uri().try_into()?)];
    }
    let certificate = params.self_signed(&key)?.into();
    let text = pem("PRIVATE KEY", key.serialized_der());
    key.zeroize();
    Ok((certificate, text))
}

/// A certificate that is to be made.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// Who holds it.
    pub role: Role,
    /// The host names and addresses that its holder is reached under.
    pub hosts: &'a [String],
    /// When it ends.
    pub ends: SystemTime,
    /// The trust domain; the authority's if not given.
    pub domain: Option<TrustDomain>,
}

/// A certificate that was made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Who holds it.
    pub identity: Identity,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signed it, beside it.
    pub authority: PathBuf,
}

/// Makes a certificate with the authority of a directory and writes it into another, together with the authority's.
///
/// # Errors
/// When there is no authority, or the directory cannot be written to.
pub fn issue(authority: &Path, leaf: &Leaf<'_>, into: &Path) -> Result<Issued, CertificateError> {
    let pair = files::directory_or_file(authority)?;
    let (issuer, about) = issuer(&pair)?;
    let domain = leaf.domain.clone().or_else(|| TrustDomain::of_authority(pair.chain.first()?));
    let none = || CertificateError::NoTrustDomain { path: pair.path.clone() };
    let identity = Identity { domain: domain.ok_or_else(none)?, role: leaf.role.clone() };
    let names = alternatives(&identity, leaf.hosts)?;
    let make = || {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = named(&leaf.role.to_string());
        params.not_before = (SystemTime::now() - SKEW).max(about.begins).min(leaf.ends).into();
        params.not_after = leaf.ends.min(about.ends).into();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes(&leaf.role);
        params.use_authority_key_identifier_extension = true;
        let certificate: CertificateDer<'static> = params.signed_by(&key, &issuer)?.into();
        let text = pem("PRIVATE KEY", key.serialized_der());
        key.zeroize();
        Ok((certificate, text))
    };
    let (certificate, key) =
        make().map_err(|source| CertificateError::Make { path: into.to_owned(), source })?;
    put(into, &certificate, &key)?;
    let beside = into.join(AUTHORITY);
    let authorities: String =
        pair.chain.iter().map(|one| pem("CERTIFICATE", one).to_string()).collect();
    write(&beside, authorities.as_bytes(), 0o644)
        .map_err(|source| CertificateError::Write { path: beside.clone(), source })?;
    Ok(Issued {
        identity,
        certificate: into.join(CERTIFICATE),
        key: into.join(KEY),
        authority: beside,
    })
}

/// Users are never connected to; planes are, and connect.
fn purposes(role: &Role) -> Vec<ExtendedKeyUsagePurpose> {
    match role {
        Role::User { .. } => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Responder { .. } | Role::ControlPlane { .. } => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
    }
}

fn alternatives(identity: &Identity, hosts: &[String]) -> Result<Vec<SanType>, CertificateError> {
    let text =
        |text: &str| Ia5String::try_from(text).map_err(|_| CertificateError::Host(text.to_owned()));
    let mut names = vec![SanType::URI(text(&identity.to_string())?)];
    for host in hosts {
        names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if DnsName::try_from(host.as_str()).is_ok() => SanType::DnsName(text(host)?),
            Err(_) => return Err(CertificateError::Host(host.clone())),
        });
    }
    Ok(names)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.get(..MAX_COMMON_NAME).unwrap_or(name));
    params.distinguished_name.push(DnType::OrganizationName, "Countersign");
    params.serial_number = Some(uuid::Uuid::new_v4().as_bytes().to_vec().into());
    params
}

/// Writes both files; the key first: a certificate whose key is not there would be trusted for nothing.
fn put(dir: &Path, certificate: &CertificateDer<'_>, key: &str) -> Result<(), CertificateError> {
    let failed = |path: PathBuf| |source| CertificateError::Write { path, source };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed(dir.to_owned()))?;
    let (at, key_at) = (dir.join(CERTIFICATE), dir.join(KEY));
    write(&key_at, key.as_bytes(), 0o600).map_err(failed(key_at.clone()))?;
    let text = pem("CERTIFICATE", certificate);
    write(&at, text.as_bytes(), 0o644).map_err(failed(at.clone()))
}

pub(crate) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Reserved in one piece: a text that grows leaves copies behind, and `der` may be a key.
    let mut text = Zeroizing::new(String::with_capacity(der.len() * 2 + 128));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in der.chunks(LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Writes a file whole, or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    // A leftover would keep its own permissions.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
