//! From a place into what is encoded there: JSON, a token, or what a pattern picks.

use std::ops::Range;

use regex::bytes::Regex;

use crate::{
    json::{self, Path, Segment},
    transform::{
        op::StepError,
        token_view::{Part, View},
    },
};

/// One step inwards.
#[derive(Debug)]
pub(super) enum Inside {
    /// A value of a JSON document.
    Json(Path),
    /// A part of a token, perhaps with `Bearer ` before it.
    Token(Part),
    /// The first group of a pattern, or all that it matches.
    Match(Regex),
}

impl Inside {
    /// The steps that segments mean. A pattern is applied before the first token is opened, else at the end.
    pub(super) fn parse(segments: &[Segment], pattern: Option<Regex>) -> Option<Vec<Self>> {
        let mut pattern = pattern.map(Self::Match);
        let mut steps = Vec::new();
        let mut rest = segments;
        while let Some((first, behind)) = rest.split_first() {
            if is_named(first, "jwt") {
                let (part, behind) = behind.split_first()?;
                let part = if is_named(part, "claims") || is_named(part, "payload") {
                    Part::Claims
                } else if is_named(part, "header") {
                    Part::Header
                } else {
                    return None;
                };
                steps.extend(pattern.take());
                steps.push(Self::Token(part));
                rest = behind;
                continue;
            }
            let end = rest.iter().position(|one| is_named(one, "jwt")).unwrap_or(rest.len());
            let (path, behind) = rest.split_at(end);
            steps.push(Self::Json(Path { segments: path.to_vec() }));
            rest = behind;
        }
        steps.extend(pattern);
        Some(steps)
    }

    fn take(&self, value: &[u8]) -> Result<Taken, StepError> {
        match self {
            Self::Json(path) => {
                let found = json::locate(value, path)
                    .map_err(|why| StepError::new("not_json", format!("json_path: {why}")))?;
                let place = found.into_iter().next().ok_or_else(missing)?;
                Ok(Taken { value: json::text(value, &place), way: Way::Json(place) })
            }
            Self::Token(part) => {
                let view = View::open(value, *part)
                    .ok_or_else(|| StepError::new("not_a_jwt", "json_path: there is no JWT"))?;
                Ok(Taken { value: view.json.clone(), way: Way::Token(view) })
            }
            Self::Match(regex) => {
                let captures = regex.captures(value).ok_or_else(missing)?;
                let span = captures.get(1).or_else(|| captures.get(0)).ok_or_else(missing)?;
                Ok(Taken { value: span.as_bytes().to_vec(), way: Way::Span(span.range()) })
            }
        }
    }
}

/// What a step took out, and how it goes back.
struct Taken {
    value: Vec<u8>,
    way: Way,
}

enum Way {
    Json(json::Located),
    Token(View),
    Span(Range<usize>),
}

/// The value at the end of the steps.
pub(super) fn read(steps: &[Inside], value: Vec<u8>) -> Result<Vec<u8>, StepError> {
    steps.iter().try_fold(value, |value, step| Ok(step.take(&value)?.value))
}

/// The whole with another value at the end of the steps.
pub(super) fn write(steps: &[Inside], whole: &[u8], new: Vec<u8>) -> Result<Vec<u8>, StepError> {
    let Some((step, rest)) = steps.split_first() else { return Ok(new) };
    let taken = step.take(whole)?;
    let inner = write(rest, &taken.value, new)?;
    Ok(match taken.way {
        Way::Json(place) => {
            let with = json::encode(place.kind, &inner).ok_or_else(|| {
                StepError::new("not_writable", "json_path: a boolean takes nothing else")
            })?;
            json::replace(whole, &[(place.span, with)])
        }
        Way::Token(view) => view.close(whole, &inner),
        Way::Span(span) => json::replace(whole, &[(span, inner)]),
    })
}

fn is_named(segment: &Segment, wanted: &str) -> bool {
    matches!(segment, Segment::Name(name) if name == wanted)
}

fn missing() -> StepError {
    StepError::new("path_not_found", "json_path: the path leads nowhere in this pair")
}
