//! `http_url`: the path, or one of its segments. What stands before the first slash, which is nothing, is segment 0.
//!
//! What is written has to be URL-encoded already.

use std::sync::Arc;

use super::{Extract, Extractor, not_found, other_side};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
struct Url {
    index: Option<usize>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let index = step.optional("index").or_else(|| step.optional("subdirIndex"));
    let index = match index.as_deref().map(|text| text.trim().parse::<usize>()) {
        None => None,
        Some(Ok(index)) => Some(index),
        Some(Err(_)) => {
            found.push(Diagnostic::error(
                "wrong_type",
                format!("{path}.config.index"),
                "`index` is a number from 0",
            ));
            return None;
        }
    };
    Some(Arc::new(Url { index }))
}

impl Extract for Url {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        match self.index {
            None => Ok(parts.path.clone().into_bytes()),
            Some(index) => parts
                .path
                .split('/')
                .nth(index)
                .map(|segment| segment.as_bytes().to_vec())
                .ok_or_else(|| not_found("http_url: segment")),
        }
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        let value = String::from_utf8_lossy(&value);
        parts.path = match self.index {
            None => value.into_owned(),
            Some(index) => {
                let segments = parts.path.split('/').enumerate();
                let segments: Vec<&str> = segments
                    .map(|(nth, segment)| if nth == index { &value } else { segment })
                    .collect();
                segments.join("/")
            }
        };
        Ok(())
    }
}
