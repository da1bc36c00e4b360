//! Calls of the gRPC services: how many, how they ended, how long they took until they were answered. A stream is answered when it begins.
//!
//! What a caller may name freely makes no label: a call of no service of ours is called `unknown`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Instant,
};

use countersign_telemetry::{Context, Kind, Span, Tracer};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use crate::{code::name, service::methods::methods};

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
    /// `None` where nothing is traced.
    tracer: Option<Tracer>,
}

impl Calls {
    /// None yet, to be recorded where there is a tracer.
    pub(super) fn new(tracer: Option<Tracer>) -> Self {
        let mut known: Vec<(String, Method)> = methods()
            .into_iter()
            .map(|(service, method)| {
                let path = format!("/{service}/{method}");
                (path, Method { service: service.into(), method: method.into() })
            })
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        Self {
            calls: Family::default(),
            times: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            known,
            tracer,
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

    /// Begins a span for a call, below that of its caller.
    fn span<B>(&self, method: &Method, request: &http::Request<B>) -> Option<Span> {
        let tracer = self.tracer.as_ref()?;
        let parent = request.headers().get(Context::HEADER).and_then(|value| value.to_str().ok());
        let parent = parent.and_then(Context::parse);
        let mut span = tracer.span("call", Kind::Server, parent)?;
        span.rename(format!("{}/{}", method.service, method.method));
        span.set("rpc.system", "grpc");
        span.set("rpc.service", &*method.service);
        span.set("rpc.method", &*method.method);
        Some(span)
    }

    fn note(&self, method: Method, code: Code, begun: Instant) {
        self.times.get_or_create(&method).observe(begun.elapsed().as_secs_f64());
        let Method { service, method } = method;
        self.calls.get_or_create(&Ended { service, method, code: name(code) }).inc();
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

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        let method = self.calls.method(request.uri().path());
        let call = Call {
            span: self.calls.span(&method, &request),
            method,
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
    span: Option<Span>,
    begun: Instant,
    calls: Arc<Calls>,
}

impl<F> Counted<F> {
    fn end(&mut self, code: Code) {
        if let Some(Call { method, span, begun, calls }) = self.call.take() {
            if let Some(mut span) = span {
                span.set("rpc.grpc.status_code", i64::from(i32::from(code)));
                if code != Code::Ok {
                    span.fail(name(code));
                }
            }
            calls.note(method, code, begun);
        }
    }
}

impl<F, B> Future for Counted<F>
where
    F: Future<Output = Result<http::Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
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
        let calls = Calls::new(None);
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
