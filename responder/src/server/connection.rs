//! One connection: find out which protocol it speaks, within a time limit, and serve it until it ends or has to.

use std::{
    future::{Ready, ready},
    io,
    net::{IpAddr, Ipv4Addr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::Either};
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{
    Door,
    body::Outgoing,
    io::{Guarded, Progress},
    route::Route,
    sniff::{self, AnyStream, Protocol, Stream},
    tls::{self, HandshakeError, Secured},
    tunnel::{self, Tunnel},
    write::{Response, overloaded},
};
use crate::{
    drain::Drain,
    fate::Broken,
    metrics::Lane,
    seldom::{First, until},
    serve_request::{Plane, serve_request},
    subscription::apply::chain,
};

/// The largest head of a request.
const HEAD: usize = 64 * 1024;
/// The most requests at a time on an HTTP/2 connection.
const STREAMS: u32 = 200;
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection needs.
#[derive(Debug, Clone)]
pub(super) struct Link {
    plane: Arc<Plane>,
    lane: Arc<Lane>,
    drain: Drain,
    /// The address that the client reached.
    here: IpAddr,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("no HTTP any more")]
    Http(#[from] hyper::Error),
    #[error("no TLS")]
    Tls(#[from] HandshakeError),
    #[error("it did not show its protocol in time")]
    Silent,
    #[error("it is neither HTTP nor TLS")]
    Unknown,
    #[error("this port takes TLS only")]
    Plain,
}

/// Serves a connection until its end.
pub(crate) async fn serve(
    stream: TcpStream,
    plane: Arc<Plane>,
    lane: Arc<Lane>,
    drain: Drain,
    door: Arc<Door>,
) {
    let here = stream.local_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |addr| addr.ip());
    let link = Link { plane, lane, drain, here };
    let served = pin!(detect_and_serve(stream, &link, &door));
    if let First::Done(Err(error)) = until(link.drain.killed(), served).await {
        tracing::debug!(error = chain(&error), "connection ended early");
    }
}

async fn detect_and_serve(stream: TcpStream, link: &Link, door: &Door) -> Result<(), Ended> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let Some(protocol) = link.detect(sniff::peek(&stream)).await? else { return Ok(()) };
    match protocol {
        // Behind a box, so that plain connections need no room for it.
        Protocol::Tls => Box::pin(serve_tls(stream, link, door.route.clone())).await,
        _ if door.tls_only => Err(Ended::Plain),
        protocol => speak(stream, protocol, link, &door.route).await,
    }
}

/// Serves a connection that begins with a TLS handshake.
async fn serve_tls(stream: TcpStream, link: &Link, route: Route) -> Result<(), Ended> {
    let Secured { stream, protocol, route } =
        tls::accept(stream, &link.plane, route, link.here).await?;
    match protocol {
        Some(protocol) => speak(stream, protocol, link, &route).await,
        None => sniff_and_speak(stream, link, &route).await,
    }
}

/// Serves what comes through a tunnel. `outer` is the progress of the connection that it is made of.
fn serve_tunnel(
    tunnel: Tunnel,
    link: &Link,
    outer: Progress,
) -> Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + '_>> {
    Box::pin(async move {
        let Tunnel { upgrade, route, target } = tunnel;
        link.plane.metrics.tunnels.inc();
        let stream = TokioIo::new(upgrade.await?);
        let served = async {
            let found = link.detect(sniff::read(stream, Some(outer))).await?;
            let Some((protocol, stream)) = found else { return Ok(()) };
            if protocol != Protocol::Tls {
                return speak(stream, protocol, link, &route).await;
            }
            let Secured { stream, protocol, route } =
                tls::accept(stream, &link.plane, route, link.here).await?;
            match protocol {
                Some(protocol) => {
                    speak::<AnyStream>(Box::new(stream), protocol, link, &route).await
                }
                None => sniff_and_speak(stream, link, &route).await,
            }
        };
        let ended = served.await;
        // The user sees a proxy that works and a service that does not; this is where to look.
        if let Err(error @ (Ended::Tls(_) | Ended::Silent | Ended::Unknown)) = &ended {
            tracing::info!(%target, error = chain(error), "tunnel cannot be served");
        }
        ended
    })
}

/// Finds out what is spoken behind TLS without an agreement on it, and serves it.
pub(super) async fn sniff_and_speak<S: Stream>(
    stream: S,
    link: &Link,
    route: &Route,
) -> Result<(), Ended> {
    match link.detect(sniff::read(stream, None)).await? {
        Some((protocol, stream)) => speak(stream, protocol, link, route).await,
        None => Ok(()),
    }
}

async fn speak<S: Stream>(
    stream: S,
    protocol: Protocol,
    link: &Link,
    route: &Route,
) -> Result<(), Ended> {
    match protocol {
        Protocol::Http1 => {
            let progress = Progress::default();
            match serve_http1(stream, link, route, &progress).await? {
                Some(tunnel) => serve_tunnel(tunnel, link, progress).await,
                None => Ok(()),
            }
        }
        Protocol::Http2 => Ok(serve_http2(stream, link, route).await?),
        Protocol::Tls | Protocol::Unknown => refuse(stream).await,
    }
}

