//! `var_store` and `var_load`: remember a value under a name, and get it back.

use std::sync::Arc;

use bytes::Bytes;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    jwt::key::SecretRef,
    transform::{Step, materials::Required},
};

#[derive(Debug)]
struct Store {
    name: String,
}

#[derive(Debug)]
struct Load {
    name: String,
}

pub(super) fn parse_store(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(Store { name: name(step, path, found)? }))
}

pub(super) fn parse_load(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(Load { name: name(step, path, found)? }))
}

fn name(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<String> {
    match step.optional("variable") {
        Some(name) => Some(name),
        None => step.required("name", path, found),
    }
}

impl Transform for Store {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        effects.scope().store(&self.name, Bytes::copy_from_slice(value));
        apply(rest, value, effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }
}

impl Transform for Load {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        drop(apply(rest, value, effects)?);
        // A variable that nobody has stored is empty.
        Ok(effects.scope().variable(&self.name).map(|value| value.to_vec()).unwrap_or_default())
    }

    fn require(&self, required: &mut Required, _secrets: &mut Vec<SecretRef>) {
        required.variables.insert(self.name.clone());
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }
}
