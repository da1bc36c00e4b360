//! The table of commands and flags, and what `--help` teaches.

use clap::{Args, Parser, Subcommand, ValueEnum};
use countersign_proto::snapshot::v1::ServeDirection;

use crate::{
    command::{
        certs::CertsArgs, completion::CompletionArgs, convert::ConvertArgs, demo::DemoArgs,
        dev::DevArgs, load::LoadArgs, record::RecordArgs, replay::ReplayCommand,
        responder::ResponderCommand, snapshot::SnapshotCommand, store::StoreCommand,
        test_config::TestConfigCommand, token::TokenCommand, transform::TransformCommand,
    },
    connect::{TlsFlags, TokenFlags},
    output::Format,
};

const EXAMPLES: &str = "\
Examples:
  See it work on a recording of our own:
    countersign demo

  Serve your recording with tokens signed by your key, reloading files as you edit them:
    countersign dev ./proxymock/recorded-2025-06-19 --transform jwt.json --secret-dir ./secrets

  Record what a service asks of a host, then serve it:
    countersign record --upstream https://api.example.com
    countersign dev ./recorded

  Drive the recording against your service, with fresh tokens carried over:
    countersign load ./recording --to http://127.0.0.1:8080 --goal token-acceptance>=100% --report ./report

  Which tokens a recording holds, and the template that re-signs them:
    countersign snapshot tokens login
    countersign transform suggest login --create

  The same with a control plane and responders of their own:
    countersign snapshot import ./recording --id login
    countersign transform put jwt.json --id jwt
    countersign replay start login --transform jwt --wait

  What serves what, for a script:
    countersign replay list --output json

Exit codes:
  0  done
  1  failed
  2  wrong usage, or the input was refused
  3  there is no such resource
  4  the control plane cannot be reached
  5  not ready in time

RUST_LOG selects what `dev` and `demo` log to stderr, for example RUST_LOG=info.";

/// Serves recorded traffic and re-signs recorded JWTs.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The control plane
    #[arg(
        long,
        alias = "control-plane",
        global = true,
        env = "COUNTERSIGN_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:4180",
        help_heading = "Global options"
    )]
    pub(crate) server: String,

    #[command(flatten)]
    pub(crate) tls: TlsFlags,

    #[command(flatten)]
    pub(crate) token: TokenFlags,

    /// The project that ids are looked up in
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_PROJECT",
        value_name = "PROJECT",
        default_value = "default",
        help_heading = "Global options"
    )]
    pub(crate) project: String,

    /// How results are written to stdout; with `json` everything for people goes to stderr
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a recording from this process, reloading what is edited
    Dev(Box<DevArgs>),
    /// Show how a recorded login is served again with a valid token
    Demo(DemoArgs),
    /// Record what goes through a proxy, for who has no recording yet
    Record(RecordArgs),
    /// Drive a recording against a service, and report how it did
    Load(Box<LoadArgs>),
    /// Import, list, show and delete snapshots
    #[command(subcommand, visible_alias = "snapshots")]
    Snapshot(SnapshotCommand),
    /// Validate, store, show and delete transform templates
    #[command(subcommand, visible_alias = "transforms")]
    Transform(TransformCommand),
    /// Store, clone, show and delete test configs
    #[command(subcommand, name = "testconfig", visible_aliases = ["testconfigs", "test-config"])]
    TestConfig(TestConfigCommand),
    /// Start, stop and watch replays
    #[command(subcommand, visible_alias = "replays")]
    Replay(ReplayCommand),
    /// Show the fleet
    #[command(subcommand, visible_alias = "responders")]
    Responder(ResponderCommand),
    /// Clean up, check, back up and restore what a control plane stores
    #[command(subcommand)]
    Store(StoreCommand),
    /// Make the certificate authority for TLS, and tell how to trust it
    Certs(CertsArgs),
    /// Make tokens with which users and responders show who they are
    #[command(subcommand)]
    Token(TokenCommand),
    /// Turn manifests of the incumbent into manifests for Countersign's operator
    Convert(ConvertArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

/// Which recorded pairs are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Serve {
    /// What the recorded service answered at its own door
    In,
    /// What the recorded service asked of its dependencies
    Out,
    /// Both
    All,
}

impl From<Serve> for ServeDirection {
    fn from(serve: Serve) -> Self {
        match serve {
            Serve::In => Self::In,
            Serve::Out => Self::Out,
            Serve::All => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_that_help_teaches_are_understood() {
        for line in EXAMPLES.lines().map(str::trim).filter(|line| line.starts_with("countersign "))
        {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        let cli = Cli::try_parse_from([
            "countersign",
            "replay",
            "list",
            "--output",
            "json",
            "--server",
            "http://x:1",
        ])
        .unwrap();
        assert_eq!((cli.global.output, cli.global.server.as_str()), (Format::Json, "http://x:1"));
        assert!(Cli::try_parse_from(["countersign", "replay", "lists"]).is_err());
    }
}
