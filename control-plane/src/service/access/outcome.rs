//! An answer that is followed to its end, so that the audit log tells how it ended.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use crate::audit::{Audit, Entry};

/// What becomes of a call. It is listed when the last of it is dropped.
pub(super) struct Follow {
    audit: Audit,
    /// Whether it is listed even if nothing was refused.
    always: bool,
    state: Mutex<State>,
}

struct State {
    entry: Entry,
    /// How it ended; a call that is dropped before was given up.
    code: Code,
}

impl Follow {
    pub(super) fn new(audit: Audit, entry: Entry, always: bool) -> Arc<Self> {
        Arc::new(Self { audit, always, state: Mutex::new(State { entry, code: Code::Cancelled }) })
    }

    /// Changes what will be listed.
    pub(super) fn note(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).entry);
    }

    fn ended(&self, code: Code) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.code = code;
        if matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
            state.entry.refuse();
        }
    }

    /// Follows an answer to its end.
    pub(super) fn answer(self: Arc<Self>, answer: Response<Body>) -> Response<Body> {
        // An answer of gRPC without messages says how it ended at its beginning.
        if let Some(code) = code(answer.headers()) {
            self.ended(code);
            return answer;
        }
        answer.map(|body| Body::new(Followed { body, follow: self }))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.always || state.entry.is_refused() {
            self.audit.list(state.entry.clone(), state.code);
        }
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

struct Followed {
    body: Body,
    follow: Arc<Follow>,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    self.follow.ended(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.follow.ended(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
