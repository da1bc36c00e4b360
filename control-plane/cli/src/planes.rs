//! Both planes in this process: a control plane on a port of its own, and a responder that subscribes to it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use countersign_control_plane as control_plane;
use countersign_responder::{self as responder, app::Mapped, transport::Transport};
use countersign_tls::{bearer::Bearer, client::Settings as Tls};
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    connect::Client,
    failure::{Failure, chain},
};

/// Where the planes listen and what they use.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where recorded traffic is served.
    pub(crate) listen: SocketAddr,
    /// Where the responder's health, metrics and status are.
    pub(crate) admin_listen: SocketAddr,
    /// Where the responder's gRPC API listens, if anywhere.
    pub(crate) api_listen: Option<SocketAddr>,
    /// Where the gRPC services listen.
    pub(crate) grpc_listen: SocketAddr,
    /// Where the web UI listens.
    pub(crate) ui: control_plane::config::Ui,
    /// The control plane's data.
    pub(crate) data_dir: PathBuf,
    /// The keys.
    pub(crate) secret_dir: PathBuf,
    /// Files and tables that templates name.
    pub(crate) files_dir: PathBuf,
    /// The environment variables that templates may read: whoever reaches the control plane, which asks nobody who they are, writes templates.
    pub(crate) template_env: Vec<String>,
    /// The project of both.
    pub(crate) project: String,
    /// What becomes of requests that nothing recorded answers.
    pub(crate) passthrough: responder::passthrough::Settings,
    /// How recorded traffic is reached besides plain HTTP.
    pub(crate) transport: Transport,
}

/// Both planes, running.
#[derive(Debug)]
pub(crate) struct Planes {
    control: control_plane::app::Running,
    responder: responder::app::Running,
    /// A client of the control plane.
    pub(crate) client: Client,
    /// Where they listen.
    pub(crate) addresses: Addresses,
}

/// Where the planes listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// Recorded traffic.
    pub(crate) data: SocketAddr,
    /// The responder's health, metrics and status.
    pub(crate) admin: SocketAddr,
    /// The responder's gRPC API.
    pub(crate) api: Option<SocketAddr>,
    /// The gRPC services.
    pub(crate) grpc: SocketAddr,
    /// The web UI, if it is served.
    pub(crate) ui: Option<SocketAddr>,
}

impl Planes {
    /// Starts both.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        if let Err(error) = countersign_tls::process::forbid_core_dumps() {
            tracing::debug!(%error, "core files cannot be forbidden");
        }
        let mut config =
            control_plane::config::Config::new(settings.grpc_listen, settings.data_dir);
        config.shutdown_grace = Duration::from_secs(1);
        config.ui = settings.ui;
        let control = control_plane::app::start(config).await.map_err(|error| {
            let what = chain(&error);
            if error.is_config() { Failure::refused(what) } else { Failure::failed(what) }
        })?;
        let server = format!("http://{}", control.addr());
        let started = responder::app::start(responder::config::Config {
            name: "dev".to_owned(),
            listen: settings.listen,
            admin_listen: settings.admin_listen,
            api_listen: settings.api_listen,
            control_plane: Some(server.parse::<Uri>().map_err(|error| Failure::chain(&error))?),
            // Who waits for `/readyz` wants the recording to be served then.
            expects_replay: true,
            secret_dir: settings.secret_dir,
            files_dir: Some(settings.files_dir),
            template_env: settings.template_env,
            project: settings.project.clone(),
            drain_timeout: Duration::from_secs(2),
            passthrough: settings.passthrough,
            transport: settings.transport,
            ..responder::config::Config::default()
        });
        let responder = match started.await {
            Ok(responder) => responder,
            Err(error) => {
                control.shutdown().await;
                let what = chain(&error);
                return Err(if error.is_usage() {
                    Failure::refused(what)
                } else {
                    Failure::failed(what)
                });
            }
        };
        let client =
            Client::connect(&server, &settings.project, &Tls::default(), Bearer::default()).await?;
        let addresses = Addresses {
            data: responder.data_addr(),
            admin: responder.admin_addr(),
            api: responder.api_addr(),
            grpc: control.addr(),
            ui: control.ui_addr(),
        };
        Ok(Self { control, responder, client, addresses })
    }

    /// The ports that are mapped to hosts.
    pub(crate) fn mapped(&self) -> Vec<Mapped> {
        self.responder.mapped().to_vec()
    }

    /// Does `work` until it ends, a signal or a call asks to end, or a plane fails; then shuts both planes down.
    pub(crate) async fn run<T>(
        mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let ended = tokio::select! {
            done = work => done.map(Some),
            signalled = terminated() => signalled.map(|()| None),
            () = self.responder.asked_to_end() => Ok(None),
            failed = self.control.ended() => {
                return Err(failed.map_or_else(|error| Failure::chain(&error), |()| Failure::failed("the control plane ended")));
            }
        };
        // The responder first: its subscription is what the control plane would wait for.
        self.responder.shutdown().await;
        self.control.shutdown().await;
        ended
    }
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn terminated() -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|source| Failure::io("listen for signals", source));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
