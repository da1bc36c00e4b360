//! `dlp_field` and `dlp_json`: redaction in a chain, by the config that the snapshot was redacted with, else by the built-in one.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{diagnostic::Diagnostics, transform::Step};

#[derive(Debug)]
struct Field {
    category: String,
    /// Puts an invented value in the place instead of a mark.
    reverse: bool,
}

#[derive(Debug)]
struct Json;

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_field(
    step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    let category = step.optional("category").filter(|category| !category.is_empty());
    let reverse = step.optional("reverse").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Some(Arc::new(Field { category: category.unwrap_or_else(|| "FIELD".to_owned()), reverse }))
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_json(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    Some(Arc::new(Json))
}

impl Transform for Field {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let redactor = &effects.scope().world.redactor;
        let redacted = if self.reverse {
            redactor.invented(&self.category, value)
        } else {
            redactor.field(&self.category, value)
        };
        apply(rest, &redacted, effects)
    }
}

impl Transform for Json {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        match effects.scope().world.redactor.json(value) {
            Some(redacted) => apply(rest, &redacted, effects),
            None => apply(rest, value, effects),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::Lab;

    #[test]
    fn a_field_gets_a_mark_or_an_invented_value() {
        let run = |config: &str, value: &str| {
            let step = format!(r#"{{"type":"dlp_field","config":{{{config}}}}}"#);
            Lab::new().run(&step, value).unwrap()
        };
        let mark = run(r#""category":"email""#, "ann@example.com");
        assert!(mark.starts_with("REDACTED-EMAIL-"), "{mark}");
        assert_eq!(mark, run(r#""category":"email""#, "ann@example.com"));
        assert_ne!(mark, run(r#""category":"email""#, "bob@example.com"));
        assert!(run("", "x").starts_with("REDACTED-FIELD-"));
        let invented = run(r#""category":"email","reverse":"true""#, "ann@example.com");
        assert!(invented.contains('@') && invented != "ann@example.com", "{invented}");
        assert_eq!(run("", ""), "");
    }

    #[test]
    fn a_document_loses_what_the_config_names() {
        let step = r#"{"type":"dlp_json"}"#;
        let made = Lab::new().run(step, r#"{ "password": "hunter2", "n": 1.50 }"#).unwrap();
        assert!(!made.contains("hunter2") && made.ends_with(r#", "n": 1.50 }"#), "{made}");
        assert_eq!(Lab::new().run(step, "no document").unwrap(), "no document");
    }
}
