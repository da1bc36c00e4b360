//! A real host, as far as a test needs one: it says what it was asked.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub(super) struct RealHost {
    pub(super) addr: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl RealHost {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let serve = auto::Builder::new(TokioExecutor::new());
                    let service = service_fn(answer);
                    let io = TokioIo::new(stream);
                    drop(serve.serve_connection(io, service).await);
                });
            }
        };
        Self { addr, _task: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }
}

type Frames = StreamBody<tokio_stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    let (head, body) = request.into_parts();
    let sent = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let fields = head.headers.iter().map(|(name, value)| {
        (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let told = serde_json::json!({
        "path": head.uri.path(),
        "method": head.method.as_str(),
        "version": format!("{:?}", head.version),
        "headers": fields.collect::<std::collections::BTreeMap<_, _>>(),
        "body": String::from_utf8_lossy(&sent),
    });
    let mut frames = vec![Ok(Frame::data(Bytes::from(told.to_string())))];
    if head.uri.path() == "/long" {
        frames = (0..64).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 1024])))).collect();
    }
    if head.uri.path().ends_with("/trailers") {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    Ok(response)
}
