//! What a chain works on: a request before it is matched, or a response before it is sent.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    extra, grpc,
    request::Parts,
    snapshot::{Direction, Header, HttpResponse, RrPair},
    timing::Timing,
    transform::world::{Bodies, Finalizer, MAX_DELAY},
};

/// One message of a pair.
#[derive(Debug)]
pub(crate) enum Message<'m> {
    /// A request, recorded or live.
    Request(&'m mut Parts),
    /// A recorded response on its way out.
    Response(&'m mut Reply),
}

/// A list of fields of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fields {
    Headers,
    Trailers,
}

impl Message<'_> {
    /// The n-th field of a name.
    pub(crate) fn field(&self, of: Fields, name: &str, index: usize) -> Option<&Bytes> {
        match self {
            Self::Request(parts) => {
                let fields = match of {
                    Fields::Headers => &parts.headers,
                    Fields::Trailers => &parts.trailers,
                };
                let mut named = fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
                named.nth(index).map(|field| &field.1)
            }
            Self::Response(reply) => {
                let fields = match of {
                    Fields::Headers => &reply.response.headers,
                    Fields::Trailers => &reply.trailers,
                };
                let mut named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
                named.nth(index).map(|field| &field.value)
            }
        }
    }

    /// Sets the n-th field of a name, which is added when there are not so many; `None` takes it away.
    pub(crate) fn set_field(&mut self, of: Fields, name: &str, index: usize, value: Option<Bytes>) {
        match self {
            Self::Request(parts) => {
                let fields = match of {
                    Fields::Headers => &mut parts.headers,
                    Fields::Trailers => &mut parts.trailers,
                };
                let is = |field: &(String, Bytes)| field.0.eq_ignore_ascii_case(name);
                set(fields, index, is, value.map(|value| (name.to_owned(), value)), |old, new| {
                    old.1 = new.1;
                });
            }
            Self::Response(reply) => {
                let fields = match of {
                    Fields::Headers => &mut reply.response.headers,
                    Fields::Trailers => &mut reply.trailers,
                };
                let is = |field: &Header| field.name.eq_ignore_ascii_case(name);
                let new = value.map(|value| Header { name: name.to_owned(), value });
                set(fields, index, is, new, |old, new| old.value = new.value);
            }
        }
    }

    /// Whether the body is one of gRPC, and if so whether its form is a list.
    pub(crate) fn call(&self) -> Option<bool> {
        let content_type = self.field(Fields::Headers, "content-type", 0)?;
        grpc::is_grpc(content_type).then_some(match self {
            Self::Request(parts) => parts.listed,
            Self::Response(reply) => reply.listed,
        })
    }

    /// The body's bytes.
    pub(crate) fn body(&self) -> &Bytes {
        match self {
            Self::Request(parts) => &parts.body,
            Self::Response(reply) => &reply.response.body,
        }
    }

    /// Sets the body.
    pub(crate) fn set_body(&mut self, body: Bytes) {
        match self {
            Self::Request(parts) => {
                parts.body = body;
                parts.body_hash = None;
            }
            Self::Response(reply) => reply.response.body = body,
        }
    }

    /// Does what chains left to be done with whole bodies, and returns what concerns the other message.
    pub(crate) fn finish(&mut self, finalizers: Vec<Finalizer>) -> Vec<Finalizer> {
        let mut later = Vec::new();
        let call = self.call();
        for finalizer in finalizers {
            let (body, own, other) = match self {
                Self::Request(parts) => (&mut parts.body, Bodies::Request, Bodies::Response),
                Self::Response(reply) => {
                    (&mut reply.response.body, Bodies::Response, Bodies::Request)
                }
            };
            let edit = || match call {
                Some(listed) => grpc::edited(body, listed, |form| (finalizer.edit)(form)),
                None => (finalizer.edit)(body),
            };
            if finalizer.of != other
                && let Some(new) = edit()
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

/// Sets the n-th of the fields meant, keeping its name as it was written.
fn set<T>(
    fields: &mut Vec<T>,
    index: usize,
    is: impl Fn(&T) -> bool,
    new: Option<T>,
    renew: impl Fn(&mut T, T),
) {
    let at = fields.iter().enumerate().filter(|(_, field)| is(field)).nth(index).map(|(at, _)| at);
    match (at, new) {
        (Some(at), None) => drop(fields.remove(at)),
        (Some(at), Some(new)) => {
            if let Some(field) = fields.get_mut(at) {
                renew(field, new);
            }
        }
        (None, Some(new)) => fields.push(new),
        (None, None) => {}
    }
}

/// A response and what chains may change about how it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    pub(crate) response: HttpResponse,
    pub(crate) trailers: Vec<Header>,
    /// Calls of this gRPC method have several answers, so a body's form is a list.
    pub(crate) listed: bool,
    /// How long the answer takes, once a chain has set it.
    pub(crate) latency: Option<Duration>,
    /// How long chains hold the answer back, besides.
    pub(crate) held: Duration,
    /// How long the recorded answer took.
    pub(crate) recorded_latency: Duration,
    /// The session of the pair.
    pub(crate) session: String,
    /// `host:port` of the recorded upstream.
    pub(crate) upstream: String,
    /// What else the recording says of the pair, by its path in an RRPair.
    pub(crate) about: Arc<[(String, String)]>,
}

impl Reply {
    /// The recorded response of a pair.
    pub(crate) fn of(pair: &RrPair) -> Self {
        Self {
            response: pair.response.clone(),
            trailers: extra::trailers(pair, "res"),
            listed: false,
            latency: None,
            held: Duration::ZERO,
            recorded_latency: Duration::from_nanos(pair.duration),
            session: pair.session.clone(),
            upstream: pair.network_address.clone(),
            about: about(pair).into(),
        }
    }

    /// The same without what only chains ask for.
    pub(crate) fn without_context(pair: &RrPair) -> Self {
        Self {
            response: pair.response.clone(),
            trailers: extra::trailers(pair, "res"),
            recorded_latency: Duration::from_nanos(pair.duration),
            ..Self::default()
        }
    }

    /// Holds the answer back for longer.
    pub(crate) fn hold(&mut self, longer: Duration) {
        self.held = self.held.saturating_add(longer).min(MAX_DELAY);
    }

    /// How long the answer is held back, all in all. What a chain has set is meant as it is; else `timing` says what becomes of the
    /// recorded time.
    pub(crate) fn delay(&self, timing: Timing) -> Duration {
        let latency = self.latency.unwrap_or_else(|| timing.of(self.recorded_latency));
        latency.saturating_add(self.held)
    }
}

/// What is known of a pair besides its messages.
fn about(pair: &RrPair) -> Vec<(String, String)> {
    let version = pair.request.as_ref().map(|request| request.version.clone()).unwrap_or_default();
    let direction = match pair.direction {
        Direction::In => "IN",
        Direction::Out => "OUT",
    };
    let at = pair.ts.and_then(|ts| jiff::Timestamp::from_nanosecond(ts.into()).ok());
    let id = pair.uuid.map(|id| uuid::Uuid::from_bytes(id).to_string());
    let own = [
        ("service", pair.service.clone()),
        ("cluster", pair.cluster.clone()),
        ("namespace", pair.namespace.clone()),
        ("tech", pair.tech.clone()),
        ("l7protocol", pair.l7protocol.clone()),
        ("status", pair.status.clone()),
        ("direction", direction.to_owned()),
        ("duration", (pair.duration / 1_000_000).to_string()),
        ("http.req.version", version),
        ("ts", at.map(|at| at.to_string()).unwrap_or_default()),
        ("uuid", id.unwrap_or_default()),
    ];
    let tags = pair.tags.iter().map(|(tag, value)| (format!("tags.{tag}"), value.clone()));
    let own = own.into_iter().filter(|known| !known.1.is_empty());
    own.map(|(name, value)| (name.to_owned(), value)).chain(tags).collect()
}
