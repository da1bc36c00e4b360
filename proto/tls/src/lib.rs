//! TLS between the planes: who is who, certificates and keys from files that change, and both sides of a handshake.
//!
//! Files are read whole or not at all: one that cannot be used never replaces one that could. Keys are in no log, error or debug output. In
//! reading order:
//!
//! 1. [`identity`]: what a certificate says that its holder is;
//! 2. [`files`] and [`describe`]: certificates and keys as they lie on disk;
//! 3. [`bearer`]: the token that is shown where there is no certificate;
//! 4. [`server`] and [`accept`]: the side that is connected to; [`client`]: the side that connects;
//!    [`places`]: how many connections there may be;
//! 5. [`issue`]: makes authorities and certificates;
//! 6. [`process`]: keeps keys out of core files and swap.

pub mod accept;
pub mod bearer;
pub mod client;
pub mod describe;
mod error;
pub mod files;
mod forward;
pub mod identity;
pub mod issue;
mod opened;
pub mod places;
mod plaintext;
pub mod process;
pub mod server;
mod telling;
#[cfg(test)]
mod tests;

pub use error::{CertificateError, chain};
pub use opened::Opened;
