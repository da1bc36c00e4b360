//! Dates that are recognised without being told their layout.

use std::sync::LazyLock;

use jiff::Timestamp;

use super::{Layout, Moment};

/// The layouts that are tried, in this order. Where two could fit, the one that more programs write comes first.
const LAYOUTS: [&str; 28] = [
    "2006-01-02T15:04:05Z07:00",
    "2006-01-02T15:04:05Z0700",
    "2006-01-02T15:04:05",
    "2006-01-02T15:04Z07:00",
    "2006-01-02T15:04",
    "2006-01-02 15:04:05Z07:00",
    "2006-01-02 15:04:05 -0700 MST",
    "2006-01-02 15:04:05 -07:00",
    "2006-01-02 15:04:05 -0700",
    "2006-01-02 15:04:05-07",
    "2006-01-02 15:04:05 MST",
    "2006-01-02 15:04:05",
    "2006-01-02 15:04",
    "2006-01-02",
    "Mon, 02 Jan 2006 15:04:05 MST",
    "Mon, 02 Jan 2006 15:04:05 -0700",
    "Monday, 02-Jan-06 15:04:05 MST",
    "Mon, 02-Jan-2006 15:04:05 MST",
    "Mon Jan _2 15:04:05 2006",
    "Mon Jan _2 15:04:05 MST 2006",
    "Mon Jan 02 15:04:05 -0700 2006",
    "02/Jan/2006:15:04:05 -0700",
    "20060102T150405Z07:00",
    "2006/01/02 15:04:05",
    "2006/01/02",
    "01/02/2006 15:04:05",
    "01/02/2006",
    "January 2, 2006",
];

static KNOWN: LazyLock<Vec<Layout>> =
    LazyLock::new(|| LAYOUTS.iter().filter_map(|text| Layout::parse(text)).collect());

/// A longer text is no date.
const MAX_LEN: usize = 64;

/// The date that a text is, and how it is written.
pub(crate) fn recognise(text: &str) -> Option<(&'static Layout, Moment)> {
    if !(8..=MAX_LEN).contains(&text.len()) || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    KNOWN.iter().find_map(|layout| Some((layout, layout.read(text)?)))
}

/// Whether a text is a date; a number alone is none.
pub(crate) fn is_date(text: &str) -> bool {
    recognise(text).is_some()
}

/// Seconds, or milliseconds, micro- or nanoseconds, since the epoch, told apart by their size.
pub(crate) fn epoch_unit(text: &str) -> Option<i64> {
    match text.len() {
        9 | 10 => Some(1_000_000_000),
        12 | 13 => Some(1_000_000),
        15 | 16 => Some(1_000),
        18 | 19 => Some(1),
        _ => None,
    }
}

/// A point in time by a number of units since the epoch.
pub(crate) fn of_epoch(text: &str, nanos_per_unit: i64) -> Option<Timestamp> {
    let number: i64 = text.parse().ok()?;
    Timestamp::from_nanosecond(i128::from(number).checked_mul(i128::from(nanos_per_unit))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_what_programs_write_and_writes_it_alike() {
        assert_eq!(KNOWN.len(), LAYOUTS.len());
        for text in [
            "2024-05-01T10:20:30Z",
            "2024-05-01T10:20:30.123456789Z",
            "2024-05-01T10:20:30.10+02:00",
            "2024-05-01T10:20:30.5",
            "2024-05-01T10:20:30+0200",
            "2024-05-01T10:20",
            "2024-05-01 10:20:30",
            "2024-05-01 10:20:30.000001 +0000 UTC",
            "2024-05-01 10:20:30+02",
            "2024-05-01",
            "Wed, 01 May 2024 10:20:30 UTC",
            "Wed, 01 May 2024 10:20:30 -0700",
            "Wed May  1 10:20:30 2024",
            "01/May/2024:10:20:30 +0000",
            "20240501T102030Z",
            "2024/05/01",
            "12/31/2024",
            "May 1, 2024",
        ] {
            let (layout, moment) = recognise(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(layout.write(moment.at, &moment), text);
        }
    }

    #[test]
    fn what_only_resembles_a_date_is_none() {
        for text in [
            "",
            "1700000000",
            "20240501",
            "2024-13-01",
            "2024-02-30",
            "2024-05-01x",
            "192.168.10.100",
            "550e8400-e29b-41d4-a716-446655440000",
            "1-2-2024",
            "12:30:00",
        ] {
            assert!(!is_date(text), "{text}");
        }
    }
}
