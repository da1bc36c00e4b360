//! `json_selector`: works on the first value, depth first, that stands under some names or has some text; or on what it is in.

use std::sync::Arc;

use super::{Effects, Op, StepError, Transform, apply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{self, Kind, Path, Segment, Wanted},
    transform::Step,
};

#[derive(Debug)]
struct Selector {
    wanted: Wanted,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let written = step.required("match", path, found)?;
    let anywhere = step.optional("recursive").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let levels_up = step.number("levelsUp", 0, path, found)?;
    let (names, value) = match written.split_once('=') {
        Some((names, value)) => (names, Some(value.strip_prefix('=').unwrap_or(value))),
        None => (written.as_str(), None),
    };
    let names = Path::parse(names.trim()).ok().and_then(|path| {
        let name = |segment: Segment| match segment {
            Segment::Name(name) => Some(name),
            _ => None,
        };
        path.segments.into_iter().map(name).collect::<Option<Vec<String>>>()
    });
    let Some(names) = names else {
        let at = format!("{path}.config.match");
        let message = format!("`{written}` is none of `name`, `name.name` and `name=value`");
        found.push(Diagnostic::error("bad_json_path", at, message));
        return None;
    };
    let value = value.map(str::to_owned);
    Some(Arc::new(Selector { wanted: Wanted { names, value, anywhere, levels_up } }))
}

impl Transform for Selector {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let place = json::select(value, &self.wanted)
            .map_err(|why| StepError::new("not_json", format!("json_selector: {why}")))?
            .ok_or_else(|| StepError::new("path_not_found", "json_selector: nothing matches"))?;
        let before = json::text(value, &place);
        let after = apply(rest, &before, effects)?;
        if after == before {
            return Ok(value.to_vec());
        }
        // Objects and arrays go back as they are; anything else becomes a string, whatever it was.
        let with = match place.kind {
            Kind::Array | Kind::Object => json::encode(place.kind, &after),
            Kind::Null | Kind::Bool | Kind::Number | Kind::String => None,
        };
        let with = with.unwrap_or_else(|| json::quote(&String::from_utf8_lossy(&after)));
        Ok(json::replace(value, &[(place.span, with)]))
    }
}
