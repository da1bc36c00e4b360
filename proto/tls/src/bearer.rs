//! The token that a client shows with each call, instead of a certificate: over TLS, or to its own machine, and never in the clear to another one.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use http::Uri;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};
use zeroize::Zeroizing;

/// The longest token.
const MAX_TOKEN: u64 = 16 * 1024;

/// Why a token is not shown.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The file cannot be read.
    #[error("cannot read the token in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no token. What it is instead is not shown: it may be part of one.
    #[error("the token is not one: it has up to {MAX_TOKEN} letters, digits and `-._~+/=`")]
    Malformed,
    /// Whoever is between would have it.
    #[error("the token is not sent to {0} in the clear; write https://")]
    Cleartext(Uri),
}

/// What is shown with each call: a token, or nothing.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// A token as it was given.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(token: &str) -> Result<Self, BearerError> {
        let token = token.trim();
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        let is_long = u64::try_from(token.len()).map_or(true, |length| length > MAX_TOKEN);
        if token.is_empty() || is_long || !token.chars().all(is_good) {
            return Err(BearerError::Malformed);
        }
        let text = Zeroizing::new(format!("Bearer {token}"));
        let value = MetadataValue::try_from(&**text).map_err(|_| BearerError::Malformed)?;
        // Neither its debug output nor a table of repeated headers shows it.
        let mut value = value;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// The token in a file, whatever white space is around it.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(path: &Path) -> Result<Self, BearerError> {
        let failed = |source| BearerError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let room = usize::try_from(MAX_TOKEN).unwrap_or_default() + 64;
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(MAX_TOKEN + 1).read_to_string(&mut text).map_err(failed)?;
        Self::new(&text)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The same, if it may be sent there.
    ///
    /// # Errors
    /// When whoever is between would have it.
    pub fn towards(self, url: &Uri) -> Result<Self, BearerError> {
        if self.is_some() && url.scheme_str() != Some("https") && !is_here(url) {
            return Err(BearerError::Cleartext(url.clone()));
        }
        Ok(self)
    }
}

/// Whether this machine is meant.
#[must_use]
pub fn is_here(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() { "Bearer(…)" } else { "Bearer(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_and_never_shown() {
        let mut bearer = Bearer::new(" cst_abc\n").unwrap();
        let request = bearer.call(Request::new(())).unwrap();
        let sent = request.metadata().get("authorization").unwrap();
        assert_eq!(sent.as_encoded_bytes(), b"Bearer cst_abc");
        for shown in [format!("{bearer:?}"), format!("{request:?}")] {
            assert!(!shown.contains("cst_abc"), "{shown}");
        }
        for bad in ["", " ", "a b", "a\nb", "ä", &"x".repeat(20_000)] {
            assert!(matches!(Bearer::new(bad), Err(BearerError::Malformed)), "{bad}");
        }
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        let towards = |url: &str| Bearer::new("x").unwrap().towards(&url.parse().unwrap());
        for url in ["https://a:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert!(towards(url).is_ok(), "{url}");
        }
        for url in ["http://a:1", "http://10.0.0.1", "http://localhost.a", "http://127.0.0.1.a"] {
            assert!(matches!(towards(url), Err(BearerError::Cleartext(_))), "{url}");
        }
        assert!(Bearer::default().towards(&"http://a".parse().unwrap()).is_ok());
    }
}
