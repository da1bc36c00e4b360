//! Test configs: how a replay behaves.
//!
//! The text is the user's and is kept as written; what is read from it stands here. Unknown keys are kept and ignored.

mod sequence;

use serde_json::Value;

pub use self::sequence::{Across, End, Order, Scope, Sequence, State};
use crate::{
    chaos,
    clock::Clock,
    diagnostic::{Diagnostic, has_errors},
    timing::Timing,
    token_world::TokenSettings,
};

/// A test config, as far as it steers a replay.
#[derive(Debug, Clone)]
pub struct TestConfig {
    id: String,
    protected: bool,
    tokens: TokenSettings,
    sequence: Sequence,
    claims: Option<Vec<String>>,
    warnings: Vec<Diagnostic>,
    clock: Clock,
    passthrough: bool,
    low_data: bool,
    timing: Timing,
    chaos: Option<chaos::Config>,
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
        let protected = flag(members, "protected", "protected", &mut found);
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
        let nothing = serde_json::Map::new();
        let responder = members.get("responder").and_then(Value::as_object).unwrap_or(&nothing);
        let clock = Clock::parse(responder.get("clock"), &mut found);
        let timing = Timing::read(members.get("responder"), &mut found);
        let chaos = chaos::read(members.get("chaos"), members.get("generator"), &mut found);
        let sequence = sequence::sequence(responder, &mut found);
        let claims = sequence::claims(responder, &mut found);
        let path = "responder.passthrough_mode";
        let passthrough = flag(responder, "passthrough_mode", path, &mut found);
        let path = "responder.low_data_mode";
        let low_data = flag(responder, "low_data_mode", path, &mut found);
        if has_errors(&found) {
            return Err(found);
        }
        Ok(Self {
            id,
            protected,
            tokens,
            sequence,
            claims,
            warnings: found,
            clock,
            passthrough,
            low_data,
            timing,
            chaos,
        })
    }

    /// The config's own id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How several answers of one signature take turns.
    #[must_use]
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// The claims that may tell users apart; `None` for those that usually do.
    #[must_use]
    pub fn identity_claims(&self) -> Option<&[String]> {
        self.claims.as_deref()
    }

    /// What is accepted, but not as it was meant.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
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

    /// Whether a request that nothing recorded answers goes to the real host, where the responder allows it.
    #[must_use]
    pub fn passthrough(&self) -> bool {
        self.passthrough
    }

    /// Whether only totals of its requests are reported.
    #[must_use]
    pub fn low_data(&self) -> bool {
        self.low_data
    }

    /// The clock that tokens follow.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How long answers take.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// What befalls answers.
    pub(crate) fn chaos(&self) -> Option<&chaos::Config> {
        self.chaos.as_ref()
    }

    /// The same, with a key set served even where none was recorded.
    #[must_use]
    pub fn serving_jwks(mut self) -> Self {
        self.tokens.serve_jwks = true;
        self
    }
}

