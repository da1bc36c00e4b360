//! `req_body` and `res_body`: the body's bytes.

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::Diagnostics,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Body(Side);

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_request(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Body(Side::Request)))
}

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_response(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Body(Side::Response)))
}

impl Extract for Body {
    fn side(&self) -> Side {
        self.0
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        Ok(message.body().to_vec())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        message.set_body(value.into());
        Ok(())
    }
}