/// Says in HTTP that it is not HTTP, for people who look at the bytes.
async fn refuse<S: Stream>(mut stream: S) -> Result<(), Ended> {
    stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .await?;
    stream.shutdown().await?;
    Err(Ended::Unknown)
}

impl Link {
    /// A connection of which nothing is known but what it says.
    #[cfg(fuzzing)]
    pub(super) fn new(plane: Arc<Plane>, lane: Arc<Lane>, drain: Drain) -> Self {
        Self { plane, lane, drain, here: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    /// What is spoken, within the time limit; `None` when nothing was asked and nothing need be answered.
    async fn detect<T>(
        &self,
        detecting: impl Future<Output = io::Result<Option<T>>>,
    ) -> Result<Option<T>, Ended> {
        tokio::select! {
            found = timeout(self.plane.limits.detect, detecting) => Ok(found.map_err(|_| Ended::Silent)??),
            () = self.drain.stopping() => Ok(None),
        }
    }
}

/// Serves requests until the end, or until a tunnel begins.
async fn serve_http1<S: Stream>(
    stream: S,
    link: &Link,
    route: &Route,
    progress: &Progress,
) -> hyper::Result<Option<Tunnel>> {
    let Link { plane, lane, drain, .. } = link;
    let opened = Mutex::new(None);
    let told = |mut response: Result<Response, Broken>| {
        if drain.is_leaving()
            && let Ok(response) = &mut response
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().entry(header::CONNECTION).or_insert(close);
        }
        match &response {
            Err(broken) if broken.resets() => progress.reset(),
            // What comes next is no head any more.
            Ok(upgraded) if upgraded.status() == StatusCode::SWITCHING_PROTOCOLS => {
                progress.hand_over();
            }
            _ => progress.step(),
        }
        response
    };
    let service = service_fn(|mut request: http::Request<Incoming>| {
        progress.step();
        if tunnel::is_wanted(&request) {
            let early = match tunnel::open(&mut request, route, plane.forward_proxy) {
                Ok(tunnel) => {
                    progress.hand_over();
                    *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
                    tunnel::established()
                }
                Err(refused) => {
                    lane.refused();
                    refused.response()
                }
            };
            return Either::Left(ready(Ok(early)));
        }
        if drain.is_refusing() {
            lane.refused();
            return Either::Left(ready(told(Ok(overloaded()))));
        }
        route.settle(&mut request);
        match answer(request, plane, lane) {
            Either::Left(now) => Either::Left(ready(told(now.into_inner()))),
            Either::Right(later) => Either::Right(later.map(told)),
        }
    });
    let stream = Guarded::new(stream, Some(progress.clone()), plane.limits);
    {
        let connection = http1().serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = pin!(connection);
        match until(drain.ending(), connection.as_mut()).await {
            First::Done(ended) => ended?,
            First::Happened(()) => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
        }
    }
    Ok(opened.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// How HTTP/1 is read.
pub(super) fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // The socket keeps the deadlines.
        .header_read_timeout(None)
        .max_header_size(HEAD)
        .max_buf_size(2 * HEAD);
    builder
}

async fn serve_http2<S: Stream>(stream: S, link: &Link, route: &Route) -> hyper::Result<()> {
    let Link { plane, lane, drain, .. } = link;
    let stream = Guarded::new(stream, None, plane.limits);
    let service = {
        let (plane, lane, route) = (Arc::clone(plane), Arc::clone(lane), route.clone());
        let drain = drain.clone();
        service_fn(move |mut request| {
            if drain.is_refusing() {
                lane.refused();
                return Either::Left(ready(Ok(overloaded())));
            }
            route.settle(&mut request);
            match answer(request, &plane, &lane) {
                Either::Left(now) => Either::Left(now),
                Either::Right(later) => Either::Right(later),
            }
        })
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let First::Done(ended) = until(drain.ending(), connection.as_mut()).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Answers a request, at once where nothing has to be waited for.
fn answer(
    request: http::Request<Incoming>,
    plane: &Arc<Plane>,
    lane: &Arc<Lane>,
) -> Either<
    Ready<Result<Response, Broken>>,
    impl Future<Output = Result<Response, Broken>> + Send + use<>,
> {
    let asks_for_head = *request.method() == Method::HEAD;
    let trimmed = move |response: Result<Response, Broken>| {
        let mut response = response?;
        if asks_for_head
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            drop_body(&mut response, asks_for_head);
        }
        Ok(response)
    };
    match serve_request(request, plane, lane) {
        Either::Left(now) => Either::Left(ready(trimmed(now.into_inner()))),
        Either::Right(later) => Either::Right(later.map(trimmed)),
    }
}

/// hyper leaves such a body out in HTTP/1 only. The length that it would have had is told in answer to HEAD.
fn drop_body(response: &mut Response, tell: bool) {
    let body = std::mem::replace(response.body_mut(), Outgoing::whole(Bytes::new()));
    if tell
        && let Some(length) = body.size_hint().exact()
        && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}
