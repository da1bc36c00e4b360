//! The commands, one file each, and what they share.

pub(crate) mod certs;
pub(crate) mod completion;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod load;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod responder;
pub(crate) mod snapshot;
pub(crate) mod store;
pub(crate) mod test_config;
#[cfg(test)]
mod tests;
pub(crate) mod token;
pub(crate) mod transform;

use std::{io::Read as _, path::Path, process::ExitCode};

use crate::{
    args::{Cli, Command, Global},
    connect::Client,
    failure::Failure,
    output::Output,
};

/// So many resources are asked for at a time.
const PAGE: i32 = 500;

/// Runs a command.
pub(crate) async fn run(cli: Cli, out: &Output) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Dev(args) => dev::run(*args, &global, out).await,
        Command::Demo(args) => demo::run(args, &global, out).await,
        Command::Record(args) => record::run(args, out).await,
        Command::Load(args) => load::run(*args, &global, out).await,
        Command::Store(command) => store::run(command, out).await,
        Command::Certs(args) => certs::run(args, &global, out),
        Command::Token(command) => token::run(command, &global, out),
        Command::Convert(args) => convert::run(&args, out),
        Command::Completion(args) => {
            completion::run(&args, out);
            Ok(ExitCode::SUCCESS)
        }
        Command::Snapshot(command) => snapshot::run(command, &client(&global).await?, out).await,
        Command::Transform(command) => transform::run(command, &client(&global).await?, out).await,
        Command::TestConfig(command) => {
            test_config::run(command, &client(&global).await?, out).await
        }
        Command::Replay(replay::ReplayCommand::Start(args)) if args.is_kubernetes() => {
            replay::kubernetes::run(*args, out).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay(command) => replay::run(command, &client(&global).await?, out).await,
        Command::Responder(command) => responder::run(command, &client(&global).await?, out).await,
    }
}

async fn client(global: &Global) -> Result<Client, Failure> {
    Client::connect(
        &global.server,
        &global.project,
        &global.tls.settings()?,
        global.token.bearer()?,
    )
    .await
}

/// The text of a file, or of stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|source| Failure::io("read stdin", source))?;
        bytes
    } else {
        std::fs::read(path).map_err(|source| Failure::read(path, source))?
    };
    String::from_utf8(bytes)
        .map_err(|_| Failure::refused(format!("{} is no UTF-8 text", path.display())))
}

/// A directory that goes when the command ends.
fn temporary(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .map_err(|source| Failure::io("make a temporary directory", source))
}