/// A member that is true or false, and false unless it is there. `path` is where it stands in the document.
fn flag(
    members: &serde_json::Map<String, Value>,
    name: &str,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> bool {
    match members.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(_) => {
            let message = format!("`{name}` is true or false");
            found.push(Diagnostic::error("wrong_type", path, message));
            false
        }
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

    fn responder(json: &str) -> Result<TestConfig, Vec<Diagnostic>> {
        TestConfig::parse(format!(r#"{{"id":"c","responder":{json}}}"#).as_bytes())
    }

    #[test]
    fn sequences_have_defaults() {
        for json in ["{}", r#"{"sequence":null}"#, r#"{"sequence":{"scope":null}}"#] {
            assert_eq!(responder(json).unwrap().sequence(), &Sequence::default(), "{json}");
        }
        let all = responder(
            r#"{"sequence":{"scope":"replica","end":"stop","state":"off"},"identity":{"claims":["sub","tenant"]}}"#,
        )
        .unwrap();
        let (scope, end, state) = (Scope::Replica, End::Stop, State::Off);
        let expected = Sequence { scope, end, state, ..Sequence::default() };
        assert_eq!(all.sequence(), &expected);
        assert_eq!(all.identity_claims(), Some(&["sub".to_owned(), "tenant".to_owned()][..]));
        assert_eq!(all.warnings(), []);
    }

    #[test]
    fn mistakes_in_sequences_are_found() {
        let found = responder(
            r#"{"sequence":{"scope":"Node","end":1,"sate":"on"},"identity":{"claims":["",2]}}"#,
        )
        .unwrap_err();
        let told: Vec<_> = found.iter().map(|d| (d.code, d.path.as_str())).collect();
        assert_eq!(
            told,
            [
                ("unknown_field", "responder.sequence.sate"),
                ("invalid_value", "responder.sequence.scope"),
                ("invalid_value", "responder.sequence.end"),
                ("wrong_type", "responder.identity.claims"),
            ]
        );
        assert_eq!(found[0].hint, "did you mean `state`?");
        assert_eq!(responder(r#"{"sequence":[]}"#).unwrap_err()[0].path, "responder.sequence");
    }

    #[test]
    fn misses_are_passed_through_where_it_says_so() {
        assert!(!responder("{}").unwrap().passthrough());
        assert!(responder(r#"{"passthrough_mode":true}"#).unwrap().passthrough());
        let found = responder(r#"{"passthrough_mode":"on"}"#).unwrap_err();
        assert_eq!(found[0].path, "responder.passthrough_mode");
    }

    #[test]
    fn nodes_share_turns_one_by_one_or_by_cycles() {
        let order = |sequence: &str| {
            let config = responder(&format!(r#"{{"sequence":{sequence}}}"#)).unwrap();
            let told: Vec<_> = config.warnings().iter().map(|d| (d.code, d.path.clone())).collect();
            (config.sequence().order, told)
        };
        let unused = |name: &str| ("unused_setting", format!("responder.sequence.{name}"));
        for (sequence, expected, told) in [
            (r#"{"scope":"global"}"#, Order::Strict, vec![]),
            (r#"{"scope":"global","order":"strict"}"#, Order::Strict, vec![]),
            (r#"{"scope":"global","order":"cycles"}"#, Order::Cycles(16), vec![]),
            (r#"{"scope":"global","order":"cycles","lease":1}"#, Order::Cycles(1), vec![]),
            (r#"{"scope":"global","lease":1}"#, Order::Strict, vec![unused("lease")]),
            (r#"{"order":"cycles"}"#, Order::Strict, vec![unused("order")]),
            (
                r#"{"scope":"global","order":"cycles","end":"stop"}"#,
                Order::Strict,
                vec![unused("order")],
            ),
        ] {
            assert_eq!(order(sequence), (expected, told), "{sequence}");
        }
        for lease in ["0", "-1", "1.5", "\"1\"", "1000001"] {
            let wrong = format!(r#"{{"sequence":{{"scope":"global","lease":{lease}}}}}"#);
            let found = responder(&wrong).unwrap_err();
            assert!(found.iter().any(|d| d.path == "responder.sequence.lease"), "{lease}");
        }
    }

    #[test]
    fn nodes_share_what_is_an_identitys_where_it_says_so() {
        let across = |sequence: &str| {
            let config = responder(&format!(r#"{{"sequence":{sequence}}}"#)).unwrap();
            (config.sequence().across, config.warnings().len())
        };
        assert_eq!(across("{}"), (Across::Node, 0));
        assert_eq!(across(r#"{"across":"node"}"#), (Across::Node, 0));
        assert_eq!(across(r#"{"across":"fleet"}"#), (Across::Fleet, 0));
        assert_eq!(across(r#"{"scope":"replica","across":"fleet"}"#), (Across::Node, 1));
        assert!(responder(r#"{"sequence":{"across":"all"}}"#).is_err());
    }
}
