//! `replace`: puts one literal text in the place of another. Placeholders have no meaning in it.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::Step,
};

/// The value may not grow beyond this.
const MAX_GROWN: usize = 64 * 1024 * 1024;

#[derive(Debug)]
struct Replace {
    old: String,
    new: String,
    /// `None` replaces every occurrence.
    count: Option<usize>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let (old, new) = (step.required("old", path, found)?, step.required("new", path, found)?);
    if old.is_empty() {
        let at = format!("{path}.config.old");
        found.push(Diagnostic::error("wrong_type", at, "the text to replace is empty"));
        return None;
    }
    let count = step.optional("count").unwrap_or_else(|| "-1".to_owned());
    let Ok(count) = count.trim().parse::<i64>() else {
        let at = format!("{path}.config.count");
        found.push(Diagnostic::error("wrong_type", at, "`count` is a number; -1 means all"));
        return None;
    };
    Some(Arc::new(Replace { old, new, count: usize::try_from(count).ok() }))
}

impl Transform for Replace {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let new = replaced(value, self.old.as_bytes(), self.new.as_bytes(), self.count)?;
        apply(rest, &new, effects)
    }
}

/// The value with `old` replaced, the first `count` times.
pub(super) fn replaced(
    value: &[u8],
    old: &[u8],
    new: &[u8],
    count: Option<usize>,
) -> Result<Vec<u8>, StepError> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    let mut left = count.unwrap_or(usize::MAX);
    let finder = Finder::new(old);
    while left > 0
        && !old.is_empty()
        && let Some(at) = finder.find(rest)
    {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        out.extend_from_slice(new);
        rest = tail.get(old.len()..).unwrap_or_default();
        left -= 1;
        if out.len() > MAX_GROWN {
            return Err(StepError::new("output_too_large", "replacing makes the value too large"));
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}
