//! A request whose first message is judged before the service sees a byte of it.
//!
//! What the message names decides whether the caller may go on; the service decodes the same bytes, so that both read the same. Nothing waits here that the
//! service would not wait for: the stream is handed on as it comes.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tonic::{Code, Status, body::Body};

use crate::service::Problem;

/// What precedes a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The longest message that services read.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Judges a message.
pub(super) type Judge = Box<dyn FnOnce(&[u8]) -> Result<(), Problem> + Send>;

/// The body of a request.
pub(super) struct First {
    body: Body,
    judge: Option<Judge>,
    held: VecDeque<Bytes>,
}

impl First {
    pub(super) fn judged(body: Body, judge: Judge) -> Body {
        Body::new(Self { body, judge: Some(judge), held: VecDeque::new() })
    }

    /// The first message, when all of it is there.
    fn message(&self) -> Result<Option<Bytes>, Status> {
        let there: usize = self.held.iter().map(Bytes::len).sum();
        let mut all = BytesMut::with_capacity(there.min(PREFIX));
        for piece in &self.held {
            let needed = PREFIX.saturating_sub(all.len()).min(piece.len());
            all.extend_from_slice(piece.get(..needed).unwrap_or_default());
        }
        let head: &[u8] = &all;
        let &[compressed, a, b, c, d] = head else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::unimplemented("compressed messages are not read"));
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            let message = format!(
                "the message has {length} bytes, and {MAX_MESSAGE} are the most that are read"
            );
            return Err(Status::new(Code::OutOfRange, message));
        }
        let end = PREFIX.saturating_add(length);
        if there < end {
            return Ok(None);
        }
        let mut message = BytesMut::with_capacity(end);
        for piece in &self.held {
            let needed = end.saturating_sub(message.len()).min(piece.len());
            message.extend_from_slice(piece.get(..needed).unwrap_or_default());
        }
        Ok(Some(message.split_off(PREFIX).freeze()))
    }
}

impl HttpBody for First {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.judge.is_none()
                && let Some(piece) = self.held.pop_front()
            {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            if self.judge.is_none() {
                return polled;
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    // Requests have no trailers; without a whole message there is nothing to hand on.
                    let Ok(piece) = frame.into_data() else { return Poll::Ready(None) };
                    self.held.push_back(piece);
                }
                other => return other,
            }
            match self.message() {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let judged = self.judge.take().map_or(Ok(()), |judge| judge(&message));
                    if let Err(problem) = judged {
                        self.held.clear();
                        self.body = Body::empty();
                        return Poll::Ready(Some(Err(problem.into())));
                    }
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    /// A body in pieces of this size.
    fn pieces(bytes: &[u8], size: usize) -> Body {
        let frames: Vec<_> = bytes
            .chunks(size)
            .map(|c| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(c))))
            .collect();
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }

    fn message(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], text.as_bytes()].concat()
    }

    #[tokio::test]
    async fn the_first_message_is_judged_however_it_is_cut_and_all_is_handed_on() {
        let bytes = [message("first"), message("second")].concat();
        for size in 1..=bytes.len() {
            let judge = Box::new(|seen: &[u8]| {
                assert_eq!(seen, b"first");
                Ok(())
            });
            let handed = First::judged(pieces(&bytes, size), judge).collect().await.unwrap();
            assert_eq!(handed.to_bytes(), bytes, "{size}");
        }
    }

    #[tokio::test]
    async fn nothing_of_a_refused_message_is_handed_on() {
        let bytes = [message("first"), message("second")].concat();
        for size in [1, 7, bytes.len()] {
            let judge: Judge = Box::new(|_| Err(Problem::field("name", "NO", "no")));
            let mut body = First::judged(pieces(&bytes, size), judge);
            let refused = body.frame().await.unwrap().unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(body.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_no_whole_message_is_never_handed_on() {
        let judge = || -> Judge { Box::new(|_| panic!("there is no message")) };
        let cut = Body::new(Full::new(Bytes::from_static(b"\0\0\0\0\x05fir")));
        assert!(First::judged(cut, judge()).frame().await.is_none());
        assert!(First::judged(Body::empty(), judge()).frame().await.is_none());
        for (head, code) in
            [(&b"\x01\0\0\0\0"[..], Code::Unimplemented), (b"\0\xff\xff\xff\xff", Code::OutOfRange)]
        {
            let body = Body::new(Full::new(Bytes::copy_from_slice(head)));
            let refused = First::judged(body, judge()).frame().await.unwrap().unwrap_err();
            assert_eq!(refused.code(), code);
        }
    }
}
