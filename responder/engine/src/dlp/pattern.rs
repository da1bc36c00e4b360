//! Patterns: what a value looks like, wherever it stands.
//!
//! The built-in ones check more than a shape where there is more to check: card numbers by length, prefix and Luhn digit, IBANs modulo 97.
//! A user's expression may be written so that each search reads far beyond its match; it is given a window and a number of matches, so
//! that no text costs more than a fixed multiple of its size.

use std::{net::Ipv6Addr, ops::Range, sync::LazyLock};

use regex::bytes::{Regex, RegexBuilder};

use super::{invent, token};

/// How far one search looks; a match is no longer than half of it.
const WINDOW: usize = 16 * 1024;
/// More matches than this in one text are not taken one by one: the text as a whole is replaced.
const MAX_MATCHES: usize = 32 * 1024;
/// The largest compiled form of a user's expression.
const MAX_COMPILED: usize = 1024 * 1024;

/// One pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// As reports call it.
    pub(super) name: String,
    /// The category of what it finds.
    pub(super) category: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    BuiltIn(&'static BuiltIn),
    Regex(Regex),
}

/// What looking for a pattern gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These spans, in order.
    Spans(Vec<Range<usize>>),
    /// Too many to take one by one.
    TooMany,
}

/// A pattern that everybody needs.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    category: &'static str,
    /// The shortest text that can hold it.
    shortest: usize,
    regex: LazyLock<Option<Regex>>,
    /// Whether what has the shape is one: the whole text and the span within it.
    check: fn(&[u8], &Range<usize>) -> bool,
}

macro_rules! built_in {
    ($name:literal, $category:literal, $shortest:literal, $regex:literal, $check:expr) => {
        BuiltIn {
            name: $name,
            category: $category,
            shortest: $shortest,
            regex: LazyLock::new(|| Regex::new(concat!("(?-u)", $regex)).ok()),
            check: $check,
        }
    };
}

/// The built-in patterns. Where two of them take the same text, the first one has it.
pub(super) static BUILT_IN: [BuiltIn; 11] = [
    built_in!(
        "private_key",
        "PRIVATE_KEY",
        60,
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,.-]+?-----END [A-Z ]{0,20}PRIVATE KEY-----",
        |_, _| true
    ),
    built_in!(
        "url_password",
        "PASSWORD",
        8,
        r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/@:"']{0,128}:([^\s/@"']{1,256})@"#,
        |text, span| super::mark::parse(text.get(span.clone()).unwrap_or_default()).is_none()
    ),
    built_in!(
        "jwt",
        "JWT",
        20,
        r"e[w-z0-9_-][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
        token::is_jws
    ),
    built_in!("aws_access_key", "AWS_ACCESS_KEY", 20, r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", |_, _| {
        true
    }),
    built_in!(
        "email",
        "EMAIL",
        6,
        r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b",
        |text, span| !ends_with(text, span, invent::EMAIL_DOMAIN)
    ),
    built_in!("credit_card", "CREDIT_CARD", 13, r"\b\d(?:[ -]?\d){12,18}\b", is_card),
    built_in!(
        "iban",
        "IBAN",
        15,
        r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
        is_iban
    ),
    built_in!("ssn", "SSN", 11, r"\b\d{3}-\d{2}-\d{4}\b", is_ssn),
    built_in!(
        "phone",
        "PHONE",
        8,
        r"\+\d[\d .()-]{6,18}\d\b|\(\d{3}\) ?\d{3}[ .-]\d{4}\b|\b\d{3}[ .-]\d{3}[ .-]\d{4}\b",
        is_phone
    ),
    built_in!(
        "ipv4",
        "IPV4",
        7,
        r"\b(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\b",
        is_ipv4
    ),
    built_in!("ipv6", "IPV6", 5, r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}", is_ipv6),
];

/// A built-in pattern by name.
pub(super) fn built_in(name: &str) -> Option<Pattern> {
    let known = BUILT_IN.iter().find(|known| known.name.eq_ignore_ascii_case(name))?;
    Some(Pattern {
        name: known.name.to_owned(),
        category: known.category.to_owned(),
        what: What::BuiltIn(known),
    })
}

impl Pattern {
    /// A user's pattern. With a capture group, the first group is what is taken; otherwise the whole match.
    pub(super) fn regex(name: String, category: String, regex: &str) -> Result<Self, regex::Error> {
        let regex = RegexBuilder::new(regex).size_limit(MAX_COMPILED).build()?;
        Ok(Self { name, category, what: What::Regex(regex) })
    }

    /// Whether it is the built-in one of this name.
    pub(super) fn is_built_in(&self, name: &str) -> bool {
        matches!(self.what, What::BuiltIn(known) if known.name == name)
    }

