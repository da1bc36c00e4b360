//! `countersign load`: drives a recording against a service and reports how it did.

mod live;
mod pattern;
mod read;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use countersign_engine::sending::Generator;
use countersign_load::{
    Protocol, Target,
    compare::Checks,
    config::{self, Settings},
    goal::Goal,
    recording::{Driven, Options, Recording},
    report::{About, Report},
    run::{self, Plan},
};
use http::{HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use self::pattern::PatternFlags;
use crate::{
    args::Global,
    connect::Client,
    failure::{Failure, chain},
    output::Output,
};

/// Drives a recording.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  As it was recorded, once; tokens, cookies and ids of live answers go into later requests:
    countersign load ./recording --to http://127.0.0.1:8080

  Fifty users without pauses for a minute, and what has to hold:
    countersign load ./recording --to http://sut:8080 --vus 50 --duration 1m --goal 'p99<250ms' --goal 'errors<0.1%'

  Two hundred requests a second whatever the service does, with a ramp before, straight at a responder:
    countersign load ./recording --to http://127.0.0.1:4140 --stage 30s:200rps --stage 2m:200rps

  The stages, assertions and goals of a test config, on a snapshot of the control plane:
    countersign load --snapshot login --to http://sut:8080 --test-config nightly --report ./report

  Tokens of requests signed anew instead of carried over, with the generator's chains of a template:
    countersign load ./recording --to http://sut:8080 --transform jwt.json --secret-dir ./secrets

Latency counts from the moment a request was to begin, so that a service that stalls cannot hide. Metrics of
goals: p50, p99.9 and any other percentile, service.p99, avg, max, errors, assertions, own-answers,
token-acceptance, match-rate, rps. --report writes report.html, report.json and junit.xml; no token and no
body is in them unless --show-bodies says so. Ctrl-C ends with a report.

Exit codes: 0 all goals are reached, 1 one is not, 2 the input was refused.")]
pub(crate) struct LoadArgs {
    /// Files or directories of recordings, in any format that `dev` serves
    #[arg(value_name = "RECORDING", required_unless_present = "snapshot")]
    recordings: Vec<PathBuf>,

    /// A snapshot of the control plane instead of files
    #[arg(long, value_name = "ID", conflicts_with = "recordings")]
    snapshot: Option<String>,

    /// Where to: the service under test, or a responder
    #[arg(long, value_name = "URL")]
    to: String,

    /// Which recorded requests are sent; inbound ones by default, else outbound ones
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    direction: Direction,

    #[command(flatten)]
    pattern: PatternFlags,

    /// A test config, a file or the id of a stored one: stages, assertions, goals and the time for a request
    #[arg(long, value_name = "FILE|ID")]
    test_config: Option<String>,

    /// A transform template, a file or the id of a stored one, whose generator chains work on requests
    #[arg(long, value_name = "FILE|ID")]
    transform: Option<String>,

    /// Where the keys of --transform are, SECRET-DIR/SECRET/KEY
    #[arg(long, value_name = "DIR", requires = "transform")]
    secret_dir: Option<PathBuf>,

    /// Send recorded tokens, cookies and ids as they are instead of those that live answers gave
    #[arg(long)]
    no_carry: bool,

    /// What is asserted of answers, separated by commas; status and body by default
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    assert: Vec<Assertion>,

    /// A part of bodies that is not compared: access_token, user.seen, `items[*].at`
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,

    /// A header field that is not compared
    #[arg(long, value_name = "NAME")]
    ignore_header: Vec<String>,

    /// What has to hold, for example p99<250ms, errors<0.1%, own-answers>=99.9%
    #[arg(long, value_name = "GOAL")]
    goal: Vec<Goal>,

    /// Speak HTTP/2, also without TLS; recordings of gRPC need it
    #[arg(long)]
    http2: bool,

    /// The certificates, PEM, that an https:// service is checked with; the system's if not given
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// How long a request may take; 30s by default
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// A header field of each request, in the place of a recorded one
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,

    /// Send the recorded Host instead of the target's; the default for outbound requests
    #[arg(long)]
    keep_host: bool,

    /// Threads; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// The directory that report.html, report.json and junit.xml are written to
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// Show what was expected and what came where bodies or headers differ, tokens included
    #[arg(long)]
    show_bodies: bool,
}

/// Which recorded requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Direction {
    /// Inbound ones, or outbound ones where there is no other
    #[default]
    Auto,
    /// What the recorded service was asked
    In,
    /// What it asked of others
    Out,
    /// Both
    All,
}

