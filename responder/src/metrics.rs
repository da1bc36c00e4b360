//! What is counted. The request path adds to plain atomics of its own worker, with relaxed order; everything is summed up when a scraper asks.

mod certificate;
mod replays;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use certificate::Certificate;
use countersign_engine::answer::Touched;
use countersign_tls::client::ClientTls;
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

use crate::{logging, report::Reports};

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
    /// Connections that were closed because their source had as many as it may have.
    pub(crate) crowded: Counter,
    /// Panics, all of them defects.
    pub(crate) panics: Counter,
    /// Log lines that were dropped.
    pub(crate) lines_dropped: Counter,
    /// How far the memory is used up: 0, 1 where connections are closed, 2 where work is refused.
    pub(crate) pressure: Gauge,
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
    /// When the control plane was heard last, in seconds since the epoch; 0 before that.
    heard: Gauge,
    /// Whether the responder is ready.
    pub(crate) ready: Gauge,
    /// How many replays are served.
    pub(crate) replays: Gauge,
    /// Requests that the journal has no entry of.
    pub(crate) journal_dropped: Counter,
    certificate: Certificate,
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
            crowded: Counter::default(),
            panics: Counter::default(),
            lines_dropped: Counter::default(),
            pressure: Gauge::default(),
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
            heard: Gauge::default(),
            ready: Gauge::default(),
            replays: Gauge::default(),
            journal_dropped: Counter::default(),
            certificate: Certificate::default(),
        };
        metrics.registry = metrics.registered();
        for reason in ["alone", "lost", "skipped"] {
            // So that a rate begins at 0.
            metrics.break_sequence(reason, 0);
        }
        metrics
    }

    /// Everything by its name.
    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix("countersign");
        self.register_connections(&mut registry);
        self.register_versions(&mut registry);
        registry.register_collector(Box::new(self.lanes.clone()));
        registry.register_collector(Box::new(Replays::new(Arc::clone(&self.reports))));
        self.register_process(&mut registry);
        registry.register_collector(Box::new(self.certificate.clone()));
        registry
    }

    /// How clients reach it, and whether they may.
    fn register_connections(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("connections", "Open data connections", metrics.connections.clone());
        registry.register(
            "connections_accepted",
            "Data connections accepted",
            metrics.accepted.clone(),
        );
        registry.register(
            "accept_errors",
            "Failures to accept a connection",
            metrics.accept_errors.clone(),
        );
        registry.register(
            "connections_crowded",
            "Connections closed because their source had as many as it may have",
            metrics.crowded.clone(),
        );
        registry.register("tls_handshakes", "TLS handshakes done", metrics.handshakes.clone());
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that failed",
            metrics.handshake_failures.clone(),
        );
        registry.register("tunnels", "Tunnels opened by CONNECT", metrics.tunnels.clone());
        registry.register("ready", "Whether the responder is ready", metrics.ready.clone());
        registry.register(
            "journal_dropped",
            "Requests that the journal has no entry of, because others were being noted or read",
            metrics.journal_dropped.clone(),
        );
    }

    /// How the process itself is.
    fn register_process(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register(
            "memory_pressure",
            "How far memory is used up: 1 where connections end with their next response, 2 where requests are refused",
            metrics.pressure.clone(),
        );
        registry.register("panics", "Panics, all of them defects", metrics.panics.clone());
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because nobody took them",
            metrics.lines_dropped.clone(),
        );
        registry.register("build", "The version of the process", Info::new([("version", VERSION)]));
        registry.register("start_time_seconds", "When it began", began());
    }

    /// What is served, and with which keys.
    fn register_versions(&self, registry: &mut Registry) {
        let metrics = self;
        registry.register("bundle_swaps", "Bundles swapped in", metrics.swaps.clone());
        registry.register("nacks", "Bundles refused", metrics.nacks.clone());
        registry.register(
            "fetched_bytes",
            "Bytes of blobs fetched from a control plane",
            metrics.fetched.clone(),
        );
        registry.register(
            "resyncs",
            "Subscriptions opened anew because the control plane expected another state",
            metrics.resyncs.clone(),
        );
        registry.register(
            "sequence_discontinuity",
            "Breaks in the order of turns that nodes share, by reason",
            metrics.sequence_breaks.clone(),
        );
        registry.register(
            "secret_reload_errors",
            "Secrets that became unusable",
            metrics.secret_errors.clone(),
        );
        registry.register(
            "key_ring_generation",
            "Generation of the key ring",
            metrics.key_ring.clone(),
        );
        registry.register(
            "subscription_connected",
            "Whether the control plane is connected",
            metrics.subscribed.clone(),
        );
        registry.register(
            "control_plane_heard_timestamp_seconds",
            "When the control plane was heard last",
            metrics.heard.clone(),
        );
        registry.register("replays", "Replays that are served", metrics.replays.clone());
    }

    /// The control plane has said something.
    pub(crate) fn hear(&self) {
        self.heard.set(now());
    }

    /// Tells of the certificate that the control plane is shown, if one is.
    pub(crate) fn showing(self, tls: Option<&Arc<ClientTls>>) -> Self {
        self.certificate.show(tls);
        self
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
        for (counter, now) in
            [(&self.panics, logging::panics()), (&self.lines_dropped, logging::dropped())]
        {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
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

fn began() -> Gauge {
    let gauge = Gauge::default();
    gauge.set(now());
    gauge
}

/// The time now, in seconds since the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
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
