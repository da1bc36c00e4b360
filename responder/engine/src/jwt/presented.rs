//! Credentials as clients present them, told in words that give nothing away.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::token::Token;

/// A credential.
pub(crate) enum Presented {
    /// A JWT, whatever its signature.
    Jwt {
        /// Its `alg`.
        alg: &'static str,
        /// The JOSE header, JSON.
        header: Vec<u8>,
        /// The claims, JSON.
        claims: Vec<u8>,
    },
    /// Basic authentication (RFC 7617).
    Basic {
        /// The user's name.
        user: String,
    },
    /// A bearer token that is no JWT.
    Opaque,
}

/// Claims that tell who a token is about, and are told.
const TOLD: [&str; 7] = ["iss", "sub", "aud", "uid", "client_id", "sid", "azp"];

impl Presented {
    /// Reads the value of a header, cookie or parameter; `None` when it is no credential.
    pub(crate) fn read(value: &str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
        let rest = rest.trim();
        if let Ok(token) = Token::parse(rest.as_bytes()) {
            let alg = token.alg.as_str();
            return Some(Self::Jwt { alg, header: token.header, claims: token.claims });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
            return Some(Self::Basic { user: text.split(':').next()?.to_owned() });
        }
        scheme.eq_ignore_ascii_case("bearer").then_some(Self::Opaque)
    }

    /// Says what it is. `now` is in nanoseconds since the epoch.
    pub(crate) fn tell(&self, now: i64) -> String {
        match self {
            Self::Opaque => "an opaque bearer token".to_owned(),
            Self::Basic { user } => format!("basic authentication of {user}"),
            Self::Jwt { alg, header, claims } => {
                let mut told = vec![format!("a JWT, alg {alg}")];
                let header: Value = serde_json::from_slice(header).unwrap_or_default();
                if let Some(kid) = header.get("kid").and_then(Value::as_str) {
                    told.push(format!("kid {kid}"));
                }
                let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
                for name in TOLD {
                    match claims.get(name) {
                        Some(Value::String(text)) => told.push(format!("{name} {text}")),
                        Some(other) => told.push(format!("{name} {other}")),
                        None => {}
                    }
                }
                if let Some(exp) = claims.get("exp").and_then(Value::as_i64) {
                    let left = exp.saturating_sub(now.div_euclid(1_000_000_000));
                    told.push(if left < 0 {
                        format!("expired {} s ago", left.unsigned_abs())
                    } else {
                        format!("valid for {left} s")
                    });
                }
                told.join(", ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_without_giving_anything_away() {
        // {"alg":"HS256","kid":"k1"} . {"sub":"a","exp":1700000060}
        let token = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJhIiwiZXhwIjoxNzAwMDAwMDYwfQ.c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U";
        let tell =
            |value: &str, now: i64| Presented::read(value).map(|p| p.tell(now * 1_000_000_000));
        assert_eq!(
            tell(&format!("Bearer {token}"), 1_700_000_000).as_deref(),
            Some("a JWT, alg HS256, kid k1, sub a, valid for 60 s")
        );
        assert_eq!(
            tell(token, 1_700_000_090).as_deref(),
            Some("a JWT, alg HS256, kid k1, sub a, expired 30 s ago")
        );
        assert_eq!(
            tell("Basic YW5uOnNlY3JldA==", 0).as_deref(),
            Some("basic authentication of ann")
        );
        assert_eq!(tell("Bearer abc", 0).as_deref(), Some("an opaque bearer token"));
        for value in ["application/json", "api.nasa.gov", "Basic %%%", ""] {
            assert_eq!(tell(value, 0), None, "{value}");
        }
    }
}
