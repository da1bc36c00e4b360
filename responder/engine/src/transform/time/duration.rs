//! Durations in Go's notation, with `d` for days added.

const UNITS: [(&str, i128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// A duration in nanoseconds: `300ms`, `-1.5h`, `2h45m`, `1d12h`. `None` when it is none or does not fit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(letters)?;
        let unit = UNITS.iter().find(|known| known.0 == unit)?.1;
        total = total.checked_add(scaled(number, unit)?)?;
        rest = behind;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A decimal number times a unit.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut part = unit;
    for digit in fraction.chars() {
        // Below a nanosecond nothing counts.
        total = total.checked_add(part.checked_mul(i128::from(digit.to_digit(10)?))? / 10)?;
        part /= 10;
    }
    Some(total)
}

/// A duration as Go writes it: `1h0m0s`, `1.5s`, `100ms`, `0s`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let all = nanos.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let digits = unit.ilog10();
        let width = usize::try_from(digits).unwrap_or_default();
        let text = format!("{}.{:0width$}", all / unit, all % unit);
        let text = if width == 0 { (all / unit).to_string() } else { text };
        let trimmed = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            text.as_str()
        };
        format!("{sign}{trimmed}{name}")
    };
    match all {
        0 => "0s".to_owned(),
        1..1_000 => decimal(1, "ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let (seconds, nanos) = (all / 1_000_000_000, all % 1_000_000_000);
            let fraction = format!("{nanos:09}");
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}{dot}{fraction}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}{dot}{fraction}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}{dot}{fraction}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_as_go_does() {
        for (text, nanos, written) in [
            ("100ms", 100_000_000, "100ms"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("-744h0m0s", -2_678_400_000_000_000, "-744h0m0s"),
            ("2h45m.5s", 9_900_500_000_000, "2h45m0.5s"),
            ("1d12h", 129_600_000_000_000, "36h0m0s"),
            ("1500us", 1_500_000, "1.5ms"),
            ("1µs", 1_000, "1µs"),
            ("999ns", 999, "999ns"),
            ("1.000000001s", 1_000_000_001, "1.000000001s"),
            ("61s", 61_000_000_000, "1m1s"),
            ("0", 0, "0s"),
            ("+0s", 0, "0s"),
        ] {
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
            assert_eq!(format_duration(nanos), written);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "-", "1", "s", "1x", "1.2.3s", "1 s", "1e3s", ".s", "999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in any::<i64>()) {
            prop_assert_eq!(parse_duration(&format_duration(nanos)), Some(nanos));
        }

        #[test]
        fn no_text_panics(text in "[-+.0-9nuµmshd ]{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
