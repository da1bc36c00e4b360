//! What a responder can be told, read once at the start and passed on as a value.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use http::Uri;

use crate::transport::Transport;

/// Where the operator and the incumbent's own responders mount secrets.
pub const DEFAULT_SECRET_DIR: &str = "/home/speedscale/secret";

/// The configuration of a responder.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, unique in the fleet; when empty, the host's name and the port of the data plane.
    pub name: String,
    /// Where recorded traffic is served.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz`, `/metrics` and `/status` are served.
    pub admin_listen: SocketAddr,
    /// Where the gRPC API is served; nowhere by default, since it has no authentication and can end the responder.
    pub api_listen: Option<SocketAddr>,
    /// Whether a replay is sure to come, so that nothing is ready before one is served.
    pub expects_replay: bool,
    /// Where other responders reach this one to share turns with it; nowhere by default.
    pub peer_listen: Option<SocketAddr>,
    /// What other responders are told instead of that address: a host and a port.
    pub peer_advertise: Option<String>,
    /// The Redis that keeps the turns which responders share, instead of the responders themselves.
    pub sequence_redis: Option<RedisUrl>,
    /// The control plane, an `http` or `https` URL; without one, only what the disk cache holds is served.
    pub control_plane: Option<Uri>,
    /// Whom to trust and what to show where that is `https`.
    pub control_plane_tls: countersign_tls::client::Settings,
    /// The file of the token that is shown there.
    pub control_plane_token: Option<PathBuf>,
    /// The directory of secrets: one directory for each secret, one file for each of its keys. A missing one is an error unless it is the
    /// default.
    pub secret_dir: PathBuf,
    /// The directory of files and tables that templates name; none of them can be read without it.
    pub files_dir: Option<PathBuf>,
    /// The environment variables that templates may read, by name; `*` stands for all.
    pub template_env: Vec<String>,
    /// Where bundles are kept, so that a responder can start while the control plane is away.
    pub cache_dir: Option<PathBuf>,
    /// Whether the version of a replay that was served before stays in memory, to be asked for and to go back to.
    pub keep_previous: bool,
    /// How many bytes the blobs there may have. What is served and what was served before it is kept in any case.
    pub cache_size: u64,
    /// The project, with or without `projects/` before it.
    pub project: String,
    /// The ids or full names of the replays to serve; empty for all of the project.
    pub replays: Vec<String>,
    /// How often the secret directory is read.
    pub secret_poll: Duration,
    /// How long a key signs on after its file has gone or holds none that can be used; nothing is strict.
    pub secret_grace: Duration,
    /// Whether files of keys that everybody may read are refused, except in the kubelet's mounts.
    pub strict_perms: bool,
    /// How long a new signing key is published in key sets before it signs.
    pub key_overlap: Duration,
    /// How long a signing key is published after the next one has taken over.
    pub key_grace: Duration,
    /// Serves a key set at `/.well-known/jwks.json` where none was recorded.
    pub serve_jwks: bool,
    /// How long connections are still accepted after the readiness has gone, so that load balancers notice.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish at the end.
    pub drain_timeout: Duration,
    /// Which threads serve connections.
    pub runtime: RuntimeKind,
    /// Lets the admin listener and the API listen beyond the loopback interface.
    pub allow_insecure: bool,
    /// How the data plane may be reached besides plain HTTP on its port.
    pub transport: Transport,
    /// Bounds of the data plane.
    pub limits: Limits,
    /// How many of the last requests are kept to be looked at.
    pub journal: crate::journal::Settings,
    /// What becomes of requests that nothing recorded answers.
    pub passthrough: crate::passthrough::Settings,
    /// How much the control plane is told of what replays do.
    pub report: crate::report::Detail,
    /// Where traces go; nowhere by default.
    pub telemetry: Option<countersign_telemetry::Settings>,
}

/// Where a Redis is. It may hold a password, so that it is shown to nobody.
#[derive(Clone)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LOOKS: &str = "it looks like redis://127.0.0.1:6379/0";
        if text.starts_with("rediss:") {
            return Err("TLS to Redis is not supported; use redis://");
        }
        let sound = text.starts_with("redis://") && redis::Client::open(text).is_ok();
        if sound { Ok(Self(text.to_owned())) } else { Err(LOOKS) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl")
    }
}

/// Which threads serve connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// A thread for each core, each with a listening socket of its own.
    PerCore,
    /// The caller's runtime, with one listening socket.
    Shared,
}

