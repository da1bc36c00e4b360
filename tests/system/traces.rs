//! Spans at a collector: what a request, a call and a rollout leave there, and what never gets there.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use harness::wait_until;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;

use crate::reports::World;

/// What a collector reads, by the field numbers of opentelemetry-proto 1.x: `ExportTraceServiceRequest`, `ResourceSpans`, `ScopeSpans`, `Span`,
/// `KeyValue`, `AnyValue`.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

/// The value of an attribute as text.
fn value(of: &[KeyValue], key: &str) -> Option<String> {
    let value = of.iter().find(|it| it.key == key)?.value.clone()?;
    value.text.or_else(|| value.number.map(|number| number.to_string()))
}

/// Takes spans, as a collector does, and keeps them with the name of the service.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let own = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                let service = service_fn(move |request| own.clone().take(request));
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        (collector, addr)
    }

    async fn take(
        self,
        request: Request<Incoming>,
    ) -> Result<
        Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>,
        hyper::Error,
    > {
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        assert_eq!(request.uri().path(), path);
        let body = request.into_body().collect().await?.to_bytes();
        // A frame: whether it is compressed, its length, the message.
        let export = Export::decode(&body[5..]).unwrap();
        let mut spans = self.spans.lock().unwrap();
        for of in export.resource_spans {
            let service = value(&of.resource.unwrap().attributes, "service.name").unwrap();
            let all = of.scope_spans.into_iter().flat_map(|it| it.spans);
            spans.extend(all.map(|span| (service.clone(), span)));
        }
        drop(spans);
        let end = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        let body = Full::new(Bytes::from_static(&[0; 5]));
        let mut response = Response::new(body.with_trailers(async move { Some(Ok(end)) }));
        let kind = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        Ok(response)
    }

    /// A span of this service and name, once it is there.
    async fn span(&self, service: &str, name: &str) -> Span {
        wait_until(&format!("{service} has told of `{name}`"), || async {
            let spans = self.spans.lock().unwrap();
            let found = spans.iter().find(|(of, span)| of == service && span.name == name);
            found.map(|(_, span)| span.clone())
        })
        .await
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const UNWANTED: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_all_planes_reach_a_collector() {
    let (collector, addr) = Collector::start().await;
    let endpoint = format!("http://{addr}");
    let traced = ["--otlp-endpoint", &endpoint, "--trace-sample", "1"];
    let world = World::with(&traced).await;
    let node = world.node("one", &traced).await;
    world.start();
    let ask = async |trace: &str, flags: &str, path: &str| {
        let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}").parse().unwrap();
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), parent)]);
        node.data.send(Method::GET, path, headers, "".into()).await
    };
    ask(UNWANTED, "00", "/orders/1?secret=canary").await;
    ask(TRACE, "01", "/orders/1?secret=canary").await;
    ask(TRACE, "01", "/orders/1").await;
    ask(TRACE, "01", "/login").await;

    let hit = collector.span("countersign-responder", "GET /orders/{id}").await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let about = |key| value(&hit.attributes, key);
    assert_eq!(
        (hex(&hit.trace_id), hex(&hit.parent_span_id)),
        (TRACE.into(), "00f067aa0ba902b7".into())
    );
    assert_eq!((hit.kind, hit.span_id.len()), (2, 8));
    assert!(hit.start_time_unix_nano <= hit.end_time_unix_nano);
    assert_eq!(about("countersign.replay").unwrap(), "projects/default/replays/r");
    assert!(about("countersign.bundle").is_some() && about("countersign.outcome").is_some());
    let login = collector.span("countersign-responder", "GET /login").await;
    assert_eq!(value(&login.attributes, "countersign.tokens.signed").unwrap(), "1");
    let whole = collector.span("countersign-responder", "serve a version").await;
    for part in ["fetch", "compile"] {
        let part = collector.span("countersign-responder", part).await;
        assert_eq!(
            (part.trace_id, part.parent_span_id),
            (whole.trace_id.clone(), whole.span_id.clone())
        );
    }
    let start = "countersign.control.v1.ReplayService/StartReplay";
    let start = collector.span("countersign-control-plane", start).await;
    assert_eq!(value(&start.attributes, "rpc.grpc.status_code").unwrap(), "0");
    let import = "countersign.control.v1.SnapshotService/CommitSnapshot";
    collector.span("countersign-control-plane", import).await;
    collector.span("countersign-control-plane", "rollout step").await;

    let spans = collector.spans.lock().unwrap();
    assert!(spans.iter().all(|(_, span)| hex(&span.trace_id) != UNWANTED), "a caller has decided");
    let text = format!("{spans:?}");
    for hidden in ["canary", "eyJ"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
}
