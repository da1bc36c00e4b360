//! `empty`: nothing; what comes of it is thrown away. For chains that only remember or store something.

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::Diagnostics,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Empty;

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Empty))
}

impl Extract for Empty {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, _message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        Ok(Vec::new())
    }

    fn write(
        &self,
        _message: &mut Message<'_>,
        _value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        Ok(())
    }
}
