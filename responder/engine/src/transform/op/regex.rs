//! `regex`: works on the first match of a pattern, or on one of its groups; the result replaces every identical occurrence.

use std::sync::Arc;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    transform::{Step, effort::longest, filter::compile_regex},
};

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    group: usize,
    /// A longer value is not searched: even a linear-time engine can be made to work hard on a long one.
    longest: usize,
}

/// The value may not grow beyond this by replacing.
const MAX_GROWN: usize = 64 * 1024 * 1024;

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let at = format!("{path}.config.pattern");
    let pattern = step.required("pattern", path, found)?;
    let group = step.number("captureGroup", 0, path, found)?;
    let regex = compile_regex(&pattern, &at, found)?;
    Some(Arc::new(Pattern { regex, group, longest: longest(&pattern) }))
}

impl Transform for Pattern {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        if value.len() > self.longest {
            return Err(StepError::new(
                "transform_budget",
                "regex: the value is too long to search for this expression",
            ));
        }
        let Some(taken) = self.regex.captures(value).and_then(|captures| captures.get(self.group))
        else {
            return Ok(value.to_vec());
        };
        let before = taken.as_bytes();
        let after = apply(rest, before, effects)?;
        if after == before || before.is_empty() {
            return Ok(value.to_vec());
        }
        replace_all(value, before, &after)
    }
}

fn replace_all(value: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>, StepError> {
    let mut out = Vec::with_capacity(value.len() + new.len());
    let mut rest = value;
    // In linear time, whatever repeats itself in the value.
    let finder = Finder::new(old);
    while let Some(at) = finder.find(rest) {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        out.extend_from_slice(new);
        rest = tail.get(old.len()..).unwrap_or_default();
        if out.len() > MAX_GROWN {
            return Err(StepError::new(
                "output_too_large",
                "regex: replacing every occurrence makes the value too large",
            ));
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}
