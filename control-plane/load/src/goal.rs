//! Goals: what has to hold of a run, such as `p99<250ms`, `errors<0.1%`, `own-answers>=99.9%`.

use std::{fmt, str::FromStr};

use crate::{
    measure::Totals,
    number::{float, percent},
};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A quantile of the response time, in milliseconds.
    Response(f64),
    /// A quantile of the service time, in milliseconds.
    Service(f64),
    /// The mean response time, in milliseconds.
    Average,
    /// The longest response time, in milliseconds.
    Longest,
    /// Requests without an answer and unexpected errors, in percent.
    Errors,
    /// Requests of which every assertion holds, in percent.
    Assertions,
    /// Answers that are that user's recorded ones, in percent.
    OwnAnswers,
    /// Requests whose token was not refused, in percent.
    TokenAcceptance,
    /// Answers that are no misses, in percent.
    MatchRate,
    /// Requests a second.
    Rate,
}

impl Metric {
    /// The names that goals may have.
    pub const NAMES: &'static str = "p50, p90, p95, p99, p99.9 (any percentile), avg, max, service.p99 (any percentile), errors, assertions, \
         own-answers, token-acceptance, match-rate, rps";

    fn parse(name: &str) -> Option<Self> {
        let quantile = |text: &str| {
            let number: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0).contains(&number).then_some(number / 100.0)
        };
        Some(match name {
            "avg" => Self::Average,
            "max" => Self::Longest,
            "errors" => Self::Errors,
            "assertions" => Self::Assertions,
            "own-answers" => Self::OwnAnswers,
            "token-acceptance" => Self::TokenAcceptance,
            "match-rate" => Self::MatchRate,
            "rps" => Self::Rate,
            _ => match name.strip_prefix("service.") {
                Some(rest) => Self::Service(quantile(rest)?),
                None => Self::Response(quantile(name)?),
            },
        })
    }

    /// What a test config calls a metric.
    pub(crate) fn of_config(name: &str) -> Option<Self> {
        let plain = name.to_ascii_lowercase().replace(['_', '-', '.'], "");
        let latency = plain.strip_suffix("latency").or_else(|| plain.strip_prefix("latency"));
        Some(match (latency, plain.as_str()) {
            (Some("avg" | "average"), _) => Self::Average,
            (Some("max"), _) => Self::Longest,
            (Some("p999"), _) => Self::Response(0.999),
            (Some(quantile), _) if quantile.starts_with('p') => Self::parse(quantile)?,
            (None, "passassertpct" | "passassertionpct" | "assertpassrate") => Self::Assertions,
            (None, "errorpct" | "errorrate" | "errorspct" | "failpct") => Self::Errors,
            (None, "requestspersecond" | "throughput" | "rps" | "tps") => Self::Rate,
            (None, "tokenacceptpct" | "tokenacceptancepct") => Self::TokenAcceptance,
            (None, "ownanswerpct" | "ownanswerspct") => Self::OwnAnswers,
            (None, "matchratepct" | "matchrate") => Self::MatchRate,
            _ => return None,
        })
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Response(_) | Self::Service(_) | Self::Average | Self::Longest)
    }

    fn unit(self) -> &'static str {
        if self.is_time() {
            "ms"
        } else if self == Self::Rate {
            "/s"
        } else {
            "%"
        }
    }

    /// The figure of a run; `None` when nothing of the kind has happened.
    #[must_use]
    pub fn of(self, totals: &Totals) -> Option<f64> {
        let counts = &totals.counts;
        let answered = !totals.response.is_empty();
        let ms = |micros: f64| answered.then_some(micros / 1000.0);
        match self {
            Self::Response(at) => ms(float(totals.response.value_at_quantile(at))),
            Self::Service(at) => ms(float(totals.service.value_at_quantile(at))),
            Self::Average => ms(totals.response.mean()),
            Self::Longest => ms(float(totals.response.max())),
            Self::Errors => percent(counts.errors, counts.requests),
            Self::Assertions => percent(counts.asserted - counts.failed, counts.asserted),
            Self::OwnAnswers => percent(counts.own, counts.compared),
            Self::TokenAcceptance => percent(counts.accepted, counts.presented),
            Self::MatchRate => percent(counts.answered - counts.missed, counts.answered),
            Self::Rate => {
                let seconds = totals.elapsed.as_secs_f64();
                (seconds > 0.0).then(|| float(counts.requests) / seconds)
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Percentiles as they are written: three digits behind the point are the most that matter.
        let quantile = |at: f64| {
            let text = format!("{:.3}", at * 100.0);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match self {
            Self::Response(at) => write!(f, "p{}", quantile(*at)),
            Self::Service(at) => write!(f, "service.p{}", quantile(*at)),
            Self::Average => f.write_str("avg"),
            Self::Longest => f.write_str("max"),
            Self::Errors => f.write_str("errors"),
            Self::Assertions => f.write_str("assertions"),
            Self::OwnAnswers => f.write_str("own-answers"),
            Self::TokenAcceptance => f.write_str("token-acceptance"),
            Self::MatchRate => f.write_str("match-rate"),
            Self::Rate => f.write_str("rps"),
        }
    }
}

/// How a figure has to stand to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Comparison {
    fn holds(self, figure: f64, limit: f64) -> bool {
        match self {
            Self::Less => figure < limit,
            Self::AtMost => figure <= limit,
            Self::More => figure > limit,
            Self::AtLeast => figure >= limit,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// Why a text is no goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoalError {
    /// There is no comparison in it.
    #[error("`{0}` is no goal such as p99<250ms, errors<0.1% or own-answers>=99.9%")]
    Form(String),
    /// Nothing of this name is measured.
    #[error("there is no metric `{0}`; there are {names}", names = Metric::NAMES)]
    Metric(String),
    /// The limit is no number, or has another unit.
    #[error("`{limit}` is no limit for {metric}: {wanted}")]
    Limit {
        /// As it was written.
        limit: String,
        /// The metric.
        metric: String,
        /// What is meant.
        wanted: &'static str,
    },
}

/// A goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    pub(crate) metric: Metric,
    pub(crate) comparison: Comparison,
    /// Milliseconds, percent, or requests a second.
    pub(crate) limit: f64,
}

impl FromStr for Goal {
    type Err = GoalError;

    fn from_str(text: &str) -> Result<Self, GoalError> {
        let form = || GoalError::Form(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (name, rest) = text.split_at_checked(at).ok_or_else(form)?;
        let (comparison, limit) = if let Some(limit) = rest.strip_prefix("<=") {
            (Comparison::AtMost, limit)
        } else if let Some(limit) = rest.strip_prefix(">=") {
            (Comparison::AtLeast, limit)
        } else if let Some(limit) = rest.strip_prefix('<') {
            (Comparison::Less, limit)
        } else {
            (Comparison::More, rest.strip_prefix('>').ok_or_else(form)?)
        };
        let name = name.trim();
        let metric = Metric::parse(name).ok_or_else(|| GoalError::Metric(name.to_owned()))?;
        let limit = read_limit(metric, limit.trim())?;
        Ok(Self { metric, comparison, limit })
    }
}

fn read_limit(metric: Metric, text: &str) -> Result<f64, GoalError> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at).unwrap_or((text, ""));
    let wrong =
        |wanted| GoalError::Limit { limit: text.to_owned(), metric: metric.to_string(), wanted };
    let number: Option<f64> = number.parse().ok();
    if metric.is_time() {
        let wanted = "a time such as 250ms or 1.5s";
        let factor = match unit.trim() {
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1000.0,
            _ => return Err(wrong(wanted)),
        };
        return number.map(|number| number * factor).ok_or_else(|| wrong(wanted));
    }
    if metric == Metric::Rate {
        let fits = matches!(unit.trim(), "" | "rps" | "/s");
        return number.filter(|_| fits).ok_or_else(|| wrong("requests a second, such as 500"));
    }
    let fits = matches!(unit.trim(), "" | "%");
    number
        .filter(|number| fits && *number <= 100.0)
        .ok_or_else(|| wrong("a part in percent such as 99.9%"))
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, comparison, limit } = self;
        write!(f, "{metric}{}{limit}{}", comparison.sign(), metric.unit())
    }
}

