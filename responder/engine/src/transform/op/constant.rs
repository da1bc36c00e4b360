//! `constant`: puts a text in the value's place.

use std::sync::Arc;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    jwt::key::SecretRef,
    transform::{Step, materials::Required, text::Text},
};

#[derive(Debug)]
struct Constant {
    new: Text,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let (name, new) = match step.optional("value") {
        Some(value) => ("value", value),
        None => ("new", step.required("new", path, found)?),
    };
    let new = Text::with_secrets(&new, &format!("{path}.config.{name}"), found)?;
    Some(Arc::new(Constant { new }))
}

impl Transform for Constant {
    fn apply(
        &self,
        _value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let new = self.new.resolve(effects.scope());
        apply(rest, &new, effects)
    }

    fn nature(&self) -> Nature {
        self.new.nature()
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        self.new.require(required, secrets);
    }
}
