//! Header fields that were true when they were recorded: an `Expires`, and that of a cookie, as far ahead of now as of then.
//!
//! Those that tell the end of a token move with it, see [`super::expiry`]; what is left here is as old as the answer itself. A client that is
//! told of a moment long ago throws a cookie away that it was meant to keep.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::expiry;
use crate::snapshot::{self, RrPair};

/// What lies further ahead stands for "for ever": no cookie lives longer (RFC 6265bis, section 5.5).
const FURTHEST: i64 = 400 * 86_400;

/// The fields of an answer that age.
#[derive(Debug, Clone)]
pub(crate) struct Aging {
    /// When they were recorded, in seconds since the epoch.
    recorded: i64,
    fields: Vec<Field>,
}

/// A field as it is served without us, and where in it a moment stands.
#[derive(Debug, Clone)]
struct Field {
    name: HeaderName,
    value: HeaderValue,
    moment: Range<usize>,
}

impl Aging {
    /// Looks at the fields of a pair's answer; `None` when none of them ages.
    pub(super) fn of(pair: &RrPair, headers: &HeaderMap) -> Option<Box<Self>> {
        if !headers.contains_key(header::EXPIRES) && !headers.contains_key(header::SET_COOKIE) {
            return None;
        }
        let recorded = recorded_second(pair)?;
        let ages = |text: &str| {
            let ahead = expiry::seconds(text)?.checked_sub(recorded)?;
            (1..=FURTHEST).contains(&ahead).then_some(())
        };
        let mut fields = Vec::new();
        for (name, value) in headers {
            let Ok(text) = value.to_str() else { continue };
            let moment = match name {
                name if name == header::EXPIRES => Some(0..text.len()),
                name if name == header::SET_COOKIE => expiry::cookie_expires(text),
                _ => None,
            };
            if let Some(moment) = moment
                && text.get(moment.clone()).and_then(|text| ages(text.trim())).is_some()
            {
                fields.push(Field { name: name.clone(), value: value.clone(), moment });
            }
        }
        (!fields.is_empty()).then(|| Box::new(Self { recorded, fields }))
    }

    /// Makes the fields as old as `second` would have them. Those that are not as they were recorded are current already.
    pub(crate) fn renew(&self, second: i64, headers: &mut HeaderMap) {
        let shift = second.saturating_sub(self.recorded);
        for field in &self.fields {
            let header::Entry::Occupied(mut served) = headers.entry(&field.name) else {
                continue;
            };
            if let Some(value) = served.iter_mut().find(|value| **value == field.value)
                && let Some(new) = field.moved(shift)
            {
                *value = new;
            }
        }
    }
}

/// When an answer was made, by its `Date`, else by when it was recorded.
pub(crate) fn recorded_second(pair: &RrPair) -> Option<i64> {
    let date = snapshot::header(&pair.response.headers, "date");
    let date = date.and_then(|date| std::str::from_utf8(date).ok());
    let recorded = || pair.ts.map(|ts| ts.div_euclid(1_000_000_000));
    date.and_then(expiry::seconds).or_else(recorded)
}

impl Field {
    fn moved(&self, shift: i64) -> Option<HeaderValue> {
        let text = self.value.to_str().ok()?;
        let moved = expiry::moved(text.get(self.moment.clone())?, shift)?;
        let (before, behind) = (text.get(..self.moment.start)?, text.get(self.moment.end..)?);
        HeaderValue::from_maybe_shared(Bytes::from([before, &moved, behind].concat())).ok()
    }
}
