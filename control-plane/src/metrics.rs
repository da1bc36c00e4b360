//! What the control plane exposes to whoever scrapes it. Calls are counted as they come; everything else is looked up when it is asked for.

mod calls;
mod certificate;
mod state;

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign_telemetry::Tracer;
use countersign_tls::server::ServerTls;
use prometheus_client::{
    encoding::text,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::service::Plane;
use calls::Calls;
pub(crate) use calls::Observe;
use certificate::Certificate;
use state::State;

/// All metrics of a control plane.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    calls: Arc<Calls>,
}

impl Metrics {
    /// Those of a process whose calls are recorded, where there is a tracer.
    pub(crate) fn new(tracer: Option<Tracer>) -> Self {
        let calls = Arc::new(Calls::new(tracer));
        let mut registry = Registry::with_prefix("countersign");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the process", version);
        registry.register("start_time_seconds", "When it began", began());
        calls.register(&mut registry);
        Self { registry, calls }
    }

    /// Tells of what this plane knows, too.
    pub(crate) fn of_plane(mut self, plane: &Arc<Plane>) -> Self {
        self.registry.register_collector(Box::new(State::new(plane)));
        self
    }

    /// Tells of the certificate that is shown, too, where one is.
    pub(crate) fn of_certificate(mut self, tls: Option<&Arc<ServerTls>>) -> Self {
        self.registry.register_collector(Box::new(Certificate(tls.cloned())));
        self
    }

    /// What stands before all services and counts their calls.
    pub(crate) fn observe(&self) -> Observe {
        Observe::new(Arc::clone(&self.calls))
    }

    /// Everything as OpenMetrics text.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// The time now, in seconds since the epoch.
fn began() -> Gauge {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let gauge = Gauge::default();
    gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
    gauge
}
