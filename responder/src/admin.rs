//! The admin listener: `/healthz`, `/readyz`, `/metrics`, `/status` and `/journal` tell; `POST /reset` begins all turns anew, and
//! `DELETE /journal` forgets what was noted.
//!
//! A web page must not read it by way of a rebound name, so requests for anything but `localhost` and loopback addresses are refused on a loopback address. What
//! changes something is for loopback addresses only, and for no web page at all.
//!
//! It has a thread of its own, so that whoever asks for health is answered however busy all others are.

mod journal;

use std::{convert::Infallible, io, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use countersign_engine::{
    diagnostic::{Diagnostic, Severity},
    snapshot::digest::Digest,
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    entrances::Entrances,
    journal::Journal,
    metrics::Metrics,
    readiness::{Readiness, Source},
    secrets::{Report, Secrets},
    sequence::Sequences,
    server::write::{Response, ours},
    snapshots::{Assignment, Replay, Snapshots},
};

const CONNECTIONS: usize = 64;
/// Journals that are told at a time.
const BLOCKING: usize = 2;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener tells about.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) control_plane: Option<String>,
    pub(crate) entrances: Entrances,
    /// Whether requests for any host name are answered.
    pub(crate) any_host: bool,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sequences: Arc<Sequences>,
    /// `None` when nothing is noted.
    pub(crate) journal: Option<Arc<Journal>>,
}

/// The admin listener as it is served; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Running {
    _end: DropGuard,
}

/// Answers on a thread of its own.
pub(crate) fn start(admin: Arc<Admin>, listener: std::net::TcpListener) -> io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()?;
    let end = CancellationToken::new();
    let ended = end.clone();
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let served = runtime.block_on(ended.run_until_cancelled(admin.run(listener)));
        if let Some(Err(error)) = served {
            tracing::error!(%error, "admin listener failed");
        }
        runtime.shutdown_background();
    })?;
    Ok(Running { _end: end.drop_guard() })
}

