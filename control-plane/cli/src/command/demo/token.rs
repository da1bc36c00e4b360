//! A token taken apart, and times in words.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The claims that a re-signed token may have anew.
const TIMES: [&str; 4] = ["iat", "exp", "nbf", "auth_time"];

/// A JWT.
#[derive(Debug)]
pub(super) struct Token {
    text: String,
    header: String,
    claims: Vec<(String, Value)>,
}

impl Token {
    /// Takes a token apart.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        Self::read(text).ok_or_else(|| Failure::failed("the login's answer holds no JWT"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (header, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let decode = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let payload = decode(payload)?;
        let claims: Map<String, Value> = serde_json::from_str(&payload).ok()?;
        let mut claims: Vec<_> = claims.into_iter().collect();
        // A `Map` sorts by name; the demo shows the order on the wire.
        claims.sort_by_key(|(name, _)| payload.find(&format!("\"{name}\":")));
        Some(Self { text: text.to_owned(), header: decode(header)?, claims })
    }

    /// The token as it is sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The members of the JOSE header without `kid`.
    pub(super) fn header_but_kid(&self) -> Map<String, Value> {
        let mut header: Map<String, Value> = serde_json::from_str(&self.header).unwrap_or_default();
        header.remove("kid");
        header
    }

    /// The `kid` of the JOSE header.
    pub(super) fn kid(&self) -> Option<String> {
        let header: Map<String, Value> = serde_json::from_str(&self.header).ok()?;
        header.get("kid")?.as_str().map(str::to_owned)
    }

    /// The JOSE header, JSON text.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// The claims in their order.
    pub(super) fn claims(&self) -> &[(String, Value)] {
        &self.claims
    }

    /// The claims that are no times, in their order.
    pub(super) fn lasting_claims(&self) -> Vec<&(String, Value)> {
        self.claims.iter().filter(|(name, _)| !TIMES.contains(&name.as_str())).collect()
    }

    /// A claim.
    pub(super) fn claim(&self, wanted: &str) -> Option<&Value> {
        self.claims.iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    /// A NumericDate.
    pub(super) fn time(&self, name: &str) -> Option<i64> {
        self.claim(name)?.as_i64()
    }

    /// Whether its time is over.
    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.time("exp").is_some_and(|end| end <= now)
    }

    /// Whether and how long it lives, in words.
    pub(super) fn life(&self, now: i64) -> String {
        match self.time("exp") {
            None => "never expires".to_owned(),
            Some(end) if end <= now => format!("expired {} ago", in_words(now - end)),
            Some(end) => format!("valid for {}", in_words(end - now)),
        }
    }
}

/// Whether a claim is shown as a point of time.
pub(super) fn is_time(name: &str) -> bool {
    TIMES.contains(&name)
}

/// A span in its largest whole unit.
pub(super) fn in_words(seconds: i64) -> String {
    const UNITS: [(i64, &str); 5] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let (count, unit) = UNITS
        .into_iter()
        .find(|(size, _)| seconds >= *size)
        .map_or((seconds, "second"), |(size, unit)| (seconds / size, unit));
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Token {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        Token::parse(&format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(claims))).unwrap()
    }

    #[test]
    fn claims_keep_the_order_of_the_wire() {
        let token = token(r#"{"sub":"alice","exp":20,"aud":"x","iat":10}"#);
        let names: Vec<_> = token.claims().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sub", "exp", "aud", "iat"]);
        assert_eq!(token.lasting_claims().len(), 2);
        assert_eq!((token.header(), token.time("exp")), (r#"{"alg":"RS256"}"#, Some(20)));
        assert!(Token::parse("opaque").is_err());
    }

    #[test]
    fn times_are_told_in_words() {
        let token = token(r#"{"exp":1000}"#);
        assert_eq!(token.life(1000 + 2 * 365 * 86_400 + 5), "expired 2 years ago");
        assert_eq!(token.life(1000 - 3599), "valid for 59 minutes");
        assert_eq!(
            (in_words(1), in_words(3600), in_words(0)),
            ("1 second".into(), "1 hour".into(), "0 seconds".into())
        );
        assert!(token.is_expired(1000) && !token.is_expired(999));
    }
}
