//! The listener of the web UI: the page itself, and gRPC-web for the services of the gRPC port.
//!
//! A browser sends what any page asks it to send, so each request is judged by where it comes from before anything else looks at it: the host that it is
//! for, so that no foreign name leads here (DNS rebinding), and the page that it is from. There is no CORS: no other page may call.

mod assets;
mod origin;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use countersign_tls::{accept::accept, server::ServerTls};
use futures_util::future::{Either, Ready, ready};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    body::Body,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_web::GrpcWebLayer;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    connections::bounded,
    metrics::Observe,
    service::access::{Connection, Guard},
};
use origin::{Door, Refusal};

/// What every answer says, whatever it holds. The page needs nothing from elsewhere, and nobody may frame it.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Serves the UI until it is told to stop, or dropped.
pub(crate) fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    routes: Routes,
    (observe, guard): (Observe, Guard),
    (tls, opening): (Option<&Arc<ServerTls>>, Duration),
    stopping: CancellationToken,
) -> AbortOnDropHandle<Result<(), tonic::transport::Error>> {
    let door = Door::new(addr, tls.is_some());
    let router = Server::builder()
        .accept_http1(true)
        .layer(Web { door })
        .layer(GrpcWebLayer::new())
        .layer(observe)
        .layer(guard)
        .add_routes(routes);
    let ended = stopping.cancelled_owned();
    let task = if let Some(tls) = tls {
        let incoming = accept(listener, Arc::clone(tls)).map(|one| one.map(Connection::from));
        let incoming = bounded(incoming, opening);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    } else {
        let incoming = bounded(TcpIncoming::from(listener).with_nodelay(Some(true)), opening);
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, ended))
    };
    AbortOnDropHandle::new(task)
}

/// Stands before the services, and answers for the page.
#[derive(Debug, Clone, Copy)]
struct Web {
    door: Door,
}

impl<S> Layer<S> for Web {
    type Service = Pages<S>;

    fn layer(&self, inner: S) -> Pages<S> {
        Pages { inner, door: self.door }
    }
}

/// Services behind the page.
#[derive(Debug, Clone)]
struct Pages<S> {
    inner: S,
    door: Door,
}

impl<S> Service<Request<Body>> for Pages<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Secured<S::Future>, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = match judge(&self.door, &request) {
            Ok(None) => return Either::Left(Secured(Box::pin(self.inner.call(request)))),
            Ok(Some(page)) => page,
            Err(refusal) => {
                tracing::info!(path = request.uri().path(), %refusal, "request refused");
                refuse(&refusal)
            }
        };
        Either::Right(ready(Ok(answer)))
    }
}

/// Who answers: nobody but the services when it is `None`.
fn judge(door: &Door, request: &Request<Body>) -> Result<Option<Response<Body>>, Refusal> {
    door.host(request)?;
    match *request.method() {
        Method::GET | Method::HEAD => Ok(Some(page(request))),
        Method::POST => {
            door.page(request)?;
            let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            if kind.is_some_and(|kind| kind.starts_with(b"application/grpc-web")) {
                Ok(None)
            } else {
                Err(Refusal::Kind)
            }
        }
        _ => Err(Refusal::Method),
    }
}

fn page(request: &Request<Body>) -> Response<Body> {
    let Some(asset) = assets::find(request.uri().path()) else {
        return plain(StatusCode::NOT_FOUND, "there is nothing here; the page is at /");
    };
    let known = request.headers().get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == asset.etag().as_bytes());
    let is_head = request.method() == Method::HEAD;
    let body = if is_known || is_head { &[][..] } else { asset.bytes };
    let mut answer = Response::new(body_of(body));
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    // Asked for again each time, since another version may be installed; not sent again.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(asset.etag()) {
        headers.insert(header::ETAG, etag);
    }
    secure(headers);
    answer
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    plain(refusal.status(), &refusal.to_string())
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut answer = Response::new(body_of(format!("{text}\n").into_bytes()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    secure(headers);
    answer
}

fn body_of(bytes: impl Into<bytes::Bytes>) -> Body {
    Body::new(http_body_util::Full::new(bytes.into()))
}

fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An answer of the services on its way, to which the headers of the page are added.
struct Secured<F>(std::pin::Pin<Box<F>>);

impl<F> Future for Secured<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx).map(|answer| {
            answer.map(|mut answer| {
                secure(answer.headers_mut());
                let no_store = HeaderValue::from_static("no-store");
                answer.headers_mut().insert(header::CACHE_CONTROL, no_store);
                answer
            })
        })
    }
}

#[cfg(test)]
mod tests;
