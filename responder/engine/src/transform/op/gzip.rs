//! `gzip`: works on what gzip hides.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{body, diagnostic::Diagnostics, transform::Step};

#[derive(Debug)]
struct Gzip {
    /// Bytes that are not compressed are handed on as they are.
    lenient: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse(_step: &mut Step<'_>, _path: &str, _found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(Gzip { lenient: false }))
}

/// The step right behind a body's extractor: recorders and servers decompress bodies, so there it may find that done already.
pub(in crate::transform) fn behind_a_body() -> Op {
    Arc::new(Gzip { lenient: true })
}

impl Transform for Gzip {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        if self.lenient && !body::is_gzip(value) {
            return apply(rest, value, effects);
        }
        let before = body::unfold(value).ok_or_else(|| {
            StepError::new("not_gzip", "gzip: the value is not gzip, or unfolds to too much")
        })?;
        let after = apply(rest, &before, effects)?;
        if after == before {
            return Ok(value.to_vec());
        }
        body::fold(&after).ok_or_else(|| StepError::new("not_gzip", "gzip: cannot compress"))
    }
}