/// What is asserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Assertion {
    /// The recorded status, of gRPC as well
    Status,
    /// The recorded header fields but for those of a moment
    Headers,
    /// The recorded body but for tokens, carried values and moments
    Body,
    /// The members and types of the recorded body
    Schema,
    /// Nothing, and nothing is compared: for the most load
    None,
}

fn time(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "a time such as 30s, 5m or 250ms is meant".to_owned())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let meant = || "a field such as `X-Run: 7` is meant".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(meant)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| meant())?;
    Ok((name, HeaderValue::try_from(value.trim()).map_err(|_| meant())?))
}

/// Runs the command.
pub(crate) async fn run(
    args: LoadArgs,
    global: &Global,
    out: &Output,
) -> Result<ExitCode, Failure> {
    if let Err(error) = countersign_tls::process::forbid_core_dumps() {
        tracing::debug!(%error, "core files cannot be forbidden");
    }
    let target = Target::parse(&args.to).map_err(|why| Failure::refused(format!("--to: {why}")))?;
    let source = Source::new(&args, global);
    let settings = source.settings(out).await?;
    let checks = args.checks(&settings)?;
    let compares = !args.assert.contains(&Assertion::None);
    let generator = source.generator(out).await?.map(Arc::new);
    if let Some(dir) = &args.report {
        std::fs::create_dir_all(dir)
            .map_err(|source| Failure::io(format!("make {}", dir.display()), source))?;
    }
    let pairs = match &args.snapshot {
        Some(id) => read::snapshot(&source.client().await?, id, generator.is_none(), out).await?,
        None => read::files(&args.recordings, generator.is_none(), out)?,
    };
    let recording = Recording::new(
        pairs,
        &Options {
            driven: args.driven(),
            generator: generator.as_deref(),
            carry: !args.no_carry,
            claims: settings.claims.as_deref(),
            keep_answers: compares,
        },
    )
    .map_err(|why| Failure::refused(why.to_string()))?;
    let recording = Arc::new(recording);
    let pattern = pattern::choose(&args.pattern, &settings, &recording)?;
    live::announce(&recording, &pattern.words, out);
    let plan = args.plan(target, &settings, checks, &recording, generator, &pattern)?;
    let about = args.about(&settings, &pattern.words);
    let goals: Vec<Goal> =
        settings.goals.iter().copied().chain(args.goal.iter().copied()).collect();
    let report = drive(plan, recording, about, &goals, out).await?;
    if let Some(dir) = &args.report {
        write(&report, dir, out)?;
    }
    if out.is_json() {
        out.json(&report.json());
    } else {
        out.text(report.text().trim_end());
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Drives the recording until it is through or somebody has had enough.
async fn drive(
    plan: Plan,
    recording: Arc<Recording>,
    mut about: About,
    goals: &[Goal],
    out: &Output,
) -> Result<Report, Failure> {
    let stop = CancellationToken::new();
    let watcher = tokio::spawn({
        let stop = stop.clone();
        async move {
            if crate::planes::terminated().await.is_ok() {
                stop.cancel();
            }
        }
    });
    let mut view = live::View::new(out);
    let watch = |progress: &countersign_load::Progress| view.show(progress);
    let totals = run::run(plan, Arc::clone(&recording), stop.clone(), watch).await;
    view.finish();
    watcher.abort();
    let totals = totals.map_err(|why| Failure::chain(&why))?;
    about.interrupted = stop.is_cancelled();
    let verdicts = goals.iter().map(|goal| goal.judge(&totals)).collect();
    Ok(Report::new(about, &recording, totals, verdicts))
}

fn write(report: &Report, dir: &Path, out: &Output) -> Result<(), Failure> {
    let json = format!("{:#}\n", report.json());
    let files =
        [("report.html", report.html()), ("report.json", json), ("junit.xml", report.junit())];
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .map_err(|source| Failure::io(format!("write {}", path.display()), source))?;
    }
    out.note(&format!("wrote report.html, report.json and junit.xml to {}", dir.display()));
    Ok(())
}

impl LoadArgs {
    fn driven(&self) -> Driven {
        match self.direction {
            Direction::Auto => Driven::Auto,
            Direction::In => Driven::Inbound,
            Direction::Out => Driven::Outbound,
            Direction::All => Driven::All,
        }
    }

    /// What is asserted: by flags, else by the test config, else status and body.
    fn checks(&self, settings: &Settings) -> Result<Checks, Failure> {
        let mut checks = if self.assert.is_empty() {
            let usual = Checks { status: true, body: true, ..Checks::default() };
            settings.checks.clone().unwrap_or(usual)
        } else {
            let has = |what| self.assert.contains(&what);
            if has(Assertion::None) && self.assert.len() > 1 {
                return Err(Failure::refused("--assert: `none` stands alone"));
            }
            Checks {
                status: has(Assertion::Status),
                headers: has(Assertion::Headers),
                body: has(Assertion::Body),
                schema: has(Assertion::Schema),
                ..settings.checks.clone().unwrap_or_default()
            }
        };
        let ignored = checks.paths.ignore(self.ignore.iter().map(String::as_str));
        ignored.map_err(|why| Failure::refused(format!("--ignore: {why}")))?;
        checks.ignored_headers.extend(self.ignore_header.iter().cloned());
        checks.show = self.show_bodies;
        Ok(checks)
    }

    fn plan(
        &self,
        target: Target,
        settings: &Settings,
        checks: Checks,
        recording: &Recording,
        generator: Option<Arc<Generator>>,
        pattern: &pattern::Chosen,
    ) -> Result<Plan, Failure> {
        let http2 = self.http2 || recording.summary.calls > 0;
        let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        let secured = args_tls(&target, self.ca.as_deref(), protocol)?;
        let outbound = recording.summary.direction == countersign_engine::snapshot::Direction::Out;
        Ok(Plan {
            protocol,
            tls: secured,
            target,
            pattern: pattern.pattern.clone(),
            duration: pattern.duration,
            iterations: pattern.iterations,
            timeout: self.timeout.or(settings.timeout).unwrap_or(Duration::from_secs(30)),
            checks,
            compare: !self.assert.contains(&Assertion::None),
            carry: !self.no_carry,
            keep_host: self.keep_host || outbound,
            headers: self.header.clone(),
            generator,
            threads: self.threads.map_or_else(
                || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                usize::from,
            ),
        })
    }

    fn about(&self, settings: &Settings, pattern: &str) -> About {
        let files = || {
            let names: Vec<String> =
                self.recordings.iter().map(|path| path.display().to_string()).collect();
            names.join(", ")
        };
        About {
            target: self.to.clone(),
            source: self.snapshot.as_ref().map_or_else(files, |id| format!("snapshot {id}")),
            pattern: pattern.to_owned(),
            began: jiff::Timestamp::now().to_string(),
            test_config: (!settings.id.is_empty()).then(|| settings.id.clone()),
            transform: self.transform.clone(),
            interrupted: false,
        }
    }
}

fn args_tls(
    target: &Target,
    ca: Option<&Path>,
    protocol: Protocol,
) -> Result<Option<Arc<countersign_load::ClientConfig>>, Failure> {
    if !target.is_https() {
        return match ca {
            Some(_) => Err(Failure::refused("--ca is of no use without https:// in --to")),
            None => Ok(None),
        };
    }
    countersign_load::tls(ca, protocol).map(Some).map_err(|why| Failure::refused(chain(&why)))
}

/// Where documents come from: files, or the control plane, which is called only when it is needed.
struct Source<'a> {
    args: &'a LoadArgs,
    global: &'a Global,
}

