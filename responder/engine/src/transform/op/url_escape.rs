//! `url_encode` and `url_decode`: the escapes of a path segment. A plus stays a plus.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::{Effects, Op, StepError, Transform, apply};
use crate::{diagnostic::Diagnostics, transform::Step};

/// What is escaped: everything but unreserved characters and those that have no meaning within a segment.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

#[derive(Debug)]
enum Escape {
    Encode,
    Decode,
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_encode(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    Some(Arc::new(Escape::Encode))
}

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse_decode(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Op> {
    Some(Arc::new(Escape::Decode))
}

impl Transform for Escape {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let new = match self {
            Self::Encode => percent_encode(value, ESCAPED).to_string().into_bytes(),
            Self::Decode if !is_sound(value) => {
                return Err(StepError::new("bad_escape", "url_decode: a % without two hex digits"));
            }
            Self::Decode => percent_decode(value).collect(),
        };
        apply(rest, &new, effects)
    }
}

/// Whether two hex digits follow every percent sign.
fn is_sound(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b'%')
        .skip(1)
        .all(|part| part.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}
