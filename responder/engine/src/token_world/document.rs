//! Recognising documents about tokens by what they say; where they lie does not matter.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::{Map, Value};

/// No sound document is larger.
const MAX_SIZE: usize = 1024 * 1024;

/// What every such document has a member of.
static NAMES: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| ["\"kty\"", "\"jwks_uri\"", "\"active\""].map(Finder::new));

/// What a response is.
#[derive(Debug)]
pub(super) enum Document {
    /// A key set (RFC 7517, section 5).
    KeySet(Map<String, Value>),
    /// The metadata of an issuer (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2).
    Discovery {
        /// Its `issuer`.
        issuer: String,
        /// Its `jwks_uri`.
        jwks_uri: String,
    },
    /// An introspection answer about a token that is active (RFC 7662, section 2.2).
    Active,
    /// Nothing of the kind.
    Other,
}

/// Whether a plain body may be such a document. Cheap, and wrong at times.
pub(crate) fn may_be(body: &[u8]) -> bool {
    body.len() <= MAX_SIZE
        && body.trim_ascii_start().starts_with(b"{")
        && NAMES.iter().any(|name| name.find(body).is_some())
}

/// Reads a plain body.
pub(super) fn read(body: &[u8]) -> Document {
    // Hardly any response is one of them, so hardly any is parsed.
    if !may_be(body) {
        return Document::Other;
    }
    let Ok(Value::Object(document)) = serde_json::from_slice(body) else { return Document::Other };
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    if is_key_set(&document) {
        Document::KeySet(document)
    } else if !text("jwks_uri").is_empty() && !text("issuer").is_empty() {
        Document::Discovery {
            issuer: text("issuer").to_owned(),
            jwks_uri: text("jwks_uri").to_owned(),
        }
    } else if document.get("active") == Some(&Value::Bool(true)) {
        Document::Active
    } else {
        Document::Other
    }
}

fn is_key_set(document: &Map<String, Value>) -> bool {
    let is_key = |key: &Value| key.get("kty").is_some_and(Value::is_string);
    document
        .get("keys")
        .and_then(Value::as_array)
        .is_some_and(|keys| !keys.is_empty() && keys.iter().all(is_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_known_by_what_they_say() {
        let kind = |body: &str| match read(body.as_bytes()) {
            Document::KeySet(_) => "keys",
            Document::Discovery { .. } => "discovery",
            Document::Active => "active",
            Document::Other => "other",
        };
        for (body, expected) in [
            (r#"{"keys":[{"kty":"RSA"}]}"#, "keys"),
            (r#" {"ttl":5,"keys":[{"kty":"OKP"},{"kty":"EC"}]}"#, "keys"),
            (r#"{"keys":[{"kty":5}]}"#, "other"),
            (r#"{"keys":[{"kty":"RSA"},"kty"]}"#, "other"),
            (r#"{"keys":[]}"#, "other"),
            (r#"{"kty":"RSA"}"#, "other"),
            (r#"[{"kty":"RSA"}]"#, "other"),
            (r#"{"issuer":"https://i","jwks_uri":"https://i/k"}"#, "discovery"),
            (r#"{"jwks_uri":"https://i/k"}"#, "other"),
            (r#"{"active":true,"exp":1}"#, "active"),
            (r#"{"active":false}"#, "other"),
            (r#"{"active":"true"}"#, "other"),
            ("", "other"),
        ] {
            assert_eq!(kind(body), expected, "{body}");
        }
        assert_eq!(kind(&format!(r#"{{"keys":[{{"kty":"{}"}}]}}"#, "x".repeat(MAX_SIZE))), "other");
    }
}
