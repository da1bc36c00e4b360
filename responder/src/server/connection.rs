//! One connection: find out which protocol it speaks, within a time limit, and serve it until it ends or has to.

use std::{io, sync::Arc, time::Duration};

use http::StatusCode;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use super::io::{Guarded, Progress};
use crate::{
    drain::Drain,
    fate::Broken,
    metrics::Lane,
    serve_request::{Plane, serve_request},
};

/// What every HTTP/2 connection starts with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest head of a request.
const HEAD: usize = 64 * 1024;
/// The most requests at a time on an HTTP/2 connection.
const STREAMS: u32 = 200;
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until its end.
pub(crate) async fn serve(stream: TcpStream, plane: Arc<Plane>, lane: Arc<Lane>, drain: Drain) {
    tokio::select! {
        () = drain.killed() => {}
        () = detect_and_serve(stream, &plane, lane, &drain) => {}
    }
}

async fn detect_and_serve(stream: TcpStream, plane: &Arc<Plane>, lane: Arc<Lane>, drain: &Drain) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let protocol = tokio::select! {
        protocol = timeout(plane.limits.detect, detect(&stream)) => protocol,
        // Nothing was asked yet, so nothing is left unanswered.
        () = drain.stopping() => return,
    };
    let served = match protocol {
        Ok(Ok(Some(Protocol::Http1))) => serve_http1(stream, plane, lane, drain).await,
        Ok(Ok(Some(Protocol::Http2))) => serve_http2(stream, plane, lane, drain).await,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::debug!(%error, "connection failed"),
        Err(_) => return tracing::debug!("connection did not show its protocol in time"),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Looks at the first bytes without taking them; `None` when the peer leaves without a word.
///
/// As long as they could become either protocol the socket counts as not readable, so that the next look waits for more of them.
async fn detect(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let look = || {
        let mut seen = [0; PREFACE.len()];
        let (length, _) = recv(stream, seen.as_mut_slice(), RecvFlags::PEEK)?;
        let seen = seen.get(..length).unwrap_or_default();
        match seen.len() {
            0 => Ok(None),
            _ if !PREFACE.starts_with(seen) => Ok(Some(Protocol::Http1)),
            length if length == PREFACE.len() => Ok(Some(Protocol::Http2)),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    stream.async_io(Interest::READABLE, look).await
}

async fn serve_http1(
    stream: TcpStream,
    plane: &Arc<Plane>,
    lane: Arc<Lane>,
    drain: &Drain,
) -> hyper::Result<()> {
    let progress = Progress::default();
    let service = service_fn(|request| {
        progress.step();
        let (progress, answer) =
            (progress.clone(), answer(request, Arc::clone(plane), Arc::clone(&lane)));
        async move {
            let response = answer.await;
            match &response {
                Err(broken) if broken.resets() => progress.reset(),
                // What comes next is no head any more.
                Ok(upgraded) if upgraded.status() == StatusCode::SWITCHING_PROTOCOLS => {}
                _ => progress.step(),
            }
            response
        }
    });
    let stream = Guarded::new(stream, Some(progress.clone()), plane.limits);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // hyper's timer runs from the end of the request before, so it bounds idleness; the head's own deadline is kept by the socket.
        .header_read_timeout(plane.limits.idle)
        .max_header_size(HEAD)
        .max_buf_size(2 * HEAD);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.stopping() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2(
    stream: TcpStream,
    plane: &Arc<Plane>,
    lane: Arc<Lane>,
    drain: &Drain,
) -> hyper::Result<()> {
    let plane = Arc::clone(plane);
    let stream = Guarded::new(stream, None, plane.limits);
    let service = service_fn(move |request| answer(request, Arc::clone(&plane), Arc::clone(&lane)));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.stopping() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    plane: Arc<Plane>,
    lane: Arc<Lane>,
) -> Result<super::write::Response, Broken> {
    serve_request(request, &plane, &lane).await
}
