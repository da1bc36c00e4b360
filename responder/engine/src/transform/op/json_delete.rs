//! `json_delete`: takes a member out of a JSON document, and ends the chain.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Path},
    transform::Step,
};

#[derive(Debug)]
struct JsonDelete {
    path: Path,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.path");
    let text = Step::plain(step.required("path", path, found)?, &at, found)?;
    match Path::parse(&text) {
        Ok(path) => Some(Arc::new(JsonDelete { path })),
        Err(why) => {
            found.push(Diagnostic::error("bad_json_path", at, format!("`{text}`: {why}")));
            None
        }
    }
}

impl Transform for JsonDelete {
    fn apply(
        &self,
        value: &[u8],
        _rest: &[Op],
        _effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        json::delete(value, &self.path)
            .map_err(|why| StepError::new("not_json", format!("json_delete: {why}")))
    }
}
