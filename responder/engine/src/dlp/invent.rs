//! Invented values: what looks like a value of the category but belongs to nobody, for clients that check what they get.
//!
//! Each can be told from a real one, by a domain, area, country or network that is nobody's, so that it is not redacted once more.

use super::{
    mark::RedactionKey,
    pattern::{luhn, mod_97},
};

/// Reserved by RFC 2606.
pub(super) const EMAIL_DOMAIN: &str = "@redacted.example";
/// Reserved for users' own codes by ISO 3166.
pub(super) const IBAN_COUNTRY: &str = "XX";
/// Reserved by ITU-T E.164.
pub(super) const PHONE_COUNTRY: &str = "+999";
/// For measurements between networks (RFC 2544).
pub(super) const IPV4_NET: &str = "198.18.";
/// No issuer begins with it.
const CARD_ISSUER: &str = "999999";

/// An invented value; `None` when there is no way to invent one of this category.
pub(super) fn invent(key: &RedactionKey, category: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut digits = key.digits(category, value);
    let text = match category {
        "EMAIL" => format!("user-{}{EMAIL_DOMAIN}", key.hash(value)),
        "SSN" => shaped("9dd-dd-dddd", digits),
        "PHONE" => shaped("+999dddddddd", digits),
        "IPV4" => {
            let mut byte =
                || digits.by_ref().take(2).fold(0, |sum, digit| sum * 10 + u32::from(digit));
            format!("{IPV4_NET}{}.{}", byte(), byte() + 1)
        }
        "CREDIT_CARD" => card(value, digits),
        "IBAN" => {
            let account = shaped("dddddddddddddddd", digits);
            let check = 98 - mod_97(format!("{IBAN_COUNTRY}00{account}").as_bytes());
            format!("{IBAN_COUNTRY}{check:02}{account}")
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Whether a value was invented here. The whole shape is compared, so that a password that begins like one is none.
pub(super) fn is_invented(value: &[u8]) -> bool {
    let shape: Vec<u8> =
        value.iter().map(|byte| if byte.is_ascii_digit() { b'd' } else { *byte }).collect();
    let card: Vec<u8> = value.iter().copied().filter(|byte| !b" -".contains(byte)).collect();
    let after = |with: &str| value.strip_prefix(with.as_bytes());
    let digits_only = |rest: &[u8]| rest.iter().all(u8::is_ascii_digit);
    after("user-").is_some_and(|rest| {
        rest.len() == 16 + EMAIL_DOMAIN.len() && rest.ends_with(EMAIL_DOMAIN.as_bytes())
    }) || shape == b"ddd-dd-dddd" && value.starts_with(b"9")
        || shape == b"+ddddddddddd" && value.starts_with(PHONE_COUNTRY.as_bytes())
        || after(IPV4_NET).is_some_and(|rest| rest.iter().all(|b| b.is_ascii_digit() || *b == b'.'))
        || after(IBAN_COUNTRY).is_some_and(|rest| rest.len() == 18 && digits_only(rest))
        || (13..=19).contains(&card.len())
            && card.starts_with(CARD_ISSUER.as_bytes())
            && digits_only(&card)
}

fn shaped(shape: &str, mut digits: impl Iterator<Item = u8>) -> String {
    shape
        .chars()
        .map(|c| if c == 'd' { char::from(b'0' + digits.next().unwrap_or_default()) } else { c })
        .collect()
}

/// A card number with the separators of the recorded one and a right check digit.
fn card(recorded: &[u8], digits: impl Iterator<Item = u8>) -> String {
    let length = recorded.iter().filter(|byte| byte.is_ascii_digit()).count().clamp(13, 19);
    let mut number: Vec<u8> =
        CARD_ISSUER.bytes().map(|b| b - b'0').chain(digits).take(length - 1).collect();
    number.push(0);
    let check = (10 - luhn(&number)) % 10;
    if let Some(last) = number.last_mut() {
        *last = check;
    }
    let mut number = number.into_iter().map(|digit| char::from(b'0' + digit));
    let mut out = String::new();
    for byte in recorded {
        match byte {
            b'0'..=b'9' => out.extend(number.next()),
            b' ' | b'-' => out.push(char::from(*byte)),
            _ => {}
        }
    }
    out.extend(number);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_values_are_sound_recognisable_and_repeatable() {
        let key = RedactionKey::from_seed(b"test");
        for (category, value) in [
            ("EMAIL", "ava@example.com"),
            ("SSN", "123-45-6789"),
            ("PHONE", "+14155552671"),
            ("IPV4", "10.1.2.3"),
            ("CREDIT_CARD", "4111 1111 1111 1111"),
            ("CREDIT_CARD", "x"),
            ("IBAN", "DE89370400440532013000"),
        ] {
            let new = invent(&key, category, value.as_bytes()).unwrap();
            assert!(is_invented(&new), "{category} {}", String::from_utf8_lossy(&new));
            assert!(!is_invented(value.as_bytes()), "{category}");
            assert_eq!(invent(&key, category, value.as_bytes()).unwrap(), new);
            assert_ne!(invent(&key, category, b"other").unwrap(), new);
        }
        let card = invent(&key, "CREDIT_CARD", b"4111 1111 1111 1111").unwrap();
        assert_eq!(card.iter().filter(|byte| **byte == b' ').count(), 3);
        let digits: Vec<u8> =
            card.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
        assert_eq!((digits.len(), luhn(&digits)), (16, 0));
        assert_eq!(mod_97(&invent(&key, "IBAN", b"x").unwrap()), 1);
        assert_eq!(invent(&key, "PASSWORD", b"x"), None);
    }
}
