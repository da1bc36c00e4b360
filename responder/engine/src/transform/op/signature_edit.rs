//! `store_sig` and `delete_sig`: change the signature that a request is matched by.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{diagnostic::Diagnostics, signature::Edit, transform::Step};

#[derive(Debug)]
struct Store {
    /// `None` takes the lowest free number.
    key: Option<String>,
}

#[derive(Debug)]
struct Delete {
    key: String,
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_store(
    step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    Some(Arc::new(Store { key: step.optional("key").filter(|key| !key.is_empty()) }))
}

pub(super) fn parse_delete(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(Delete { key: step.required("key", path, found)? }))
}

impl Transform for Store {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        effects.scope().edits.push(Edit::Store { key: self.key.clone(), value: value.to_vec() });
        apply(rest, value, effects)
    }
}

impl Transform for Delete {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        effects.scope().edits.push(Edit::Delete { key: self.key.clone() });
        apply(rest, value, effects)
    }
}
