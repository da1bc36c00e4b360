//! When the certificate ends that clients are shown: an alarm is due before it does.

use std::{fmt, sync::Arc, time::UNIX_EPOCH};

use countersign_tls::server::ServerTls;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

/// Tells a scraper; nothing where no certificate is shown.
#[derive(Debug)]
pub(super) struct Certificate(pub(super) Option<Arc<ServerTls>>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(
            "certificate_expiry_timestamp_seconds",
            "When the certificate ends that clients are shown.",
            None,
            MetricType::Gauge,
        )?;
        let Some(tls) = &self.0 else { return Ok(()) };
        let ends = tls.ends().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        ConstGauge::new(i64::try_from(ends).unwrap_or(i64::MAX)).encode(metric)
    }
}
