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

/// The largest document; with what goes along it has to fit into a message, which has 4 MiB at the most.
const MAX_DOCUMENT: u64 = 4 * 1024 * 1024 - 64 * 1024;

/// The text of a document, out of a file, or of stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let read = std::io::stdin().take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(|source| Failure::io("read stdin", source))?;
    } else {
        let file = std::fs::File::open(path).map_err(|source| Failure::read(path, source))?;
        let read = file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(|source| Failure::read(path, source))?;
    }
    let name = path.display();
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_DOCUMENT {
        let message = format!("{name} has more than {MAX_DOCUMENT} bytes [limit_exceeded]");
        return Err(Failure::refused(message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let is_wide =
            [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| error.as_bytes().starts_with(*mark));
        let hint = if is_wide { "; it is UTF-16, save it as UTF-8" } else { "" };
        Failure::refused(format!("{name} is no UTF-8 text at its byte {at}{hint} [invalid_utf8]"))
    })
}

/// A directory that goes when the command ends.
fn temporary(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .map_err(|source| Failure::io("make a temporary directory", source))
}
