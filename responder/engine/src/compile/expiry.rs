//! Header fields that tell when a token ends: the `Expires` and `Max-Age` of its cookie, and an `Expires` that names the same moment.

use std::ops::Range;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::jwt::TokenSlot;

/// How servers write the moment at which something expires (RFC 9110, section 5.6.7; RFC 6265, section 5.1.1).
const FORMATS: [&str; 3] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%a, %d-%b-%y %H:%M:%S GMT", "%a, %d-%b-%Y %H:%M:%S GMT"];
/// Two moments are the same when servers have computed them one after the other.
const SAME: u64 = 2;

/// What a header field says about the end of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// A moment, which moves with the token of this position.
    At(Range<usize>, usize),
    /// A lifetime in seconds.
    In(Range<usize>, usize),
}

/// Reads a field. `own` is the token that stands in it, and `slots` are the tokens of the response, the first of which has the position `first`.
pub(super) fn of(
    name: &str,
    value: &[u8],
    own: Option<usize>,
    slots: &[TokenSlot],
    first: usize,
) -> Vec<Ends> {
    let Ok(text) = std::str::from_utf8(value) else { return Vec::new() };
    let tied = |moment: i64| {
        own.or_else(|| {
            let same = |slot: &TokenSlot| {
                slot.times(0).recorded_exp.is_some_and(|exp| exp.abs_diff(moment) <= SAME)
            };
            slots.iter().position(same).map(|nth| first + nth)
        })
        // A cookie that is taken away expired long ago.
        .filter(|nth| {
            let slot = nth.checked_sub(first).and_then(|nth| slots.get(nth));
            slot.and_then(|slot| slot.times(0).recorded_iat).is_none_or(|iat| iat <= moment)
        })
    };
    if name.eq_ignore_ascii_case("expires") {
        let found = seconds(text.trim()).and_then(tied);
        return found.map(|slot| Ends::At(0..value.len(), slot)).into_iter().collect();
    }
    if !name.eq_ignore_ascii_case("set-cookie") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (key, span) in attributes(text) {
        let written = text.get(span.clone()).unwrap_or_default();
        if key.eq_ignore_ascii_case("expires") {
            let slot = seconds(written).and_then(tied);
            found.extend(slot.map(|slot| Ends::At(span, slot)));
        } else if key.eq_ignore_ascii_case("max-age")
            && let Some(age) = written.parse::<i64>().ok().filter(|age| *age > 0)
        {
            let lives = |slot: &TokenSlot| {
                slot.times(0).recorded_lifetime().is_some_and(|life| life.abs_diff(age) <= SAME)
            };
            let same = || slots.iter().position(lives).map(|nth| first + nth);
            found.extend(own.or_else(same).map(|slot| Ends::In(span, slot)));
        }
    }
    found
}

/// The names and places of a cookie's attributes.
fn attributes(cookie: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut from = 0;
    cookie.split(';').filter_map(move |attribute| {
        let start = from;
        from += attribute.len() + 1;
        let (key, written) = attribute.split_once('=')?;
        let at = start + key.len() + 1 + (written.len() - written.trim_start().len());
        Some((key.trim(), at..at + written.trim().len()))
    })
}

/// Where a cookie says when it ends.
pub(super) fn cookie_expires(cookie: &str) -> Option<Range<usize>> {
    attributes(cookie).skip(1).find(|(key, _)| key.eq_ignore_ascii_case("expires")).map(|at| at.1)
}

fn read(text: &str) -> Option<(Timestamp, &'static str)> {
    FORMATS.iter().find_map(|format| {
        let moment = DateTime::strptime(format, text).ok()?;
        Some((moment.to_zoned(TimeZone::UTC).ok()?.timestamp(), *format))
    })
}

pub(super) fn seconds(text: &str) -> Option<i64> {
    read(text).map(|(moment, _)| moment.as_second())
}

/// A moment of HTTP, moved; `None` when it is none.
pub(super) fn moved(text: &str, seconds: i64) -> Option<String> {
    let (moment, format) = read(text.trim())?;
    let new = moment.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
    jiff::fmt::strtime::format(format, &new.to_zoned(TimeZone::UTC)).ok()
}

/// A moment as HTTP writes it.
pub(crate) fn http_date(nanos: i64) -> Option<String> {
    let moment = Timestamp::from_nanosecond(nanos.into()).ok()?;
    jiff::fmt::strtime::format(FORMATS.first()?, &moment.to_zoned(TimeZone::UTC)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_http_move_in_their_own_notation() {
        for (text, expected) in [
            ("Tue, 14 Nov 2023 22:13:20 GMT", Some("Tue, 14 Nov 2023 22:14:20 GMT")),
            ("Tue, 14-Nov-2023 23:59:20 GMT", Some("Wed, 15-Nov-2023 00:00:20 GMT")),
            ("Tue, 14-Nov-23 22:13:20 GMT", Some("Tue, 14-Nov-23 22:14:20 GMT")),
            ("0", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(moved(text, 60).as_deref(), expected, "{text}");
        }
        assert_eq!(
            http_date(1_700_000_000_999_999_999).as_deref(),
            Some("Tue, 14 Nov 2023 22:13:20 GMT")
        );
    }
}