/// What became of a goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// What was measured; `None` when there was nothing to measure.
    pub measured: Option<f64>,
    /// Whether it is reached. What was not measured is not.
    pub reached: bool,
}

impl Goal {
    /// Judges a run.
    #[must_use]
    pub fn judge(self, totals: &Totals) -> Verdict {
        let measured = self.metric.of(totals);
        let reached = measured.is_some_and(|figure| self.comparison.holds(figure, self.limit));
        Verdict { goal: self, measured, reached }
    }
}

impl Verdict {
    /// The figure for people.
    #[must_use]
    pub fn figure(&self) -> String {
        self.measured.map_or_else(
            || "nothing was measured".to_owned(),
            |figure| format!("{figure:.3}{}", self.goal.metric.unit()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_read_and_written() {
        for (text, shown) in [
            ("p99<250ms", "p99<250ms"),
            ("p99.9 <= 1.5s", "p99.9<=1500ms"),
            ("service.p50<800us", "service.p50<0.8ms"),
            ("errors<0.1%", "errors<0.1%"),
            ("own-answers>=99.9%", "own-answers>=99.9%"),
            ("token-acceptance>=100", "token-acceptance>=100%"),
            ("rps>500", "rps>500/s"),
            ("avg<10ms", "avg<10ms"),
        ] {
            assert_eq!(text.parse::<Goal>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_goal_says_why() {
        for (text, part) in [
            ("p99", "no goal such as"),
            ("p101<1s", "no metric `p101`"),
            ("latency<1s", "no metric `latency`"),
            ("p99<250", "a time such as"),
            ("errors<1s", "percent"),
            ("errors<=101%", "percent"),
            ("rps>5ms", "requests a second"),
        ] {
            let why = text.parse::<Goal>().unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn names_of_test_configs_are_known() {
        for (name, shown) in [
            ("avgLatency", "avg"),
            ("p95Latency", "p95"),
            ("latency.p99", "p99"),
            ("passAssertPct", "assertions"),
            ("requestsPerSecond", "rps"),
        ] {
            assert_eq!(Metric::of_config(name).unwrap().to_string(), shown);
        }
        assert!(Metric::of_config("cpu").is_none());
    }
}
