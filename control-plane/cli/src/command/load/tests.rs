//! What flags, test configs and recordings lead to.

use std::time::Duration;

use clap::Parser as _;
use countersign_engine::snapshot::{Direction as Way, HttpRequest, RrPair};
use countersign_load::{config::Think, run::Pattern};

use super::*;
use crate::args::{Cli, Command};

fn parsed(line: &str) -> Result<LoadArgs, String> {
    let words = ["countersign", "load", "r", "--to", "http://sut"];
    let all = words.into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(all).map_err(|why| why.to_string())?.command {
        Command::Load(args) => Ok(*args),
        _ => Err("another command".to_owned()),
    }
}

fn recording(timed: bool) -> Recording {
    let pair = |nth: u64| RrPair {
        ordinal: nth,
        ts: timed.then(|| i64::try_from(nth).unwrap()),
        direction: Way::In,
        request: Some(HttpRequest {
            method: "GET".into(),
            path: "/".into(),
            ..HttpRequest::default()
        }),
        ..RrPair::default()
    };
    Recording::new(vec![pair(0), pair(1)], &Options::default()).unwrap()
}

fn chosen(line: &str, config: &str) -> pattern::Chosen {
    let settings = Settings::parse(config.as_bytes()).unwrap();
    pattern::choose(&parsed(line).unwrap().pattern, &settings, &recording(true)).unwrap()
}

const NONE: &str = r#"{"id":"c"}"#;
const STAGED: &str = r#"{"id":"c","generator":{"stages":[{"rps":50,"duration":"10s"}]}}"#;

#[test]
fn patterns_come_from_flags_then_from_the_config_then_from_the_recording() {
    let words = |line: &str, config: &str| chosen(line, config).words;
    for (line, config, told) in [
        ("", NONE, "as it was recorded; once through"),
        (
            "--speed 10x --iterations 3",
            NONE,
            "10 times as fast as it was recorded; 3 times through",
        ),
        ("--speed max", NONE, "up to 16 users, without pauses; once through"),
        ("--vus 5 --duration 90s", NONE, "up to 5 users, without pauses; 90 s"),
        ("--vus 5 --speed 2", NONE, "up to 5 users, with recorded pauses; once through"),
        ("--vus 5 --think 500ms", NONE, "up to 5 users, 500 ms after each request; once through"),
        (
            "--rps 200 --vus 9 --duration 1m",
            NONE,
            "up to 200 requests a second, 9 under way at the most; 60 s",
        ),
        (
            "--stage 30s:100rps --stage 1m:100rps",
            NONE,
            "up to 100 requests a second, 256 under way at the most; 90 s",
        ),
        ("--stage 5s:10vus", STAGED, "up to 10 users, without pauses; 5 s"),
        ("", STAGED, "up to 50 requests a second, 256 under way at the most; 10 s"),
        ("--duration 5s", STAGED, "up to 50 requests a second, 256 under way at the most; 5 s"),
        ("--vus 1", STAGED, "up to 1 users, without pauses; once through"),
    ] {
        assert_eq!(words(line, config), told, "{line}");
    }
    let untimed =
        pattern::choose(&parsed("").unwrap().pattern, &Settings::default(), &recording(false));
    assert!(matches!(untimed.unwrap().pattern, Pattern::Users { think: Think::None, .. }));
}

#[test]
fn mistakes_are_told() {
    for (line, part) in [
        ("--rps 0", "--rps"),
        ("--speed 0", "a factor such as"),
        ("--speed 2 --rps 5", "cannot be used with"),
        ("--stage 30s", "a stage such as"),
        ("--stage 30s:5", "a stage such as"),
        ("--goal p99", "no goal such as"),
        ("--duration 5", "a time such as"),
        ("--header X", "a field such as"),
        ("--secret-dir s", "--transform"),
        ("--snapshot x", "cannot be used with"),
    ] {
        let why = parsed(line).unwrap_err();
        assert!(why.contains(part), "{line}: {why}");
    }
    let mixed = parsed("--stage 1s:5rps --stage 1s:5vus").unwrap();
    let why = pattern::choose(&mixed.pattern, &Settings::default(), &recording(true)).unwrap_err();
    assert_eq!(why.exit_code(), 2);
    let alone = parsed("--assert none,status").unwrap().checks(&Settings::default()).unwrap_err();
    assert!(alone.render().contains("stands alone"));
}

#[test]
fn assertions_are_those_of_flags_or_of_the_config_or_the_usual_ones() {
    let config = Settings::parse(
        br#"{"id":"c","assertionGroups":[{"configs":[{"type":"httpResponseSchema"}]}]}"#,
    )
    .unwrap();
    let of = |line: &str, settings: &Settings| {
        let checks = parsed(line).unwrap().checks(settings).unwrap();
        [checks.status, checks.headers, checks.body, checks.schema]
    };
    assert_eq!(of("", &Settings::default()), [true, false, true, false]);
    assert_eq!(of("", &config), [false, false, false, true]);
    assert_eq!(of("--assert headers,schema", &config), [false, true, false, true]);
    assert_eq!(of("--assert none", &config), [false; 4]);
}

#[test]
fn the_job_of_an_operator_is_understood() {
    let words = "countersign load --snapshot login --to http://sut --control-plane http://plane:4180 --test-config nightly --report /out";
    let cli = Cli::try_parse_from(words.split(' ')).unwrap();
    assert_eq!(cli.global.server, "http://plane:4180");
    let Command::Load(args) = cli.command else { panic!("another command") };
    assert_eq!(
        (args.snapshot.as_deref(), args.test_config.as_deref()),
        (Some("login"), Some("nightly"))
    );
    assert!(!is_file("nightly") && is_file("nightly.json"));
    assert!(args.timeout.is_none_or(|time| time > Duration::ZERO));
}

#[test]
fn the_commands_that_help_teaches_are_understood() {
    use clap::CommandFactory as _;
    let mut command = Cli::command();
    let load = command.find_subcommand_mut("load").unwrap();
    let help = load.get_after_help().unwrap().to_string();
    let lines: Vec<&str> =
        help.lines().map(str::trim).filter(|line| line.starts_with("countersign ")).collect();
    assert!(lines.len() >= 5);
    for line in lines {
        let parsed = Cli::try_parse_from(line.replace('\'', "").split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_commands_of_the_documents_are_understood() {
    let documents = [
        include_str!("../../../../../docs/load.md"),
        include_str!("../../../../../docs/ci.md"),
        include_str!("../../../../../deploy/examples/README.md"),
    ];
    let mut commands = 0;
    for line in documents.iter().flat_map(|text| text.lines()) {
        let line = line.trim().trim_start_matches("- ");
        if !line.starts_with("countersign ") {
            continue;
        }
        let line = line.split(" > ").next().unwrap_or_default().trim_end_matches('&');
        let parsed = Cli::try_parse_from(line.replace('\'', "").split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        commands += 1;
    }
    assert!(commands >= 7, "{commands}");
}
