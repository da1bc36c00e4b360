//! Finding JWS in text, whatever surrounds them.
//!
//! The characters of a compact JWS need no escape in JSON, headers, forms and XML, so a token is found by looking at the raw bytes.

use std::{ops::Range, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use regex::bytes::Regex;

/// The longest JOSE header that is looked at, in base64url.
const MAX_HEADER: usize = 16 * 1024;

/// A token begins with an object in base64url: `{` and what comes after it give these first two letters.
static SHAPE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?-u)e[w-z0-9_-][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").ok()
});

/// The spans of all JWS in a text.
pub(crate) fn find(text: &[u8]) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    // Few texts have one, and those that have it have two points.
    let Some(shape) = SHAPE.as_ref().filter(|_| text.contains(&b'.')) else { return spans };
    let mut at = 0;
    while let Some(found) = shape.find_at(text, at) {
        if is_jws(text, &found.range()) {
            spans.push(found.range());
            at = found.end();
        } else {
            // A host name before a token has its shape, too; what comes behind its first point may be one.
            let header = found.as_bytes().iter().take_while(|byte| **byte != b'.').count();
            at = found.start() + header + 1;
        }
    }
    spans
}

/// Whether [`find`] may find something. Cheaper, and wrong at times.
pub(crate) fn may_be_in(text: &[u8]) -> bool {
    text.contains(&b'.') && SHAPE.as_ref().is_some_and(|shape| shape.is_match(text))
}

/// Whether what has a token's shape begins with a JOSE header.
pub(super) fn is_jws(text: &[u8], span: &Range<usize>) -> bool {
    let header = text
        .get(span.clone())
        .and_then(|token| token.split(|byte| *byte == b'.').next())
        .filter(|header| header.len() <= MAX_HEADER)
        .and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header: Option<serde_json::Map<String, serde_json::Value>> =
        header.and_then(|header| serde_json::from_slice(&header).ok());
    header.is_some_and(|header| header.contains_key("alg"))
}

/// Where the JWS signature of the token at this span stands.
pub(crate) fn signature(text: &[u8], token: &Range<usize>) -> Range<usize> {
    let found = text.get(token.clone()).unwrap_or_default();
    let length = found.iter().rev().take_while(|byte| **byte != b'.').count();
    token.end - length..token.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_any_surroundings() {
        let token = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln";
        for text in [
            token.to_owned(),
            format!("Bearer {token}"),
            format!(r#"{{"a":"{token}"}}"#),
            format!("t={token}&x=1"),
            format!("a=b; t={token}; c=d"),
            format!("<t>{token}</t>"),
            format!("example.com{token}"),
            format!("exp.example.{token}"),
        ] {
            let spans = find(text.as_bytes());
            assert_eq!(spans.len(), 1, "{text}");
            assert_eq!(text.get(spans[0].clone()).unwrap(), token);
            assert_eq!(text.get(signature(text.as_bytes(), &spans[0])).unwrap(), "c2ln");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_left() {
        for text in
            ["api.nasa.gov", "eyJhbGciOiJIUzI1NiJ9.e30", "exam.ple.com", "e30.e30.e30", "ew0K.a.b"]
        {
            assert!(find(text.as_bytes()).is_empty(), "{text}");
        }
    }
}
