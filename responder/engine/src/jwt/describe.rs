//! Tokens in words that give nothing away.

use serde_json::Value;

use super::token::Token;

/// Claims that tell who a token is about.
const TOLD: [&str; 7] = ["iss", "sub", "aud", "uid", "client_id", "sid", "azp"];

/// What a token is and whom it is about, whatever its signature; `None` when it cannot be read. `now` is in nanoseconds since the epoch.
pub(crate) fn describe(token: &[u8], now: i64) -> Option<String> {
    let token = Token::parse(token).ok()?;
    let mut told = vec![format!("a JWT, alg {}", token.alg.as_str())];
    let header: Value = serde_json::from_slice(&token.header).unwrap_or_default();
    if let Some(kid) = header.get("kid").and_then(Value::as_str) {
        told.push(format!("kid {kid}"));
    }
    let claims: Value = serde_json::from_slice(&token.claims).unwrap_or_default();
    for name in TOLD {
        match claims.get(name) {
            Some(Value::String(text)) => told.push(format!("{name} {text}")),
            Some(other) => told.push(format!("{name} {other}")),
            None => {}
        }
    }
    if let Some(exp) = claims.get("exp").and_then(Value::as_i64) {
        let left = exp.saturating_sub(now.div_euclid(1_000_000_000));
        let time = distance(left.unsigned_abs());
        told.push(if left < 0 {
            format!("expired {time} ago")
        } else {
            format!("valid for {time}")
        });
    }
    Some(told.join(", "))
}

/// A time span in the unit that people would take.
pub(crate) fn distance(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_without_giving_anything_away() {
        // {"alg":"HS256","kid":"k1"} . {"sub":"a","exp":1700000060}
        let token = b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJhIiwiZXhwIjoxNzAwMDAwMDYwfQ.c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U";
        let tell = |seconds: i64| describe(token, seconds * 1_000_000_000).unwrap();
        assert_eq!(tell(1_700_000_000), "a JWT, alg HS256, kid k1, sub a, valid for 60 s");
        assert_eq!(tell(1_700_000_090), "a JWT, alg HS256, kid k1, sub a, expired 30 s ago");
        assert!(tell(1_700_000_250).ends_with("expired 3 min ago"));
        assert_eq!(describe(b"api.nasa.gov", 0), None);
        assert_eq!(distance(7_200), "2 h");
        assert_eq!(distance(400_000), "4 days");
    }
}
