//! `countersign-responder`: arguments and environment become a configuration; then it runs until told to end.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{ArgGroup, Parser, ValueEnum};
use countersign_responder::{
    app::{self, StartError},
    config::{Config, DEFAULT_SECRET_DIR, RedisUrl, RuntimeKind},
    control_plane::ControlPlaneFlags,
    journal,
    limits::{LimitFlags, duration},
    logging, passthrough,
    report::Detail,
    transport::TransportFlags,
    upstream::policy::Rule,
};
use countersign_telemetry::TelemetryFlags;
use countersign_tls::process::{LockError, forbid_core_dumps, lock_memory};
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Compiling a snapshot frees much more than it keeps. The system's allocator would hold on to that; this one gives it back.
#[cfg(all(target_os = "linux", not(fuzzing)))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Log lines that wait to be written; more are dropped.
const LINES: usize = 1024;
/// How long the last of them are waited for.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Threads for files and for what computes long.
const BLOCKING: usize = 64;
/// Threads that are needed besides three for each core: for the log, the admin listener, and some for files.
const OTHERS: usize = 8;

const ABOUT: &str = "Serves recorded traffic with freshly signed tokens";
const LONG_ABOUT: &str = "\
Serves recorded traffic with freshly signed tokens.

A responder asks the control plane which replays to serve, fetches what it lacks, and answers HTTP/1.1 and HTTP/2 requests, with or without \
TLS on one port, with the recorded responses. Tokens in them are signed anew with the keys that it finds in its secret directory; keys never leave \
this node.

If nothing recorded answers a request, the response is 404 with the header `x-countersign-miss: true` and a JSON body that names the \
recorded requests that come nearest. When several replays are active, the header `x-countersign-replay: ID` selects one; otherwise they \
are tried in turn, the one that was started last first. The header `x-countersign-bundle: DIGEST` asks for one version, which may be the \
one before; with `?` the response tells which one has answered.

Where the test config of a replay has `passthrough_mode`, a request that nothing recorded answers goes to the real host instead, if \
--passthrough-allow names it; its answer has the header `x-countersign-passthrough: true`. --record writes what passed through.

The admin listener has /healthz, /readyz, /metrics (OpenMetrics), /status and /journal (JSON).";
const AFTER: &str = "\
Examples:
  countersign-responder --control-plane http://127.0.0.1:4180 --secret-dir ./secrets
  countersign-responder --control-plane http://countersign:4180 --listen 0.0.0.0:8080 --cache-dir /var/cache/countersign
  countersign-responder --control-plane https://countersign:4180 --control-plane-ca certs/responder/ca.crt \\
      --client-cert certs/responder/tls.crt --client-key certs/responder/tls.key

Secrets are files <secret-dir>/<secret>/<key>, as Kubernetes mounts them. They are read again every second; a file that cannot be used \
never replaces a key that could.

Logging: RUST_LOG=info,countersign_responder=debug

Exit codes: 0 ended when told to; 1 failed, for example because a port is in use; 2 wrong usage or configuration.";

