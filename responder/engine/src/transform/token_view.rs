//! A look into a compact JWS: its JOSE header or its claims, to be read and put back. Nothing is verified and nothing signed.

use std::ops::Range;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::json;

/// The longest token that is looked into.
const MAX_TOKEN: usize = 64 * 1024;

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Header,
    Claims,
}

/// A part of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Where it stands in the value.
    span: Range<usize>,
    /// What it says.
    pub(crate) json: Vec<u8>,
}

impl View {
    /// Opens a token that may have `Bearer ` before it; `None` when the value is none.
    pub(crate) fn open(value: &[u8], part: Part) -> Option<Self> {
        if value.len() > MAX_TOKEN {
            return None;
        }
        let start = ["Bearer ", "JWTBearer "]
            .into_iter()
            .find(|prefix| {
                value
                    .get(..prefix.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
            })
            .map_or(0, str::len);
        let token = value.get(start..)?;
        let parts: Vec<&[u8]> = token.splitn(4, |byte| *byte == b'.').collect();
        let [header, claims, _signature] = parts.as_slice() else { return None };
        let span = match part {
            Part::Header => start..start + header.len(),
            Part::Claims => start + header.len() + 1..start + header.len() + 1 + claims.len(),
        };
        let is_object = |json: &Vec<u8>| json.trim_ascii_start().starts_with(b"{");
        BASE64URL.decode(header).ok().filter(is_object)?;
        let json = BASE64URL.decode(value.get(span.clone())?).ok().filter(is_object)?;
        Some(Self { span, json })
    }

    /// The value with another text in the place of this part.
    pub(crate) fn close(&self, value: &[u8], json: &[u8]) -> Vec<u8> {
        json::replace(value, &[(self.span.clone(), BASE64URL.encode(json).into_bytes())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_and_closes_one_part() {
        let token = b"Bearer eyJhIjoxfQ.eyJiIjoyfQ.c2ln";
        let claims = View::open(token, Part::Claims).unwrap();
        assert_eq!(claims.json, br#"{"b":2}"#);
        assert_eq!(claims.close(token, br#"{"b":3}"#), b"Bearer eyJhIjoxfQ.eyJiIjozfQ.c2ln");
        let header = View::open(&token[7..], Part::Header).unwrap();
        assert_eq!(header.json, br#"{"a":1}"#);
        assert_eq!(header.close(&token[7..], b"{}"), b"e30.eyJiIjoyfQ.c2ln");
    }

    #[test]
    fn what_is_no_token_stays_shut() {
        for value in [
            "",
            "a.b.c",
            "api.nasa.gov",
            "eyJhIjoxfQ.eyJiIjoyfQ",
            "eyJhIjoxfQ.!.c",
            "e30.e30.a.b",
            "e30.W10.c",
        ] {
            assert_eq!(View::open(value.as_bytes(), Part::Claims), None, "{value}");
        }
    }
}