impl Admin {
    /// Answers until it is dropped.
    async fn run(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let tasks = TaskTracker::new();
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tasks.spawn(async move {
                        admin.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the admin listener");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let admin = Arc::clone(&self);
            async move {
                if request.uri().path() == "/journal" && admin.admits(&request) {
                    return Ok(admin.tell_journal(&request).await);
                }
                Ok::<_, Infallible>(admin.answer(&request).await)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended early");
        }
    }

    /// Whether it is asked under a name that nobody can have rebound.
    fn admits(&self, request: &Request<Incoming>) -> bool {
        self.any_host || names_this_host(request)
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response {
        if !self.admits(request) {
            return ours(
                StatusCode::MISDIRECTED_REQUEST,
                &json!({ "error": "host", "message": "ask for localhost, 127.0.0.1 or [::1]" }),
            );
        }
        if request.uri().path() == "/reset" {
            return self.reset(request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ours(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({ "error": "method", "message": "only GET" }),
            );
        }
        match request.uri().path() {
            "/healthz" => ours(StatusCode::OK, &json!({ "status": "alive" })),
            "/readyz" => self.readyz(),
            "/metrics" => self.render_metrics(),
            "/status" => ours(StatusCode::OK, &self.status()),
            _ => ours(
                StatusCode::NOT_FOUND,
                &json!({ "error": "path", "message": "there are /healthz, /readyz, /metrics, /status, /journal and /reset" }),
            ),
        }
    }

    /// What changes something is for loopback addresses only, and for no web page.
    pub(super) fn may_change(&self, request: &Request<Incoming>) -> Result<(), &'static str> {
        if self.any_host {
            return Err("it is for an admin listener on a loopback address");
        }
        // A page may post anywhere, but not without saying where it comes from.
        if request.headers().contains_key(header::ORIGIN) {
            return Err("it is not for web pages");
        }
        Ok(())
    }

    /// Begins the turns and scenarios of all replays anew, or of the one that `replay` in the query names.
    async fn reset(&self, request: &Request<Incoming>) -> Response {
        let refused = |message: &str| {
            ours(StatusCode::FORBIDDEN, &json!({ "error": "reset", "message": message }))
        };
        if request.method() != Method::POST {
            return ours(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({ "error": "method", "message": "only POST" }),
            );
        }
        if let Err(message) = self.may_change(request) {
            return refused(message);
        }
        let wanted = request.uri().query().and_then(|query| query.strip_prefix("replay="));
        let table = self.snapshots.load_full();
        let chosen: Vec<&Arc<Replay>> = match wanted {
            Some(name) => table.find(name).into_iter().collect(),
            None => table.replays.iter().collect(),
        };
        if let (Some(name), true) = (wanted, chosen.is_empty()) {
            return ours(
                StatusCode::NOT_FOUND,
                &json!({ "error": "replay", "message": format!("there is no replay `{name}`") }),
            );
        }
        for replay in &chosen {
            replay.serving.snapshot().reset();
            self.sequences.reset(&replay.assignment.name, &[]).await;
        }
        let names: Vec<&str> =
            chosen.iter().map(|replay| replay.assignment.name.as_str()).collect();
        ours(StatusCode::OK, &json!({ "reset": names }))
    }

    fn readyz(&self) -> Response {
        let reasons = self.readiness.reasons();
        let status =
            if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        ours(status, &json!({ "ready": reasons.is_empty(), "reasons": reasons }))
    }

    fn render_metrics(&self) -> Response {
        self.metrics.ready.set(i64::from(self.readiness.reasons().is_empty()));
        let served = self.snapshots.load().replays.len();
        self.metrics.replays.set(i64::try_from(served).unwrap_or(i64::MAX));
        if let Some(journal) = &self.journal {
            let told = self.metrics.journal_dropped.get();
            self.metrics.journal_dropped.inc_by(journal.dropped().saturating_sub(told));
        }
        match self.metrics.render() {
            Ok(text) => {
                let mut response = http::Response::new(Bytes::from(text).into());
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
                response
            }
            Err(error) => ours(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({ "error": "metrics", "message": error.to_string() }),
            ),
        }
    }

    fn status(&self) -> Value {
        let table = self.snapshots.load_full();
        let flags = self.readiness.flags();
        let reasons = self.readiness.reasons();
        let source = match flags.source {
            Source::Nothing => Value::Null,
            Source::Disk => json!("disk"),
            Source::ControlPlane => json!("control_plane"),
        };
        let rejected = table.rejected.iter().map(|(name, rejected)| {
            json!({
                "name": name,
                "bundle": rejected.bundle.to_string(),
                "generation": rejected.generation,
                "diagnostics": diagnostics(&rejected.diagnostics),
            })
        });
        json!({
            "name": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "project": self.project,
            "data_address": self.entrances.data.to_string(),
            "transport": self.entrances.status(|host| table.replays.iter().any(|replay| replay.serving.snapshot().knows_host(host))),
            "ready": reasons.is_empty(),
            "reasons": reasons,
            "control_plane": { "url": self.control_plane, "connected": flags.connected, "problem": flags.problem },
            "source": source,
            "replays": table.replays.iter().map(|replay| self.describe(replay)).collect::<Vec<_>>(),
            "prepared": table.prepared.values().map(|it| version(&it.assignment)).collect::<Vec<_>>(),
            "previous": table.previous.values().map(|it| version(&it.assignment)).collect::<Vec<_>>(),
            "awaited": table.awaited,
            "rejected": rejected.collect::<Vec<_>>(),
            "secrets": self.secrets.reports().iter().map(|(secret, report)| key(&secret.to_string(), report)).collect::<Vec<_>>(),
        })
    }
}

fn version(assignment: &Assignment) -> Value {
    let Assignment { name, bundle, generation, .. } = assignment;
    json!({ "name": name, "bundle": bundle.to_string(), "generation": generation })
}

impl Admin {
    fn describe(&self, replay: &Replay) -> Value {
        let assignment = &replay.assignment;
        self.sequences.tell(replay);
        let counts = replay.serving.snapshot().counts();
        json!({
            "name": assignment.name,
            "bundle": Digest::to_string(&assignment.bundle),
            "generation": assignment.generation,
            "start_time_unix_nanos": assignment.start_time,
            "pairs": replay.pairs,
            "identities": counts.identities,
            "sequences": {
                "all": counts.sequences,
                "moved": counts.moved,
                "steps": counts.steps,
                "shared": self.shared(replay),
            },
            "required_secrets": replay.secrets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "diagnostics": diagnostics(replay.serving.diagnostics()),
        })
    }

    /// What is known of the turns that nodes share; null where they share none.
    fn shared(&self, replay: &Replay) -> Value {
        let lists = replay.serving.snapshot().shared_lists().count();
        if lists == 0 {
            return Value::Null;
        }
        let known = self.sequences.of_replay(&replay.assignment.name);
        json!({
            "lists": lists,
            "epoch": known.as_ref().map(|known| known.epoch),
            "members": known.as_ref().map(|known| known.members.iter().map(|name| &**name).collect::<Vec<_>>()),
            "settled": known.as_ref().map(|known| known.settled),
            "discontinuities": known.as_ref().map_or(0, |known| known.discontinuities),
        })
    }
}

fn diagnostics(found: &[Diagnostic]) -> Vec<Value> {
    let describe = |found: &Diagnostic| {
        let severity = match found.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        json!({
            "severity": severity,
            "code": found.code,
            "path": found.path,
            "message": found.message,
            "hint": found.hint,
            "subject": found.subject,
            "line": found.line,
            "count": found.count,
        })
    };
    found.iter().map(describe).collect()
}

/// What may be told about a key; the key itself is not at hand here.
fn key(name: &str, report: &Report) -> Value {
    json!({
        "ref": name,
        "resolved": report.resolved,
        "kind": report.kind,
        "thumbprint": report.thumbprint,
        "problem": report.problem.as_ref().map(|(code, message)| json!({ "code": code, "message": message })),
        "note": report.note.map(|note| json!({ "code": note.code, "message": note.message })),
        "generation": report.generation,
    })
}

/// Whether the request names this machine, as opposed to a name that somebody else resolves, or an address that leads here by accident (0.0.0.0).
fn names_this_host(request: &Request<Incoming>) -> bool {
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => {
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok())
        }
    };
    named.is_some_and(|authority: http::uri::Authority| is_this_host(authority.host()))
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_localhost_are_this_host() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
            assert!(is_this_host(host), "{host}");
        }
        for host in ["rebound.example", "localhost.example", "", "0.0.0.0", "[::]", "[::1%25lo]"] {
            assert!(!is_this_host(host), "{host}");
        }
    }
}
