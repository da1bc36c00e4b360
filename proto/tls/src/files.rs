//! Reads certificates and keys from files that somebody else may be replacing.
//!
//! Where Kubernetes mounts a secret, a certificate and its key are two links through `..data`, which moves as a whole; both are read through
//! the directory that it names at one moment. Elsewhere they may be torn, which their reader has to notice by the key not fitting.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

use crate::CertificateError;

/// The largest file that is read; a bundle of all the world's authorities fits in.
const MAX_SIZE: u64 = 1024 * 1024;
/// The name of a certificate's file in a directory, as Kubernetes has it.
pub const CERTIFICATE: &str = "tls.crt";
/// The name of its key's file.
pub const KEY: &str = "tls.key";
/// The name of the file of the authority that signed it, as cert-manager has it.
pub const AUTHORITY: &str = "ca.crt";

/// A certificate, those that signed it, and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate, then those that signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
    /// The file that the certificate came from.
    pub path: PathBuf,
}

/// Reads a pair from a directory with `tls.crt` and `tls.key`, or from a file with both.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub fn directory_or_file(path: &Path) -> Result<Pair, CertificateError> {
    if path.is_dir() { pair(&path.join(CERTIFICATE), &path.join(KEY)) } else { pair(path, path) }
}

/// Reads a pair from two files.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub fn pair(certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
    let (at, key_at) = match (steady(certificate), steady(key)) {
        (Some(at), Some(key_at)) => (at, key_at),
        _ => (certificate.to_owned(), key.to_owned()),
    };
    let chain = certificates(&at, certificate)?;
    let bytes = read(&key_at, key)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| CertificateError::NoKey { path: key.to_owned() })?;
    Ok(Pair { chain, key: Zeroizing::new(key), path: certificate.to_owned() })
}

/// Reads all certificates of a file.
///
/// # Errors
/// When a file cannot be read or holds something else.
pub fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    certificates(path, path)
}

/// What tells two readings apart.
#[must_use]
pub fn fingerprint(pair: Option<&Pair>, authorities: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    };
    if let Some(pair) = pair {
        pair.chain.iter().for_each(|certificate| add(certificate));
        add(pair.key.secret_der());
    }
    authorities.iter().for_each(|certificate| add(certificate));
    *hasher.finalize().as_bytes()
}

fn certificates(at: &Path, path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(at, path)?;
    let none = || CertificateError::NoCertificate { path: path.to_owned() };
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}

/// Where a file lies behind `..data` at this moment, if its directory has one.
fn steady(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    let name = path.file_name()?;
    let steady = parent.join("..data").canonicalize().ok()?.join(name);
    steady.is_file().then_some(steady)
}

/// Reads a file; errors name `path`, which the operator knows.
fn read(at: &Path, path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let file = open(at).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if metadata.len() > MAX_SIZE {
        return Err(failed(io::Error::other("it is too large")));
    }
    // Reserved in one piece: a buffer that grows leaves copies of the key behind.
    let room = usize::try_from(metadata.len()).unwrap_or_default().saturating_add(1024);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe must not make us wait.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}
