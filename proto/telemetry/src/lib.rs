//! Spans to an OpenTelemetry collector, over OTLP with gRPC. Off unless an endpoint is given; then a part of all traces is recorded, and whatever a
//! caller has decided in its `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)) holds.
//!
//! Spans wait in a bounded queue and are lost rather than waited for. What is told of a request is chosen by whoever records a span; nothing here looks
//! at requests.

mod context;
mod export;
mod wire;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use http::Uri;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Endpoint;

pub use context::Context;
use export::Order;

/// So many spans wait to be sent; further ones are dropped.
const WAITING: usize = 4096;
/// What a fraction is counted in.
const WHOLE: f64 = 18_446_744_073_709_551_615.0;

/// The flags of tracing.
#[derive(Debug, Clone, Default, Args)]
pub struct TelemetryFlags {
    /// Send traces to an OpenTelemetry collector that speaks OTLP with gRPC there, for example http://127.0.0.1:4317; none are made if not given
    #[arg(long, env = "COUNTERSIGN_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Uri>,

    /// The part of traces that is recorded, from 0 to 1, of those that a caller has not decided about in its `traceparent`
    #[arg(long, env = "COUNTERSIGN_TRACE_SAMPLE", value_name = "FRACTION", default_value = "0.01", value_parser = fraction, requires = "otlp_endpoint")]
    trace_sample: Fraction,
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fraction(f64);

impl TelemetryFlags {
    /// What they say; `None` when nothing is to be traced.
    #[must_use]
    pub fn settings(self) -> Option<Settings> {
        let Self { otlp_endpoint, trace_sample } = self;
        Some(Settings { endpoint: otlp_endpoint?, sample: trace_sample.0 })
    }
}

fn fraction(text: &str) -> Result<Fraction, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(Fraction(part)),
        _ => Err("a fraction from 0 to 1, as 0.01".to_owned()),
    }
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The collector, an `http` URL.
    pub endpoint: Uri,
    /// The part of traces that is recorded, from 0 to 1.
    pub sample: f64,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No URL of a collector.
    #[error(
        "{0} is no URL of a collector; it looks like http://127.0.0.1:4317. TLS is for a collector beside this process to speak"
    )]
    Endpoint(Uri),
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within a process.
    Internal,
    /// The answer to a request.
    Server,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Makes spans.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    orders: mpsc::Sender<Order>,
    /// A trace is recorded whose number is not greater.
    up_to: u64,
    dropped: AtomicU64,
}

/// A span that is recorded when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    record: Option<Record>,
}

/// Everything of a span.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    context: Context,
    parent: Option<[u8; 8]>,
    name: Cow<'static, str>,
    kind: Kind,
    /// Nanoseconds since the epoch.
    start: u64,
    /// Nanoseconds since the epoch; 0 until it has ended.
    end: u64,
    attributes: Vec<(&'static str, Value)>,
    /// Why it failed.
    failure: Option<String>,
}

