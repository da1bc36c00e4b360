//! `trim`: takes white space from both ends, or one text from one end. What it took is gone.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{Step, did_you_mean},
};

#[derive(Debug)]
enum Trim {
    Spaces,
    Left(String),
    Right(String),
}

const TYPES: [&str; 3] = ["spaces", "left", "right"];

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let kind = step.optional("type").unwrap_or_else(|| "spaces".to_owned());
    let value = step.optional("value").unwrap_or_else(|| " ".to_owned());
    let trim = match kind.to_ascii_lowercase().as_str() {
        "spaces" | "" => Trim::Spaces,
        "left" => Trim::Left(value),
        "right" => Trim::Right(value),
        other => {
            found.push(
                Diagnostic::error(
                    "wrong_type",
                    format!("{path}.config.type"),
                    format!("`trim` has no type `{other}`"),
                )
                .hint(did_you_mean(other, &TYPES)),
            );
            return None;
        }
    };
    Some(Arc::new(trim))
}

impl Transform for Trim {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let trimmed = match self {
            Self::Spaces => value.trim_ascii(),
            Self::Left(text) => value.strip_prefix(text.as_bytes()).unwrap_or(value),
            Self::Right(text) => value.strip_suffix(text.as_bytes()).unwrap_or(value),
        };
        apply(rest, trimmed, effects)
    }
}
