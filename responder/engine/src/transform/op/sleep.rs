//! `sleep`: holds the answer back.

use std::{sync::Arc, time::Duration};

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{Step, time::parse_duration, world::MAX_DELAY},
};

#[derive(Debug)]
struct Sleep(Duration);

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let text = step.optional("duration").unwrap_or_else(|| "1000ms".to_owned());
    let at = format!("{path}.config.duration");
    let nanos = parse_duration(&text).and_then(|nanos| u64::try_from(nanos).ok());
    let Some(nanos) = nanos else {
        let message = format!("`{text}` is no duration such as 1000ms or 1m30s");
        found.push(Diagnostic::error("wrong_type", at, message));
        return None;
    };
    let duration = Duration::from_nanos(nanos);
    if duration > MAX_DELAY {
        let message = "an answer is held back for 60 s at the most; the duration is cut";
        found.push(Diagnostic::warning("delay_cut", at, message));
    }
    Some(Arc::new(Sleep(duration.min(MAX_DELAY))))
}

impl Transform for Sleep {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        effects.scope().hold_back(self.0);
        apply(rest, value, effects)
    }
}
