//! `http_queryparam`: the n-th value of a query parameter.

use std::sync::Arc;

use super::{Extract, Extractor, named, not_found, other_side};
use crate::{
    diagnostic::Diagnostics,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Parameter {
    name: String,
    index: usize,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let (name, index) = named(step, path, found)?;
    Some(Arc::new(Parameter { name, index }))
}

impl Extract for Parameter {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        parts
            .query
            .iter()
            .filter(|parameter| parameter.0 == self.name)
            .nth(self.index)
            .map(|parameter| parameter.1.clone().into_bytes())
            .ok_or_else(|| not_found("http_queryparam: parameter"))
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        let mut place = parts.query.iter_mut().filter(|parameter| parameter.0 == self.name);
        if let Some(parameter) = place.nth(self.index) {
            parameter.1 = String::from_utf8_lossy(&value).into_owned();
        }
        parts.query.sort();
        Ok(())
    }
}
