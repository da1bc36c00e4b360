//! How the control plane is reached: its URL, and over TLS whom to trust and what to show. Files are read again for each connection.

use std::{fmt, path::PathBuf, sync::Arc};

use clap::Args;
use countersign_tls::{
    CertificateError,
    bearer::{Bearer, BearerError, is_here},
    client::{ClientTls, Settings},
    identity::Identity,
};
use http::{Uri, uri::Scheme};
use tonic::transport::{Channel, Endpoint, Error};

/// The flags of TLS to the control plane.
#[derive(Debug, Clone, Default, Args)]
pub struct ControlPlaneFlags {
    /// The certificates, PEM, that an https:// control plane is checked with; the system's if not given.
    #[arg(
        long,
        env = "COUNTERSIGN_CONTROL_PLANE_CA",
        value_name = "FILE",
        requires = "control_plane",
        help_heading = "Control plane"
    )]
    pub control_plane_ca: Option<PathBuf>,
    /// The certificate, PEM, that is shown to the control plane: whose responder this is. `countersign certs` makes one.
    #[arg(
        long,
        env = "COUNTERSIGN_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key",
        requires = "control_plane",
        help_heading = "Control plane"
    )]
    pub client_cert: Option<PathBuf>,
    /// The private key of --client-cert, PEM.
    #[arg(
        long,
        env = "COUNTERSIGN_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert",
        help_heading = "Control plane"
    )]
    pub client_key: Option<PathBuf>,
    /// The identity that the control plane has to have, for example spiffe://countersign/control-plane/main; the host name in its
    /// certificate is not looked at then.
    #[arg(
        long,
        env = "COUNTERSIGN_CONTROL_PLANE_ID",
        value_name = "SPIFFE-ID",
        requires = "control_plane",
        help_heading = "Control plane"
    )]
    pub control_plane_id: Option<Identity>,
    /// The file with the token that is shown to the control plane instead of a certificate, or beside it; read again for each connection.
    #[arg(
        long,
        env = "COUNTERSIGN_TOKEN_FILE",
        value_name = "FILE",
        requires = "control_plane",
        help_heading = "Control plane"
    )]
    pub token_file: Option<PathBuf>,
}

impl ControlPlaneFlags {
    /// The file of the token, and the settings of TLS.
    #[must_use]
    pub fn split(self) -> (Option<PathBuf>, Settings) {
        (self.token_file.clone(), self.into())
    }
}

impl From<ControlPlaneFlags> for Settings {
    fn from(flags: ControlPlaneFlags) -> Self {
        Self {
            authorities: flags.control_plane_ca,
            certificate: flags.client_cert.zip(flags.client_key),
            server: flags.control_plane_id,
        }
    }
}

/// Why the settings are of no use.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No control plane's URL.
    #[error(
        "{0} is no URL of a control plane; it looks like http://127.0.0.1:4180 or https://countersign.example:4180, without a path"
    )]
    Url(Uri),
    /// Certificates for a connection without TLS.
    #[error("{0} is reached without TLS, so that certificates are of no use; write https://")]
    Plaintext(Uri),
    /// A certificate or key cannot be used.
    #[error("TLS to the control plane cannot be spoken")]
    Certificates(#[from] CertificateError),
    /// The token cannot be shown.
    #[error("no token can be shown to the control plane")]
    Token(#[from] BearerError),
}

/// The way to a control plane.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    url: Uri,
    tls: Option<Arc<ClientTls>>,
    token: Option<PathBuf>,
}

