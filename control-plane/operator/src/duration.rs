//! Durations as Go writes them: `1h30m`, `250ms`.

use std::time::Duration;

/// What is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; it looks like 30s, 15m or 1h30m")]
pub struct NoDuration(String);

/// Reads one. It has no sign; what is less than a nanosecond is left out.
///
/// # Errors
/// When it is none, or longer than 500 years.
pub fn parse(text: &str) -> Result<Duration, NoDuration> {
    read(text).ok_or_else(|| NoDuration(text.chars().take(40).collect()))
}

fn read(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at_checked(end)?;
        let (_, per) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, *per)?)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// A decimal number of units, in nanoseconds.
fn scaled(number: &str, per: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let mut nanos = whole.parse::<u64>().ok()?.checked_mul(per)?;
    let mut place = per;
    for digit in part.chars() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit.to_digit(10)?).checked_mul(place)?)?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in [
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("1h0m0.5s", 3_600_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1d", "1h 30m", "1..5s", ".s", "9999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
