//! What is served from the disk cache first, and from the control plane then.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    control_plane::Way,
    metrics::Metrics,
    readiness::{Readiness, Source},
    subscription::{
        Subscription,
        apply::{Applier, Position},
    },
};

/// Serves what the disk cache has, and tells how far the control plane had come.
pub(super) async fn restore(applier: &Applier, readiness: &Readiness) -> Option<Position> {
    let restored = applier.restore().await;
    if restored.is_some() {
        readiness.known(Source::Disk);
    }
    restored
}

/// Serves what the control plane says.
pub(super) async fn follow(
    way: Option<Way>,
    (name, session_id): (String, String),
    data_addr: SocketAddr,
    applier: Arc<Applier>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    restored: Option<Position>,
) {
    if restored.is_some() {
        applier.restore_previous().await;
    }
    let Some(control_plane) = way else {
        readiness.note(|flags| {
            flags.problem = Some("no control plane is configured".to_owned());
        });
        return;
    };
    let sequences = Arc::clone(&applier.sequences);
    let subscription = Subscription {
        control_plane,
        responder: name,
        data_address: data_addr.to_string(),
        applier,
        readiness,
        metrics,
        position: restored.unwrap_or_default(),
        sequences,
        session_id,
        failures: 0,
    };
    subscription.run().await;
}
