//! What the control plane is told at its start: one table of flags and variables, read once and passed on as a value.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};

use countersign_engine::snapshot::digest::Function;
use countersign_telemetry::TelemetryFlags;
use countersign_tls::{identity::TrustDomain, server::Settings};

use crate::auth::{self, oidc};
use crate::store::{
    StoreError,
    place::{self, Places},
};

/// The address that the control plane listens on by default.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:4180";

/// The address that the web UI listens on by default.
pub const DEFAULT_UI: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4181);

/// Where the web UI listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ui {
    /// Nowhere.
    #[default]
    Off,
    /// Here, where nobody else does; otherwise nowhere.
    IfFree(SocketAddr),
    /// Here.
    At(SocketAddr),
}

impl Ui {
    /// The address, if there is one.
    #[must_use]
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::IfFree(addr) | Self::At(addr) => Some(addr),
        }
    }
}

impl FromStr for Ui {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

/// The settings of a control plane.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the gRPC services listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where the web UI listens.
    pub ui: Ui,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; nowhere by default.
    pub admin_listen: Option<SocketAddr>,
    /// The directory of uploads and of whatever is stored nowhere else; made when it is absent.
    pub data_dir: PathBuf,
    /// Where records and blobs are kept.
    pub places: Places,
    /// The certificate, and whose clients are let in; without it plain HTTP/2 is spoken.
    pub tls: Option<Settings>,
    /// Whose tokens are good.
    pub auth: auth::Settings,
    /// The file of the audit log; without one its lines go to the process's log.
    pub audit_log: Option<PathBuf>,
    /// Listens off loopback although callers are not authenticated.
    pub allow_insecure: bool,
    /// The largest upload, in bytes.
    pub max_upload: u64,
    /// What the snapshots of one project may take, in bytes; as much as there is by default.
    pub project_quota: Option<u64>,
    /// How often everything that is stored is read through; never when there is none.
    pub scrub_every: Option<Duration>,
    /// How long open calls may go on after a shutdown was asked for.
    pub shutdown_grace: Duration,
    /// The timing of subscriptions.
    pub timing: Timing,
    /// Where traces go; nowhere by default.
    pub telemetry: Option<countersign_telemetry::Settings>,
}

impl Config {
    /// The defaults, with these two choices.
    #[must_use]
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Self {
        Self {
            listen,
            ui: Ui::Off,
            admin_listen: None,
            places: Places::embedded(&data_dir),
            data_dir,
            tls: None,
            auth: auth::Settings::default(),
            audit_log: None,
            allow_insecure: false,
            max_upload: 16 * 1024 * 1024 * 1024,
            project_quota: None,
            scrub_every: None,
            shutdown_grace: Duration::from_secs(5),
            timing: Timing::default(),
            telemetry: None,
        }
    }
}

/// The timing of subscriptions, fixed by the contract; tests shorten it.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A connection has to begin in this time.
    pub opening: Duration,
    /// A responder's `Hello` has to come in this time.
    pub hello: Duration,
    /// Heartbeats come so often.
    pub heartbeat: Duration,
    /// How long to wait until the store is as fresh as a responder asks for.
    pub floor: Duration,
    /// A responder that has gone counts for so long, because it may come back.
    pub lease: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(10),
            hello: Duration::from_secs(5),
            heartbeat: Duration::from_secs(15),
            floor: Duration::from_secs(2),
            lease: Duration::from_secs(10),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const AFTER_HELP: &str = "\
Examples:
  Try it out, storing everything below the current directory:
    countersign-control-plane

  On a server, with the data on its own volume:
    countersign-control-plane --data-dir /var/lib/countersign

  Several control planes that share what they store; each has a data directory of its own:
    AWS_ENDPOINT_URL=https://s3.example PGPASSWORD=… countersign-control-plane \\
        --meta postgres://countersign@db.example/countersign --blobs s3://countersign/blobs

  For other hosts, with certificates that `countersign certs init certs` makes:
    countersign-control-plane --listen 0.0.0.0:4180 --tls-cert certs/control-plane/tls.crt \
        --tls-key certs/control-plane/tls.key --client-ca certs/ca/tls.crt

  Import a recording and serve it (a responder has to be connected):
    countersign snapshot import ./recording --id login
    countersign replay start login

