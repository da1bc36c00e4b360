//! `http_req_header` and `http_res_header`: the n-th value of a header field, which is created when it is missing.

use std::sync::Arc;

use super::{Extract, Extractor, named, other_side};
use crate::{
    diagnostic::Diagnostics,
    snapshot::Header as Field,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Header {
    side: Side,
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
    let (name, index) = named(step, path, found)?;
    let delete_if_empty =
        step.optional("deleteIfEmpty").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Some(Arc::new(Header { side, name, index, delete_if_empty }))
}

impl Extract for Header {
    fn side(&self) -> Side {
        self.side
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let value = match message {
            Message::Request(parts) => parts.header_at(&self.name, self.index),
            Message::Response(reply) => reply
                .response
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(&self.name))
                .nth(self.index)
                .map(|field| &field.value),
        };
        Ok(value.map(|value| value.to_vec()).unwrap_or_default())
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let delete = self.delete_if_empty && value.is_empty();
        match (message, self.side) {
            (Message::Request(parts), Side::Request) => {
                let at = nth(&parts.headers, self.index, |field| {
                    field.0.eq_ignore_ascii_case(&self.name)
                });
                match at {
                    Some(at) if delete => drop(parts.headers.remove(at)),
                    Some(at) => {
                        if let Some(field) = parts.headers.get_mut(at) {
                            field.1 = value.into();
                        }
                    }
                    None => parts.headers.push((self.name.clone(), value.into())),
                }
                Ok(())
            }
            (Message::Response(reply), Side::Response) => {
                let headers = &mut reply.response.headers;
                let at =
                    nth(headers, self.index, |field| field.name.eq_ignore_ascii_case(&self.name));
                match at {
                    Some(at) if delete => drop(headers.remove(at)),
                    Some(at) => {
                        if let Some(field) = headers.get_mut(at) {
                            field.value = value.into();
                        }
                    }
                    None => headers.push(Field { name: self.name.clone(), value: value.into() }),
                }
                Ok(())
            }
            _ => Err(other_side()),
        }
    }
}

fn nth<T>(fields: &[T], index: usize, is: impl Fn(&T) -> bool) -> Option<usize> {
    fields.iter().enumerate().filter(|(_, field)| is(field)).nth(index).map(|(at, _)| at)
}
