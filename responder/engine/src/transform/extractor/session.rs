//! `session`: the session that the pair belongs to, as `tag_session` or the recorder named it. A live request has none of itself.

use std::sync::Arc;

use super::{Extract, Extractor, other_side};
use crate::{
    diagnostic::Diagnostics,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Session;

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Session))
}

impl Extract for Session {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, message: &Message<'_>, scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        Ok(scope.session.clone().unwrap_or_else(|| parts.session.clone().into_bytes()))
    }

    fn write(
        &self,
        _message: &mut Message<'_>,
        value: Vec<u8>,
        scope: &mut Scope,
    ) -> Result<(), StepError> {
        scope.session = Some(value);
        Ok(())
    }
}
