//! The parts of a test config that steer a load generator: stages, assertions and goals.
//!
//! Keys come in camel case and in snake case. What cannot be read is an error at its place; what is not known is a note.

use std::time::Duration;

use countersign_engine::{
    diagnostic::{Diagnostic, has_errors},
    test_config::TestConfig,
    transform::parse_duration,
};
use serde_json::{Map, Value};

use crate::{
    compare::Checks,
    goal::{Comparison, Goal, Metric},
    number::seconds,
    schedule::Stage,
};

/// How users act between requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Think {
    /// They do not wait.
    #[default]
    None,
    /// They wait as long as when they were recorded, divided by this.
    Recorded(f64),
    /// They wait so long.
    Fixed(Duration),
}

/// The load pattern of a test config.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Load {
    /// None is given.
    #[default]
    Unsaid,
    /// Users that act one request after the other.
    Users(Vec<Stage>, Think),
    /// Requests a second.
    Rate(Vec<Stage>),
}

/// What a test config says about load.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Its id.
    pub id: String,
    /// The load pattern.
    pub load: Load,
    /// Whether the stages say how long they take.
    pub timed: bool,
    /// The assertions; `None` where there are none.
    pub checks: Option<Checks>,
    /// The goals.
    pub goals: Vec<Goal>,
    /// How long a request may take.
    pub timeout: Option<Duration>,
    /// The claims that tell users apart.
    pub claims: Option<Vec<String>>,
    /// What is accepted, but not as it was meant.
    pub notes: Vec<Diagnostic>,
}

impl Settings {
    /// Reads a test config.
    ///
    /// # Errors
    /// Every finding, when it cannot be used.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let config = TestConfig::parse(json)?;
        let value: Value = serde_json::from_slice(json).unwrap_or_default();
        let mut reader = Reader { found: Vec::new() };
        let generator = value.get("generator").and_then(Value::as_object);
        let low_data = generator.and_then(|it| member(it, &["lowDataMode", "low_data_mode"]));
        let low_data = low_data.and_then(Value::as_bool).unwrap_or_default();
        let (load, timed) = reader.load(generator);
        let goals = reader.goals(&value);
        let checks = reader.checks(&value);
        let timeout = generator
            .and_then(|it| member(it, &["requestTimeoutSeconds", "request_timeout_seconds"]))
            .and_then(|value| reader.number(value, "generator.requestTimeoutSeconds"))
            .filter(|number| *number > 0.0)
            .map(seconds);
        if has_errors(&reader.found) {
            return Err(reader.found);
        }
        Ok(Self {
            id: config.id().to_owned(),
            load,
            timed,
            checks: if low_data { Some(Checks::default()) } else { checks },
            goals,
            timeout,
            claims: config.identity_claims().map(<[String]>::to_vec),
            notes: reader.found,
        })
    }
}

fn member<'v>(of: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    names.iter().find_map(|name| of.get(*name)).filter(|value| !value.is_null())
}

struct Reader {
    found: Vec<Diagnostic>,
}

