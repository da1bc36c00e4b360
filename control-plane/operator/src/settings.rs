//! What an operator can be told, read once at the start.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, ValueEnum};
use countersign_tls::{client::Settings as TlsSettings, identity::Identity};
use http::Uri;

use crate::duration::{self, NoDuration};

const AFTER: &str = "\
Examples:
  countersign-operator --control-plane https://countersign.countersign:4180 \\
      --control-plane-ca /tls/ca.crt --client-cert /tls/tls.crt --client-key /tls/tls.key \\
      --responder-image registry.example/countersign-responder:0.1.0 --responder-tls-secret countersign-responder

Kubernetes is reached with the service account of the pod, or else with the current kubeconfig.

Logging: RUST_LOG=info,countersign_operator=debug

Exit codes: 0 ended when told to; 1 failed, or another operator leads now; 2 wrong usage.";

/// The arguments.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "countersign-operator",
    version,
    about = "Makes responders of TrafficReplay resources",
    after_long_help = AFTER,
    max_term_width = 120
)]
pub struct Args {
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Where /healthz and /readyz are answered, for probes; they say whether the process lives and nothing else.
    #[arg(
        long,
        env = "COUNTERSIGN_HEALTH_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:4182"
    )]
    pub health_listen: SocketAddr,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// How replays are made.
#[derive(Debug, Clone, ClapArgs)]
pub struct Settings {
    /// The control plane.
    #[arg(long, env = "COUNTERSIGN_CONTROL_PLANE", value_name = "URL")]
    pub control_plane: Uri,
    /// The control plane as responders and generators reach it; the same if not given.
    #[arg(long, env = "COUNTERSIGN_RESPONDER_CONTROL_PLANE", value_name = "URL")]
    pub responder_control_plane: Option<Uri>,
    /// The certificates, PEM, that an https:// control plane is checked with; the system's if not given.
    #[arg(long, env = "COUNTERSIGN_CONTROL_PLANE_CA", value_name = "FILE")]
    pub control_plane_ca: Option<PathBuf>,
    /// The certificate, PEM, that is shown to the control plane: of a user, since an operator starts replays.
    #[arg(long, env = "COUNTERSIGN_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The private key of --client-cert, PEM.
    #[arg(long, env = "COUNTERSIGN_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// The identity that the control plane has to have; the host name in its certificate is not looked at then.
    #[arg(long, env = "COUNTERSIGN_CONTROL_PLANE_ID", value_name = "SPIFFE-ID")]
    pub control_plane_id: Option<Identity>,
    /// The file with the token that is shown to the control plane instead of a certificate, or beside it; read again for each call.
    #[arg(long, env = "COUNTERSIGN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The project at the control plane.
    #[arg(long, env = "COUNTERSIGN_PROJECT", value_name = "ID", default_value = "default")]
    pub project: String,
    /// The only namespace whose replays are looked at; all of the cluster if not given.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The image of responders.
    #[arg(long, env = "COUNTERSIGN_RESPONDER_IMAGE", value_name = "IMAGE", default_value = concat!("countersign-responder:", env!("CARGO_PKG_VERSION")))]
    pub responder_image: String,
    /// The image of generators, with the `countersign` command.
    #[arg(long, env = "COUNTERSIGN_GENERATOR_IMAGE", value_name = "IMAGE", default_value = concat!("countersign:", env!("CARGO_PKG_VERSION")))]
    pub generator_image: String,
    /// The secrets that images are pulled with, of each replay's namespace.
    #[arg(
        long,
        env = "COUNTERSIGN_IMAGE_PULL_SECRETS",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub image_pull_secrets: Vec<String>,
    /// The secret of each replay's namespace with ca.crt, tls.crt and tls.key that responders reach the control plane with.
    #[arg(long, env = "COUNTERSIGN_RESPONDER_TLS_SECRET", value_name = "NAME")]
    pub responder_tls_secret: Option<String>,
    /// The same for generators, with a certificate of a user.
    #[arg(long, env = "COUNTERSIGN_GENERATOR_TLS_SECRET", value_name = "NAME")]
    pub generator_tls_secret: Option<String>,
    /// The secret of each replay's namespace whose key `token` holds what responders show to the control plane.
    #[arg(long, env = "COUNTERSIGN_RESPONDER_TOKEN_SECRET", value_name = "NAME")]
    pub responder_token_secret: Option<String>,
    /// The same for generators, with a token of a user.
    #[arg(long, env = "COUNTERSIGN_GENERATOR_TOKEN_SECRET", value_name = "NAME")]
    pub generator_token_secret: Option<String>,
    /// The secret of each replay's namespace with the authority that responders answer TLS with, unless the replay names one.
    #[arg(long, env = "COUNTERSIGN_TLS_CA_SECRET", value_name = "NAME")]
    pub tls_ca_secret: Option<String>,
    /// More secrets that are never mounted to sign recorded tokens. Those that the flags above name never are.
    #[arg(
        long,
        env = "COUNTERSIGN_RESERVED_SECRETS",
        value_name = "NAME,…",
        value_delimiter = ','
    )]
    pub reserved_secrets: Vec<String>,
    /// The only secrets that are mounted; the operator may read which keys they have, and tells of those that are missing. All, and none is read, if
    /// not given.
    #[arg(long, env = "COUNTERSIGN_SECRET_ACCESS", value_name = "NAME,…", value_delimiter = ',')]
    pub secret_access: Vec<String>,
    /// The namespace that metrics are scraped from; none if not given.
    #[arg(long, env = "COUNTERSIGN_SCRAPE_NAMESPACE", value_name = "NAMESPACE")]
    pub scrape_namespace: Option<String>,
    /// Where reports are seen, with {id} for the replay's id.
    #[arg(long, env = "COUNTERSIGN_REPORT_URL", value_name = "URL")]
    pub report_url: Option<String>,
    /// How often a replay is looked at when nothing was heard of it.
    #[arg(long, env = "COUNTERSIGN_RESYNC", value_name = "TIME", default_value = "30s", value_parser = time)]
    pub resync: Duration,
    /// How operators agree on who leads.
    #[command(flatten)]
    pub election: Election,
}