/// Bounds of the data plane.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest request body, in bytes.
    pub body: usize,
    /// The most bytes that the bodies of all requests together may take while they are read, beyond 64 KiB of each.
    pub bodies: usize,
    /// The most connections at a time; more wait to be accepted.
    pub connections: usize,
    /// The most connections at a time of one address; more are closed.
    pub connections_per_source: usize,
    /// The memory from which on work is refused; without one, what the control group says.
    pub memory: Option<u64>,
    /// How long a connection may take to show which protocol it speaks.
    pub detect: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of an HTTP/1 request may take from its first byte.
    pub head: Duration,
    /// How long an HTTP/1 connection may be idle between requests; it is closed before twice that.
    pub idle: Duration,
    /// How long a client may take no byte of a response.
    pub write_pause: Duration,
    /// How long a body may pause.
    pub body_pause: Duration,
    /// How many requests may wait for a signature that takes long.
    pub sign_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 10 * 1024 * 1024,
            bodies: 1024 * 1024 * 1024,
            connections: 10_000,
            connections_per_source: usize::MAX,
            memory: None,
            detect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            write_pause: Duration::from_secs(30),
            body_pause: Duration::from_secs(30),
            sign_queue: 256,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4140)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4141)),
            api_listen: None,
            expects_replay: false,
            peer_listen: None,
            peer_advertise: None,
            sequence_redis: None,
            control_plane: None,
            control_plane_tls: countersign_tls::client::Settings::default(),
            control_plane_token: None,
            secret_dir: PathBuf::from(DEFAULT_SECRET_DIR),
            files_dir: None,
            template_env: Vec::new(),
            cache_dir: None,
            keep_previous: true,
            cache_size: 1024 * 1024 * 1024,
            project: "default".to_owned(),
            replays: Vec::new(),
            secret_poll: Duration::from_secs(1),
            secret_grace: Duration::from_secs(3600),
            strict_perms: false,
            key_overlap: Duration::ZERO,
            key_grace: Duration::from_secs(600),
            serve_jwks: false,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            runtime: RuntimeKind::PerCore,
            allow_insecure: false,
            transport: Transport::default(),
            limits: Limits::default(),
            journal: crate::journal::Settings::default(),
            passthrough: crate::passthrough::Settings::default(),
            report: crate::report::Detail::default(),
            telemetry: None,
        }
    }
}

impl Config {
    /// The project's full name.
    pub(crate) fn project_name(&self) -> String {
        if self.project.starts_with("projects/") {
            self.project.clone()
        } else {
            format!("projects/{}", self.project)
        }
    }

    /// Where other responders are told to reach this one, which listens there; empty when it does not.
    pub(crate) fn peer_address(&self, listening: Option<SocketAddr>) -> String {
        let advertised = self.peer_advertise.clone().filter(|_| listening.is_some());
        advertised.or_else(|| listening.map(|addr| addr.to_string())).unwrap_or_default()
    }

    /// The full names of the replays to serve.
    pub(crate) fn selectors(&self) -> Vec<String> {
        let full = |replay: &String| {
            if replay.contains('/') {
                replay.clone()
            } else {
                format!("{}/replays/{replay}", self.project_name())
            }
        };
        self.replays.iter().map(full).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_what_is_advertised_or_else_where_it_listens() {
        let listening = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 4143)));
        let mut config = Config::default();
        assert_eq!(config.peer_address(None), "");
        assert_eq!(config.peer_address(listening), "127.0.0.1:4143");
        config.peer_advertise = Some("pod-1:4143".into());
        assert_eq!(config.peer_address(listening), "pod-1:4143");
        assert_eq!(config.peer_address(None), "");
    }

    #[test]
    fn where_redis_is_is_not_shown() {
        let url: RedisUrl = "redis://:canary@127.0.0.1:6379/3".parse().unwrap();
        assert!(url.text().contains("canary"));
        assert!(!format!("{url:?}").contains("canary"));
        for wrong in ["127.0.0.1:6379", "http://127.0.0.1", "redis://", "rediss://127.0.0.1"] {
            assert!(wrong.parse::<RedisUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_become_full_names() {
        let config = Config {
            project: "shop".into(),
            replays: vec!["a".into(), "projects/x/replays/b".into()],
            ..Config::default()
        };
        assert_eq!(config.project_name(), "projects/shop");
        assert_eq!(config.selectors(), ["projects/shop/replays/a", "projects/x/replays/b"]);
        assert_eq!(
            Config { project: "projects/shop".into(), ..config }.project_name(),
            "projects/shop"
        );
    }
}
