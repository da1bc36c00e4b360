//! The admin listener: `/healthz`, `/readyz` and `/metrics`, in plain HTTP/1.1. It tells nothing that is stored, and changes nothing.
//!
//! A web page must not read it by way of a rebound name, so requests for anything but `localhost` and loopback addresses are refused on a loopback
//! address.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{metrics::Metrics, service::Plane};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long the store may take to show that it is there.
const STORE: Duration = Duration::from_secs(2);
/// After a failure to accept.
const BACKOFF: Duration = Duration::from_millis(50);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener tells about.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) plane: Arc<Plane>,
    pub(crate) metrics: Metrics,
    /// Whether requests for any host name are answered.
    pub(crate) any_host: bool,
}

impl Admin {
    /// Answers until the task is dropped.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        let stopping = admin.plane.stopping.clone();
                        stopping.run_until_cancelled(admin.serve(stream)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the admin listener");
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(&request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended early");
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.any_host && !names_this_host(request) {
            let message = "ask for localhost, 127.0.0.1 or [::1]";
            let problem = json!({ "error": "host", "message": message });
            return told(StatusCode::MISDIRECTED_REQUEST, &problem);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let problem = json!({ "error": "method", "message": "only GET" });
            return told(StatusCode::METHOD_NOT_ALLOWED, &problem);
        }
        match request.uri().path() {
            "/healthz" => told(StatusCode::OK, &json!({ "status": "alive" })),
            "/readyz" => self.ready().await,
            "/metrics" => self.expose(),
            _ => told(
                StatusCode::NOT_FOUND,
                &json!({ "error": "path", "message": "there are /healthz, /readyz and /metrics" }),
            ),
        }
    }

    /// Whether it can answer calls: it does not end, and its store answers.
    async fn ready(&self) -> Response<Full<Bytes>> {
        let mut reasons = Vec::new();
        if self.plane.stopping.is_cancelled() {
            reasons.push("it was told to end");
        }
        if !matches!(timeout(STORE, self.plane.meta.refresh()).await, Ok(Ok(_))) {
            reasons.push("the store does not answer");
        }
        let ready = reasons.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        told(status, &json!({ "ready": ready, "reasons": reasons }))
    }

    fn expose(&self) -> Response<Full<Bytes>> {
        let Ok(text) = self.metrics.render() else {
            let problem = json!({ "error": "metrics", "message": "they cannot be written" });
            return told(StatusCode::INTERNAL_SERVER_ERROR, &problem);
        };
        let mut response = Response::new(Full::new(text.into()));
        let kind = HeaderValue::from_static(METRICS_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn told(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(value.to_string().into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Whether it may listen there: it has no authentication.
pub(crate) fn may_listen(addr: SocketAddr, allow_insecure: bool) -> bool {
    addr.ip().is_loopback() || allow_insecure
}

/// Whether the request names this machine, as opposed to a name that somebody else resolves, or an address that leads here by accident (0.0.0.0).
fn names_this_host(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST);
    let authority: Option<Authority> = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => host.and_then(|host| host.to_str().ok()?.parse().ok()),
    };
    authority.is_some_and(|authority| {
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}