    /// Every span that it takes in a text.
    pub(super) fn find(&self, text: &[u8]) -> Found {
        if self.is_built_in("jwt") {
            return Found::Spans(token::find(text));
        }
        let (regex, check) = match &self.what {
            What::Regex(regex) => (Some(regex), None),
            What::BuiltIn(known) => {
                (known.regex.as_ref().filter(|_| text.len() >= known.shortest), Some(known.check))
            }
        };
        let Some(regex) = regex else { return Found::Spans(Vec::new()) };
        let mut spans = Vec::new();
        let mut matches = 0;
        let mut at = 0;
        while at < text.len() {
            let end = text.len().min(at + WINDOW);
            let window = text.get(..end).unwrap_or_default();
            let mut groups = regex.capture_locations();
            let Some(whole) = regex.captures_read_at(&mut groups, window, at) else {
                if end == text.len() {
                    break;
                }
                at = end - WINDOW / 2;
                continue;
            };
            if whole.end() == end && end < text.len() && whole.start() > at {
                // It may go on behind the window.
                at = whole.start();
                continue;
            }
            matches += 1;
            if matches > MAX_MATCHES {
                return Found::TooMany;
            }
            let group = (groups.len() > 1).then(|| groups.get(1)).flatten();
            let span = group.map_or_else(|| whole.range(), |(start, end)| start..end);
            at = whole.end().max(whole.start() + 1);
            if !span.is_empty() && check.is_none_or(|check| check(text, &span)) {
                spans.push(span);
            }
        }
        Found::Spans(spans)
    }

    /// Whether it takes the text as a whole.
    pub(super) fn takes_all(&self, text: &[u8]) -> bool {
        // What a capture group takes is a part by intention.
        !self.is_built_in("url_password")
            && text.len() <= WINDOW
            && matches!(self.find(text), Found::Spans(spans) if spans.first() == Some(&(0..text.len())))
    }
}

fn ends_with(text: &[u8], span: &Range<usize>, end: &str) -> bool {
    text.get(span.clone()).is_some_and(|found| found.ends_with(end.as_bytes()))
}

fn digits(text: &[u8], span: &Range<usize>) -> Vec<u8> {
    let found = text.get(span.clone()).unwrap_or_default();
    found.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect()
}

/// Whether the span stands alone: no digit, point or hyphen with a digit goes on at either side.
fn alone(text: &[u8], span: &Range<usize>) -> bool {
    let joins = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b'.' | b'-' | b'_'));
    let before = span.start.checked_sub(1).and_then(|at| text.get(at));
    let beyond = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    !(joins(before) || joins(text.get(span.end)) && beyond(span.end + 1))
}

fn is_card(text: &[u8], span: &Range<usize>) -> bool {
    let digits = digits(text, span);
    let leading = |n: usize| digits.iter().take(n).fold(0_u32, |sum, d| sum * 10 + u32::from(*d));
    // The lengths that issuers use, by the number's beginning (ISO/IEC 7812).
    let known = match (leading(1), leading(2), leading(4)) {
        (4, ..) => [13, 16, 19].contains(&digits.len()),
        (_, 51..=55, _) | (_, _, 2221..=2720) => digits.len() == 16,
        (_, 34 | 37, _) => digits.len() == 15,
        (_, 36 | 38 | 39 | 30, _) => digits.len() == 14,
        (_, 35, _) | (6, ..) => (16..=19).contains(&digits.len()),
        _ => false,
    };
    known && alone(text, span) && luhn(&digits) == 0
}