Exit codes: 0 after SIGINT or SIGTERM, 1 when it cannot start or fails, 2 for wrong usage or
settings, 78 when the data directory cannot be used as it is, so that starting again would not
help.
RUST_LOG selects what is logged, for example RUST_LOG=countersign_control_plane=debug.";

/// Stores recordings, transforms and test configs, and tells responders what to serve.
///
/// The control plane answers no mocked traffic itself: responders subscribe to it, fetch what they lack, and go on serving when it is down.
#[derive(Debug, Parser)]
#[command(name = "countersign-control-plane", version, after_help = AFTER_HELP)]
pub struct Args {
    /// The address of the gRPC services; port 0 takes any free port
    #[arg(long, env = "COUNTERSIGN_LISTEN", value_name = "ADDRESS:PORT", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,

    /// The address of the web UI, or `none`; 127.0.0.1:4181 if that is free
    #[arg(long, env = "COUNTERSIGN_UI_LISTEN", value_name = "ADDRESS:PORT")]
    ui_listen: Option<Ui>,

    /// Where /healthz, /readyz and /metrics are served, for example 127.0.0.1:4182; nowhere if not given, since it has no authentication
    #[arg(long, env = "COUNTERSIGN_ADMIN_LISTEN", value_name = "ADDRESS:PORT")]
    admin_listen: Option<SocketAddr>,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    auth: AuthArgs,

    /// What addresses are made with, of what is stored from now on: `blake3`, or `sha256`, by which each blob is a file or object that `sha256sum`
    /// can check, and imports take longer. What is there already stays as it is, and both are read
    #[arg(long, env = "COUNTERSIGN_DIGEST", value_name = "FUNCTION", default_value = Function::Blake3.name())]
    digest: Function,

    /// Listen off loopback although callers are not authenticated: whoever reaches the port can read and change everything
    #[arg(long, env = "COUNTERSIGN_ALLOW_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    allow_insecure: bool,

    /// The largest upload in MiB; an import takes about as much space again while it runs
    #[arg(long, env = "COUNTERSIGN_MAX_UPLOAD_MIB", value_name = "MIB", default_value_t = 16_384, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    max_upload_mib: u64,

    /// How much one project may take with all that it has, in MiB; without it as much as there is
    #[arg(long, env = "COUNTERSIGN_PROJECT_QUOTA_MIB", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_073_741_824))]
    project_quota_mib: Option<u64>,

    /// Every so many hours, read everything that is stored, and log and count what is damaged or missing; 0 never does. Of the control planes that share
    /// a store one does so
    #[arg(long, env = "COUNTERSIGN_SCRUB_HOURS", value_name = "HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(0..=87_600))]
    scrub_hours: u64,

    /// How many seconds open calls may go on after SIGINT or SIGTERM
    #[arg(long, env = "COUNTERSIGN_SHUTDOWN_GRACE", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3600))]
    shutdown_grace: u64,

    #[command(flatten)]
    telemetry: TelemetryFlags,

