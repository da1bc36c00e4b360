//! `json_path` as an extractor: a place in the whole pair by its path in an RRPair, such as `http.req.headers.Authorization.0`, and from
//! there on into what is encoded in it: `….jwt.claims.sub`, `http.res.bodyBase64.access_token`.
//!
//! The pair is no document here: a path is mapped to its place, so that everything beside it stays byte for byte. Names of the signature,
//! such as `http:requestBodyJSON`, stand for edits of the signature.

mod inside;
mod place;

use std::sync::Arc;

use super::{Extract, Extractor};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::{Path, Segment},
    transform::{Side, Step, filter::compile_regex, message::Message, op::StepError, world::Scope},
};
use inside::Inside;
use place::Place;

#[derive(Debug)]
struct Located {
    place: Place,
    /// The way from there into what is encoded.
    inside: Vec<Inside>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Extractor> {
    let at = format!("{path}.config.path");
    let written = Step::plain(step.required("path", path, found)?, &at, found)?;
    let regex = match step.optional("regex").filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => Some(compile_regex(&pattern, &format!("{path}.config.regex"), found)?),
        None => None,
    };
    let mut refuse = |why: &str| {
        found.push(
            Diagnostic::error("bad_json_path", at.clone(), format!("`{written}`: {why}"))
                .hint("write for example http.req.headers.Authorization.0 or http.res.body.id"),
        );
    };
    let segments = match Path::parse(&dotted(&written)) {
        Ok(path) => path.segments,
        Err(why) => {
            refuse(why);
            return None;
        }
    };
    let Some((place, rest)) = Place::parse(&segments) else {
        refuse("an RRPair has no such place");
        return None;
    };
    match Inside::parse(rest, regex) {
        Some(inside) => Some(Arc::new(Located { place: place.opened(!inside.is_empty()), inside })),
        None => {
            refuse("`jwt` is followed by `claims` or `header`");
            None
        }
    }
}

/// A path without the `$.` of JSONPath, and with `.0` for `[0]`.
fn dotted(path: &str) -> String {
    let path = path.strip_prefix("$.").unwrap_or(path);
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        match after.split_once(']') {
            Some((index, behind)) if index.parse::<usize>().is_ok() => {
                out.push('.');
                out.push_str(index);
                rest = behind;
            }
            _ => {
                out.push('[');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The names that a path begins with.
fn names(segments: &[Segment]) -> Vec<&str> {
    let mut names = Vec::new();
    for segment in segments {
        let Segment::Name(name) = segment else { break };
        names.push(name.as_str());
    }
    names
}

impl Extract for Located {
    fn side(&self) -> Side {
        self.place.side()
    }

    fn read(&self, message: &Message<'_>, scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        inside::read(&self.inside, self.place.read(message, scope)?)
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        scope: &mut Scope,
    ) -> Result<(), StepError> {
        // All of it is made before anything is written, so that a write that fails loses nothing.
        let before = self.place.read(message, scope)?;
        let after = inside::write(&self.inside, &before, value)?;
        self.place.write(message, after, scope)
    }
}
