//! `base64`: works on what standard base64 hides. Something that is no base64 is handed on as it is, as the incumbent does.

use std::sync::Arc;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Effects, Op, StepError, Transform, apply};
use crate::{diagnostic::Diagnostics, transform::Step};

#[derive(Debug)]
struct Base64 {
    /// Padding may be absent when reading and is left out when writing; otherwise it is strict.
    lenient: bool,
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const STRICT: GeneralPurpose = base64::engine::general_purpose::STANDARD;

#[expect(clippy::unnecessary_wraps, reason = "all steps are parsed alike")]
pub(super) fn parse(step: &mut Step<'_>, _path: &str, _found: &mut Diagnostics) -> Option<Op> {
    let lenient = step.optional("pad").is_none_or(|text| !text.eq_ignore_ascii_case("false"));
    Some(Arc::new(Base64 { lenient }))
}

impl Transform for Base64 {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let engine = if self.lenient { &LENIENT } else { &STRICT };
        let before = engine.decode(value).unwrap_or_else(|_| value.to_vec());
        let after = apply(rest, &before, effects)?;
        if after == before {
            return Ok(value.to_vec());
        }
        Ok(engine.encode(after).into_bytes())
    }
}