    /// How log lines look
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Where the stores are. Whoever opens them is told by the same flags and variables.
#[derive(clap::Args)]
pub struct PlaceArgs {
    /// The directory of everything that is stored nowhere else; made when it is absent, used by one process at a time
    #[arg(
        long,
        env = "COUNTERSIGN_DATA_DIR",
        value_name = "DIRECTORY",
        default_value = "countersign-data"
    )]
    pub data_dir: PathBuf,

    /// Where records are kept: a file below the data directory by default, or a `PostgreSQL` database that several control planes share
    ///
    /// sqlite:PATH or postgres://USER@HOST:PORT/DATABASE. The password may be in the URL, or in PGPASSWORD, which is better than on a command
    /// line. `?sslmode=require` asks for TLS, always verified, with the certificates of `sslrootcert=PATH` or of the system
    #[arg(long, env = "COUNTERSIGN_META", value_name = "URL", hide_env_values = true)]
    meta: Option<String>,

    /// Where blobs are kept: below the data directory by default, or in a bucket of an S3-compatible store
    ///
    /// A directory or s3://BUCKET/PREFIX. Endpoint, region and credentials come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY, or from what AWS gives its machines
    #[arg(long, env = "COUNTERSIGN_BLOBS", value_name = "PLACE", hide_env_values = true)]
    blobs: Option<String>,
}

impl PlaceArgs {
    /// The stores.
    ///
    /// # Errors
    /// As [`Places::parse`].
    pub fn places(&self) -> Result<Places, StoreError> {
        let (meta, blobs) = (self.meta.as_deref(), self.blobs.as_deref());
        Places::parse(meta, blobs, &self.data_dir, place::variables())
    }
}

impl fmt::Debug for PlaceArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of the database may hold a password.
        f.debug_struct("PlaceArgs").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// The flags of TLS.
#[derive(Debug, clap::Args)]
struct TlsArgs {
    /// Speak TLS, with this certificate: PEM, followed by those that signed it
    #[arg(long, env = "COUNTERSIGN_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, PEM
    #[arg(long, env = "COUNTERSIGN_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// The certificates, PEM, that sign clients' certificates. Clients have to show one then, which says what they may do: see docs/tls.md
    #[arg(long, env = "COUNTERSIGN_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,

    /// The trust domain whose identities (spiffe://DOMAIN/…) are believed; that of --tls-cert if not given
    #[arg(long, env = "COUNTERSIGN_TRUST_DOMAIN", value_name = "DOMAIN", requires = "client_ca")]
    trust_domain: Option<TrustDomain>,
}

/// The flags of tokens.
#[derive(Debug, clap::Args)]
struct AuthArgs {
    /// Who may call, by token or certificate, and what they may do: one grant a line, which `countersign token create` prints. Read again when it changes
    #[arg(long, env = "COUNTERSIGN_USERS", value_name = "FILE")]
    users: Option<PathBuf>,

    /// The URL of an `OpenID` Connect provider, whose tokens are good here
    #[arg(long, env = "COUNTERSIGN_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    oidc_issuer: Option<String>,

    /// What has to be among the `aud` of the provider's tokens
    #[arg(
        long,
        env = "COUNTERSIGN_OIDC_AUDIENCE",
        value_name = "AUDIENCE",
        requires = "oidc_issuer"
    )]
    oidc_audience: Option<String>,

    /// The claim with the role: `viewer`, `editor`, `operator`, `admin` or `responder`, or an array of which the highest counts; dots lead into objects
    #[arg(
        long,
        env = "COUNTERSIGN_OIDC_ROLE_CLAIM",
        value_name = "CLAIM",
        default_value = "countersign_role"
    )]
    oidc_role_claim: String,

    /// The claim with the projects: an id, an array of ids, or `*`
    #[arg(
        long,
        env = "COUNTERSIGN_OIDC_PROJECT_CLAIM",
        value_name = "CLAIM",
        default_value = "countersign_projects"
    )]
    oidc_project_claim: String,

    /// The certificates, PEM, that the provider is checked with; the system's if not given
    #[arg(long, env = "COUNTERSIGN_OIDC_CA", value_name = "FILE", requires = "oidc_issuer")]
    oidc_ca: Option<PathBuf>,

    /// Where it is written, one JSON object a line, who changed what and who was refused; on stderr with the rest of the log if not given
    #[arg(long, env = "COUNTERSIGN_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<PathBuf>,
}

