//! `tag_session`: the value names the session that the pair belongs to.

use std::sync::Arc;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{diagnostic::Diagnostics, transform::Step};

#[derive(Debug)]
struct TagSession;

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse(_step: &mut Step<'_>, _path: &str, _found: &mut Diagnostics) -> Option<Op> {
    Some(Arc::new(TagSession))
}

impl Transform for TagSession {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        effects.scope().session = Some(value.to_vec());
        apply(rest, value, effects)
    }

    /// A session is of one request.
    fn nature(&self) -> Nature {
        Nature::PerRequest
    }
}