impl Reader {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(Diagnostic::error("invalid_value", path, message));
    }

    fn number(&mut self, value: &Value, path: &str) -> Option<f64> {
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            self.wrong(path, "a number that is not negative is meant");
        }
        number
    }

    fn time(&mut self, value: &Value, path: &str) -> Option<Duration> {
        if let Value::String(text) = value
            && let Some(time) = duration(text)
        {
            return Some(time);
        }
        if value.is_string() && value.as_str().is_none_or(|text| text.parse::<f64>().is_err()) {
            self.wrong(path, "a duration such as 30s or 5m is meant");
            return None;
        }
        self.number(value, path).map(seconds)
    }

    fn load(&mut self, generator: Option<&Map<String, Value>>) -> (Load, bool) {
        let stages = generator.and_then(|generator| generator.get("stages"));
        let stages = match stages {
            None | Some(Value::Null) => return (Load::Unsaid, false),
            Some(Value::Array(stages)) => stages,
            Some(_) => {
                self.wrong("generator.stages", "`stages` is a list");
                return (Load::Unsaid, false);
            }
        };
        let (mut users, mut rates) = (Vec::new(), Vec::new());
        let (mut think, mut timed) = (Think::None, false);
        for (nth, stage) in stages.iter().enumerate() {
            let path = format!("generator.stages[{nth}]");
            let Some(stage) = stage.as_object() else {
                self.wrong(&path, "a stage is an object");
                continue;
            };
            let mut time = |names: &[&str]| {
                member(stage, names).and_then(|it| {
                    self.time(it, &format!("{path}.{}", names.first().copied().unwrap_or_default()))
                })
            };
            let ramp = time(&["rampDuration", "ramp_duration", "ramp", "rampUp"]);
            let hold = time(&["duration", "holdDuration", "hold"]);
            timed |= ramp.is_some() || hold.is_some();
            let (ramp, hold) = (ramp.unwrap_or_default(), hold.unwrap_or_default());
            let both = |to| [Stage { duration: ramp, to }, Stage { duration: hold, to }];
            let rate = ["requestsPerSecond", "requests_per_second", "rps", "targetRps"];
            if let Some(rate) = member(stage, &rate) {
                let inner = rate.as_object().and_then(|it| it.values().find(|it| !it.is_object()));
                let figure =
                    self.number(inner.unwrap_or(rate), &format!("{path}.requestsPerSecond"));
                rates.extend(figure.into_iter().flat_map(both));
            } else if let Some(value) = member(stage, &["virtualUsers", "virtual_users", "vus"]) {
                let (figure, own) = self.users(value, &format!("{path}.virtualUsers"));
                think = own.unwrap_or(think);
                users.extend(figure.into_iter().flat_map(both));
            } else {
                self.wrong(&path, "a stage has `virtualUsers` or `requestsPerSecond`");
            }
        }
        if !users.is_empty() && !rates.is_empty() {
            self.wrong(
                "generator.stages",
                "stages are of users or of requests a second, not of both",
            );
        }
        if !rates.is_empty() {
            return (Load::Rate(rates), timed);
        }
        let load = if users.is_empty() { Load::Unsaid } else { Load::Users(users, think) };
        (load, timed)
    }

    fn users(&mut self, value: &Value, path: &str) -> (Option<f64>, Option<Think>) {
        let Some(object) = value.as_object() else { return (self.number(value, path), None) };
        let figure = match member(object, &["virtualUsers", "virtual_users", "count"]) {
            Some(value) => self.number(value, &format!("{path}.virtualUsers")),
            None => {
                self.wrong(path, "it says not how many");
                None
            }
        };
        let delay = member(object, &["requestDelay", "request_delay"]).and_then(Value::as_object);
        let Some(delay) = delay else { return (figure, None) };
        let mode = member(delay, &["mode", "timing"]).and_then(Value::as_str).unwrap_or("NONE");
        let at = format!("{path}.requestDelay");
        let think = match mode.to_ascii_uppercase().as_str() {
            "NONE" => Some(Think::None),
            "RECORDED" => Some(Think::Recorded(1.0)),
            "MULTIPLE" => {
                let factor = member(delay, &["multiple", "factor"]);
                let factor = factor.and_then(|value| self.number(value, &at)).unwrap_or(1.0);
                Some(Think::Recorded(if factor > 0.0 { 1.0 / factor } else { f64::INFINITY }))
            }
            "FLAT" => {
                let delay = member(delay, &["delay", "flatRequestDelay", "duration"]);
                delay.and_then(|value| self.time(value, &at)).map(Think::Fixed)
            }
            _ => {
                self.wrong(&at, "the mode is NONE, RECORDED, MULTIPLE or FLAT");
                None
            }
        };
        (figure, think)
    }

    fn goals(&mut self, value: &Value) -> Vec<Goal> {
        let rules = value.get("rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut goals = Vec::new();
        for (nth, rule) in rules.iter().enumerate() {
            let path = format!("rules[{nth}]");
            let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
            let Some(metric) = Metric::of_config(text("metricName")) else {
                let message = format!(
                    "the metric `{}` is not measured here; the goal is left out",
                    text("metricName")
                );
                self.found.push(Diagnostic::warning(
                    "unknown_metric",
                    format!("{path}.metricName"),
                    message,
                ));
                continue;
            };
            let comparison = match text("type") {
                "TOO_HIGH" => Comparison::AtMost,
                "TOO_LOW" => Comparison::AtLeast,
                _ => {
                    self.wrong(&format!("{path}.type"), "the type is TOO_HIGH or TOO_LOW");
                    continue;
                }
            };
            let limit = rule.get("value").unwrap_or(&Value::Null);
            if let Some(limit) = self.number(limit, &format!("{path}.value")) {
                goals.push(Goal { metric, comparison, limit });
            }
        }
        goals
    }

    fn checks(&mut self, value: &Value) -> Option<Checks> {
        let groups = value.get("assertionGroups").and_then(Value::as_array)?;
        let mut checks = Checks::default();
        let mut some = false;
        for (nth, group) in groups.iter().enumerate() {
            let configs = group.get("configs").and_then(Value::as_array);
            for (at, config) in configs.into_iter().flatten().enumerate() {
                let path = format!("assertionGroups[{nth}].configs[{at}]");
                some |= self.check(config, &path, &mut checks);
            }
        }
        some.then_some(checks)
    }

    fn check(&mut self, config: &Value, path: &str, checks: &mut Checks) -> bool {
        let kind = config.get("type").and_then(Value::as_str).unwrap_or_default();
        let list = |name: &str| -> String {
            match config.pointer(&format!("/config/{name}")) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(all)) => {
                    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                }
                _ => String::new(),
            }
        };
        match kind {
            "httpStatusCode" => checks.status = true,
            "httpHeaders" => {
                checks.headers = true;
                checks
                    .ignored_headers
                    .extend(list("ignore").split(',').map(|name| name.trim().to_owned()));
            }
            "httpResponseBody" => checks.body = true,
            "httpResponseSchema" => checks.schema = true,
            _ => {
                let message = format!("the assertion `{kind}` is not known here and is left out");
                self.found.push(Diagnostic::warning(
                    "unknown_assertion",
                    format!("{path}.type"),
                    message,
                ));
                return false;
            }
        }
        if matches!(kind, "httpResponseBody" | "httpResponseSchema") {
            let (ignored, only) = (list("ignore"), list("includeOnly"));
            let read =
                checks.paths.ignore([&*ignored]).and_then(|()| checks.paths.include([&*only]));
            if let Err(why) = read {
                self.wrong(&format!("{path}.config"), why.to_string());
            }
        }
        true
    }
}

