//! `countersign record`: a recording proxy, for who has no recording yet.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use countersign_engine::{
    diagnostic::has_errors,
    dlp::{DlpConfig, RedactionKey, Redactor},
    snapshot::Direction,
};
use countersign_responder::{
    record::{self, Counts, Running},
    recorder::{self, Form},
    upstream::policy::Rule,
};
use http::Uri;
use serde_json::json;

use crate::{
    failure::{Failure, chain},
    output::{Output, Style},
    planes::terminated,
};

/// How long exchanges in flight may take to finish at the end.
const DRAIN: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

/// Records what goes through.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Stand in for one host: send to http://127.0.0.1:4143 what would go to https://api.example.com
    countersign record --upstream https://api.example.com
  Be a proxy for plain HTTP: hosts are those that the client asks for
    countersign record & curl -x http://127.0.0.1:4143 http://api.example.com/users
  Then serve what was recorded, with tokens signed by your key:
    countersign dev ./recorded
    countersign snapshot import ./recorded --id first && countersign transform suggest first --create

HTTP/1.1 and HTTP/2 (without TLS) are taken; HTTP/2 goes on as HTTP/2, so gRPC is recorded with its trailers. Bodies are passed on as
they come. Ctrl-C ends the recording and says how many pairs there are. A recording holds whatever went through, credentials and all:
files are for their owner only, and --dlp and --strip-signatures take out what must not be kept before it is written.")]
pub(crate) struct RecordArgs {
    /// Where clients connect; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4143")]
    listen: SocketAddr,

    /// The real host, with http:// or https://, and a path that goes before those of requests, if any; without it, whatever host the
    /// client asks for
    #[arg(long, value_name = "URL")]
    upstream: Option<Uri>,

    /// Where the recording is written
    #[arg(long, value_name = "DIR", default_value = "recorded")]
    out: PathBuf,

    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,

    /// What is recorded: what a service asks of others, or what it is asked
    #[arg(long, value_enum, default_value_t = Way::Out)]
    direction: Way,

    /// The name of the recorded service; the host by default
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// A tag of every pair, `name=value`; may be repeated
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// What is redacted before anything is written: a DLP config, or `standard`
    #[arg(long, value_name = "FILE")]
    dlp: Option<PathBuf>,

    /// Takes the signatures out of all JWS, which re-signing makes anew
    #[arg(long)]
    strip_signatures: bool,

    /// The most of a body that is recorded, in MiB; longer ones are passed on whole and tagged
    #[arg(long, value_name = "MIB", default_value_t = 10)]
    max_body: usize,

    /// A PEM file of certificates that the real host is trusted with, beside the system's
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,

    /// A link-local or metadata address that may be reached all the same; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    allow: Vec<Rule>,

    /// How long the real host may take to begin its answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// How recordings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RRPair JSON, a pair in each line, in files that are rotated
    Jsonl,
    /// RRPair markdown, a file for each pair
    Markdown,
}

/// Which way recorded traffic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// What a service asks of its dependencies
    Out,
    /// What it is asked at its own door
    In,
}

/// Runs the command.
pub(crate) async fn run(args: RecordArgs, out: &Output) -> Result<ExitCode, Failure> {
    let dir = args.out.clone();
    let target = args.upstream.as_ref().map_or_else(|| "any host".to_owned(), Uri::to_string);
    let running = record::start(settings(args)?).await.map_err(|error| {
        let what = chain(&error);
        if error.is_usage() { Failure::refused(what) } else { Failure::failed(what) }
    })?;
    out.text(&format!("proxy listening on http://{}", running.addr()));
    out.note(&format!("recording what goes to {target} into {}; Ctrl-C ends it", dir.display()));
    terminated().await?;
    finish(running, &dir, out).await
}

