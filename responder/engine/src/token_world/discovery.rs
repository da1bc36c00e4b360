//! Discovery documents: they go on to say what they said, and name the algorithms that tokens are signed with now.

use crate::json;

/// A recorded discovery document.
#[derive(Debug)]
pub(super) struct Discovery {
    /// The position of its response.
    pub(super) instance: usize,
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
}

/// Where an issuer names the algorithms of its ID tokens.
const ALGS: &str = "id_token_signing_alg_values_supported";

/// The document with these algorithms in addition; `None` when it names them already, or names none at all.
pub(super) fn with_algs(document: &[u8], algs: &[&str]) -> Option<Vec<u8>> {
    let start = document.len() - document.trim_ascii_start().len();
    let listed = json::member(document, start, ALGS)?;
    let text = document.get(listed.span.clone())?;
    let known: Vec<String> = serde_json::from_slice(text).ok()?;
    let missing: Vec<String> = algs
        .iter()
        .filter(|alg| !known.iter().any(|known| known == *alg))
        .map(|alg| format!("\"{alg}\""))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let end = listed.span.end.checked_sub(1)?;
    let separator = if known.is_empty() { "" } else { "," };
    let added = format!("{separator}{}", missing.join(","));
    Some(json::replace(document, &[(end..end, added.into_bytes())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_added_and_nothing_else_changes() {
        let with = |document: &str, algs: &[&str]| {
            with_algs(document.as_bytes(), algs).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let document =
            r#" {"a": 1.0, "id_token_signing_alg_values_supported" : [ "RS256" ], "z":[]}"#;
        assert_eq!(
            with(document, &["ES256", "RS256", "EdDSA"]).unwrap(),
            r#" {"a": 1.0, "id_token_signing_alg_values_supported" : [ "RS256" ,"ES256","EdDSA"], "z":[]}"#
        );
        assert_eq!(with(document, &["RS256"]), None);
        assert_eq!(with(r#"{"a":1}"#, &["RS256"]), None);
        assert_eq!(
            with(r#"{"id_token_signing_alg_values_supported":[]}"#, &["RS256"]).unwrap(),
            r#"{"id_token_signing_alg_values_supported":["RS256"]}"#
        );
    }
}
