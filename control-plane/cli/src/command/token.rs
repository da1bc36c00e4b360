//! `countersign token`: tokens with which users and responders show who they are where they have no certificate.

use std::{
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use countersign_control_plane::auth::{
    token::{self, TokenHash},
    users,
};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::{
    args::Global,
    failure::{Failure, chain},
    output::Output,
};

/// For who calls.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and the line with which a control plane knows it
    Create(CreateArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign token create --name anna --role editor --project shop --users users
  countersign token create --name ci --role operator --project shop --expires 90d --users users
  countersign token create --name pods --role responder --project shop > responder.token

The token is printed once, to stdout, and nothing but its SHA-256 digest is kept, in the line for the file that a control
plane is started with as --users. The control plane reads the file again when it changes; take the line out, and the token
is of no use any more.")]
pub(crate) struct CreateArgs {
    /// What its holder is called, in the audit log
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What its holder may do: `viewer` reads, `editor` changes snapshots, transforms and test configs too, `operator` replays too, `admin` everything;
    /// `responder` is for responders
    #[arg(long, value_name = "ROLE")]
    role: String,

    /// For all projects instead of one
    #[arg(long)]
    all_projects: bool,

    /// How long it is good for, in days or hours, such as 90d or 12h; for ever if not given
    #[arg(long, value_name = "TIME", value_parser = life)]
    expires: Option<Life>,

    /// The file that the line is added to, made for its owner only where there is none; otherwise the line goes to stderr
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

/// How long a token is good for, in hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life(i64);

/// Reads `90d` or `12h`.
fn life(text: &str) -> Result<Life, String> {
    let wrong = || format!("`{text}` is no time; write 90d or 12h");
    let (number, hours) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(days), _) => (days, 24),
        (_, Some(number)) => (number, 1),
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(hours) {
        Some(hours) if (1..=24 * 3650).contains(&hours) => Ok(Life(hours)),
        _ => Err(format!("`{text}` is not between 1h and 3650d")),
    }
}

/// Runs a command.
pub(crate) fn run(
    command: TokenCommand,
    global: &Global,
    out: &Output,
) -> Result<ExitCode, Failure> {
    let TokenCommand::Create(args) = command;
    let project = global.project.strip_prefix("projects/").unwrap_or(&global.project);
    let projects = if args.all_projects { "*" } else { project };
    let expires = args.expires.map(|life| end(life, Timestamp::now())).transpose()?;
    let token = token::make().map_err(|error| Failure::chain(&error))?;
    let hash = TokenHash::of(&token);
    let line = users::line(&args.name, &args.role, projects, hash, expires)
        .map_err(|error| Failure::refused(chain(&error)))?;
    match &args.users {
        Some(path) => {
            add(path, &line)?;
            out.note(&format!("{} may show it where {} is used", args.name, path.display()));
        }
        None => out.note(&format!("add this line to the control plane's --users file:\n{line}")),
    }
    if out.is_json() {
        out.json(&json!({
            "token": *token,
            "line": line,
            "expires": expires.map(|end| end.to_string()),
        }));
    } else {
        out.text(&token);
    }
    Ok(ExitCode::SUCCESS)
}

fn end(life: Life, now: Timestamp) -> Result<Timestamp, Failure> {
    let end = now.checked_add(life.0.hours()).map_err(|error| Failure::chain(&error))?;
    Timestamp::from_second(end.as_second()).map_err(|error| Failure::chain(&error))
}

/// Adds a line to a file.
fn add(path: &Path, line: &str) -> Result<(), Failure> {
    let failed = |source| Failure::io(format!("add to {}", path.display()), source);
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = opened.map_err(failed)?;
    // Its last line may lack an end.
    let mut last = [b'\n'];
    if file.metadata().map_err(failed)?.len() > 0 {
        file.seek(SeekFrom::End(-1)).map_err(failed)?;
        file.read_exact(&mut last).map_err(failed)?;
    }
    let begin = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{begin}{line}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn times_are_days_or_hours() {
        assert_eq!((life("90d"), life("12h")), (Ok(Life(2160)), Ok(Life(12))));
        for bad in ["", "90", "d", "-1d", "0h", "4000d", "1w", "9999999999999999999d"] {
            assert!(life(bad).is_err(), "{bad}");
        }
        let now = "2026-12-01T00:00:00.5Z".parse().unwrap();
        assert_eq!(end(Life(24), now).unwrap().to_string(), "2026-12-02T00:00:00Z");
    }

    #[test]
    fn a_line_is_added_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        add(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        add(&path, "two").unwrap();
        fs::write(&path, "one\ntwo").unwrap();
        add(&path, "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    }
}