impl AuthArgs {
    fn settings(self) -> (auth::Settings, Option<PathBuf>) {
        let provider = self.oidc_issuer.zip(self.oidc_audience);
        let oidc = provider.map(|(issuer, audience)| oidc::Settings {
            issuer,
            audience,
            role_claim: self.oidc_role_claim,
            project_claim: self.oidc_project_claim,
            authorities: self.oidc_ca,
        });
        (auth::Settings { users: self.users, oidc }, self.audit_log)
    }
}

impl From<TlsArgs> for Option<Settings> {
    fn from(args: TlsArgs) -> Self {
        let (certificate, key) = args.tls_cert.zip(args.tls_key)?;
        let TlsArgs { client_ca, trust_domain, .. } = args;
        Some(Settings { certificate, key, client_ca, trust_domain, is_optional: false })
    }
}

impl TryFrom<Args> for Config {
    type Error = StoreError;

    fn try_from(args: Args) -> Result<Self, StoreError> {
        let (auth, audit_log) = args.auth.settings();
        let tokens = auth.is_any();
        let tls: Option<Settings> = args.tls.into();
        Ok(Self {
            places: args.place.places()?.by(args.digest),
            // Who shows a token needs no certificate.
            tls: tls.map(|tls| Settings { is_optional: tokens, ..tls }),
            auth,
            audit_log,
            telemetry: args.telemetry.settings(),
            admin_listen: args.admin_listen,
            ui: args.ui_listen.unwrap_or(Ui::IfFree(DEFAULT_UI)),
            allow_insecure: args.allow_insecure,
            max_upload: args.max_upload_mib.saturating_mul(1024 * 1024),
            project_quota: args.project_quota_mib.map(|mib| mib.saturating_mul(1024 * 1024)),
            scrub_every: (args.scrub_hours > 0)
                .then(|| Duration::from_secs(args.scrub_hours.saturating_mul(3600))),
            shutdown_grace: Duration::from_secs(args.shutdown_grace),
            ..Self::new(args.listen, args.place.data_dir)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_table_is_sound_and_flags_arrive() {
        Args::command().debug_assert();
        let args = [
            "x",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            "d",
            "--max-upload-mib",
            "3",
            "--project-quota-mib",
            "5",
            "--shutdown-grace",
            "7",
        ];
        let config = Config::try_from(Args::try_parse_from(args).unwrap()).unwrap();
        assert_eq!(
            (config.listen.port(), config.data_dir, config.allow_insecure),
            (0, PathBuf::from("d"), false)
        );
        assert_eq!(
            (config.max_upload, config.project_quota, config.shutdown_grace),
            (3 * 1024 * 1024, Some(5 * 1024 * 1024), Duration::from_secs(7))
        );
        assert!(Args::try_parse_from(["x", "--listen", "nowhere"]).is_err());
        assert!(Args::try_parse_from(["x", "--max-upload-mib", "0"]).is_err());
    }

    #[test]
    fn the_flags_of_tls_go_together() {
        let tls = |words: &[&str]| {
            let args = Args::try_parse_from([&["x"], words].concat())?;
            Ok::<_, clap::Error>(Option::<Settings>::from(args.tls))
        };
        assert!(tls(&[]).unwrap().is_none());
        let pair = ["--tls-cert", "c", "--tls-key", "k"];
        assert!(tls(&pair).unwrap().unwrap().client_ca.is_none());
        let all = [&pair[..], &["--client-ca", "ca", "--trust-domain", "a.b"]].concat();
        let all = tls(&all).unwrap().unwrap();
        assert_eq!((all.certificate, all.client_ca), ("c".into(), Some("ca".into())));
        assert_eq!(all.trust_domain.unwrap().to_string(), "a.b");
        for words in [
            &["--tls-cert", "c"][..],
            &["--tls-key", "k"],
            &["--client-ca", "ca"],
            &["--tls-cert", "c", "--tls-key", "k", "--trust-domain", "a"],
            &["--tls-cert", "c", "--tls-key", "k", "--client-ca", "ca", "--trust-domain", "A/"],
        ] {
            assert!(tls(words).is_err(), "{words:?}");
        }
    }
}
