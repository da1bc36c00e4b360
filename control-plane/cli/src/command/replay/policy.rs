//! How a start reaches the fleet, as flags.

use std::time::Duration;

use clap::{Args, ValueEnum};
use countersign_proto::control::v1::{OnStraggler, RolloutPolicy};

use super::seconds;

/// How this start and those after it reach the fleet. What is not given stays as it is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Rollout, for this start and those after it")]
pub(super) struct PolicyArgs {
    /// How many of the connected responders have to have prepared it before any serves it: all, or a share such as 90%; all at first
    #[arg(long, value_name = "all|PERCENT%", value_parser = percent)]
    quorum: Option<u32>,

    /// How long responders may take to prepare it before stragglers are dealt with; 2m at first
    #[arg(long, value_name = "TIMEOUT", value_parser = seconds)]
    rollout_timeout: Option<Duration>,

    /// What becomes of it when some take longer; it waits at first
    #[arg(long, value_enum)]
    on_straggler: Option<Straggler>,

    /// At least so many responders have to have prepared it
    #[arg(long, value_name = "NUMBER")]
    min_responders: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Straggler {
    /// It waits for them
    Wait,
    /// It goes on without them; they catch up
    Exclude,
    /// It fails, and the version before goes on
    Fail,
}

impl PolicyArgs {
    /// The policy that is wanted over the one that there is; `None` to leave it.
    pub(super) fn over(self, known: Option<RolloutPolicy>) -> Option<RolloutPolicy> {
        let Self { quorum, rollout_timeout, on_straggler, min_responders } = self;
        if quorum.is_none()
            && rollout_timeout.is_none()
            && on_straggler.is_none()
            && min_responders.is_none()
        {
            return None;
        }
        let known = known.unwrap_or_default();
        let on_straggler = on_straggler.map(|chosen| match chosen {
            Straggler::Wait => OnStraggler::Wait.into(),
            Straggler::Exclude => OnStraggler::Exclude.into(),
            Straggler::Fail => OnStraggler::Fail.into(),
        });
        Some(RolloutPolicy {
            quorum_percent: quorum.unwrap_or(known.quorum_percent),
            timeout: rollout_timeout.and_then(|time| time.try_into().ok()).or(known.timeout),
            on_straggler: on_straggler.unwrap_or(known.on_straggler),
            min_responders: min_responders.unwrap_or(known.min_responders),
        })
    }
}

/// Parses `all`, `90%` or `90`.
fn percent(text: &str) -> Result<u32, String> {
    if text == "all" {
        return Ok(100);
    }
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| "a quorum is `all` or a share such as 90%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_all_or_a_share() {
        assert_eq!((percent("all"), percent("90%"), percent("5")), (Ok(100), Ok(90), Ok(5)));
        for bad in ["0", "101%", "", "most", "-1"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let known = RolloutPolicy { quorum_percent: 50, min_responders: 2, ..Default::default() };
        assert_eq!(PolicyArgs::default().over(Some(known)), None);
        let more = PolicyArgs { min_responders: Some(3), ..PolicyArgs::default() };
        assert_eq!(more.over(Some(known)), Some(RolloutPolicy { min_responders: 3, ..known }));
    }
}
