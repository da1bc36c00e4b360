//! `grpc_field`: works on one field of a gRPC message in its JSON forms: `{"fieldsMap":{"1":{"fields":[{"asString":"x"}]}}}` of older
//! recorders and `{"1:LEN":"x"}` of newer ones. A message within a message is reached by a second step.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, json_window};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Path},
    transform::Step,
};

#[derive(Debug)]
struct GrpcField {
    paths: Vec<Path>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let field = step.required("field", path, found)?;
    // It matters in the binary form only, which recordings do not have.
    drop(step.optional("embedded"));
    let Ok(field) = field.trim().parse::<u32>() else {
        let at = format!("{path}.config.field");
        found.push(Diagnostic::error("wrong_type", at, "`field` is the number of a field"));
        return None;
    };
    let paths =
        [format!("fieldsMap.{field}.fields.0.as*"), format!("{field}:*"), field.to_string()];
    Some(Arc::new(GrpcField {
        paths: paths.iter().filter_map(|text| Path::parse(text).ok()).collect(),
    }))
}

impl Transform for GrpcField {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        for path in &self.paths {
            let places = json::locate(value, path)
                .map_err(|why| StepError::new("not_json", format!("grpc_field: {why}")))?;
            if let Some(place) = places.first() {
                return json_window(value, place, rest, effects);
            }
        }
        Err(StepError::new("path_not_found", "grpc_field: the message has no such field"))
    }
}