#[derive(Debug, Parser)]
#[command(name = "countersign-responder", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER)]
#[command(group(ArgGroup::new("source").args(["control_plane", "cache_dir"]).required(true).multiple(true)))]
struct Args {
    /// Where recorded traffic is served; port 0 picks a free one.
    #[arg(long, env = "COUNTERSIGN_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:4140")]
    listen: SocketAddr,
    /// Where /healthz, /readyz, /metrics and /status are served.
    #[arg(
        long,
        env = "COUNTERSIGN_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:4141"
    )]
    admin_listen: SocketAddr,
    /// Where the gRPC API countersign.responder.v1 is served, for example 127.0.0.1:4142; nowhere if not given, since it has no authentication
    /// and can end the responder.
    #[arg(long, env = "COUNTERSIGN_API_LISTEN", value_name = "ADDR")]
    api_listen: Option<SocketAddr>,
    /// Where other responders ask for the turns that this one keeps, for example 127.0.0.1:4143, where the test config of a replay has
    /// `sequence.scope: global` or `sequence.across: fleet` and several responders serve it; nowhere if not given. With --client-cert and
    /// --control-plane-ca it is TLS, for responders of the same project; without them it has no authentication.
    #[arg(long, env = "COUNTERSIGN_PEER_LISTEN", value_name = "ADDR")]
    peer_listen: Option<SocketAddr>,
    /// The host and port that other responders are told instead, for example that of a pod; needed when --peer-listen is for all interfaces.
    #[arg(long, env = "COUNTERSIGN_PEER_ADVERTISE", value_name = "HOST:PORT", requires = "peer_listen", value_parser = authority)]
    peer_advertise: Option<String>,
    /// The Redis that keeps the turns which responders share, for example redis://127.0.0.1:6379/0, instead of the responders themselves; all that
    /// serve a replay have to name the same.
    #[arg(
        long,
        env = "COUNTERSIGN_SEQUENCE_REDIS",
        value_name = "URL",
        hide_env_values = true,
        conflicts_with = "peer_listen"
    )]
    sequence_redis: Option<RedisUrl>,
    /// The control plane, for example http://127.0.0.1:4180. Without one, only what the cache directory holds is served.
    #[arg(long, env = "COUNTERSIGN_CONTROL_PLANE", value_name = "URL", value_parser = control_plane)]
    control_plane: Option<Uri>,
    #[command(flatten)]
    control_plane_tls: ControlPlaneFlags,
    /// The directory of secrets: <secret-dir>/<secret>/<key>.
    #[arg(long, env = "COUNTERSIGN_SECRET_DIR", value_name = "DIR", default_value = DEFAULT_SECRET_DIR)]
    secret_dir: PathBuf,
    /// Keep all memory of this process out of swap, keys with the rest. It needs the capability IPC_LOCK, or LimitMEMLOCK=infinity; core files are
    /// never written.
    #[arg(long, env = "COUNTERSIGN_LOCK_MEMORY", value_parser = clap::builder::FalseyValueParser::new())]
    lock_memory: bool,
    /// The directory of files that templates name, and of tables: <files-dir>/dataframes/<id>/payload.csv.
    #[arg(long, env = "COUNTERSIGN_FILES_DIR", value_name = "DIR")]
    files_dir: Option<PathBuf>,
    /// The environment variables that templates may read with ${{env_var:NAME}}, separated by commas; * stands for all.
    #[arg(long, env = "COUNTERSIGN_TEMPLATE_ENV", value_name = "NAME,…", value_delimiter = ',')]
    template_env: Vec<String>,
    /// Where bundles are kept, so that this responder can start while the control plane is away.
    #[arg(long, env = "COUNTERSIGN_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Whether the version of a replay that was served before stays in memory, so that requests can ask for it and a rollback takes no time.
    #[arg(
        long,
        env = "COUNTERSIGN_KEEP_PREVIOUS",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    keep_previous: bool,
    /// How large the cache may be in MiB. What is served, and the version before it, is kept in any case; of the rest goes first what was not used for the longest time.
    #[arg(long, env = "COUNTERSIGN_CACHE_SIZE_MIB", value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    cache_size_mib: u64,
    /// The replays to serve, by id or full name, separated by commas; all of the project if not given.
    #[arg(long, env = "COUNTERSIGN_REPLAYS", value_name = "ID,…", value_delimiter = ',')]
    replays: Vec<String>,
    /// The name of this responder, unique in the fleet; the host name and the port if not given.
    #[arg(long, env = "COUNTERSIGN_NAME", value_name = "NAME")]
    name: Option<String>,
    /// The project whose replays are served.
    #[arg(long, env = "COUNTERSIGN_PROJECT", value_name = "ID", default_value = "default")]
    project: String,
    /// Which threads serve connections.
    #[arg(long, value_enum, default_value_t = Runtime::PerCore)]
    runtime: Runtime,
    /// How long a signing key is used after its file has gone or holds none that can be used; with 0s its tokens are served as recorded at once.
    #[arg(long, env = "COUNTERSIGN_SECRET_GRACE", value_name = "TIME", default_value = "1h", value_parser = duration)]
    secret_grace: Duration,
    /// Refuses key files that everybody on the machine may read, except in the kubelet's mounts, where that is usual.
    #[arg(long, env = "COUNTERSIGN_STRICT_PERMS")]
    strict_perms: bool,
    /// How long a new signing key is published in key sets before it signs, for verifiers that keep a key set, for example 5m.
    #[arg(long, env = "COUNTERSIGN_KEY_OVERLAP", value_name = "TIME", default_value = "0s", value_parser = duration)]
    key_overlap: Duration,
    /// How long a signing key stays in key sets after the next one has taken over.
    #[arg(long, env = "COUNTERSIGN_KEY_GRACE", value_name = "TIME", default_value = "10m", value_parser = duration)]
    key_grace: Duration,
    /// Serves the public signing keys at /.well-known/jwks.json where no key set was recorded.
    #[arg(long)]
    serve_jwks: bool,
    /// How long connections are still accepted after SIGTERM, for load balancers to notice, for example 5s. Each connection is closed with its
    /// next response meanwhile; one that is idle all the time is closed at the end.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,
    /// A host that misses may be passed through to: api.example.com, api.example.com:8443, *.example.com, 10.1.2.3 or 10.1.0.0/16, with
    /// http:// or https:// before it if need be; may be repeated. Without it no host is ever asked. Addresses that are not public are
    /// reached only when they are named.
    #[arg(
        long,
        env = "COUNTERSIGN_PASSTHROUGH_ALLOW",
        value_name = "HOST,…",
        value_delimiter = ','
    )]
    passthrough_allow: Vec<Rule>,
    /// Passes the misses of all replays through to hosts that are allowed, not only where the test config has `passthrough_mode`.
    #[arg(long, requires = "passthrough_allow")]
    passthrough: bool,
    /// How long a real host may take to begin its answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    passthrough_timeout: Duration,
    /// A PEM file of certificates that real hosts are trusted with, beside the system's.
    #[arg(long, value_name = "FILE")]
    passthrough_ca: Option<PathBuf>,
    /// Records what passed through into this directory, for `countersign snapshot import`.
    #[arg(long, value_name = "DIR", requires = "passthrough_allow")]
    record: Option<PathBuf>,
    /// How many of the last requests the journal keeps, which /journal of the admin listener tells without credentials; 0 turns it off.
    #[arg(long, env = "COUNTERSIGN_JOURNAL", value_name = "COUNT", default_value_t = journal::Settings::default().entries)]
    journal: usize,
    /// Keeps bodies in the journal, too, up to 64 KiB each; credentials in them are hidden when they are told.
    #[arg(long)]
    journal_bodies: bool,
    /// How much the control plane is told of what replays do: everything, or totals alone, for which a test config may ask as well
    /// (`responder.low_data_mode`), or nothing.
    #[arg(long, env = "COUNTERSIGN_REPORT", value_name = "DETAIL", value_enum, default_value_t = Detail::default())]
    report: Detail,
    /// Lets the admin listener, the API and the listener for other responders, which have no authentication, listen beyond the loopback
    /// interface.
    #[arg(long)]
    allow_insecure: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    transport: TransportFlags,
    #[command(flatten)]
    telemetry: TelemetryFlags,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Runtime {
    /// A thread and a listening socket for each core.
    PerCore,
    /// One socket, and threads that share all work.
    Shared,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let lines = logging::start(LINES);
    start_logging(args.log_format, &lines);
    let ended = runtime().and_then(|runtime| runtime.block_on(run(args)));
    lines.flush(LAST_LINES);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<StartError>().is_some_and(StartError::is_usage)
                || error.is::<LockError>();
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(io::stderr(), "countersign-responder: {error:#}"));
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Everything but connections and the admin listener runs on it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    try_threads(3 * cores + OTHERS)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().max_blocking_threads(BLOCKING).build()?)
}

