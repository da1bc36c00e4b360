//! `variable`: what was remembered under a name; nothing when nobody did.

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::Diagnostics,
    transform::{
        Side, Step,
        materials::Required,
        message::Message,
        op::{Nature, StepError},
        world::Scope,
    },
};

#[derive(Debug)]
struct Variable {
    name: String,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let name = match step.optional("name") {
        Some(name) => name,
        None => step.required("variable", path, found)?,
    };
    Some(Arc::new(Variable { name }))
}

impl Extract for Variable {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, _message: &Message<'_>, scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        Ok(scope.variable(&self.name).map(|value| value.to_vec()).unwrap_or_default())
    }

    fn write(
        &self,
        _message: &mut Message<'_>,
        value: Vec<u8>,
        scope: &mut Scope,
    ) -> Result<(), StepError> {
        scope.store(&self.name, value.into());
        Ok(())
    }

    fn require(&self, required: &mut Required) {
        required.variables.insert(self.name.clone());
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }
}