async fn finish(running: Running, dir: &Path, out: &Output) -> Result<ExitCode, Failure> {
    let done = running.shutdown(DRAIN).await;
    let Counts { pairs, lost, broken } = done.map_err(|source| {
        Failure::io(format!("finish the recording in {}", dir.display()), source)
    })?;
    if out.is_json() {
        out.json(&json!({ "pairs": pairs, "lost": lost, "broken": broken, "directory": dir }));
    } else {
        out.text(&out.paint(Style::Good, &format!("recorded {pairs} pairs in {}", dir.display())));
        if broken > 0 {
            out.text(&format!("{broken} requests failed or broke off, and were not recorded"));
        }
        if pairs > 0 {
            out.text(&format!("serve them with: countersign dev {}", dir.display()));
        }
    }
    if lost > 0 {
        return Err(Failure::failed(format!("{lost} pairs could not be written")));
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: RecordArgs) -> Result<record::Settings, Failure> {
    let redactor = args.dlp.as_deref().map(redactor).transpose()?;
    let recording = recorder::Settings {
        form: match args.format {
            Format::Jsonl => Form::JsonLines,
            Format::Markdown => Form::Markdown,
        },
        body: args.max_body.saturating_mul(MIB),
        redactor,
        strip: args.strip_signatures,
        direction: match args.direction {
            Way::Out => Direction::Out,
            Way::In => Direction::In,
        },
        service: args.service,
        tags: args.tags.into_iter().collect(),
        ..recorder::Settings::new(args.out)
    };
    Ok(record::Settings {
        listen: args.listen,
        upstream: args.upstream,
        allow: args.allow,
        trust: args.upstream_ca,
        head: Duration::from_secs(args.timeout),
        pause: Duration::from_secs(args.timeout),
        recording,
    })
}

/// A redactor of a config in a file or of a built-in one. Its key is forgotten when the recording ends.
fn redactor(path: &Path) -> Result<Redactor, Failure> {
    let built_in = path.to_str().filter(|_| !path.exists()).and_then(DlpConfig::built_in);
    let config = match built_in {
        Some(config) => config,
        None => {
            let text = std::fs::read(path).map_err(|source| Failure::read(path, source))?;
            let (config, found) = DlpConfig::parse(&text);
            if has_errors(found.as_slice()) {
                return Err(Failure::Refused {
                    what: format!("{} is no DLP config", path.display()),
                    findings: found.as_slice().iter().map(ToString::to_string).collect(),
                });
            }
            config
        }
    };
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let seed = [a.as_bytes().as_slice(), b.as_bytes()].concat();
    Ok(Redactor::new(config, RedactionKey::from_seed(&seed)))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a tag looks like name=value")?;
    if name.is_empty() {
        return Err("a tag has a name".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(arguments: &[&str]) -> record::Settings {
        let cli = Cli::try_parse_from([&["countersign", "record"], arguments].concat()).unwrap();
        let Command::Record(args) = cli.command else { panic!("another command") };
        settings(args).unwrap()
    }

    #[test]
    fn arguments_become_settings() {
        let plain = parsed(&[]);
        assert_eq!((plain.listen.port(), plain.upstream), (4143, None));
        assert_eq!(plain.recording.dir, Path::new("recorded"));
        assert!(plain.recording.redactor.is_none() && !plain.recording.strip);
        let all = parsed(&[
            "--upstream",
            "https://a.example/v1",
            "--format",
            "markdown",
            "--direction",
            "in",
            "--tag",
            "run=1",
            "--dlp",
            "standard",
            "--strip-signatures",
            "--max-body",
            "1",
        ]);
        assert_eq!(all.upstream.unwrap().to_string(), "https://a.example/v1");
        let recording = all.recording;
        assert_eq!((recording.form, recording.direction), (Form::Markdown, Direction::In));
        assert_eq!((recording.body, recording.tags["run"].as_str()), (MIB, "1"));
        assert!(recording.redactor.is_some() && recording.strip);
    }

    #[test]
    fn a_config_that_is_none_is_refused() {
        assert_eq!(redactor(Path::new("no/such/file")).unwrap_err().exit_code(), 2);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dlp.json");
        std::fs::write(&path, r#"{"keys":5}"#).unwrap();
        assert_eq!(redactor(&path).unwrap_err().exit_code(), 2);
        assert!(tag("x").is_err() && tag("=x").is_err());
    }
}
