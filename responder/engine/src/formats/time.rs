//! Times and durations as recordings spell them.

/// An RFC 3339 time in nanoseconds since the Unix epoch.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.trim().parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// A duration in nanoseconds: `0.002105s`, `222ms`, `2.105ms`, `1m2.5s`, `250µs`. A negative one counts as none.
pub(super) fn duration(text: &str) -> Option<u64> {
    let text = text.trim();
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.')?;
        let (unit, after) = split_while(after, |c| !c.is_ascii_digit() && c != '.')?;
        total = total.checked_add(scaled(number, nanos_per(unit)?)?)?;
        rest = after;
    }
    Some(if negative { 0 } else { total })
}

/// Milliseconds in nanoseconds; negative ones count as none.
pub(super) fn millis(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0).saturating_mul(1_000_000)
}

/// A time as RFC 3339 in UTC, with as many digits as it needs. With `grouped` they come in threes, as protobuf's JSON has them.
pub(super) fn rfc3339(nanos: i64, grouped: bool) -> String {
    let whole = jiff::Timestamp::from_second(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
    let whole = whole.to_string();
    let nanos = u64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
    format!("{}{}Z", whole.trim_end_matches('Z'), fraction(nanos, 9, grouped))
}

/// Seconds as protobuf's JSON has them: `0.002105s`.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{}{}s", nanos / 1_000_000_000, fraction(nanos % 1_000_000_000, 9, true))
}

/// Milliseconds, without their unit: `2.105`.
pub(super) fn milliseconds(nanos: u64) -> String {
    format!("{}{}", nanos / 1_000_000, fraction(nanos % 1_000_000, 6, false))
}

/// The digits behind the point, with the point; nothing when they are all zero.
fn fraction(value: u64, width: usize, grouped: bool) -> String {
    let digits = format!("{value:0width$}");
    let mut kept = digits.trim_end_matches('0').len();
    if grouped {
        kept = kept.next_multiple_of(3);
    }
    match digits.get(..kept) {
        Some(digits) if !digits.is_empty() => format!(".{digits}"),
        _ => String::new(),
    }
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    let (part, rest) = text.split_at_checked(end)?;
    (!part.is_empty()).then_some((part, rest))
}

fn nanos_per(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number times a unit; what is finer than a nanosecond is cut off.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut total = u128::from(whole).checked_mul(u128::from(unit))?;
    let mut place = 1_u128;
    for digit in fraction.chars().take(18) {
        place *= 10;
        total = total.checked_add(u128::from(digit.to_digit(10)?) * u128::from(unit) / place)?;
    }
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_times_of_any_precision() {
        for (text, nanos) in [
            ("2025-11-25T18:06:30.703567803Z", Some(1_764_093_990_703_567_803)),
            ("2025-11-25T18:06:30.7035Z", Some(1_764_093_990_703_500_000)),
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("1970-01-01T01:00:01+01:00", Some(1_000_000_000)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text), nanos, "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, nanos) in [
            ("0.002105s", Some(2_105_000)),
            ("222ms", Some(222_000_000)),
            ("2.105ms", Some(2_105_000)),
            ("250µs", Some(250_000)),
            ("1m2.5s", Some(62_500_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("0.000000001s", Some(1)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("-3ms", Some(0)),
            ("3", None),
            ("ms", None),
            ("1.2.3s", None),
            (".s", None),
            ("", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), nanos, "{text}");
        }
    }

    #[test]
    fn writes_times_as_recorders_do() {
        let nanos = 1_764_093_990_703_560_000;
        assert_eq!(rfc3339(nanos, true), "2025-11-25T18:06:30.703560Z");
        assert_eq!(rfc3339(nanos, false), "2025-11-25T18:06:30.70356Z");
        assert_eq!(rfc3339(-1, true), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(0, false), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(2_105_000), "0.002105s");
        assert_eq!(milliseconds(2_105_000), "2.105");
        assert_eq!(milliseconds(3_000_000), "3");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos: i64, length: u64, grouped: bool) {
            prop_assert_eq!(timestamp(&rfc3339(nanos, grouped)), Some(nanos));
            prop_assert_eq!(duration(&seconds(length)), Some(length));
            prop_assert_eq!(duration(&format!("{}ms", milliseconds(length))), Some(length));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = duration(&text);
            let _ = timestamp(&text);
        }

        #[test]
        fn seconds_with_nine_digits_are_exact(seconds in 0_u64..1_000_000, nanos in 0_u64..1_000_000_000) {
            prop_assert_eq!(duration(&format!("{seconds}.{nanos:09}s")), Some(seconds * 1_000_000_000 + nanos));
        }
    }
}
