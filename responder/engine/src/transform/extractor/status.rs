//! `http_status_code`: the status of the answer.

use std::sync::Arc;

use bytes::Bytes;

use super::{Extract, Extractor, other_side};
use crate::{
    diagnostic::Diagnostics,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Status;

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Status))
}

impl Extract for Status {
    fn side(&self) -> Side {
        Side::Response
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Response(reply) = message else { return Err(other_side()) };
        Ok(reply.response.status.to_string().into_bytes())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        set(message, &value)
    }
}

/// Sets the status of an answer.
pub(super) fn set(message: &mut Message<'_>, value: &[u8]) -> Result<(), StepError> {
    let Message::Response(reply) = message else { return Err(other_side()) };
    let status = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let status = status.filter(|status| (200..=599).contains(status)).ok_or_else(|| {
        StepError::new("bad_status", "the result is no status, which is a number from 200 to 599")
    })?;
    if status != reply.response.status {
        // The words of the old status are not those of the new one.
        reply.response.status_message = status.to_string();
    }
    if matches!(status, 204 | 304) {
        reply.response.body = Bytes::new();
    }
    reply.response.status = status;
    Ok(())
}
