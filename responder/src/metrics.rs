//! What is counted. The request path adds to plain atomics of its own worker, with relaxed order; everything is summed up when a scraper asks.

mod replays;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_engine::answer::Touched;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        info::Info,
    },
    registry::Registry,
};
use replays::Replays;

use crate::report::Reports;

/// The version of the process.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All counters of a responder.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    lanes: Lanes,
    /// What is counted of each replay.
    pub(crate) reports: Arc<Reports>,
    /// Open data connections.
    pub(crate) connections: Gauge,
    /// Data connections accepted so far.
    pub(crate) accepted: Counter,
    /// Failures of `accept`.
    pub(crate) accept_errors: Counter,
    /// TLS handshakes that were done.
    pub(crate) handshakes: Counter,
    /// TLS handshakes that failed.
    pub(crate) handshake_failures: Counter,
    /// Tunnels that were opened.
    pub(crate) tunnels: Counter,
    /// Bundles that were swapped in.
    pub(crate) swaps: Counter,
    /// Bundles that were refused.
    pub(crate) nacks: Counter,
    /// Bytes of blobs that were fetched from a control plane.
    pub(crate) fetched: Counter,
    /// Subscriptions opened anew because the control plane expected another state.
    pub(crate) resyncs: Counter,
    /// Breaks in the order of turns that nodes share, by what they come from.
    sequence_breaks: Family<[(&'static str, &'static str); 1], Counter>,
    /// Secrets that became unusable.
    pub(crate) secret_errors: Counter,
    /// The generation of the key ring.
    pub(crate) key_ring: Gauge,
    /// Whether the subscription is open.
    pub(crate) subscribed: Gauge,
    /// Whether the responder is ready.
    pub(crate) ready: Gauge,
    /// How many replays are served.
    pub(crate) replays: Gauge,
    /// Requests that the journal has no entry of.
    pub(crate) journal_dropped: Counter,
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Lane {
    number: usize,
    hits: AtomicU64,
    borrowed: AtomicU64,
    misses: AtomicU64,
    passed: AtomicU64,
    unavailable: AtomicU64,
    refused: AtomicU64,
    defects: AtomicU64,
    signed: AtomicU64,
    unsigned: AtomicU64,
    touched: Touches,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

/// What chaos has done to answers, by kind.
#[derive(Debug)]
struct Touches([AtomicU64; Touched::KINDS.len()]);

impl Default for Touches {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::default()))
    }
}

#[derive(Debug, Clone)]
struct Lanes(Arc<[Arc<Lane>]>);

impl Metrics {
    pub(crate) fn new(lanes: usize) -> Self {
        let reports = Arc::new(Reports::new(lanes.max(1)));
        let mut metrics = Self {
            reports,
            registry: Registry::default(),
            lanes: Lanes((0..lanes.max(1)).map(Lane::new).collect()),
            connections: Gauge::default(),
            accepted: Counter::default(),
            accept_errors: Counter::default(),
            handshakes: Counter::default(),
            handshake_failures: Counter::default(),
            tunnels: Counter::default(),
            swaps: Counter::default(),
            nacks: Counter::default(),
            fetched: Counter::default(),
            resyncs: Counter::default(),
            sequence_breaks: Family::default(),
            secret_errors: Counter::default(),
            key_ring: Gauge::default(),
            subscribed: Gauge::default(),
            ready: Gauge::default(),
            replays: Gauge::default(),
            journal_dropped: Counter::default(),
        };
        metrics.registry = metrics.registered();
        for reason in ["alone", "lost", "skipped"] {
            // So that a rate begins at 0.
            metrics.break_sequence(reason, 0);
        }
        metrics
    }

    /// All of them, under the names by which they are asked for.
    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix("countersign");
        registry.register("connections", "Open data connections", self.connections.clone());
        registry.register(
            "connections_accepted",
            "Data connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "accept_errors",
            "Failures to accept a connection",
            self.accept_errors.clone(),
        );
        registry.register("tls_handshakes", "TLS handshakes done", self.handshakes.clone());
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that failed",
            self.handshake_failures.clone(),
        );
        registry.register("tunnels", "Tunnels opened by CONNECT", self.tunnels.clone());
        registry.register("bundle_swaps", "Bundles swapped in", self.swaps.clone());
        registry.register("nacks", "Bundles refused", self.nacks.clone());
        registry.register(
            "fetched_bytes",
            "Bytes of blobs fetched from a control plane",
            self.fetched.clone(),
        );
        registry.register(
            "resyncs",
            "Subscriptions opened anew because the control plane expected another state",
            self.resyncs.clone(),
        );
        registry.register(
            "sequence_discontinuity",
            "Breaks in the order of turns that nodes share, by reason",
            self.sequence_breaks.clone(),
        );
        registry.register(
            "secret_reload_errors",
            "Secrets that became unusable",
            self.secret_errors.clone(),
        );
        registry.register(
            "key_ring_generation",
            "Generation of the key ring",
            self.key_ring.clone(),
        );
        registry.register(
            "subscription_connected",
            "Whether the control plane is connected",
            self.subscribed.clone(),
        );
        registry.register("ready", "Whether the responder is ready", self.ready.clone());
        registry.register("replays", "Replays that are served", self.replays.clone());
        registry.register(
            "journal_dropped",
            "Requests that the journal has no entry of, because others were being noted or read",
            self.journal_dropped.clone(),
        );
        registry.register_collector(Box::new(self.lanes.clone()));
        registry.register_collector(Box::new(Replays::new(Arc::clone(&self.reports))));
        registry.register("build", "The version of the process", Info::new([("version", VERSION)]));
        registry.register("start_time_seconds", "When it began", began());
        registry
    }

    /// Counts breaks in the order of turns.
    pub(crate) fn break_sequence(&self, reason: &'static str, count: u64) {
        self.sequence_breaks.get_or_create(&[("reason", reason)]).inc_by(count);
    }

    /// The counters of the n-th worker.
    pub(crate) fn lane(&self, worker: usize) -> Arc<Lane> {
        let lane = worker.checked_rem(self.lanes.0.len()).and_then(|index| self.lanes.0.get(index));
        lane.map_or_else(Arc::default, Arc::clone)
    }

    /// Everything as OpenMetrics text.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