/// Reads a duration such as `250ms`, `30s`, `5m`, `1h` or `1m30s`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let nanos = u64::try_from(parse_duration(text)?).ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(json: &str) -> Settings {
        Settings::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_samples_of_others_are_understood() {
        let sample = read(
            r#"{"id":"external-driver","generator":{"stages":[{"virtualUsers":{"virtualUsers":"1","requestDelay":{}}}]},"rules":[],"version":3,"assertionGroups":[]}"#,
        );
        let stages = vec![Stage { duration: Duration::ZERO, to: 1.0 }; 2];
        assert_eq!((sample.load, sample.timed), (Load::Users(stages, Think::None), false));
        let lab = read(
            r#"{"id":"lab","rules":[{"metricName":"passAssertPct","type":"TOO_LOW","value":100,"action":"ALERT"}],
                "assertionGroups":[{"configs":[{"type":"httpStatusCode"},{"type":"httpResponseBody","config":{"ignore":"access_token"}},{"type":"httpResponseSchema"},{"type":"mysqlRows"}]}]}"#,
        );
        assert_eq!(lab.goals[0].to_string(), "assertions>=100%");
        let checks = lab.checks.unwrap();
        assert!(checks.status && checks.body && checks.schema && !checks.headers);
        assert!(!checks.paths.compares(&["access_token".to_owned()]));
        assert_eq!(lab.notes[0].path, "assertionGroups[0].configs[3].type");
        assert_eq!(read(TestConfig::STANDARD).load, Load::Unsaid);
    }

    #[test]
    fn stages_ramp_and_hold() {
        let config = read(
            r#"{"id":"c","generator":{"requestTimeoutSeconds":7,"stages":[{"requestsPerSecond":100,"rampDuration":"30s","duration":"1m"},{"rps":"10","duration":5}]}}"#,
        );
        let stage = |seconds: u32, to| Stage { duration: SECOND * seconds, to };
        let stages = vec![stage(30, 100.0), stage(60, 100.0), stage(0, 10.0), stage(5, 10.0)];
        assert_eq!((config.load, config.timed), (Load::Rate(stages), true));
        assert_eq!(config.timeout, Some(SECOND * 7));
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let wrong = Settings::parse(
            br#"{"id":"c","generator":{"stages":[{"duration":"x","rps":1},{"virtualUsers":{}},{},{"virtualUsers":"many"}]},
                "rules":[{"metricName":"p99Latency","type":"ODD","value":1},{"metricName":"p99Latency","type":"TOO_HIGH"}]}"#,
        )
        .unwrap_err();
        let paths: Vec<_> = wrong.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "generator.stages[0].duration",
                "generator.stages[1].virtualUsers",
                "generator.stages[2]",
                "generator.stages[3].virtualUsers",
                "rules[0].type",
                "rules[1].value"
            ]
        );
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("1m30s", 90_000), ("1.5h", 5_400_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "30", "s", "5 d", "-1s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