impl Way {
    /// Reads the files, where there are any.
    pub(crate) fn new(
        url: Uri,
        settings: &Settings,
        token: Option<PathBuf>,
    ) -> Result<Self, SettingsError> {
        let is_whole = url.host().is_some_and(|host| !host.is_empty());
        if !is_whole || !matches!(url.path(), "" | "/") {
            return Err(SettingsError::Url(url));
        }
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Some(ClientTls::read(settings.clone())?),
            Some(scheme) if *scheme == Scheme::HTTP && settings.is_any() => {
                return Err(SettingsError::Plaintext(url));
            }
            Some(scheme) if *scheme == Scheme::HTTP => {
                if !is_here(&url) {
                    tracing::warn!(control_plane = %url, "the control plane is reached without TLS: whoever is between can say what is served");
                }
                None
            }
            _ => return Err(SettingsError::Url(url)),
        };
        let way = Self { url, tls, token };
        way.bearer()?;
        Ok(way)
    }

    /// How TLS is spoken, where it is.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientTls>> {
        self.tls.as_ref()
    }

    /// What is shown with each call. Reads the file.
    pub(crate) fn bearer(&self) -> Result<Bearer, BearerError> {
        let bearer = self.token.as_deref().map(Bearer::read).transpose()?;
        bearer.unwrap_or_default().towards(&self.url)
    }

    /// What connections are made of.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.url.clone())
    }

    /// Connects now.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match &self.tls {
            Some(tls) => endpoint.connect_with_connector(tls.connector()).await,
            None => endpoint.connect().await,
        }
    }

    /// Connects when something is asked.
    pub(crate) fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match &self.tls {
            Some(tls) => endpoint.connect_with_connector_lazy(tls.connector()),
            None => endpoint.connect_lazy(),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[arg(long)]
        control_plane: Option<Uri>,
        #[command(flatten)]
        flags: ControlPlaneFlags,
    }

    fn parse(words: &[&str]) -> Result<Settings, clap::Error> {
        let line = [&["responder", "--control-plane", "https://a"], words].concat();
        Line::try_parse_from(line).map(|line| line.flags.into())
    }

    #[test]
    fn flags_become_settings() {
        assert!(!parse(&[]).unwrap().is_any());
        let words = ["--control-plane-ca", "ca", "--client-cert", "c", "--client-key", "k"];
        let settings = parse(&words).unwrap();
        assert_eq!(settings.authorities, Some("ca".into()));
        assert_eq!(settings.certificate, Some(("c".into(), "k".into())));
        let id = "spiffe://a/control-plane/b";
        let named = parse(&["--control-plane-id", id]).unwrap();
        assert_eq!(named.server.unwrap().to_string(), id);
        for words in [
            &["--client-cert", "c"][..],
            &["--client-key", "k"],
            &["--control-plane-id", "https://a"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_token_is_read_when_it_is_shown_and_not_sent_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let way =
            |url: &str| Way::new(url.parse().unwrap(), &Settings::default(), Some(file.clone()));
        let refused = |url: &str| way(url).unwrap_err().to_string();
        assert!(refused("http://127.0.0.1:1").contains("token"));
        std::fs::write(&file, "cst_x\n").unwrap();
        let here = way("http://127.0.0.1:1").unwrap();
        assert!(here.bearer().unwrap().is_some());
        assert!(matches!(way("http://a:1"), Err(SettingsError::Token(_))));
        std::fs::remove_file(&file).unwrap();
        assert!(here.bearer().is_err());
    }

    #[test]
    fn urls_and_certificates_have_to_go_together() {
        let way = |url: &str, settings: &Settings| Way::new(url.parse().unwrap(), settings, None);
        let none = Settings::default();
        let some = Settings { authorities: Some("nowhere.pem".into()), ..Settings::default() };
        assert_eq!(way("http://a:1", &none).unwrap().to_string(), "http://a:1/");
        for url in ["ftp://a", "http://a/b", "a:1", "/"] {
            assert!(matches!(way(url, &none), Err(SettingsError::Url(_))), "{url}");
        }
        assert!(matches!(way("http://a:1", &some), Err(SettingsError::Plaintext(_))));
        let unread = way("https://a:1", &some).unwrap_err();
        assert!(matches!(unread, SettingsError::Certificates(_)), "{unread}");
    }
}