impl Lane {
    fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, ..Self::default() })
    }

    /// Which one it is.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Counts an answer that was recorded for somebody else, for want of an own one.
    pub(crate) fn borrowed(&self) {
        add(&self.borrowed, 1);
    }

    /// Counts an answer and its tokens.
    pub(crate) fn hit(&self, signed: u32, unsigned: u32) {
        add(&self.hits, 1);
        if signed > 0 {
            add(&self.signed, u64::from(signed));
        }
        if unsigned > 0 {
            add(&self.unsigned, u64::from(unsigned));
        }
    }

    /// Counts what has befallen an answer.
    pub(crate) fn touched(&self, touched: Touched) {
        for counter in touched.kinds().filter_map(|kind| self.touched.0.get(kind)) {
            add(counter, 1);
        }
    }

    /// Counts a request that nothing recorded answers.
    pub(crate) fn miss(&self) {
        add(&self.misses, 1);
    }

    /// Counts a request that went to the real host.
    pub(crate) fn passed(&self) {
        add(&self.passed, 1);
    }

    /// Counts a request that came before there was anything to serve.
    pub(crate) fn unavailable(&self) {
        add(&self.unavailable, 1);
    }

    /// Counts the body of a request.
    pub(crate) fn request_body(&self, bytes: usize) {
        add(&self.request_bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts the body of a recorded response.
    pub(crate) fn response_body(&self, bytes: usize) {
        add(&self.response_bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts a request whose answer ended in a defect of the engine.
    pub(crate) fn defect(&self) {
        add(&self.defects, 1);
    }

    /// Counts a request that could not be read.
    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }
}

/// The time now, in seconds since the epoch.
fn began() -> Gauge {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let gauge = Gauge::default();
    gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
    gauge
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Lanes {
    fn sum(&self, counter: impl Fn(&Lane) -> &AtomicU64) -> u64 {
        self.0.iter().map(|lane| counter(lane).load(Ordering::Relaxed)).sum()
    }
}

impl Lanes {
    /// Also what has befallen nobody, so that a rate begins at 0.
    fn encode_touches(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = |kind: usize| -> u64 {
            let counters = self.0.iter().filter_map(|lane| lane.touched.0.get(kind));
            counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        let counts = Touched::KINDS.iter().enumerate().map(|(nth, kind)| (*kind, sum(nth)));
        let mut chaos = encoder.encode_descriptor(
            "chaos",
            "What has befallen answers, by effect.",
            None,
            MetricType::Counter,
        )?;
        for (effect, count) in counts {
            ConstCounter::new(count).encode(chaos.encode_family(&[("effect", effect)])?)?;
        }
        Ok(())
    }
}

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let results = [
            ("hit", self.sum(|lane| &lane.hits)),
            ("miss", self.sum(|lane| &lane.misses)),
            ("passthrough", self.sum(|lane| &lane.passed)),
            ("unavailable", self.sum(|lane| &lane.unavailable)),
            ("refused", self.sum(|lane| &lane.refused)),
            ("defect", self.sum(|lane| &lane.defects)),
        ];
        let mut requests = encoder.encode_descriptor(
            "requests",
            "Requests by result.",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in results {
            ConstCounter::new(count).encode(requests.encode_family(&[("result", result)])?)?;
        }
        let results = [
            ("signed", self.sum(|lane| &lane.signed)),
            ("unsigned", self.sum(|lane| &lane.unsigned)),
        ];
        let mut tokens =
            encoder.encode_descriptor("tokens", "Tokens by result.", None, MetricType::Counter)?;
        for (result, count) in results {
            ConstCounter::new(count).encode(tokens.encode_family(&[("result", result)])?)?;
        }
        self.encode_touches(&mut encoder)?;
        for (name, help, count) in [
            ("request_bytes", "Bytes of request bodies.", self.sum(|lane| &lane.request_bytes)),
            ("response_bytes", "Bytes of recorded bodies.", self.sum(|lane| &lane.response_bytes)),
            (
                "borrowed_hits",
                "Hits with one of several answers, none of which was recorded for whoever asked.",
                self.sum(|lane| &lane.borrowed),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_up() {
        let metrics = Metrics::new(2);
        metrics.lane(0).hit(2, 1);
        metrics.lane(1).borrowed();
        metrics.lane(1).hit(1, 0);
        metrics.lane(2).miss();
        metrics.lane(1).unavailable();
        metrics.nacks.inc();
        metrics.break_sequence("lost", 2);
        let text = metrics.render().unwrap();
        for line in [
            r#"countersign_requests_total{result="hit"} 2"#,
            r#"countersign_requests_total{result="miss"} 1"#,
            r#"countersign_requests_total{result="unavailable"} 1"#,
            r#"countersign_tokens_total{result="signed"} 3"#,
            r#"countersign_tokens_total{result="unsigned"} 1"#,
            "countersign_nacks_total 1",
            r#"countersign_sequence_discontinuity_total{reason="lost"} 2"#,
            "countersign_borrowed_hits_total 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
    }
}