/// How operators agree on who leads.
#[derive(Debug, Clone, ClapArgs)]
pub struct Election {
    /// The name of the lease.
    #[arg(
        long,
        env = "COUNTERSIGN_LEASE_NAME",
        value_name = "NAME",
        default_value = "countersign-operator",
        help_heading = "Leader election"
    )]
    pub lease_name: String,
    /// The namespace of the lease; the operator's own if not given.
    #[arg(
        long,
        env = "COUNTERSIGN_LEASE_NAMESPACE",
        value_name = "NAMESPACE",
        help_heading = "Leader election"
    )]
    pub lease_namespace: Option<String>,
    /// Who this operator is; the name of the pod, or something made up, if not given.
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = "Leader election")]
    pub lease_identity: Option<String>,
    /// How long a lease lasts that is not renewed.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = time, help_heading = "Leader election")]
    pub lease_duration: Duration,
    /// How long the one that leads tries to renew before it steps down; less than the duration.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time, help_heading = "Leader election")]
    pub renew_deadline: Duration,
    /// How often it is renewed, and asked for.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time, help_heading = "Leader election")]
    pub retry_period: Duration,
}

impl Settings {
    /// The control plane as pods reach it.
    #[must_use]
    pub fn pods_control_plane(&self) -> &Uri {
        self.responder_control_plane.as_ref().unwrap_or(&self.control_plane)
    }

    /// Whom to trust and what to show at the control plane.
    #[must_use]
    pub fn tls(&self) -> TlsSettings {
        TlsSettings {
            authorities: self.control_plane_ca.clone(),
            certificate: self.client_cert.clone().zip(self.client_key.clone()),
            server: self.control_plane_id.clone(),
        }
    }

    /// `projects/{project}`.
    #[must_use]
    pub fn parent(&self) -> String {
        if self.project.starts_with("projects/") {
            self.project.clone()
        } else {
            format!("projects/{}", self.project)
        }
    }

    /// Whether a secret is what planes, pods or images are known by or pulled with, which no chain and no test config gets at.
    #[must_use]
    pub fn is_reserved(&self, name: &str) -> bool {
        [
            &self.responder_tls_secret,
            &self.generator_tls_secret,
            &self.responder_token_secret,
            &self.generator_token_secret,
            &self.tls_ca_secret,
        ]
        .into_iter()
        .flatten()
        .chain(&self.image_pull_secrets)
        .chain(&self.reserved_secrets)
        .any(|reserved| reserved == name)
    }

    /// The only secrets that may be mounted; `None` for all.
    #[must_use]
    pub fn accessible(&self) -> Option<BTreeSet<&str>> {
        let listed: BTreeSet<&str> =
            self.secret_access.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        (!listed.is_empty()).then_some(listed)
    }
}

fn time(text: &str) -> Result<Duration, NoDuration> {
    duration::parse(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Settings of a test: what must be given, and what else.
    pub(crate) fn settings(more: &[&str]) -> Settings {
        let arguments = ["countersign-operator", "--control-plane", "http://control-plane:4180"];
        Args::try_parse_from(arguments.iter().chain(more)).unwrap().settings
    }

    #[test]
    fn pods_reach_the_control_plane_as_they_are_told() {
        assert_eq!(settings(&[]).pods_control_plane().to_string(), "http://control-plane:4180/");
        let other = settings(&["--responder-control-plane", "https://outside:443"]);
        assert_eq!(other.pods_control_plane().host(), Some("outside"));
    }

    #[test]
    fn every_secret_may_be_mounted_unless_some_are_listed() {
        assert_eq!(settings(&[]).accessible(), None);
        let some = settings(&["--secret-access", "a,b"]);
        assert_eq!(some.accessible(), Some(["a", "b"].into()));
    }
}
