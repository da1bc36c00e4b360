//! What a chain works on: a request before it is matched, or a response before it is sent.

use std::time::Duration;

use crate::{
    request::Parts,
    snapshot::{HttpResponse, RrPair},
    transform::world::{Bodies, Finalizer},
};

/// One message of a pair.
#[derive(Debug)]
pub(crate) enum Message<'m> {
    /// A request, recorded or live.
    Request(&'m mut Parts),
    /// A recorded response on its way out.
    Response(&'m mut Reply),
}

impl Message<'_> {
    /// Does what chains left to be done with whole bodies, and returns what concerns the other message.
    pub(crate) fn finish(&mut self, finalizers: Vec<Finalizer>) -> Vec<Finalizer> {
        let mut later = Vec::new();
        for finalizer in finalizers {
            let (body, own, other) = match self {
                Self::Request(parts) => (&mut parts.body, Bodies::Request, Bodies::Response),
                Self::Response(reply) => {
                    (&mut reply.response.body, Bodies::Response, Bodies::Request)
                }
            };
            if finalizer.of != other
                && let Some(new) = (finalizer.edit)(body)
            {
                *body = new.into();
            }
            if finalizer.of != own {
                later.push(finalizer);
            }
        }
        later
    }
}

/// A response and what chains may change about how it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    pub(crate) response: HttpResponse,
    /// How long the answer takes, once a chain has set it.
    pub(crate) latency: Option<Duration>,
    /// How long the recorded answer took.
    pub(crate) recorded_latency: Duration,
    /// The session of the pair.
    pub(crate) session: String,
    /// `host:port` of the recorded upstream.
    pub(crate) upstream: String,
}

impl Reply {
    /// The recorded response of a pair.
    pub(crate) fn of(pair: &RrPair) -> Self {
        Self {
            response: pair.response.clone(),
            latency: None,
            recorded_latency: Duration::from_nanos(pair.duration),
            session: pair.session.clone(),
            upstream: pair.network_address.clone(),
        }
    }
}
