//! Makes a certificate authority for the data port and writes it down, for `countersign certs` and `countersign dev --tls`.

use std::path::Path;

pub use countersign_tls::issue::AuthorityFiles;
use countersign_tls::issue::{self, DAY, NewAuthority};

use super::CertificateError;

/// How long an authority lives. It is trusted on development machines, where nobody wants to trust a new one each month.
const LIFE: u32 = 5 * 365;

/// Makes an authority in this directory unless there is one; `force` makes a new one all the same.
///
/// # Errors
/// When the directory cannot be written to, or holds only one of the two files.
pub fn authority_in(dir: &Path, force: bool) -> Result<AuthorityFiles, CertificateError> {
    let wanted = NewAuthority { name: "Countersign local CA", life: DAY * LIFE, domain: None };
    issue::authority_in(dir, &wanted, force)
}
