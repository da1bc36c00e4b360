//! `split`: works on one of the parts between literal separators.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::Step,
};

#[derive(Debug)]
struct Split {
    separator: String,
    index: usize,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let separator = step.optional("separator").unwrap_or_else(|| ",".to_owned());
    if separator.is_empty() {
        found.push(Diagnostic::error(
            "wrong_type",
            format!("{path}.config.separator"),
            "the separator is empty",
        ));
        return None;
    }
    Some(Arc::new(Split { separator, index: step.number("index", 0, path, found)? }))
}

impl Transform for Split {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let mut parts = parts(value, self.separator.as_bytes());
        let Some(part) = parts.get_mut(self.index) else { return Ok(value.to_vec()) };
        let after = apply(rest, part, effects)?;
        *part = &after;
        Ok(parts.join(self.separator.as_bytes()))
    }
}

fn parts<'a>(mut value: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = value.windows(separator.len()).position(|window| window == separator) {
        let (part, tail) = value.split_at(at);
        parts.push(part);
        value = tail.get(separator.len()..).unwrap_or_default();
    }
    parts.push(value);
    parts
}
