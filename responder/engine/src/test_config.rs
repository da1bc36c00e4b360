//! Test configs: how a replay behaves.
//!
//! The text is the user's and is kept as written; what is read from it stands here. Unknown keys are kept and ignored.

use serde_json::Value;

use crate::{diagnostic::Diagnostic, token_world::TokenSettings};

/// A test config, as far as it steers a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestConfig {
    id: String,
    protected: bool,
    tokens: TokenSettings,
}

impl TestConfig {
    /// The built-in test config, which cannot be changed: clone it.
    pub const STANDARD: &str = r#"{
  "id": "standard",
  "protected": true,
  "version": 3,
  "rules": [],
  "assertionGroups": [],
  "generator": { "stages": [] },
  "responder": { "numReplicas": 1, "passthrough_mode": false },
  "cluster": { "replayMode": "responder-only", "cleanup": "inventory", "logLevel": "info" }
}
"#;

    /// Reads a test config.
    ///
    /// # Errors
    /// Every finding, when the document is no test config.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let value: Value = serde_json::from_slice(json).map_err(|error| {
            let line = u32::try_from(error.line()).unwrap_or_default();
            vec![
                Diagnostic::error("not_json", "", format!("the test config is no JSON: {error}"))
                    .line(line),
            ]
        })?;
        let Value::Object(members) = &value else {
            return Err(vec![Diagnostic::error(
                "wrong_type",
                "",
                "a test config is a JSON object",
            )]);
        };
        let mut found = Vec::new();
        let id = match members.get("id") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(_) => {
                found.push(Diagnostic::error(
                    "wrong_type",
                    "id",
                    "the id is a string that is not empty",
                ));
                String::new()
            }
            None => {
                found.push(Diagnostic::error("missing_field", "id", "a test config needs an id"));
                String::new()
            }
        };
        let protected = match members.get("protected") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(protected)) => *protected,
            Some(_) => {
                found.push(Diagnostic::error(
                    "wrong_type",
                    "protected",
                    "`protected` is true or false",
                ));
                false
            }
        };
        for section in ["generator", "responder", "cluster", "chaos"] {
            if members.get(section).is_some_and(|value| !value.is_object() && !value.is_null()) {
                found.push(Diagnostic::error(
                    "wrong_type",
                    section,
                    format!("`{section}` is an object"),
                ));
            }
        }
        for list in ["rules", "assertionGroups"] {
            if members.get(list).is_some_and(|value| !value.is_array() && !value.is_null()) {
                found.push(Diagnostic::error("wrong_type", list, format!("`{list}` is a list")));
            }
        }
        let tokens = TokenSettings::parse(members.get("responder"), &mut found);
        if found.is_empty() { Ok(Self { id, protected, tokens }) } else { Err(found) }
    }

    /// The config's own id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it says of itself that it must not be changed.
    #[must_use]
    pub fn protected(&self) -> bool {
        self.protected
    }

    /// What is served about tokens.
    #[must_use]
    pub fn tokens(&self) -> &TokenSettings {
        &self.tokens
    }

    /// The same, with a key set served even where none was recorded.
    #[must_use]
    pub fn serving_jwks(mut self) -> Self {
        self.tokens.serve_jwks = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_built_in_one() {
        let standard = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        assert_eq!((standard.id(), standard.protected()), ("standard", true));
    }

    #[test]
    fn reports_every_mistake_at_once() {
        let found =
            TestConfig::parse(br#"{"protected":"yes","responder":[],"rules":{}}"#).unwrap_err();
        let paths: Vec<_> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(paths, ["id", "protected", "responder", "rules"]);
        assert_eq!(TestConfig::parse(b"{\n\n!").unwrap_err()[0].line, 3);
    }
}
