//! What is served from the disk cache first, and from the control plane then.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    control_plane::Way,
    metrics::Metrics,
    readiness::{Readiness, Source},
    subscription::{
        Subscription,
        apply::{Applier, Position},
    },
    supervise,
};

/// Serves what the disk cache has, and tells how far the control plane had come.
pub(super) async fn restore(applier: &Applier, readiness: &Readiness) -> Option<Position> {
    let restored = applier.restore().await;
    if restored.is_some() {
        readiness.known(Source::Disk);
    }
    restored
}

/// Serves what the control plane says, from now on.
pub(super) fn follow(
    way: Option<Way>,
    (name, session_id): (String, String),
    data_addr: SocketAddr,
    applier: Arc<Applier>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    restored: Option<Position>,
) -> AbortOnDropHandle<()> {
    supervise::spawn("the subscription", move || {
        let subscription = way.clone().map(|control_plane| Subscription {
            control_plane,
            responder: name.clone(),
            data_address: data_addr.to_string(),
            applier: Arc::clone(&applier),
            readiness: Arc::clone(&readiness),
            metrics: Arc::clone(&metrics),
            position: restored.clone().unwrap_or_default(),
            sequences: Arc::clone(&applier.sequences),
            session_id: session_id.clone(),
            failures: 0,
        });
        let (applier, readiness) = (Arc::clone(&applier), Arc::clone(&readiness));
        let was_restored = restored.is_some();
        async move {
            if was_restored {
                applier.restore_previous().await;
            }
            match subscription {
                Some(subscription) => subscription.run().await,
                None => readiness.note(|flags| {
                    flags.problem = Some("no control plane is configured".to_owned());
                }),
            }
        }
    })
}