/// Has so many threads at once for a moment: later, a thread that cannot be had would end something in the middle.
fn try_threads(count: usize) -> anyhow::Result<()> {
    let spawn = |_| thread::Builder::new().spawn(thread::park);
    let spawned: Vec<_> = (0..count).map_while(|nth| spawn(nth).ok()).collect();
    let had = spawned.len();
    for thread in spawned {
        thread.thread().unpark();
        drop(thread.join());
    }
    anyhow::ensure!(
        had == count,
        "the system allows {had} threads more, and {count} are needed; raise the limit of processes (ulimit -u, or pids of the control group)"
    );
    Ok(())
}

async fn run(args: Args) -> anyhow::Result<()> {
    if let Err(error) = forbid_core_dumps() {
        tracing::warn!(%error, "core files cannot be forbidden; one would hold the signing keys");
    }
    if args.lock_memory {
        lock_memory()?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let running = app::start(args.into_config()).await?;
    announce(&running);
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted; draining"),
        _ = terminate.recv() => tracing::info!("told to end; draining"),
        () = running.asked_to_end() => {}
    }
    running.shutdown().await;
    Ok(())
}

/// Scripts wait for these lines. One that has read enough and closed the pipe is no reason to end.
fn announce(running: &app::Running) {
    let mut lines = format!(
        "data listening on http://{}\nadmin listening on http://{}\n",
        running.data_addr(),
        running.admin_addr()
    );
    if let Some(addr) = running.api_addr() {
        lines.push_str(&format!("api listening on http://{addr}\n"));
    }
    if let Some(addr) = running.peer_addr() {
        let scheme = if running.is_peer_tls() { "https" } else { "http" };
        lines.push_str(&format!("peers listening on {scheme}://{addr}\n"));
    }
    if let Some(addr) = running.tls_addr() {
        lines.push_str(&format!("tls listening on https://{addr}\n"));
    }
    for map in running.mapped() {
        lines.push_str(&format!("{} listening on http://{}\n", map.host, map.addr));
    }
    drop(io::stdout().write_all(lines.as_bytes()));
}

