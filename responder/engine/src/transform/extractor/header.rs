//! `http_req_header`, `http_res_header`, `http_req_trailer` and `http_res_trailer`: the n-th value of a field, which is created when it is
//! missing.

use std::sync::Arc;

use super::{Extract, Extractor, named};
use crate::{
    diagnostic::Diagnostics,
    transform::{
        Side, Step,
        message::{Fields, Message},
        op::StepError,
        world::Scope,
    },
};

#[derive(Debug)]
struct Field {
    side: Side,
    of: Fields,
    name: String,
    index: usize,
    /// A field that ends up empty is taken away.
    delete_if_empty: bool,
}

pub(super) fn parse_request(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Request, Fields::Headers, step, path, found)
}

pub(super) fn parse_response(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Response, Fields::Headers, step, path, found)
}

pub(super) fn parse_request_trailer(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Request, Fields::Trailers, step, path, found)
}

pub(super) fn parse_response_trailer(
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    parse(Side::Response, Fields::Trailers, step, path, found)
}

fn parse(
    side: Side,
    of: Fields,
    step: &mut Step<'_>,
    path: &str,
    found: &mut Diagnostics,
) -> Option<Extractor> {
    let (name, index) = named(step, path, found)?;
    let delete_if_empty =
        step.optional("deleteIfEmpty").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Some(Arc::new(Field { side, of, name, index, delete_if_empty }))
}

impl Extract for Field {
    fn side(&self) -> Side {
        self.side
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let value = message.field(self.of, &self.name, self.index);
        Ok(value.map(|value| value.to_vec()).unwrap_or_default())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let value = (!self.delete_if_empty || !value.is_empty()).then(|| value.into());
        message.set_field(self.of, &self.name, self.index, value);
        Ok(())
    }
}
