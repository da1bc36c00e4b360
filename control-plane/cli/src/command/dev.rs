//! `countersign dev`: both planes in one process on files, taken over again whenever they change.

pub(crate) mod adjust;
pub(crate) mod curl;
pub(crate) mod session;
mod summary;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use countersign_control_plane::config::{DEFAULT_UI, Ui};
use countersign_responder::{
    config::DEFAULT_SECRET_DIR,
    passthrough,
    transport::{Transport, TransportFlags},
    upstream::policy::Rule,
};

use self::{
    adjust::Adjust,
    session::{Inputs, Session},
    summary::{Places, Summary},
    watch::Watches,
};
use super::{certs, temporary};
use crate::{
    args::{Global, Serve},
    embedded::Embedded,
    failure::Failure,
    output::{Output, Style},
    planes::{Planes, Settings},
    recording,
};

/// How often files are looked at.
const POLL: Duration = Duration::from_secs(1);

/// Serves a recording from this process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign dev ./proxymock/recorded-2025-06-19
  countersign dev raw.jsonl --transform jwt.json --secret-dir ./secrets --listen 127.0.0.1:8080
  countersign dev ./recording --serve in --output json    # tells where it serves as JSON
  countersign dev ./recording --tls --map 8443=api.example.com

Recordings, the template and the test config are read again when they change: a good edit is
taken over, a broken one is reported and changes nothing. Keys are <secret-dir>/<secret>/<key>,
and are read again every second, too. Other commands reach this process with --server and the
address that it prints.")]
pub(crate) struct DevArgs {
    /// Files or directories of recordings: RRPairs (.md, .json, .jsonl), HAR, Postman, Hoverfly, GoReplay, OpenAPI and others, or zip archives
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,

    /// The transform template
    #[arg(long, value_name = "FILE")]
    transform: Option<PathBuf>,

    /// The test config; the built-in `standard` by default
    #[arg(long, value_name = "FILE")]
    test_config: Option<PathBuf>,

    #[command(flatten)]
    adjust: Adjust,

    /// The directory of secrets; the nearest `proxymock/secrets` or `secrets` directory above the recording by default, else
    /// /home/speedscale/secret
    #[arg(long, value_name = "DIR")]
    secret_dir: Option<PathBuf>,

    /// The directory of files that templates name, and of tables (dataframes/ID/payload.csv); the nearest `proxymock` directory above the
    /// recording by default, else the working directory
    #[arg(long, value_name = "DIR")]
    files_dir: Option<PathBuf>,

    /// The environment variables that templates may read with ${{env_var:NAME}}, separated by commas; * stands for all. Whoever reaches
    /// this process's gRPC port or UI can write a template that reads them
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    template_env: Vec<String>,

    /// Which recorded pairs are served; `out` by default, or `in` when there are no others
    #[arg(long, value_enum)]
    serve: Option<Serve>,

    /// Where recorded traffic is served; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4140")]
    listen: SocketAddr,

    /// Where /healthz, /readyz, /metrics and /status are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4141")]
    admin_listen: SocketAddr,

    /// Where the responder's gRPC API countersign.responder.v1 listens; nowhere by default
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<SocketAddr>,

    /// Where the gRPC services listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    grpc_listen: SocketAddr,

    /// Where the web UI listens, or `none`; 127.0.0.1:4181 if that is free
    #[arg(long, value_name = "ADDR")]
    ui_listen: Option<Ui>,

    /// A host that misses are passed through to: api.example.com, api.example.com:8443, *.example.com, 10.1.2.3 or 10.1.0.0/16, with
    /// http:// or https:// before it if need be; may be repeated
    #[arg(long, value_name = "HOST,…", value_delimiter = ',')]
    passthrough_allow: Vec<Rule>,

    /// Records what passed through into this directory
    #[arg(long, value_name = "DIR", requires = "passthrough_allow")]
    record: Option<PathBuf>,

    /// Answers TLS on the data port with certificates that the CA of `countersign certs` signs, which is made if there is none
    #[arg(long, group = "tls_identity", help_heading = "Transport")]
    tls: bool,

    #[command(flatten)]
    transport: TransportFlags,

    /// Where the control plane keeps its data; a temporary directory by default
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(args: DevArgs, global: &Global, out: &Output) -> Result<ExitCode, Failure> {
    // Everything that the user may have got wrong is looked at before anything starts.
    recording::walk(&args.recordings)?;
    let temporary = temporary("countersign-dev-")?;
    let found = args.recordings.iter().find_map(|recording| recording::find_secrets(recording));
    let secret_dir = match args.secret_dir.or(found) {
        Some(chosen) => chosen,
        // Nothing is signed, so that a missing directory is nothing to warn about.
        None if args.transform.is_none() && !Embedded::find(&args.recordings).is_template() => {
            temporary.path().to_owned()
        }
        None => PathBuf::from(DEFAULT_SECRET_DIR),
    };
    let mut transport = args.transport;
    if args.tls {
        transport.tls_ca = Some(own_authority(out)?);
    }
    let transport = Transport::from(transport);
    let tls = transport.tls.as_ref().map(|tls| tls.identity.clone());
    let planes = Planes::start(Settings {
        listen: args.listen,
        admin_listen: args.admin_listen,
        api_listen: args.api_listen,
        grpc_listen: args.grpc_listen,
        ui: args.ui_listen.unwrap_or(Ui::IfFree(DEFAULT_UI)),
        data_dir: args.data_dir.unwrap_or_else(|| temporary.path().join("data")),
        secret_dir: secret_dir.clone(),
        files_dir: args.files_dir.unwrap_or_else(|| {
            args.recordings.first().map(|path| recording::find_files(path)).unwrap_or_default()
        }),
        template_env: args.template_env,
        project: global.project.clone(),
        passthrough: passthrough::Settings {
            // Who names hosts here means it.
            always: true,
            allow: args.passthrough_allow,
            record: args.record,
            ..passthrough::Settings::default()
        },
        transport,
    })
    .await?;
    let inputs = Inputs {
        recordings: args.recordings,
        transform: args.transform,
        test_config: args.test_config,
        adjust: args.adjust,
        serve: args.serve,
    };
    let session = Session::new(planes.client.clone(), inputs);
    let places = Places { addresses: planes.addresses, secret_dir, tls, mapped: planes.mapped() };
    planes.run(Box::pin(serve(session, places, out))).await?;
    Ok(ExitCode::SUCCESS)
}

/// The directory of the CA that `--tls` uses.
fn own_authority(out: &Output) -> Result<PathBuf, Failure> {
    let dir = certs::default_dir()?;
    let files = certs::make(&dir, false)?;
    if files.made {
        out.note(&format!(
            "made a certificate authority in {}; `countersign certs` tells how to trust it",
            dir.display()
        ));
    }
    Ok(dir)
}

/// Serves until the future is dropped; ends by itself only when the first start fails.
async fn serve(mut session: Session, places: Places, out: &Output) -> Result<(), Failure> {
    let mut watches = Watches::new(session.inputs());
    session.start(out).await?;
    let summary = Summary::of(&session, places).await?;
    summary.print(out);
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (after, changes) = watches.look().await?;
        watches = after;
        if changes.is_empty() {
            continue;
        }
        out.note(&format!("{changes} changed"));
        match session.reload(changes, out).await {
            Ok(()) => out.note(&format!(
                "{}: serving {}",
                out.paint(Style::Good, "taken over"),
                session.counts()
            )),
            Err(failure) => {
                out.failure(&failure);
                out.note("the last good state goes on being served");
            }
        }
    }
}