impl<'a> Source<'a> {
    fn new(args: &'a LoadArgs, global: &'a Global) -> Self {
        Self { args, global }
    }

    async fn client(&self) -> Result<Client, Failure> {
        super::client(self.global).await
    }

    /// What the test config says about load.
    async fn settings(&self, out: &Output) -> Result<Settings, Failure> {
        let Some(named) = &self.args.test_config else { return Ok(Settings::default()) };
        let text = if is_file(named) {
            super::read_text(Path::new(named))?
        } else {
            super::test_config::get(&self.client().await?, named).await?.config_json
        };
        let settings = Settings::parse(text.as_bytes()).map_err(|found| Failure::Refused {
            what: format!("the test config {named} cannot be used"),
            findings: found.iter().map(ToString::to_string).collect(),
        })?;
        for note in &settings.notes {
            out.note(&format!("{named}: {note}"));
        }
        Ok(settings)
    }

    /// The generator's chains with their keys.
    async fn generator(&self, out: &Output) -> Result<Option<Generator>, Failure> {
        let Some(named) = &self.args.transform else { return Ok(None) };
        let text = if is_file(named) {
            super::read_text(Path::new(named))?
        } else {
            super::transform::get(&self.client().await?, named).await?.template_json
        };
        read::generator(named, &text, self.args.secret_dir.as_deref(), out).map(Some)
    }
}

/// Whether a document is named by its file.
fn is_file(named: &str) -> bool {
    let path = Path::new(named);
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"))
        || path.is_file()
        || named == "-"
}

#[cfg(test)]
mod tests;
