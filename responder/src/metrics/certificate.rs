//! When the certificate ends that the control plane is shown, read when a scraper asks: an alarm is due before it does.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::UNIX_EPOCH,
};

use countersign_tls::client::ClientTls;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

/// Tells a scraper; nothing where no certificate is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificate(Arc<OnceLock<Arc<ClientTls>>>);

impl Certificate {
    pub(super) fn show(&self, tls: Option<&Arc<ClientTls>>) {
        if let Some(tls) = tls {
            self.0.get_or_init(|| Arc::clone(tls));
        }
    }
}

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(
            "certificate_expiry_timestamp_seconds",
            "When the certificate ends that the control plane is shown.",
            None,
            MetricType::Gauge,
        )?;
        let Some(ends) = self.0.get().and_then(|tls| tls.ends()) else { return Ok(()) };
        let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        ConstGauge::new(i64::try_from(ends).unwrap_or(i64::MAX)).encode(metric)
    }
}
