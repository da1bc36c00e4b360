//! What tokens are wrapped in, and what stands around them.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::lineage::{place::Hop, token::is_token_byte};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Values longer than this are not unwrapped.
const MAX_WRAPPED: usize = 256 * 1024;
/// The shortest value that is worth decoding: no token is shorter.
const MIN_WRAPPED: usize = 24;
/// So much text before a token is looked at.
const MAX_LABEL: usize = 48;
/// The longest name that tells a token from others; what is longer may be the end of another token.
const MAX_NAME: usize = 32;

/// What a value holds behind percent-encoding or base64, where that may hold a token.
pub(super) fn unwrapped(value: &[u8]) -> Vec<(Hop, Vec<u8>)> {
    let mut found = Vec::new();
    if !(MIN_WRAPPED..=MAX_WRAPPED).contains(&value.len()) {
        return found;
    }
    if value.contains(&b'%') {
        let inner: Vec<u8> = percent_encoding::percent_decode(value).collect();
        if inner != value && may_hold_token(&inner) {
            found.push((Hop::Percent, inner));
        }
        return found;
    }
    let plain = value.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
    });
    if !plain {
        return found;
    }
    // A length that needs no `=` tells nothing; most encoders would have put one.
    let padded = value.len().is_multiple_of(4);
    for (hop, engine) in [(Hop::Base64 { padded }, STANDARD), (Hop::UrlSafeBase64, URL_SAFE)] {
        if let Ok(inner) = engine.decode(value)
            && may_hold_token(&inner)
        {
            found.push((hop, inner));
            break;
        }
    }
    found
}

/// Whether a token may begin in this text: a JOSE header is a JSON object, so that its base64url begins in one of few ways.
pub(super) fn may_hold_token(text: &[u8]) -> bool {
    text.windows(3).any(|start| matches!(start, b"eyJ" | b"eyA" | b"ewo" | b"ew0" | b"ewk"))
}

/// Whether a string may hold a token or look like one; most strings of most documents do not.
pub(super) fn is_worth_a_look(name: &str, text: &str) -> bool {
    text.len() >= MIN_WRAPPED || text.contains('.') || names_token(name)
}

/// Whether a member or field of this name holds a token, whatever the token looks like (RFC 6749, sections 5.1 and 6).
pub(super) fn names_token(name: &str) -> bool {
    matches!(name, "access_token" | "accessToken" | "refresh_token" | "refreshToken")
}

/// Whether a text may be an opaque token.
pub(super) fn is_opaque(text: &[u8]) -> bool {
    (8..=4096).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// What stands just before a token: a name, and what separates it, for example `access_token>`.
pub(super) fn label(before: &[u8]) -> String {
    let window = before.get(before.len().saturating_sub(MAX_LABEL)..).unwrap_or_default();
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\' | b' ' | b'\t');
    let back = |mut end: usize, holds: &dyn Fn(&u8) -> bool| {
        while let Some(last) = end.checked_sub(1).and_then(|at| window.get(at))
            && holds(last)
        {
            end -= 1;
        }
        end
    };
    let end = back(window.len(), &is_quote);
    let separator = back(end, &|byte| matches!(byte, b'=' | b':' | b'>'));
    if separator == end {
        return String::new();
    }
    let quotes = back(separator, &is_quote);
    let name = back(quotes, &|byte| is_token_byte(*byte) || *byte == b':');
    match window.get(name..).map(std::str::from_utf8) {
        Some(Ok(label)) if name < quotes && quotes - name <= MAX_NAME => label.to_owned(),
        _ => String::new(),
    }
}

/// Cuts a run of bytes to the length that protobuf writes before a string, for what follows may look like a part of it.
pub(super) fn by_length<'r>(before: &[u8], run: &'r [u8]) -> &'r [u8] {
    let length = match before {
        [.., low, high] if *low >= 0x80 && *high < 0x80 => {
            usize::from(*low & 0x7f) | (usize::from(*high) << 7)
        }
        [.., length] if *length < 0x80 => usize::from(*length),
        _ => run.len(),
    };
    run.get(..length).filter(|_| length > 0).unwrap_or(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names_with_their_separators() {
        for (text, expected) in [
            ("<a><access_token>", "access_token>"),
            (r#"<input name="t" value=""#, r#"value=""#),
            ("var x = {token: '", "token: '"),
            (r#"data: {"token":""#, r#"token":""#),
            ("see ", ""),
            ("", ""),
            ("é=", ""),
            ("0123456789012345678901234567890123456789=", ""),
        ] {
            assert_eq!(label(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_length_before_a_run_ends_it() {
        assert_eq!(by_length(&[0x0a, 0x03], b"abcd"), b"abc");
        assert_eq!(by_length(&[0x0a, 0x83, 0x00], b"abcd"), b"abc");
        assert_eq!(by_length(b"xy", b"abcd"), b"abcd");
        assert_eq!(by_length(b"", b"abcd"), b"abcd");
    }
}
