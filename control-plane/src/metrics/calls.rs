//! Calls of the gRPC services: how many, how they ended, how long they took until they were answered. A stream is answered when it begins.
//!
//! What a caller may name freely makes no label: a call of no service of ours is called `unknown`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use countersign_proto::FILE_DESCRIPTOR_SET;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

/// What a call of none of our services is called.
const UNKNOWN: &str = "unknown";

/// The upper bounds of the buckets, in seconds: imports take long.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    service: Arc<str>,
    method: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    service: Arc<str>,
    method: Arc<str>,
    code: &'static str,
}

/// The calls that were made.
#[derive(Debug)]
pub(super) struct Calls {
    calls: Family<Ended, Counter>,
    times: Family<Method, Histogram, fn() -> Histogram>,
    /// The paths of all methods, in order.
    known: Vec<(String, Method)>,
}

impl Default for Calls {
    fn default() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut known = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                known.extend(service.method.iter().map(|method| {
                    let labels =
                        Method { service: full.as_str().into(), method: method.name().into() };
                    (format!("/{full}/{}", method.name()), labels)
                }));
            }
        }
        known.sort_by(|a, b| a.0.cmp(&b.0));
        Self {
            calls: Family::default(),
            times: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            known,
        }
    }
}

impl Calls {
    pub(super) fn register(&self, registry: &mut Registry) {
        let calls = "Calls of the gRPC services by how they were answered; a stream is answered when it begins";
        registry.register("grpc_calls", calls, self.calls.clone());
        let times = "How long calls took until they were answered";
        registry.register("grpc_call_duration_seconds", times, self.times.clone());
    }

    fn method(&self, path: &str) -> Method {
        let at = self.known.binary_search_by(|known| known.0.as_str().cmp(path)).ok();
        let known = at.and_then(|at| self.known.get(at)).map(|known| known.1.clone());
        known.unwrap_or_else(|| Method { service: UNKNOWN.into(), method: UNKNOWN.into() })
    }

    fn note(&self, method: Method, code: Code, begun: Instant) {
        self.times.get_or_create(&method).observe(begun.elapsed().as_secs_f64());
        let Method { service, method } = method;
        self.calls.get_or_create(&Ended { service, method, code: name(code) }).inc();
    }
}

/// A code as specifications write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Stands before all services.
#[derive(Debug, Clone)]
pub(crate) struct Observe(Arc<Calls>);

impl Observe {
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        Self(calls)
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, calls: Arc::clone(&self.0) }
    }
}

/// Services whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S, R, B> Service<http::Request<R>> for Observed<S>
where
    S: Service<http::Request<R>, Response = http::Response<B>, Error = Infallible>,
{
    type Response = http::Response<B>;
    type Error = Infallible;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        let call = Call {
            method: self.calls.method(request.uri().path()),
            begun: Instant::now(),
            calls: Arc::clone(&self.calls),
        };
        Counted { inner: Box::pin(self.inner.call(request)), call: Some(call) }
    }
}

/// A call that goes on; when it is given up before it is answered, it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Counted<F> {
    inner: Pin<Box<F>>,
    call: Option<Call>,
}

#[derive(Debug)]
struct Call {
    method: Method,
    begun: Instant,
    calls: Arc<Calls>,
}

impl<F> Counted<F> {
    fn end(&mut self, code: Code) {
        if let Some(Call { method, begun, calls }) = self.call.take() {
            calls.note(method, code, begun);
        }
    }
}

impl<F, B> Future for Counted<F>
where
    F: Future<Output = Result<http::Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let answered = ready!(self.inner.as_mut().poll(cx));
        if let Ok(response) = &answered {
            // What is refused at once has its status among the header fields.
            let status = response.headers().get("grpc-status");
            let code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
            self.end(code);
        }
        Poll::Ready(answered)
    }
}

impl<F> Drop for Counted<F> {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_ours_have_a_label() {
        let calls = Calls::default();
        let known = calls.method("/countersign.control.v1.ReplayService/GetReplay");
        assert_eq!(
            (&*known.service, &*known.method),
            ("countersign.control.v1.ReplayService", "GetReplay")
        );
        for path in ["", "/x/y", "/countersign.control.v1.ReplayService/Other"] {
            assert_eq!(&*calls.method(path).service, UNKNOWN, "{path}");
        }
    }
}