/// The Luhn sum modulo ten (ISO/IEC 7812-1, annex B); zero for a number with a right check digit.
pub(super) fn luhn(digits: &[u8]) -> u8 {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(nth, digit)| match (nth % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    u8::try_from(sum % 10).unwrap_or_default()
}

fn is_iban(text: &[u8], span: &Range<usize>) -> bool {
    let found: Vec<u8> = text
        .get(span.clone())
        .unwrap_or_default()
        .iter()
        .copied()
        .filter(u8::is_ascii_alphanumeric)
        .collect();
    (15..=34).contains(&found.len())
        && !found.starts_with(invent::IBAN_COUNTRY.as_bytes())
        && mod_97(&found) == 1
}

/// The remainder of an IBAN (ISO 13616); one for a right check sum.
pub(super) fn mod_97(iban: &[u8]) -> u32 {
    let (head, tail) = iban.split_at(iban.len().min(4));
    tail.iter().chain(head).fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => {
            (rest * 100 + u32::from(letter.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97
        }
    })
}

fn is_ssn(text: &[u8], span: &Range<usize>) -> bool {
    let found = text.get(span.clone()).unwrap_or_default();
    // Areas 000, 666 and 900 to 999, group 00 and serial 0000 were never assigned.
    let [a, b, c, _, d, e, _, serial @ ..] = found else { return false };
    let area = [*a, *b, *c];
    alone(text, span)
        && *a != b'9'
        && area != *b"000"
        && area != *b"666"
        && [*d, *e] != *b"00"
        && serial != b"0000"
}

fn is_phone(text: &[u8], span: &Range<usize>) -> bool {
    let found = text.get(span.clone()).unwrap_or_default();
    alone(text, span)
        && !found.starts_with(invent::PHONE_COUNTRY.as_bytes())
        && (8..=15).contains(&digits(text, span).len())
}

fn is_ipv4(text: &[u8], span: &Range<usize>) -> bool {
    let found = text.get(span.clone()).unwrap_or_default();
    // Loopback and the unspecified address tell nothing.
    alone(text, span)
        && !found.starts_with(b"127.")
        && found != b"0.0.0.0"
        && !found.starts_with(invent::IPV4_NET.as_bytes())
}

fn is_ipv6(text: &[u8], span: &Range<usize>) -> bool {
    let around = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b':')
    };
    let address = text
        .get(span.clone())
        .and_then(|found| std::str::from_utf8(found).ok())
        .and_then(|found| found.parse::<Ipv6Addr>().ok());
    address.is_some_and(|address| !address.is_loopback() && !address.is_unspecified())
        && !around(span.start.checked_sub(1))
        && !around(Some(span.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, text: &str) -> Vec<String> {
        let Found::Spans(spans) = built_in(name).unwrap().find(text.as_bytes()) else {
            panic!("too many")
        };
        spans.into_iter().map(|span| text.get(span).unwrap().to_owned()).collect()
    }

    #[test]
    fn every_built_in_compiles() {
        for known in &BUILT_IN {
            assert!(known.regex.is_some(), "{}", known.name);
            assert_eq!(find(known.name, ""), [""; 0]);
        }
        assert!(built_in("no such").is_none());
    }

    #[test]
    fn each_finds_what_it_is_for_and_nothing_like_it() {
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHc=\n-----END EC PRIVATE KEY-----";
        for (name, text, expected) in [
            (
                "email",
                "to <ava.b+x@mail.example.com>, not a@b or user-1@redacted.example",
                &["ava.b+x@mail.example.com"][..],
            ),
            (
                "credit_card",
                "4111 1111 1111 1111, 378282246310005, 5555-5555-5555-4444",
                &["4111 1111 1111 1111", "378282246310005", "5555-5555-5555-4444"],
            ),
            (
                "credit_card",
                "4111111111111112 1700000000000 0.4111111111111111 9999991111111114",
                &[],
            ),
            (
                "ssn",
                "123-45-6789 000-12-3456 666-12-3456 912-34-5678 123-00-4567 123-45-0000 1123-45-6789",
                &["123-45-6789"],
            ),
            (
                "iban",
                "DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432 but DE88370400440532013000",
                &["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
            ),
            (
                "phone",
                "+14155552671, (415) 555-2671, 415-555-2671, +99912345678, 2024-11-15",
                &["+14155552671", "(415) 555-2671", "415-555-2671"],
            ),
            ("ipv4", "10.1.2.3 127.0.0.1 1.2.3.4.5 256.1.1.1 v1.2.3", &["10.1.2.3"]),
            (
                "ipv6",
                "2001:0db8:85a3:0000:0000:8a2e:0370:7334 fe80::1 ::1 12:30:45 a::b::c",
                &["2001:0db8:85a3:0000:0000:8a2e:0370:7334", "fe80::1"],
            ),
            (
                "url_password",
                "postgres://user:s3cr3t@db:5432/x http://host:80/ redis://:pw@r",
                &["s3cr3t", "pw"],
            ),
            ("aws_access_key", "AKIAIOSFODNN7EXAMPLE AKIA", &["AKIAIOSFODNN7EXAMPLE"]),
            ("private_key", pem, &[pem]),
            (
                "jwt",
                "eyJhbGciOiJIUzI1NiJ9.e30.c2ln api.nasa.gov eyJub3QiOiJqd3QifQ.e30.x",
                &["eyJhbGciOiJIUzI1NiJ9.e30.c2ln"],
            ),
        ] {
            assert_eq!(find(name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn the_first_group_is_what_a_users_pattern_takes() {
        let pattern = Pattern::regex("p".into(), "P".into(), r"order=(\d+)|id=\d+").unwrap();
        let text = b"order=12 id=34";
        assert_eq!(pattern.find(text), Found::Spans(vec![6..8, 9..14]));
        assert!(!pattern.takes_all(text));
        assert!(pattern.takes_all(b"id=34"));
        assert!(Pattern::regex("p".into(), "P".into(), r"\w{1000}").is_err(), "too large");
    }

    #[test]
    fn matches_across_windows_are_found_once() {
        let filler = "x ".repeat(WINDOW / 4 - 10);
        let text = [filler.as_str(), "ava@example.com"].join(" ").repeat(9);
        assert_eq!(find("email", &text).len(), 9);
    }

    #[test]
    fn a_text_full_of_matches_is_taken_whole() {
        // Each of these searches would read to the end of the text.
        let pattern = Pattern::regex("p".into(), "P".into(), ".*[^A-Z]|[A-Z]").unwrap();
        assert_eq!(pattern.find(&vec![b'A'; MAX_MATCHES + 1]), Found::TooMany);
    }
}
