//! What goes on beside serving: keys and certificates are read, reports are sent, memory is watched.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::{
    certificates::Certificates, config::Config, drain::Drain, metrics::Metrics, overload,
    report::Reporter, secrets::Secrets, supervise,
};

/// Begins all of it.
pub(super) fn begin(
    config: &Config,
    (secrets, certificates): (Arc<Secrets>, Option<Arc<Certificates>>),
    reporter: Option<Arc<Reporter>>,
    (drain, metrics): (Drain, Arc<Metrics>),
) -> Vec<AbortOnDropHandle<()>> {
    let poll = config.secret_poll;
    let mut tasks =
        vec![supervise::spawn("reading secrets", move || Arc::clone(&secrets).poll(poll))];
    tasks.extend(certificates.map(|certificates| {
        supervise::spawn("reading certificates", move || Arc::clone(&certificates).poll(poll))
    }));
    tasks.extend(
        reporter.map(|it| supervise::spawn("sending reports", move || Arc::clone(&it).run())),
    );
    tasks.extend(overload::limit(config.limits.memory).map(|limit| {
        supervise::spawn("watching memory", move || {
            overload::watch(limit, drain.clone(), Arc::clone(&metrics))
        })
    }));
    tasks
}
