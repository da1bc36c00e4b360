//! The process: leads or waits to, then watches replays and what belongs to them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Service},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        Controller, Predicate as _, WatchStreamExt as _,
        controller::{self, Config as ControllerConfig},
        events::{Recorder, Reporter},
        predicates, reflector,
        reflector::ObjectRef,
        watcher,
    },
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    crd::TrafficReplay,
    desired::{MANAGER, REPLAY},
    lease::Candidate,
    plane::{Plane, PlaneSettingsError},
    reconcile::{Context, again, reconcile},
    routing::{BEFORE, Before, ROUTED},
    settings::Settings,
    watches::{Changes, Watches},
};

/// So many replays are looked at together.
const TOGETHER: u16 = 8;
/// The most bytes of a name of an operator.
const IDENTITY: usize = 253;

/// Why an operator does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings of the control plane.
    #[error(transparent)]
    Plane(#[from] PlaneSettingsError),
    /// The times of the election.
    #[error(
        "--renew-deadline has to be shorter than --lease-duration, and --retry-period shorter than that"
    )]
    Election,
    /// Its name.
    #[error("--lease-identity has to have 1 to {IDENTITY} bytes")]
    Identity,
    /// It led and does no more. What it would do now, the one that leads does.
    #[error("this operator leads no more")]
    Deposed,
    /// The health listener.
    #[error("{0} cannot be listened on")]
    Listen(SocketAddr, #[source] std::io::Error),
}

impl AppError {
    /// Whether the user can mend it on the command line.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Plane(_) | Self::Election | Self::Identity)
    }
}

/// Runs until it is told to end, or leads no more. Of several only one works at a time.
///
/// # Errors
/// When it cannot start, or was deposed.
pub async fn run(
    client: Client,
    settings: Settings,
    ended: watch::Receiver<bool>,
) -> Result<(), AppError> {
    let election = settings.election.clone();
    if election.renew_deadline >= election.lease_duration
        || election.retry_period >= election.renew_deadline
    {
        return Err(AppError::Election);
    }
    let identity = election.lease_identity.clone().unwrap_or_else(made_up);
    if identity.is_empty() || identity.len() > IDENTITY {
        return Err(AppError::Identity);
    }
    let plane = Plane::new(&settings)?;
    let namespace = election.lease_namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let mut candidate = Candidate::new(client.clone(), &namespace, identity.clone(), election);
    let mut told = ended.clone();
    tokio::select! {
        () = candidate.lead() => {}
        _ = told.wait_for(|ended| *ended) => return Ok(()),
    }
    tracing::info!(identity, "leads");
    let (watches, changes) = Watches::new();
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context { client, plane, settings, recorder, watches });
    let deposed = tokio::select! {
        () = candidate.keep(ended.clone()) => !*ended.borrow(),
        () = control(context, changes, ended.clone()) => false,
    };
    if deposed {
        return Err(AppError::Deposed);
    }
    candidate.release().await;
    Ok(())
}

/// Looks at replays whenever they, or what belongs to them, have changed.
async fn control(context: Arc<Context>, changes: Changes, mut ended: watch::Receiver<bool>) {
    let replays: Api<TrafficReplay> = api(&context);
    let ours = watcher::Config::default().labels(REPLAY);
    let routed = watcher::Config::default().labels(ROUTED);
    let (reader, writer) = reflector::store();
    // What the operator writes itself, the status, is no reason to look again.
    let asked = watcher(replays, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            kube::runtime::PredicateConfig::default(),
        );
    let controller = Controller::for_stream(asked, reader)
        .with_config(
            ControllerConfig::default().concurrency(TOGETHER).debounce(Duration::from_millis(50)),
        )
        .owns(api::<Deployment>(&context), ours.clone())
        .owns(api::<Service>(&context), ours.clone())
        .owns(api::<Job>(&context), ours)
        .watches(api::<Deployment>(&context), routed, |workload| router(&workload))
        .reconcile_on(ReceiverStream::new(changes));
    let looks = controller.run(
        reconcile,
        |replay, failed, _| {
            let (name, namespace) = (replay.name_any(), replay.namespace().unwrap_or_default());
            tracing::warn!(name, namespace, error = %failed, "the replay is not as it should be");
            again(failed)
        },
        context,
    );
    let looks = looks.for_each(|looked| {
        match looked {
            // The first two are told elsewhere; the last was deleted while it waited.
            Ok(_)
            | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) =>
                {}
            Err(error) => tracing::warn!(%error, "the API server cannot be watched"),
        }
        std::future::ready(())
    });
    tokio::select! {
        () = looks => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

/// The replay that a workload is led to the responders of.
fn router(workload: &Deployment) -> Option<ObjectRef<TrafficReplay>> {
    let before: Before = serde_json::from_str(workload.annotations().get(BEFORE)?).ok()?;
    Some(ObjectRef::new(&before.replay).within(&workload.namespace()?))
}

fn api<K>(context: &Context) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match &context.settings.namespace {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    }
}

/// A name for an operator that has none.
fn made_up() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    format!("{host}-{}", uuid::Uuid::new_v4())
}

/// Answers probes until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn answer_probes(listen: SocketAddr) -> Result<SocketAddr, AppError> {
    let failed = |error| AppError::Listen(listen, error);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .keep_alive(false)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(|request| std::future::ready(probe(&request))),
                );
            tokio::spawn(tokio::time::timeout(Duration::from_secs(10), served));
        }
    });
    Ok(bound)
}

fn probe(request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let is_probe =
        request.method() == Method::GET && matches!(request.uri().path(), "/healthz" | "/readyz");
    let mut response =
        Response::new(Full::new(Bytes::from_static(if is_probe { b"ok\n" } else { b"" })));
    if !is_probe {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
