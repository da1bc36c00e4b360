//! The two phases of a step that works on one value in a JSON document.

use super::{Effects, Op, StepError, apply};
use crate::json::{self, Located};

/// Hands a located value to the rest of the chain and puts the result in its place, as JSON of the kind that stood there.
pub(super) fn json_window(
    doc: &[u8],
    place: &Located,
    rest: &[Op],
    effects: &mut dyn Effects,
) -> Result<Vec<u8>, StepError> {
    let before = json::text(doc, place);
    let after = apply(rest, &before, effects)?;
    Ok(match json::encode(place.kind, &after).filter(|_| after != before) {
        Some(with) => json::replace(doc, &[(place.span.clone(), with)]),
        None => doc.to_vec(),
    })
}
