//! Hiding credentials for show: what a report of a miss or a journal prints of a request holds no token, key or password.
//!
//! A value gives way to a mark that is the same for the same value, so that a difference still shows. What a signature holds in the place
//! of a token stays as it is, for it gives nothing away.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use regex::bytes::Regex;

use super::{DlpConfig, RedactionKey, Redactor, Tally, mark};
use crate::{request::Parts, snapshot::RrPair};

/// Credentials and nothing else, so that the rest can still be compared.
const CREDENTIALS: &str = r#"{
  "id": "credentials",
  "keys": [
    "password", "passwd", "pwd", "passphrase", "newPassword", "oldPassword", "currentPassword", "confirmPassword", "passwordConfirmation",
    "secret", "clientSecret", "sharedSecret", "secretKey", "secretAccessKey", "consumerSecret", "appSecret", "privateKey", "otp", "pin",
    "apiKey", "xApiKey", "accessKey", "subscriptionKey", "token", "accessToken", "refreshToken", "idToken", "authToken", "sessionToken",
    "bearerToken", "sessionId", "jsessionid", "authorization", "clientAssertion", "assertion", "cvv", "cvc", "cvv2", "securityCode"
  ],
  "headers": [
    "authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-functions-key", "ocp-apim-subscription-key",
    "x-auth-token", "x-access-token", "x-amz-security-token", "x-csrf-token", "x-xsrf-token", "cookie", "set-cookie"
  ],
  "query": ["key", "code", "sig", "signature", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"],
  "patterns": ["jwt", "private_key", "url_password", "aws_access_key"]
}"#;

/// Hides credentials.
#[derive(Debug, Clone)]
pub struct Veil(Redactor);

impl Default for Veil {
    /// With a key that everybody knows: its marks tell values apart and do not hide them from who can guess.
    fn default() -> Self {
        Self::standard().clone()
    }
}

impl Veil {
    /// The default one, which is made once.
    pub(crate) fn standard() -> &'static Self {
        static STANDARD: LazyLock<Veil> =
            LazyLock::new(|| Veil::new(RedactionKey::from_seed(b"countersign")));
        &STANDARD
    }

    /// Hides them behind marks made with this key.
    #[must_use]
    pub fn new(key: RedactionKey) -> Self {
        let (config, found) = DlpConfig::parse(CREDENTIALS.as_bytes());
        debug_assert!(found.as_slice().is_empty(), "{found:?}");
        Self(Redactor::new(config, key))
    }

    /// A signature without credentials.
    pub(crate) fn signature<'s>(
        &self,
        entries: impl Iterator<Item = (&'s str, &'s [u8])>,
    ) -> BTreeMap<String, Bytes> {
        let mut shielded = Shielded::default();
        let signature = entries.map(|(key, value)| (key.to_owned(), shielded.hide(value).into()));
        let mut pair = RrPair { signature: signature.collect(), ..RrPair::default() };
        self.0.redact_pair(&mut pair, &mut Tally::off());
        for value in pair.signature.values_mut() {
            *value = shielded.show(value).into();
        }
        pair.signature
    }

    /// A request without credentials.
    pub(crate) fn request(&self, parts: &mut Parts) {
        self.0.redact_request(parts);
    }
}

/// Stand-ins for tokens, which are no credentials but may have the name of one.
#[derive(Default)]
struct Shielded(Vec<Vec<u8>>);

impl Shielded {
    fn hide(&mut self, value: &[u8]) -> Vec<u8> {
        static STAND_IN: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new("(?-u)<token [0-9a-f]{32}>").ok());
        let Some(stand_in) = STAND_IN.as_ref() else { return value.to_vec() };
        let hide = |found: &regex::bytes::Captures<'_>| {
            self.0.push(found.get(0).map(|found| found.as_bytes().to_vec()).unwrap_or_default());
            shield(self.0.len() - 1).into_bytes()
        };
        stand_in.replace_all(value, hide).into_owned()
    }

    fn show(&self, value: &[u8]) -> Vec<u8> {
        let (true, Some(marks)) = (!self.0.is_empty(), mark::pattern()) else {
            return value.to_vec();
        };
        let show = |found: &regex::bytes::Captures<'_>| {
            let text = found.get(0).map(|found| found.as_bytes()).unwrap_or_default();
            // A rule for the name may have given the mark another category.
            let hash = mark::parse(text).map(|mark| mark.1);
            let nth = self.0.iter().enumerate().find(|(nth, _)| hash == Some(&number(*nth)));
            nth.map_or(text, |(_, stand_in)| stand_in).to_vec()
        };
        marks.replace_all(value, show).into_owned()
    }
}

/// What a stand-in is called meanwhile: a mark, which is left alone. No value has a hash of so many zeros.
fn shield(nth: usize) -> String {
    mark::labelled("STAND_IN", &number(nth))
}

fn number(nth: usize) -> String {
    format!("{nth:016x}")
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::request::Request;

    const JWS: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlIG9mIGFsaWNl";

    #[test]
    fn a_signature_keeps_what_is_no_credential() {
        let stand_in = format!("<token {}>", "ab".repeat(16));
        let entries = [
            ("http:url", "/users/alice@example.com".to_owned()),
            ("http:queryparams", format!("access_token=opaque-text&id=7&t={stand_in}&u={JWS}")),
            (
                "http:requestBodyJSON",
                format!(
                    r#"{{"email":"a@b.example","password":"hunter2","token":"{stand_in}","x":"{JWS}"}}"#
                ),
            ),
            ("mine", format!("Bearer {JWS}")),
        ];
        let veiled = Veil::default().signature(entries.iter().map(|(k, v)| (*k, v.as_bytes())));
        let text = format!("{veiled:?}");
        for hidden in ["hunter2", "opaque-text", JWS, "c2ln"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        for shown in ["/users/alice@example.com", "id=7", "a@b.example"] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        assert_eq!(text.matches(&stand_in).count(), 2, "{text}");
    }

    #[test]
    fn a_request_keeps_what_is_no_credential() {
        let headers: HeaderMap = [
            ("authorization", format!("Bearer {JWS}")),
            ("cookie", "sid=1234567890; theme=dark".to_owned()),
            ("x-api-key", "k-123456".to_owned()),
            ("accept", "text/plain".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
        let mut parts = Parts::of_live(&Request {
            method: "POST",
            host: "a",
            path: "/p",
            query: "api_key=s3cr3t-value&page=2",
            headers: &headers,
            body: br#"{"pin":"4711","note":"n"}"#,
            ..Request::default()
        });
        Veil::default().request(&mut parts);
        let text = format!("{parts:?}");
        for hidden in [JWS, "1234567890", "k-123456", "s3cr3t", "4711"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        for shown in ["text/plain", "page", "note"] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
    }
}