fn start_logging(format: LogFormat, lines: &logging::Lines) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.writer());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

impl Args {
    fn into_config(self) -> Config {
        let (control_plane_token, control_plane_tls) = self.control_plane_tls.split();
        Config {
            name: self.name.unwrap_or_default(),
            listen: self.listen,
            admin_listen: self.admin_listen,
            api_listen: self.api_listen,
            peer_listen: self.peer_listen,
            peer_advertise: self.peer_advertise,
            sequence_redis: self.sequence_redis,
            control_plane: self.control_plane,
            control_plane_tls,
            control_plane_token,
            secret_dir: self.secret_dir,
            files_dir: self.files_dir,
            template_env: self.template_env.into_iter().filter(|name| !name.is_empty()).collect(),
            cache_dir: self.cache_dir,
            keep_previous: self.keep_previous,
            cache_size: self.cache_size_mib.saturating_mul(1024 * 1024),
            project: self.project,
            replays: self.replays.into_iter().filter(|replay| !replay.is_empty()).collect(),
            key_overlap: self.key_overlap,
            key_grace: self.key_grace,
            secret_grace: self.secret_grace,
            strict_perms: self.strict_perms,
            serve_jwks: self.serve_jwks,
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
            runtime: match self.runtime {
                Runtime::PerCore => RuntimeKind::PerCore,
                Runtime::Shared => RuntimeKind::Shared,
            },
            allow_insecure: self.allow_insecure,
            passthrough: passthrough::Settings {
                always: self.passthrough,
                allow: self.passthrough_allow,
                trust: self.passthrough_ca,
                head: self.passthrough_timeout,
                record: self.record,
                ..passthrough::Settings::default()
            },
            report: self.report,
            telemetry: self.telemetry.settings(),
            journal: journal::Settings { entries: self.journal, bodies: self.journal_bodies },
            transport: self.transport.into(),
            limits: self.limits.into(),
            ..Config::default()
        }
    }
}

/// A URL; `http://` may be left out.
fn control_plane(text: &str) -> Result<Uri, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri =
        full.parse().map_err(|error| format!("{error}; it looks like http://127.0.0.1:4180"))?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(url),
        _ => Err("it looks like http://127.0.0.1:4180".to_owned()),
    }
}

/// A host with a port.
fn authority(text: &str) -> Result<String, String> {
    let parsed: Result<http::uri::Authority, _> = text.parse();
    match parsed {
        Ok(authority) if authority.port_u16().is_some() && !authority.as_str().contains('@') => {
            Ok(text.to_owned())
        }
        _ => Err("it looks like 10.1.2.3:4143".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_source_of_replays_is_needed() {
        let parse = |args: &[&str]| Args::try_parse_from([&["responder"], args].concat());
        assert!(parse(&["--control-plane", "a:1"]).is_ok());
        assert!(parse(&["--cache-dir", "c"]).is_ok());
        let error = parse(&[]).unwrap_err().to_string();
        assert!(error.contains("--control-plane") && error.contains("--cache-dir"), "{error}");
    }

    #[test]
    fn a_control_plane_is_an_http_url() {
        assert_eq!(control_plane("127.0.0.1:4180").unwrap().to_string(), "http://127.0.0.1:4180/");
        assert_eq!(control_plane("https://a:1").unwrap().to_string(), "https://a:1/");
        assert!(control_plane("ftp://x").is_err());
    }
}
