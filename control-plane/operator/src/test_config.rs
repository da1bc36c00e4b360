//! What a test config says about the cluster. What it says about serving is the engine's.
//!
//! Both ways to write keys are read, `replay_mode` and `replayMode`. What cannot be used is told and left out: a test config that the control plane
//! serves by is never a reason to serve nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Map, Value};

use crate::crd::{Cleanup, Mode};

/// The most responders of a replay.
const MOST: i32 = 1000;

/// What a test config says about the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// How many responders there are: `responder.numReplicas`, 1 if not given.
    pub replicas: i32,
    /// What each responder gets: `responder.resources`.
    pub responder: ResourceRequirements,
    /// What the generator gets: `generator.resources`.
    pub generator: ResourceRequirements,
    /// `cluster.replayMode`; `responder-only` if not given.
    pub mode: Mode,
    /// `cluster.cleanup`; `inventory` if not given.
    pub cleanup: Cleanup,
    /// `cluster.logLevel`; `info` if not given.
    pub log_level: &'static str,
    /// `cluster.secrets`: the names of secrets to mount.
    pub secrets: BTreeSet<String>,
    /// What cannot be used.
    pub notes: Vec<String>,
}

/// Reads one, JSON text.
///
/// # Errors
/// When it is no JSON object, which no control plane stores.
pub fn read(json: &str) -> Result<Cluster, serde_json::Error> {
    let document: Map<String, Value> = serde_json::from_str(json)?;
    let mut reader = Reader::default();
    let responder = section(&document, "responder");
    let generator = section(&document, "generator");
    let cluster = section(&document, "cluster");
    Ok(Cluster {
        replicas: reader.replicas(find(&responder, &["numReplicas", "num_replicas"])),
        responder: reader.resources("responder", find(&responder, &["resources"])),
        generator: reader.resources("generator", find(&generator, &["resources"])),
        mode: reader
            .named("cluster.replayMode", find(&cluster, &["replayMode", "replay_mode"]))
            .unwrap_or(Mode::ResponderOnly),
        cleanup: reader
            .named("cluster.cleanup", find(&cluster, &["cleanup"]))
            .unwrap_or(Cleanup::Inventory),
        log_level: reader.log_level(find(&cluster, &["logLevel", "log_level"])),
        secrets: reader.secrets(find(
            &cluster,
            &["secrets", "secretRefs", "secret_refs", "replaySecrets", "replay_secrets"],
        )),
        notes: reader.notes,
    })
}

/// A section; empty where there is none.
fn section(document: &Map<String, Value>, name: &str) -> Map<String, Value> {
    document.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn find<'a>(section: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| section.get(*name)).filter(|value| !value.is_null())
}

#[derive(Default)]
struct Reader {
    notes: Vec<String>,
}

impl Reader {
    fn replicas(&mut self, value: Option<&Value>) -> i32 {
        let Some(value) = value else { return 1 };
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        match number.and_then(|number| i32::try_from(number).ok()) {
            Some(replicas) if (1..=MOST).contains(&replicas) => replicas,
            _ => {
                self.notes
                    .push(format!("responder.numReplicas is 1 to {MOST}; there is one responder"));
                1
            }
        }
    }

    fn named<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        value: Option<&Value>,
    ) -> Option<T> {
        let value = value?;
        let read = serde_json::from_value(value.clone());
        if read.is_err() {
            self.notes.push(format!("{path} is none of those that there are"));
        }
        read.ok()
    }

    fn log_level(&mut self, value: Option<&Value>) -> &'static str {
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        let Some(value) = value else { return "info" };
        let text = value.as_str().unwrap_or_default();
        let known = LEVELS.into_iter().find(|level| *level == text);
        known.unwrap_or_else(|| {
            self.notes.push(format!("cluster.logLevel is one of {}", LEVELS.join(", ")));
            "info"
        })
    }

    fn resources(&mut self, whose: &str, value: Option<&Value>) -> ResourceRequirements {
        let mut amounts = |kind: &str| {
            let listed = value.and_then(|value| value.get(kind)).and_then(Value::as_object)?;
            let mut found = BTreeMap::new();
            for (name, amount) in listed {
                let text = match amount {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if is_quantity(&text)
                    && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                {
                    found.insert(name.clone(), Quantity(text));
                } else {
                    self.notes.push(format!(
                        "{whose}.resources.{kind}.{name} is no amount of cpu or memory"
                    ));
                }
            }
            (!found.is_empty()).then_some(found)
        };
        let (requests, limits) = (amounts("requests"), amounts("limits"));
        ResourceRequirements { requests, limits, ..ResourceRequirements::default() }
    }

    fn secrets(&mut self, value: Option<&Value>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in value.and_then(Value::as_array).into_iter().flatten() {
            match entry.as_str().or_else(|| entry.get("name")?.as_str()) {
                Some(name) if is_secret_name(name) => drop(found.insert(name.to_owned())),
                _ => self.notes.push("cluster.secrets lists names of secrets".to_owned()),
            }
        }
        found
    }
}

/// Whether a secret can be called so.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && is_end(name.chars().next())
        && is_end(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
}

/// Whether it reads as a quantity: a positive decimal number and perhaps a unit.
fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 16] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let Some((number, unit)) = text.split_at_checked(end) else { return false };
    UNITS.contains(&unit) && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_ways_to_write_keys() {
        let camel = r#"{"id":"a","responder":{"numReplicas":3},"cluster":{"replayMode":"full-replay","cleanup":"all","logLevel":"debug"}}"#;
        let snake = r#"{"id":"a","responder":{"num_replicas":3},"cluster":{"replay_mode":"full-replay","cleanup":"all","log_level":"debug"}}"#;
        let read_camel = read(camel).unwrap();
        assert_eq!(read_camel, read(snake).unwrap());
        assert_eq!((read_camel.replicas, read_camel.mode), (3, Mode::FullReplay));
        assert_eq!((read_camel.cleanup, read_camel.log_level), (Cleanup::All, "debug"));
        assert!(read_camel.notes.is_empty());
    }

    #[test]
    fn has_defaults() {
        let found = read(r#"{"id":"a"}"#).unwrap();
        assert_eq!((found.replicas, found.mode), (1, Mode::ResponderOnly));
        assert_eq!((found.cleanup, found.log_level), (Cleanup::Inventory, "info"));
        assert!(read("[]").is_err());
    }

    #[test]
    fn reads_resources_and_secrets_and_tells_what_it_cannot_use() {
        let found = read(
            r#"{"id":"a","responder":{"numReplicas":0,"resources":{"requests":{"cpu":4,"memory":"2G"},"limits":{"memory":"much","gpu":"1"}}},
                "cluster":{"secrets":["jwt-demo",{"name":"other"},7,"No"],"replayMode":"x"}}"#,
        )
        .unwrap();
        let requests = found.responder.requests.unwrap();
        assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("4", "2G"));
        assert_eq!(found.responder.limits, None);
        assert_eq!(found.secrets, ["jwt-demo", "other"].map(str::to_owned).into());
        assert_eq!(found.notes.len(), 6, "{:?}", found.notes);
    }
}
