//! A token that a client presents, read leniently: whatever can be told of it, however wrong it is.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::alg::Alg;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 64 * 1024;
/// So much is told of a text out of a token.
const MAX_TEXT: usize = 64;

/// A token taken apart. Nothing of it is shown.
pub(crate) struct Presented<'t> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    message: &'t [u8],
    signature: Vec<u8>,
}

impl<'t> Presented<'t> {
    /// Reads a compact JWS; `None` when its header or claims are no JSON objects.
    pub(crate) fn read(token: &'t [u8]) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let dot = token.iter().rposition(|byte| *byte == b'.')?;
        let (message, signature) = token.split_at_checked(dot)?;
        let mut parts = message.splitn(3, |byte| *byte == b'.');
        let (header, claims) = (object(parts.next()?)?, object(parts.next()?)?);
        if parts.next().is_some() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature.get(1..)?).unwrap_or_default();
        Some(Self { header, claims, message, signature })
    }

    /// Its algorithm, as far as it is one that we sign with.
    pub(crate) fn alg(&self) -> Option<Alg> {
        Alg::parse(self.header.get("alg")?.as_str()?)
    }

    /// Its algorithm as it says.
    pub(crate) fn alg_text(&self) -> String {
        self.header.get("alg").map(plain).unwrap_or_default()
    }

    /// The id of the key that it says it is signed with.
    pub(crate) fn kid(&self) -> Option<String> {
        self.header.get("kid").map(plain)
    }

    /// The texts of a claim, which may be a list.
    pub(crate) fn texts(&self, claim: &str) -> Vec<String> {
        match self.claims.get(claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) => all.iter().take(16).map(plain).collect(),
            Some(one) => vec![plain(one)],
        }
    }

    /// A moment among its claims, in seconds since the epoch.
    pub(crate) fn moment(&self, claim: &str) -> Option<i64> {
        let value = self.claims.get(claim)?;
        let whole = |text: &str| text.split('.').next()?.parse().ok();
        match value {
            Value::Number(number) => number.as_i64().or_else(|| whole(&number.to_string())),
            Value::String(text) => whole(text),
            _ => None,
        }
    }

    /// What is signed.
    pub(crate) fn message(&self) -> &'t [u8] {
        self.message
    }

    /// Its JWS signature; empty when it has none.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A value as it is told: a string without its quotes, all of it shortened.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part(header), part(claims))
    }

    #[test]
    fn tells_what_it_can() {
        let text = token(
            r#"{"alg":"none","kid":"k\n1"}"#,
            r#"{"aud":["a","b"],"iss":1,"exp":12.5,"nbf":"13","iat":true}"#,
        );
        let read = Presented::read(text.as_bytes()).unwrap();
        assert_eq!((read.alg(), read.alg_text().as_str()), (None, "none"));
        assert_eq!(read.kid().as_deref(), Some("k 1"));
        assert_eq!(read.texts("aud"), ["a", "b"]);
        assert_eq!((read.texts("iss"), read.texts("sub")), (vec!["1".to_owned()], vec![]));
        assert_eq!(["exp", "nbf", "iat"].map(|name| read.moment(name)), [Some(12), Some(13), None]);
        assert_eq!(read.signature(), b"sig");
        let unsigned = text.strip_suffix("c2ln").unwrap();
        assert_eq!(Presented::read(unsigned.as_bytes()).unwrap().signature(), b"");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), header in ".{0,60}", claims in ".{0,60}") {
            for text in [bytes, token(&header, &claims).into_bytes()] {
                if let Some(read) = Presented::read(&text) {
                    drop((read.alg(), read.kid(), read.texts("aud"), read.moment("exp")));
                }
            }
        }
    }
}
