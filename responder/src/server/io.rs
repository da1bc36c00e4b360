//! A client's socket with what hyper does not keep: the deadlines of each request's headers and of writes, and strict framing.
//!
//! hyper's own header timeout also runs while a connection is idle between requests, so it serves as the idle timeout, and the
//! header deadline is kept here: it starts with the first byte that arrives outside of a request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::framing::Framing;
use crate::config::Limits;

/// The progress of a connection that was handed over. Odd, so that bytes are never taken for a head.
const HANDED_OVER: u64 = u64::MAX;

/// The progress of a connection that is to be reset. Odd, for its request is never answered.
const RESET: u64 = u64::MAX - 2;

/// A socket that can end with a reset instead of an orderly close.
pub(super) trait Abort {
    /// Whatever closes it from now on resets it.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "no SO_LINGER");
        }
    }
}

/// Tells a connection's socket which requests are being answered. Odd while one is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// A request begins or ends.
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The connection ends with a reset.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Relaxed);
    }

    /// No more requests: from now on the connection belongs to another protocol.
    pub(super) fn hand_over(&self) {
        self.0.store(HANDED_OVER, Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A socket with deadlines.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    abort: fn(&S),
    /// Absent for HTTP/2, where pings find a silent peer.
    progress: Option<Progress>,
    framing: Framing,
    head_timeout: Duration,
    write_timeout: Duration,
    /// When the headers that have begun must be complete, and the progress at which they began.
    head_deadline: Option<(Instant, u64)>,
    head_sleep: Option<Pin<Box<Sleep>>>,
    write_sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        if self.progress.as_ref().is_some_and(|progress| progress.now() == RESET) {
            (self.abort)(&self.stream);
        }
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, progress: Option<Progress>, limits: Limits) -> Self
    where
        S: Abort,
    {
        Self {
            stream,
            abort: S::abort,
            progress,
            framing: Framing::default(),
            head_timeout: limits.head,
            write_timeout: limits.write_pause,
            head_deadline: None,
            head_sleep: None,
            write_sleep: None,
        }
    }

    /// Bytes have arrived: unless they belong to a request that is being answered, they begin or continue a header.
    fn bytes_arrived(&mut self, bytes: &mut [u8]) {
        let Some(progress) = self.progress.as_ref().map(Progress::now) else { return };
        if progress == HANDED_OVER {
            return;
        }
        self.framing.look(bytes);
        let stale = self.head_deadline.is_none_or(|(_, begun)| begun != progress);
        if progress % 2 == 0 && stale {
            self.head_deadline = Some((Instant::now() + self.head_timeout, progress));
            self.head_sleep = None;
        }
    }

    /// Nothing has arrived: whether the header deadline has passed.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some((deadline, begun)), Some(progress)) = (self.head_deadline, &self.progress) else {
            return Poll::Pending;
        };
        if begun != progress.now() {
            self.head_deadline = None;
            self.head_sleep = None;
            return Poll::Pending;
        }
        self.head_sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)))
            .as_mut()
            .poll(cx)
    }

    /// Fails a write that has made no progress for too long.
    fn guard_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_sleep = None;
            return written;
        }
        let write_timeout = self.write_timeout;
        let sleep =
            self.write_sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_timeout)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if let Some(bytes) = buf.filled_mut().get_mut(before..)
                    && !bytes.is_empty()
                {
                    this.bytes_arrived(bytes);
                    if this.framing.is_foreign() {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(this.poll_head_deadline(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the request's headers are not complete in time",
                )))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.guard_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.guard_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A plain socket has nothing to flush, but TLS may hold back what it could not write.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.guard_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.guard_write(cx, shut)
    }
}
