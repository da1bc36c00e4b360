//! NumericDates (RFC 7519 §2): reading them without rounding, moving them without overflow, writing them in the notation that they had.

const NANOS: i128 = 1_000_000_000;
/// Larger numbers are not taken for seconds: two to the power of 63.
const MAX_SECONDS: i128 = 1 << 63;
/// More fraction digits than this are not written.
const MAX_DIGITS: usize = 18;

/// A point in time or a distance, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i128);

/// How a NumericDate is written: the digits of its fraction, and whether it stands in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Notation {
    pub(super) digits: usize,
    pub(super) quoted: bool,
}

impl Moment {
    pub(super) fn from_seconds(seconds: i64) -> Self {
        Self(i128::from(seconds) * NANOS)
    }

    pub(super) fn from_nanos(nanos: i64) -> Self {
        Self(i128::from(nanos))
    }

    /// Whole seconds, rounded down.
    pub(super) fn seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(NANOS)).unwrap_or(if self.0 < 0 {
            i64::MIN
        } else {
            i64::MAX
        })
    }

    pub(super) fn plus(self, distance: Self) -> Self {
        Self(self.0.saturating_add(distance.0))
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads a JSON number; `None` when its seconds do not fit, or it is none.
    pub(super) fn read(number: &str) -> Option<(Self, Notation)> {
        if number.contains(['e', 'E']) {
            let value: f64 = number.parse().ok().filter(|value: &f64| value.is_finite())?;
            let (moment, _) = Self::read_decimal(&format!("{value:.9}"))?;
            return Some((moment, Notation::default()));
        }
        Self::read_decimal(number)
    }

    fn read_decimal(number: &str) -> Option<(Self, Notation)> {
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || number.ends_with('.')
        {
            return None;
        }
        let seconds: i128 = whole.parse().ok().filter(|seconds| *seconds <= MAX_SECONDS)?;
        let nanos = fraction
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(9)
            .fold(0_i128, |nanos, digit| nanos * 10 + i128::from(digit - b'0'));
        let value = seconds * NANOS + nanos;
        Some((
            Self(if negative { -value } else { value }),
            Notation { digits: fraction.len().min(MAX_DIGITS), quoted: false },
        ))
    }

    /// Appends the moment; what the notation has no digits for is cut off.
    pub(super) fn write(self, notation: Notation, out: &mut Vec<u8>) {
        if notation.quoted {
            out.push(b'"');
        }
        let magnitude = self.0.unsigned_abs();
        let unit = NANOS.unsigned_abs();
        let seconds =
            u64::try_from(magnitude / unit).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs());
        let nanos = u64::try_from(magnitude % unit).unwrap_or_default();
        if self.0 < 0 && (seconds > 0 || notation.digits > 0) {
            out.push(b'-');
        }
        push_digits(seconds, 1, out);
        if notation.digits > 0 {
            out.push(b'.');
            let start = out.len();
            push_digits(nanos, 9, out);
            out.resize(start + notation.digits, b'0');
        }
        if notation.quoted {
            out.push(b'"');
        }
    }
}

fn push_digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    while number > 0 || out.len() - start < width {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
    }
    out.get_mut(start..).unwrap_or_default().reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(number: &str) -> Option<String> {
        let (moment, notation) = Moment::read(number)?;
        let mut out = Vec::new();
        moment.write(notation, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn keeps_the_number_of_fraction_digits() {
        for number in [
            "0",
            "1700000000",
            "1700000000.0",
            "1700000000.123",
            "-5",
            "-0.5",
            "9223372036854775807",
            "1.123456789",
        ] {
            assert_eq!(rewritten(number).as_deref(), Some(number));
        }
        assert_eq!(rewritten("1.7e9").as_deref(), Some("1700000000"));
        assert_eq!(rewritten("1.5E0").as_deref(), Some("1"));
        assert_eq!(rewritten("1.1234567891").as_deref(), Some("1.1234567890"));
        for number in [
            "1e400",
            "12345678901234567890123",
            "",
            "-",
            "1.",
            ".5",
            "x",
            "0x10",
            "1 ",
            "+1",
            "--1",
        ] {
            assert_eq!(rewritten(number), None, "{number}");
        }
    }

    #[test]
    fn never_overflows() {
        let far = Moment::from_seconds(i64::MAX);
        let mut out = Vec::new();
        far.plus(far).write(Notation::default(), &mut out);
        assert_eq!(out, i64::MAX.to_string().into_bytes());
        assert_eq!(far.plus(far).seconds(), i64::MAX);
        assert_eq!(Moment::from_seconds(i64::MIN).minus(far).seconds(), i64::MIN);
    }
}
