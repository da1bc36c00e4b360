//! What is shown while load is on: a line that is redrawn on a terminal, else a line now and then.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use countersign_engine::snapshot::Direction;
use countersign_load::{Progress, recording::Recording};
use indicatif::ProgressBar;

use crate::output::Output;

/// Where no terminal is, a line is written this often.
const PAUSE: Duration = Duration::from_secs(10);

/// Says what is about to be driven.
pub(super) fn announce(recording: &Recording, pattern: &str, out: &Output) {
    let summary = &recording.summary;
    let way = match summary.direction {
        Direction::In => "what the recorded service was asked",
        Direction::Out => "what the recorded service asked of others",
    };
    out.note(&format!(
        "{} requests in {} sessions of {} users ({way}); {} with a token, {} values carried from answers",
        summary.requests, summary.sessions, summary.users, summary.with_token, summary.carried
    ));
    if summary.transformed > 0 {
        out.note(&format!(
            "{} requests are changed by the generator's chains",
            summary.transformed
        ));
    }
    if summary.other_direction > 0 {
        out.note(&format!(
            "{} pairs went the other way and are left out; --direction chooses",
            summary.other_direction
        ));
    }
    if summary.left_out > 0 {
        out.note(&format!("{} requests have no form in HTTP and are left out", summary.left_out));
    }
    if !summary.timed {
        out.note("the recording says not when requests were sent");
    }
    out.note(pattern);
}

/// The live view.
pub(super) struct View<'o> {
    out: &'o Output,
    bar: Option<ProgressBar>,
    told: Duration,
}

impl<'o> View<'o> {
    pub(super) fn new(out: &'o Output) -> Self {
        let bar = io::stderr().is_terminal().then(|| out.gauge("load"));
        Self { out, bar, told: Duration::ZERO }
    }

    /// Shows how it goes.
    pub(super) fn show(&mut self, progress: &Progress) {
        let line = line(progress);
        match &self.bar {
            Some(bar) => {
                let thousandths = progress.done.unwrap_or_default() * 1000.0;
                bar.set_position(Duration::from_secs_f64(thousandths).as_secs());
                bar.set_message(line);
            }
            None if progress.elapsed.saturating_sub(self.told) >= PAUSE => {
                self.told = progress.elapsed;
                self.out.note(&line);
            }
            None => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(progress: &Progress) -> String {
    let Progress { elapsed, counts, last, .. } = progress;
    let [p50, _, p99] = last.quantiles;
    let rate = |name: &str, rate: Option<f64>| {
        rate.map_or(String::new(), |rate| format!("  {name} {rate:.1}%"))
    };
    format!(
        "{:>4.0}s  {} requests  {}/s  p50 {p50:.1} ms  p99 {p99:.1} ms  errors {}{}{}",
        elapsed.as_secs_f64(),
        counts.requests,
        last.requests,
        counts.errors,
        rate("tokens", progress.token_acceptance()),
        rate("own", progress.own_answers()),
    )
}

#[cfg(test)]
mod tests {
    use countersign_load::{Counts, Second};

    use super::*;

    #[test]
    fn a_line_tells_what_matters() {
        let counts =
            Counts { requests: 1200, errors: 3, presented: 8, accepted: 4, ..Counts::default() };
        let last = Second { requests: 400, errors: 1, quantiles: [1.25, 3.0, 9.5] };
        let progress = Progress { elapsed: Duration::from_secs(3), counts, last, done: Some(0.5) };
        assert_eq!(
            line(&progress),
            "   3s  1200 requests  400/s  p50 1.2 ms  p99 9.5 ms  errors 3  tokens 50.0%"
        );
    }
}
