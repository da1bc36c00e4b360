//! The body of a response on its way out: whole, with trailers behind it, in pieces at a pace, or from whoever makes it as it goes.
//!
//! Nearly all bodies are whole; the others are behind a box, so that a response stays small.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};

/// A body that ends before it is whole: the connection, or in HTTP/2 the stream, is reset.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut off")]
pub(crate) struct Cut;

/// A body on its way out.
pub(crate) enum Outgoing {
    /// All of it; `None` once it was sent.
    Whole(Option<Bytes>),
    /// All of it, and trailers behind it.
    Trailed(Box<Trailed>),
    /// Pieces, each at its time.
    Paced(Box<Paced>),
    /// What a task sends, until it hangs up.
    Channel(mpsc::Receiver<Result<Frame<Bytes>, Cut>>),
}

/// A body with trailers.
#[derive(Debug)]
pub(crate) struct Trailed {
    body: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

/// A body in pieces.
pub(crate) struct Paced {
    pieces: std::vec::IntoIter<Piece>,
    /// What is left of the trailers.
    trailers: Option<HeaderMap>,
    /// The piece that comes next, once its time is known.
    next: Option<(Piece, Pin<Box<Sleep>>)>,
    /// When the piece before was due.
    due: Instant,
    /// The end is a cut.
    cut: bool,
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// How long after the piece before it is sent.
    pub(crate) after: Duration,
    /// What is sent.
    pub(crate) bytes: Bytes,
}

impl Outgoing {
    /// A body that is sent at once.
    pub(crate) fn whole(body: Bytes) -> Self {
        Self::Whole((!body.is_empty()).then_some(body))
    }

    /// A body with trailers behind it, if there are any.
    pub(crate) fn trailed(body: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        match trailers {
            None => Self::whole(body),
            Some(trailers) => {
                let body = (!body.is_empty()).then_some(body);
                Self::Trailed(Box::new(Trailed { body, trailers: Some(*trailers) }))
            }
        }
    }

    /// A body in pieces, the first of which is counted from now; `cut` ends it with a broken connection.
    pub(crate) fn paced(pieces: Vec<Piece>, trailers: Option<HeaderMap>, cut: bool) -> Self {
        let (pieces, due) = (pieces.into_iter(), Instant::now());
        Self::Paced(Box::new(Paced { pieces, trailers, next: None, due, cut }))
    }

    /// All of it and its trailers; the body itself when it is made as it goes.
    pub(crate) fn into_whole(self) -> Result<(Bytes, Option<HeaderMap>), Self> {
        match self {
            Self::Whole(body) => Ok((body.unwrap_or_default(), None)),
            Self::Trailed(trailed) => Ok((trailed.body.unwrap_or_default(), trailed.trailers)),
            Self::Paced(paced) if !paced.cut => {
                let first = paced.next.into_iter().map(|(piece, _)| piece.bytes);
                let pieces = first.chain(paced.pieces.map(|piece| piece.bytes));
                Ok((pieces.flatten().collect(), paced.trailers))
            }
            Self::Paced(_) | Self::Channel(_) => Err(self),
        }
    }
}

impl From<Bytes> for Outgoing {
    fn from(body: Bytes) -> Self {
        Self::whole(body)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Trailed(trailed) => {
                let data = trailed.body.take().map(Frame::data);
                let frame = data.or_else(|| trailed.trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Self::Paced(paced) => paced.poll_frame(cx),
            Self::Channel(frames) => frames.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Trailed(trailed) => trailed.body.is_none() && trailed.trailers.is_none(),
            Self::Paced(_) => false,
            Self::Channel(frames) => frames.is_closed() && frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exactly = |body: &Option<Bytes>| {
            let length = body.as_ref().map_or(0, Bytes::len);
            SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
        };
        match self {
            Self::Whole(body) => exactly(body),
            // With a length that is known HTTP/1.1 would not send it in chunks, and only those have trailers behind them.
            Self::Trailed(_) | Self::Paced(_) | Self::Channel(_) => SizeHint::default(),
        }
    }
}

impl Paced {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.next.is_none()
            && let Some(piece) = self.pieces.next()
        {
            self.due += piece.after;
            self.next = Some((piece, Box::pin(tokio::time::sleep_until(self.due))));
        }
        if let Some((piece, sleep)) = &mut self.next {
            if !piece.after.is_zero() {
                ready!(sleep.as_mut().poll(cx));
            }
            let bytes = std::mem::take(&mut piece.bytes);
            self.next = None;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if std::mem::take(&mut self.cut) {
            return Poll::Ready(Some(Err(Cut)));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies hold tokens.
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Trailed(_) => "Trailed",
            Self::Paced(_) => "Paced",
            Self::Channel(_) => "Channel",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http_body_util::BodyExt as _;

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )])
    }

    #[tokio::test]
    async fn trailers_come_behind_the_body() {
        let body = Outgoing::trailed(Bytes::from_static(b"abc"), Some(Box::new(trailers())));
        let all = body.collect().await.unwrap();
        assert_eq!(all.trailers(), Some(&trailers()));
        assert_eq!(all.to_bytes(), "abc");
        let empty = Outgoing::trailed(Bytes::new(), None);
        assert!(empty.is_end_stream());
        assert_eq!(empty.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn pieces_come_one_by_one_and_a_cut_ends_them() {
        let pieces = [0, 2, 3].map(|millis| Piece {
            after: Duration::from_millis(millis),
            bytes: Bytes::from(millis.to_string()),
        });
        let mut body = Outgoing::paced(pieces.to_vec(), Some(trailers()), false);
        for piece in ["0", "2", "3"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        }
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers());
        assert!(body.frame().await.is_none());
        let cut = Outgoing::paced(pieces.to_vec(), None, true);
        assert!(cut.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_channel_ends_when_its_sender_does() {
        let (sender, frames) = mpsc::channel(2);
        let body = Outgoing::Channel(frames);
        sender.send(Ok(Frame::data(Bytes::from_static(b"a")))).await.unwrap();
        sender.send(Err(Cut)).await.unwrap();
        drop(sender);
        assert!(body.collect().await.is_err());
    }
}
