//! Whole connections whose bytes are all there, for the fuzz target `connection`. Only in builds with `--cfg fuzzing`.

use std::{
    io,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use countersign_engine::{
    compile::compile,
    snapshot::{RrPair, Serve, digest::Digest},
    test_config::TestConfig,
    transform::Template,
};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
};

use super::{
    connection::{self, Link},
    io::{Abort, Guarded, Progress},
    route::Route,
};
use crate::{
    config::Limits,
    drain::Drain,
    metrics::Metrics,
    sequence::Sequences,
    serve_request::Plane,
    snapshots::{Assignment, Phase, Snapshots},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be had")
});

/// A request as a service sees it that is behind our framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target as it was sent, but for a fragment.
    pub target: String,
    /// All of its body; `None` when it did not come whole.
    pub body: Option<Vec<u8>>,
}

/// The requests of an HTTP/1 connection whose heads are understood. The bytes arrive in pieces of this size.
#[must_use]
pub fn requests(bytes: &[u8], piece: usize) -> Vec<Seen> {
    let seen = Mutex::new(Vec::new());
    let progress = Progress::default();
    let service = service_fn(|request: http::Request<Incoming>| {
        progress.step();
        let (seen, progress) = (&seen, &progress);
        async move {
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            let nth = {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(Seen { method, target, body: None });
                seen.len() - 1
            };
            let body = request.into_body().collect().await?.to_bytes().to_vec();
            seen.lock().unwrap_or_else(PoisonError::into_inner)[nth].body = Some(body);
            progress.step();
            Ok::<_, hyper::Error>(http::Response::new(String::new()))
        }
    });
    let (client, _) = Client::new(bytes, piece);
    RUNTIME.block_on(async {
        let guarded = Guarded::new(client, Some(progress.clone()), Limits::default());
        // How it ends is not what is asked here.
        drop(connection::http1().serve_connection(TokioIo::new(guarded), service).await);
    });
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A node that serves recorded traffic, and is a forward proxy.
#[derive(Debug)]
pub struct Node(Link);

impl Node {
    /// Serves these pairs as this test config says.
    #[must_use]
    pub fn new(pairs: Vec<RrPair>, config: &TestConfig) -> Self {
        let (compiled, _) = compile(pairs, &Template::default(), config, Serve::All);
        let metrics = Arc::new(Metrics::new(1));
        let snapshots = Arc::new(Snapshots::new(Arc::clone(&metrics), true));
        let assignment = Assignment {
            name: "projects/default/replays/fuzz".to_owned(),
            bundle: Digest::of(b"bundle"),
            generation: 1,
            start_time: 1,
            revision: 1,
        };
        snapshots.hear(&assignment, Phase::Activate);
        snapshots.arrive(&assignment, &Arc::new(compiled), &Arc::default());
        let control = RUNTIME.handle().clone();
        let sequences =
            Sequences::new("fuzz", String::new(), Arc::clone(&metrics), (control.clone(), None));
        let shared = (Arc::new(sequences), control);
        let limits = Limits::default();
        let mut plane = Plane::new(snapshots, Arc::clone(&metrics), limits, None, None, shared);
        plane.forward_proxy = true;
        Self(Link::new(Arc::new(plane), metrics.lane(0), Drain::default()))
    }

    /// What the node says on a connection, whatever it speaks. The bytes arrive in pieces of this size.
    #[must_use]
    pub fn hear(&self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let (client, heard) = Client::new(bytes, piece);
        RUNTIME.block_on(async {
            drop(connection::sniff_and_speak(client, &self.0, &Route::default()).await);
        });
        std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client that says all it has to say and takes whatever it is told.
struct Client {
    says: Bytes,
    piece: usize,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Client {
    fn new(bytes: &[u8], piece: usize) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let heard = Arc::default();
        let says = Bytes::copy_from_slice(bytes);
        (Self { says, piece: piece.max(1), heard: Arc::clone(&heard) }, heard)
    }
}

impl Abort for Client {
    fn abort(&self) {}
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.piece.min(self.says.len()).min(buf.remaining());
        buf.put_slice(&self.says[..length]);
        self.says.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
