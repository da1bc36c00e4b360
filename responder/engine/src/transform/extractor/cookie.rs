//! `http_req_cookie` and `http_res_cookie`: the value of a cookie; its attributes stay.

use std::{ops::Range, sync::Arc};

use super::{Extract, Extractor, not_found};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json,
    transform::{
        Side, Step,
        message::{Fields, Message},
        op::StepError,
        world::Scope,
    },
};

#[derive(Debug)]
struct Cookie {
    side: Side,
    /// In its own casing, unlike the name of a field.
    name: String,
}

pub(super) fn parse_request(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Request, step, path, found)
}

pub(super) fn parse_response(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Response, step, path, found)
}

fn parse(
    side: Side,
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    let name = step.required("name", path, found)?;
    if name.is_empty() {
        let at = format!("{path}.config.name");
        found.push(Diagnostic::error("missing_field", at, "the name is empty"));
        return None;
    }
    Some(Arc::new(Cookie { side, name }))
}

/// Where a cookie stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    field: &'static str,
    index: usize,
    /// Its name.
    pub(super) name: Range<usize>,
    /// Its value, without attributes.
    pub(super) value: Range<usize>,
}

impl Place {
    /// Every cookie of a message, in order.
    pub(super) fn all(message: &Message<'_>) -> Vec<Self> {
        let (field, per_field) = match message {
            Message::Request(_) => ("cookie", usize::MAX),
            // What follows the first pair are attributes.
            Message::Response(_) => ("set-cookie", 1),
        };
        let mut places = Vec::new();
        for index in 0.. {
            let Some(value) = message.field(Fields::Headers, field, index) else { break };
            let mut start = 0;
            for part in value.split(|byte| *byte == b';').take(per_field) {
                let lead = part.len() - part.trim_ascii_start().len();
                if let Some(equals) = part.iter().position(|byte| *byte == b'=') {
                    let end = part.trim_ascii_end().len().max(equals + 1);
                    places.push(Self {
                        field,
                        index,
                        name: start + lead..start + equals,
                        value: start + equals + 1..start + end,
                    });
                }
                start += part.len() + 1;
            }
        }
        places
    }

    /// The text in a part of the cookie's field.
    pub(super) fn read<'m>(&self, message: &'m Message<'_>, span: &Range<usize>) -> &'m [u8] {
        let field = message.field(Fields::Headers, self.field, self.index);
        field.and_then(|value| value.get(span.clone())).unwrap_or_default()
    }

    /// Puts a text in that part's place.
    pub(super) fn write(&self, message: &mut Message<'_>, span: &Range<usize>, new: Vec<u8>) {
        let old = message.field(Fields::Headers, self.field, self.index).cloned();
        let field = json::replace(&old.unwrap_or_default(), &[(span.clone(), new)]);
        message.set_field(Fields::Headers, self.field, self.index, Some(field.into()));
    }
}

impl Cookie {
    fn place(&self, message: &Message<'_>) -> Result<Place, StepError> {
        Place::all(message)
            .into_iter()
            .find(|place| place.read(message, &place.name) == self.name.as_bytes())
            .ok_or_else(|| not_found("cookie"))
    }
}

impl Extract for Cookie {
    fn side(&self) -> Side {
        self.side
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let place = self.place(message)?;
        Ok(place.read(message, &place.value).to_vec())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let place = self.place(message)?;
        let value_span = place.value.clone();
        place.write(message, &value_span, value);
        Ok(())
    }
}
