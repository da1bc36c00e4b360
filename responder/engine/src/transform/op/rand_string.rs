//! `rand_string`: puts a random text of a pattern in the value's place.

use std::sync::Arc;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{Step, random::Pattern},
};

#[derive(Debug)]
struct RandString {
    pattern: Pattern,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let pattern = step.required("pattern", path, found)?;
    match Pattern::parse(&pattern) {
        Ok(pattern) => Some(Arc::new(RandString { pattern })),
        Err(why) => {
            let at = format!("{path}.config.pattern");
            let message = format!("`{pattern}` describes no random text: {why}");
            found.push(Diagnostic::error("bad_regex", at, message));
            None
        }
    }
}

impl Transform for RandString {
    fn apply(
        &self,
        _value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let made = self.pattern.generate(effects.scope().random());
        apply(rest, made.as_bytes(), effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }
}
