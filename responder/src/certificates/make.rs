//! Makes a certificate authority and writes it down, for `countersign certs` and `countersign dev --tls`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    CertificateError,
    files::{CERTIFICATE, KEY},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority lives. It is trusted on development machines, where nobody wants to trust a new one each month.
const LIFE: u32 = 5 * 365;
/// The length of a PEM line.
const LINE: usize = 48;

/// An authority that was written down, or was there already.
#[derive(Debug, Clone)]
pub struct AuthorityFiles {
    /// The certificate, which clients have to trust.
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
pub fn authority_in(dir: &Path, force: bool) -> Result<AuthorityFiles, CertificateError> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    if !force && (certificate.exists() || key.exists()) {
        super::check_authority(dir)?;
        return Ok(AuthorityFiles { certificate, key, made: false });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| CertificateError::Write { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    let (certificate_pem, key_pem) = authority(SystemTime::now())
        .map_err(|source| CertificateError::Make { path: dir.to_owned(), source })?;
    // The key first: a certificate whose key is not there would be trusted for nothing.
    write(&key, key_pem.as_bytes(), 0o600).map_err(failed(&key))?;
    write(&certificate, certificate_pem.as_bytes(), 0o644).map_err(failed(&certificate))?;
    Ok(AuthorityFiles { certificate, key, made: true })
}

/// A new authority: its certificate and its key, PEM.
fn authority(now: SystemTime) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // Two authorities of one name would be taken for each other.
    let id = uuid::Uuid::new_v4().simple().to_string();
    let id = id.get(..8).unwrap_or_default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Countersign local CA {id}"));
    params.distinguished_name.push(DnType::OrganizationName, "Countersign");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * LIFE).into();
    params.serial_number = Some(uuid::Uuid::new_v4().as_bytes().to_vec().into());
    let certificate = params.self_signed(&key)?;
    let texts = (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der()));
    key.zeroize();
    Ok((texts.0.to_string(), texts.1))
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Reserved in one piece, for the reason given there: `der` may be a key.
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
