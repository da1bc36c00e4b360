//! `countersign demo`: the whole job on a recording of our own, checked as a client would check it.
//!
//! The recorded key is gone, so that the recorded token can be verified by nobody; the demo makes a new key, as a team would for its tests.

mod client;
mod example;
mod key;
mod show;
mod token;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::SystemTime,
};

use clap::Args;
use countersign_responder::transport::Transport;

use self::{key::DemoKey, show::Check, token::Token};
use super::dev::{curl, session::Session};
use super::temporary;
use crate::{
    args::Global,
    failure::Failure,
    output::{Output, Style},
    planes::{Planes, Settings},
};

/// Shows a recorded login, served again.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the checks: with 0 when all of them hold, with 1 otherwise
    #[arg(long)]
    once: bool,

    /// Where recorded traffic is served; port 4140 by default, or any free port when that is taken
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// Runs the command.
pub(crate) async fn run(
    args: DemoArgs,
    global: &Global,
    out: &Output,
) -> Result<ExitCode, Failure> {
    let directory = temporary("countersign-demo-")?;
    let root = directory.path();
    let example = example::unpack(root)?;
    let key = DemoKey::generate(&root.join("secret"))?;
    let planes = Planes::start(Settings {
        passthrough: countersign_responder::passthrough::Settings::default(),
        listen: args.listen.unwrap_or_else(|| default_listen(args.once)),
        admin_listen: any_port(),
        api_listen: None,
        grpc_listen: any_port(),
        ui: countersign_control_plane::config::Ui::Off,
        data_dir: root.join("data"),
        secret_dir: root.join("secret"),
        files_dir: root.join("files"),
        template_env: Vec::new(),
        project: global.project.clone(),
        transport: Transport::default(),
    })
    .await?;
    out.text(&format!(
        "{}\n",
        out.paint(Style::Strong, "Countersign: a recorded login, served again")
    ));
    out.text(
        "  recording  deploy/example: an OAuth login, a JWKS and an API, recorded on 2024-03-05",
    );
    out.text(&format!("  key        a new RSA-2048 key in {}", key.path().display()));
    let address = planes.addresses.data;
    out.text(&format!("  mock       http://{address}\n"));
    let mut session = Session::new(planes.client.clone(), example.inputs());
    let once = args.once;
    let ended = planes.run(Box::pin(async move {
        session.start(out).await?;
        let held = act(address, &example, &key, out).await?;
        if !once {
            leave_running(address, &example, &key, out);
            std::future::pending::<()>().await;
        }
        Ok(held)
    }));
    Ok(match ended.await? {
        Some(false) => ExitCode::FAILURE,
        Some(true) | None => ExitCode::SUCCESS,
    })
}

/// Logs in, looks at both tokens, and tells whether every check held.
async fn act(
    address: SocketAddr,
    example: &example::Example,
    key: &DemoKey,
    out: &Output,
) -> Result<bool, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    out.text(&format!("POST {} as alice", example.login_path()));
    let answer = client::post_form(address, example.login_path(), example.login_form()).await?;
    let served = client::access_token(&answer)?;
    let recorded = Token::parse(example.recorded_token()?)?;
    let served = Token::parse(&served)?;
    show::side_by_side(&recorded, &served, key, now, out);
    let checks = checks(&recorded, &served, key, now);
    show::checks(&checks, out);
    if out.is_json() {
        out.json(&show::json(&recorded, &served, &checks));
    }
    Ok(checks.iter().all(|check| check.holds))
}

fn checks(recorded: &Token, served: &Token, key: &DemoKey, now: i64) -> Vec<Check> {
    let check = |what, holds| Check { what, holds };
    let lifetime = |token: &Token| Some(token.time("exp")? - token.time("iat")?);
    vec![
        check(
            "the recorded token is refused: expired, and signed by a key that nobody has",
            recorded.is_expired(now) && !key.verifies(recorded),
        ),
        check(
            "the re-signed token verifies with the new key and is not expired",
            key.accepts(served),
        ),
        check(
            "it was issued just now",
            served.time("iat").is_some_and(|issued| (now - 5..=now + 5).contains(&issued)),
        ),
        check("it lives as long as the recorded one", lifetime(served) == lifetime(recorded)),
        check(
            "its JOSE header is the recorded one, with the `kid` under which the mock publishes the new key",
            served.header_but_kid() == recorded.header_but_kid() && served.kid() != recorded.kid(),
        ),
        check(
            "all its other claims are the recorded ones, in the recorded order",
            served.lasting_claims() == recorded.lasting_claims(),
        ),
    ]
}

fn leave_running(address: SocketAddr, example: &example::Example, key: &DemoKey, out: &Output) {
    let base = format!("http://{address}");
    out.text(&format!("\nThe mock runs until Ctrl-C. {}", out.paint(Style::Strong, "Try")));
    for (user, form) in example.forms() {
        out.text(&format!("  curl -s {base}{} -d '{form}'    # {user}", example.login_path()));
    }
    for path in example.other_paths() {
        out.text(&format!("  curl -s {base}{path}"));
    }
    out.text(&format!("  curl -s {base}/api/nothing    # a miss names what comes nearest"));
    out.text(&format!(
        "  openssl genrsa -out {} 2048    # another key; tokens follow within a second",
        curl::quote(&key.path().to_string_lossy())
    ));
    out.text("\nYour own recording: countersign dev RECORDING --transform T.json --secret-dir DIR");
}

fn default_listen(once: bool) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, 4140));
    // Bound and dropped at once: only to learn whether it is free.
    if once || std::net::TcpListener::bind(wanted).is_err() { any_port() } else { wanted }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
