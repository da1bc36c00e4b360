//! A client's socket with what hyper does not keep: deadlines of idleness, of each request's headers and of writes, and strict framing.
//!
//! hyper's own timer cannot tell a client that is idle from one whose headers do not end, and is set anew for each request. Here one alarm
//! is left as it is while requests come and go, and only when it rings it is looked how long the client has been waited for. So a
//! connection is left between once and twice its time after its last request.

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

use super::{frames::Frames, framing::Framing};
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
    /// Those of HTTP/2.
    frames: Frames,
    head_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
    /// The progress at which headers have begun to arrive.
    head_begun: Option<u64>,
    /// What is waited for since when.
    wait: Option<(Wait, Instant)>,
    alarm: Option<Pin<Box<Sleep>>>,
    write_sleep: Option<Pin<Box<Sleep>>>,
}

/// What a client is waited for, and the progress at which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Its next request.
    Request(u64),
    /// The rest of a request's headers.
    Head(u64),
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
            frames: Frames::new(),
            head_timeout: limits.head,
            idle_timeout: limits.idle,
            write_timeout: limits.write_pause,
            head_begun: None,
            wait: None,
            alarm: None,
            write_sleep: None,
        }
    }

    /// Bytes have arrived: unless they belong to a request that is being answered, they begin or continue a header. Fails where nothing more is
    /// to be heard.
    fn bytes_arrived(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(progress) = self.progress.as_ref().map(Progress::now) else {
            let flood =
                || io::Error::other("the client floods us with frames that ask for nothing");
            return if self.frames.look(bytes) { Ok(()) } else { Err(flood()) };
        };
        if progress == HANDED_OVER {
            return Ok(());
        }
        self.framing.look(bytes);
        if progress % 2 == 0 {
            self.head_begun = Some(progress);
        }
        if self.framing.is_foreign() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    /// Nothing has arrived: what was waited for in vain, once it was for too long.
    fn poll_waited(&mut self, cx: &mut Context<'_>) -> Poll<Wait> {
        let Some(progress) = self.progress.as_ref().map(Progress::now) else {
            return Poll::Pending;
        };
        if matches!(progress, HANDED_OVER | RESET) {
            return Poll::Pending;
        }
        if progress % 2 == 1 {
            self.rest(cx);
            return Poll::Pending;
        }
        let wait = match self.head_begun {
            Some(begun) if begun == progress => Wait::Head(progress),
            _ => Wait::Request(progress),
        };
        let since = match self.wait {
            Some((same, since)) if same == wait => since,
            _ => self.wait.insert((wait, Instant::now())).1,
        };
        let deadline = since
            + match wait {
                Wait::Head(_) => self.head_timeout,
                Wait::Request(_) => self.idle_timeout,
            };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        // It may have been set for an earlier wait.
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= deadline {
                return Poll::Ready(wait);
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// A request is being answered. hyper does not look here again when that is done, so that the alarm has to see to it.
    fn rest(&mut self, cx: &mut Context<'_>) {
        self.wait = None;
        let idle = self.idle_timeout;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        while alarm.as_mut().poll(cx).is_ready() {
            alarm.as_mut().reset(Instant::now() + idle);
        }
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
                    this.bytes_arrived(bytes)?;
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                match ready!(this.poll_waited(cx)) {
                    // To hyper the client has left.
                    Wait::Request(_) => Poll::Ready(Ok(())),
                    Wait::Head(_) => Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the request's headers are not complete in time",
                    ))),
                }
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