impl Tracer {
    /// Begins to send spans of a service, `countersign-responder` say, and of this instance of it, from the current runtime. That the collector is away is
    /// no error.
    ///
    /// # Errors
    /// When the collector's URL is none.
    pub fn start(
        settings: &Settings,
        service: &'static str,
        instance: &str,
    ) -> Result<Self, SettingsError> {
        let uri = &settings.endpoint;
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
            return Err(SettingsError::Endpoint(uri.clone()));
        }
        let endpoint = Endpoint::from(uri.clone()).connect_timeout(Duration::from_secs(5));
        let (orders, receiver) = mpsc::channel(WAITING);
        let resource = wire::resource(service, instance);
        tokio::spawn(export::run(endpoint.connect_lazy(), resource, receiver));
        let inner = Inner { orders, up_to: up_to(settings.sample), dropped: AtomicU64::new(0) };
        Ok(Self(Arc::new(inner)))
    }

    /// Begins a span now; `None` when its trace is not recorded.
    #[must_use]
    pub fn span(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        parent: Option<Context>,
    ) -> Option<Span> {
        self.span_at(name, kind, parent, now())
    }

    /// The same for one that began then, in nanoseconds since the epoch.
    #[must_use]
    pub fn span_at(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        parent: Option<Context>,
        start: u64,
    ) -> Option<Span> {
        let (ids, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let trace_id = parent.map_or(*ids.as_bytes(), |parent| parent.trace_id);
        let sampled = parent.map_or_else(|| self.samples(trace_id), |parent| parent.sampled);
        if !sampled {
            return None;
        }
        let (_, low) = other.as_u64_pair();
        // The version and the variant of a UUID are in other bits, or the same in all; 0 would be no id.
        let span_id = low.max(1).to_be_bytes();
        let record = Record {
            context: Context { trace_id, span_id, sampled },
            parent: parent.map(|parent| parent.span_id),
            name: name.into(),
            kind,
            start,
            end: 0,
            attributes: Vec::new(),
            failure: None,
        };
        Some(Span { tracer: self.clone(), record: Some(record) })
    }

    /// Whether a trace that begins here is recorded.
    fn samples(&self, trace_id: [u8; 16]) -> bool {
        // The last eight bytes are random but for two bits at their begin, which are shifted out.
        let (_, low) = uuid::Uuid::from_bytes(trace_id).as_u64_pair();
        self.0.up_to > 0 && low << 2 <= self.0.up_to
    }

    fn record(&self, record: Record) {
        if self.0.orders.try_send(Order::Span(Box::new(record))).is_err() {
            let before = self.0.dropped.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                tracing::warn!("spans come faster than the collector takes them; some are lost");
            }
        }
    }

    /// Sends what is left, within this time.
    pub async fn finish(&self, limit: Duration) {
        let (done, sent) = oneshot::channel();
        let flush = async {
            if self.0.orders.send(Order::Flush(done)).await.is_ok() {
                drop(sent.await);
            }
        };
        if tokio::time::timeout(limit, flush).await.is_err() {
            tracing::debug!("the last spans were not taken in time");
        }
    }
}

/// The greatest number of a trace that is recorded.
fn up_to(part: f64) -> u64 {
    if part >= 1.0 {
        return u64::MAX;
    }
    // Found by halving, so that no float has to become an integer.
    let (mut low, mut high) = (0_u64, u64::MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if as_float(middle) <= part * WHOLE { low = middle } else { high = middle - 1 }
    }
    low
}

fn as_float(number: u64) -> f64 {
    let high = u32::try_from(number >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// The time now, in nanoseconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Span {
    /// Gives it another name.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(record) = &mut self.record {
            record.name = name.into();
        }
    }

    /// Adds what is known. Never a body, a token or a key.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(record) = &mut self.record {
            record.attributes.push((name, value.into()));
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(record) = &mut self.record {
            record.failure = Some(why.into());
        }
    }

    /// What spans below it have for their parent.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        self.record.as_ref().map(|record| record.context)
    }

    /// Ends it then, in nanoseconds since the epoch.
    pub fn end_at(mut self, end: u64) {
        if let Some(record) = &mut self.record {
            record.end = end;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            if record.end == 0 {
                record.end = now();
            }
            self.tracer.record(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_between_nothing_and_everything() {
        assert_eq!((up_to(0.0), up_to(1.0)), (0, u64::MAX));
        let half = up_to(0.5);
        assert!((half >> 32).abs_diff(1 << 31) < 2, "{half}");
        for wrong in ["", "x", "-0.1", "1.1", "NaN"] {
            assert!(fraction(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_caller_decides_or_else_the_fraction() {
        let tracer = |sample| {
            let endpoint = "http://127.0.0.1:1".parse().unwrap();
            Tracer::start(&Settings { endpoint, sample }, "test", "one").unwrap()
        };
        let parent = |sampled| Some(Context { trace_id: [1; 16], span_id: [2; 8], sampled });
        let (all, none) = (tracer(1.0), tracer(0.0));
        assert!(all.span("x", Kind::Internal, None).is_some());
        assert!(all.span("x", Kind::Internal, parent(false)).is_none());
        assert!(none.span("x", Kind::Internal, None).is_none());
        let span = none.span("x", Kind::Internal, parent(true)).unwrap();
        assert_eq!(span.context().unwrap().trace_id, [1; 16]);
        let half = tracer(0.5);
        let made = (0..2000).filter(|_| half.span("x", Kind::Internal, None).is_some()).count();
        assert!((700..1300).contains(&made), "{made}");
    }

    #[tokio::test]
    async fn a_collector_is_an_http_url() {
        for url in ["https://a:4317", "ftp://a", "/x"] {
            let settings = Settings { endpoint: url.parse().unwrap(), sample: 1.0 };
            assert!(Tracer::start(&settings, "test", "one").is_err(), "{url}");
        }
    }
}
