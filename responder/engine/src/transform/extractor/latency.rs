//! `latency`: how long the answer takes, as a duration such as `120ms`.

use std::{sync::Arc, time::Duration};

use super::{Extract, Extractor, other_side};
use crate::{
    diagnostic::Diagnostics,
    transform::{
        Side, Step,
        message::Message,
        op::StepError,
        time::{format_duration, parse_duration},
        world::{MAX_DELAY, Scope},
    },
};

#[derive(Debug)]
struct Latency;

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Latency))
}

impl Extract for Latency {
    fn side(&self) -> Side {
        Side::Response
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Response(reply) = message else { return Err(other_side()) };
        let latency = reply.latency.unwrap_or(reply.recorded_latency);
        let nanos = i64::try_from(latency.as_nanos()).unwrap_or(i64::MAX);
        Ok(format_duration(nanos).into_bytes())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let Message::Response(reply) = message else { return Err(other_side()) };
        let nanos = std::str::from_utf8(&value).ok().and_then(parse_duration);
        let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok()).ok_or_else(|| {
            StepError::new("bad_duration", "latency: the result is no duration such as 100ms")
        })?;
        reply.latency = Some(Duration::from_nanos(nanos).min(MAX_DELAY));
        Ok(())
    }
}
