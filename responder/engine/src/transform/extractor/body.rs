//! `req_body` and `res_body`: the body's bytes; of gRPC the JSON form of its messages.

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::Diagnostics,
    grpc,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Body(Side);

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_request(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Body(Side::Request)))
}

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_response(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Body(Side::Response)))
}

impl Extract for Body {
    fn side(&self) -> Side {
        self.0
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        match message.call() {
            None => Ok(message.body().to_vec()),
            Some(listed) => grpc::to_form(message.body(), listed).ok_or_else(|| {
                StepError::new("not_protobuf", "the body holds no messages of gRPC")
            }),
        }
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let body = if message.call().is_some() {
            grpc::of_form(&value).ok_or_else(|| {
                StepError::new("not_protobuf", "this is not the JSON form of a message")
            })?
        } else {
            value.into()
        };
        message.set_body(body);
        Ok(())
    }
}
