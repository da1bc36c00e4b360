//! Which load pattern the flags, the test config and the recording lead to.

use std::time::Duration;

use clap::Args;
use countersign_load::{
    config::{self, Load, Settings, Think},
    recording::Recording,
    run::Pattern,
    schedule::{Curve, Stage},
};

use super::time;
use crate::failure::Failure;

/// Users of a rate that says not how many there may be.
const USERS_OF_A_RATE: usize = 256;

/// When requests begin.
#[derive(Debug, Args)]
pub(super) struct PatternFlags {
    /// How many times as fast as it was recorded, or `max`: without pauses
    #[arg(long, value_name = "FACTOR", value_parser = speed, conflicts_with_all = ["rps", "stage"])]
    speed: Option<Speed>,

    /// Users, each of which sends one request after the other; with --rps the most requests under way
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    vus: Option<u32>,

    /// Requests a second, whatever becomes of those before
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "stage")]
    rps: Option<f64>,

    /// A stage, one after the other: within the time the load goes to so many users or requests a second
    #[arg(long, value_name = "TIME:N[rps|vus]", value_parser = stage)]
    stage: Vec<(Stage, bool)>,

    /// What users do between requests: `none`, `recorded`, or a time
    #[arg(long, value_name = "none|recorded|TIME", value_parser = think, conflicts_with = "rps")]
    think: Option<Think>,

    /// For so long
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,

    /// How often the recording is gone through; once unless a time is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
}

/// How fast recorded times go by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let number = text.trim_end_matches('x').parse::<f64>().ok();
    let fits = number.filter(|factor| (0.001..=100_000.0).contains(factor));
    fits.map(Speed::Times)
        .ok_or_else(|| "a factor such as 1, 0.5 or 10 is meant, or `max`".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("rps").trim().parse::<f64>().ok();
    number
        .filter(|rate| (0.001..=10_000_000.0).contains(rate))
        .ok_or_else(|| "requests a second such as 200 are meant".to_owned())
}

fn stage(text: &str) -> Result<(Stage, bool), String> {
    let meant = || "a stage such as 30s:100rps or 1m:20vus is meant".to_owned();
    let (length, figure) = text.split_once(':').ok_or_else(meant)?;
    let duration = config::duration(length).ok_or_else(meant)?;
    let (number, is_rate) = match (figure.strip_suffix("rps"), figure.strip_suffix("vus")) {
        (Some(number), _) => (number, true),
        (None, Some(number)) => (number, false),
        (None, None) => return Err(meant()),
    };
    let to: f64 = number.trim().parse().map_err(|_| meant())?;
    if !(0.0..=10_000_000.0).contains(&to) {
        return Err(meant());
    }
    Ok((Stage { duration, to }, is_rate))
}

fn think(text: &str) -> Result<Think, String> {
    match text {
        "none" => Ok(Think::None),
        "recorded" => Ok(Think::Recorded(1.0)),
        _ => config::duration(text)
            .map(Think::Fixed)
            .ok_or_else(|| "`none`, `recorded` or a time such as 500ms is meant".to_owned()),
    }
}

/// A load pattern, how long it goes, and what it is called.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) pattern: Pattern,
    pub(super) duration: Option<Duration>,
    pub(super) iterations: Option<u64>,
    pub(super) words: String,
}

/// Chooses the pattern: flags first, then the test config, then as it was recorded.
pub(super) fn choose(
    flags: &PatternFlags,
    settings: &Settings,
    recording: &Recording,
) -> Result<Chosen, Failure> {
    let own = flags.vus.is_some() || flags.rps.is_some() || flags.speed.is_some();
    let mut staged = None;
    let pattern = if !flags.stage.is_empty() {
        let rates = flags.stage.iter().filter(|(_, is_rate)| *is_rate).count();
        if rates > 0 && rates < flags.stage.len() {
            return Err(Failure::refused("--stage: stages are all of rps or all of vus"));
        }
        let curve = Curve::new(flags.stage.iter().map(|(stage, _)| *stage).collect());
        staged = Some(curve.duration());
        if rates > 0 { of_rate(curve, flags) } else { of_users(curve, flags, Think::None) }
    } else if own {
        by_flags(flags, recording)
    } else {
        match &settings.load {
            Load::Rate(stages) => {
                staged = settings.timed.then(|| Curve::new(stages.clone()).duration());
                of_rate(Curve::new(stages.clone()), flags)
            }
            Load::Users(stages, think) => {
                staged = settings.timed.then(|| Curve::new(stages.clone()).duration());
                of_users(Curve::new(stages.clone()), flags, *think)
            }
            Load::Unsaid => by_flags(flags, recording),
        }
    };
    let duration = flags.duration.or(staged);
    let iterations = flags.iterations.or_else(|| duration.is_none().then_some(1));
    let words = words(&pattern, duration, iterations);
    Ok(Chosen { pattern, duration, iterations, words })
}

fn by_flags(flags: &PatternFlags, recording: &Recording) -> Pattern {
    if let Some(rate) = flags.rps {
        return of_rate(Curve::constant(rate), flags);
    }
    let users = |count: u32, think| of_users(Curve::constant(f64::from(count)), flags, think);
    match (flags.vus, flags.speed) {
        (Some(count), Some(Speed::Times(speed))) => users(count, Think::Recorded(speed)),
        (Some(count), _) => users(count, Think::None),
        (None, Some(Speed::Max)) => users(16, Think::None),
        // Without times there is no pace to keep.
        (None, _) if !recording.summary.timed => users(1, Think::None),
        (None, Some(Speed::Times(speed))) => Pattern::Recorded { speed },
        (None, None) => Pattern::Recorded { speed: 1.0 },
    }
}

fn of_rate(rate: Curve, flags: &PatternFlags) -> Pattern {
    let users = flags.vus.and_then(|count| usize::try_from(count).ok());
    Pattern::Rate { rate, users: users.unwrap_or(USERS_OF_A_RATE) }
}

fn of_users(users: Curve, flags: &PatternFlags, think: Think) -> Pattern {
    Pattern::Users { users, think: flags.think.unwrap_or(think) }
}

fn words(pattern: &Pattern, duration: Option<Duration>, iterations: Option<u64>) -> String {
    let how = match pattern {
        Pattern::Recorded { speed } if (speed - 1.0).abs() < f64::EPSILON => {
            "as it was recorded".to_owned()
        }
        Pattern::Recorded { speed } => format!("{speed} times as fast as it was recorded"),
        Pattern::Users { users, think } => {
            let pauses = match think {
                Think::None => "without pauses".to_owned(),
                Think::Recorded(_) => "with recorded pauses".to_owned(),
                Think::Fixed(pause) => format!("{} ms after each request", pause.as_millis()),
            };
            format!("up to {} users, {pauses}", users.peak())
        }
        Pattern::Rate { rate, users } => {
            format!("up to {} requests a second, {users} under way at the most", rate.peak())
        }
    };
    let until = match (duration, iterations) {
        (Some(duration), Some(times)) => {
            format!("{} s or {times} times through", duration.as_secs_f64())
        }
        (Some(duration), None) => format!("{} s", duration.as_secs_f64()),
        (None, Some(1) | None) => "once through".to_owned(),
        (None, Some(times)) => format!("{times} times through"),
    };
    format!("{how}; {until}")
}
