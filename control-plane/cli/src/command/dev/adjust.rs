//! Flags that stand for settings of the test config.

use clap::Args;
use serde_json::{Map, Value, json};

/// What is said on the command line comes on top of the test config.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Adjust {
    /// How long answers take: none, recorded, or a factor of the recorded time such as 2x [aliases: --mock-timing]
    #[arg(long, alias = "mock-timing", value_name = "TIMING")]
    timing: Option<String>,

    /// What befalls answers on purpose, such as '(location IS "/pay"): status=503, percent=10'; may be given several times
    #[arg(long, value_name = "RULE")]
    chaos: Vec<String>,

    /// The same for paths that a regular expression describes, such as '/v1/.*:latency=2s,rate=1/3'
    #[arg(long, value_name = "FAULT")]
    fault: Vec<String>,
}

impl Adjust {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.timing.is_none() && self.chaos.is_empty() && self.fault.is_empty()
    }

    /// The test config with what is said on top. What is no test config stays as it is, for the control plane to say what is wrong.
    pub(crate) fn apply(&self, config: String) -> String {
        if self.is_empty() {
            return config;
        }
        let Ok(Value::Object(mut members)) = serde_json::from_str(&config) else { return config };
        if let (Some(timing), Some(responder)) = (&self.timing, object(&mut members, "responder")) {
            responder.insert("timing".to_owned(), json!(timing));
        }
        for (name, texts) in [("rules", &self.chaos), ("faults", &self.fault)] {
            if texts.is_empty() {
                continue;
            }
            let list = object(&mut members, "chaos")
                .map(|chaos| chaos.entry(name).or_insert_with(|| Value::Array(Vec::new())));
            // What is said here comes first, for the first rule that fits is the one that counts.
            if let Some(Value::Array(list)) = list {
                list.splice(0..0, texts.iter().map(|text| json!(text)));
            }
        }
        Value::Object(members).to_string()
    }
}

/// A section; `None` when something else stands in its place.
fn object<'m>(
    members: &'m mut Map<String, Value>,
    name: &str,
) -> Option<&'m mut Map<String, Value>> {
    let section = members.entry(name).or_insert(Value::Null);
    if section.is_null() {
        *section = Value::Object(Map::new());
    }
    section.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_on_top_of_the_config() {
        let text = |text: &str| text.to_owned();
        let adjust = Adjust {
            timing: Some(text("2x")),
            chaos: vec![text("status=500")],
            fault: vec![text("/a:latency=1s")],
        };
        let read =
            |config: &str| serde_json::from_str::<Value>(&adjust.apply(config.to_owned())).unwrap();
        assert_eq!(
            read(r#"{"id":"a","responder":null,"chaos":{"rules":["body=corrupt"],"seed":1}}"#),
            json!({"id": "a", "responder": {"timing": "2x"}, "chaos": {"rules": ["status=500", "body=corrupt"], "faults": ["/a:latency=1s"], "seed": 1}})
        );
        assert_eq!(adjust.apply(text("{")), "{");
        assert_eq!(read(r#"{"chaos":5}"#)["chaos"], json!(5));
        assert_eq!(Adjust::default().apply(text("{ }")), "{ }");
    }
}
