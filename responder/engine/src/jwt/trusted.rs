//! Verifying tokens of somebody who is trusted, with the keys that they publish: who calls a control plane is decided here, unlike on the request path,
//! where signatures are looked at to explain misses only.
//!
//! The key decides what it verifies, an allow-list bounds that, and the token's `alg` only selects among both. A token is read as strictly as one that is
//! re-signed: nothing twice, no critical extensions, no JWE. `jku`, `x5u` and `jwk` in a token are not looked at.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    alg::Alg,
    key::PublicKey,
    token::{Token, TokenError},
};

/// Keys of a set that are looked at.
const MAX_KEYS: usize = 64;

/// Keys that somebody publishes (RFC 7517, section 5).
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<Trusted>,
}

#[derive(Debug, Clone)]
struct Trusted {
    kid: Option<String>,
    alg: Option<Alg>,
    key: PublicKey,
}

/// Why a key set is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or without keys.
    #[error("it is no JSON object with an array `keys`")]
    Malformed,
    /// Too many.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// Nothing that verifies.
    #[error("none of its keys verifies tokens")]
    Empty,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistrustError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Token(#[from] TokenError),
    /// Its algorithm is none of those that are allowed.
    #[error("its alg is {0}, which is not among those that are allowed")]
    Alg(&'static str),
    /// It names a key that is not there.
    #[error("it names a key that is not published")]
    UnknownKey,
    /// It names none, and several would do.
    #[error("it names no key, and there are several")]
    Unnamed,
    /// The key that it names is not for its algorithm.
    #[error("the key that it names is not for {0}")]
    Mismatch(&'static str),
    /// The signature is not the key's.
    #[error("its signature is not of the key that it names")]
    Signature,
}

impl TrustedKeys {
    /// Reads a key set. Keys that verify nothing that we know are passed over, as are those for encryption.
    ///
    /// # Errors
    /// When none is left, or it is no key set at all.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let set: Value = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Trusted> = listed.iter().filter_map(trusted).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self { keys })
    }

    /// The claims of a token that one of these keys has signed. Who it is of, for whom and until when is not looked at.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn claims(
        &self,
        token: &str,
        allowed: &[Alg],
    ) -> Result<Map<String, Value>, DistrustError> {
        let read = Token::parse(token.as_bytes())?;
        let alg = read.alg;
        if !allowed.contains(&alg) {
            return Err(DistrustError::Alg(alg.as_str()));
        }
        let key = self.key(&read, alg)?;
        let (message, signature) = token.rsplit_once('.').ok_or(DistrustError::Signature)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| DistrustError::Signature)?;
        if !key.has_signed(alg, message.as_bytes(), &signature) {
            return Err(DistrustError::Signature);
        }
        let malformed = |_| TokenError::Malformed("its claims are no JSON object");
        Ok(serde_json::from_slice(&read.claims).map_err(malformed)?)
    }

    /// The one key that may have signed a token.
    fn key(&self, token: &Token, alg: Alg) -> Result<&PublicKey, DistrustError> {
        let fits = |trusted: &&Trusted| {
            trusted.key.verifies(alg) && trusted.alg.is_none_or(|only| only == alg)
        };
        if let Some(kid) = kid(token)? {
            let named = self.keys.iter().filter(|trusted| trusted.kid.as_ref() == Some(&kid));
            let named: Vec<&Trusted> = named.collect();
            if named.is_empty() {
                return Err(DistrustError::UnknownKey);
            }
            let found = named.into_iter().find(fits);
            return found.map(|trusted| &trusted.key).ok_or(DistrustError::Mismatch(alg.as_str()));
        }
        let mut fitting = self.keys.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(&only.key),
            (None, _) => Err(DistrustError::UnknownKey),
            (Some(_), Some(_)) => Err(DistrustError::Unnamed),
        }
    }
}

/// The key that a token names; what is no string names none that could be published.
fn kid(token: &Token) -> Result<Option<String>, DistrustError> {
    let Some(member) = token.header_members.iter().find(|member| member.name == "kid") else {
        return Ok(None);
    };
    let text = token.header.get(member.value.clone());
    let text = text.and_then(|raw| serde_json::from_slice::<String>(raw).ok());
    text.map(Some).ok_or(DistrustError::UnknownKey)
}

/// A key of a set, if it is for signatures of ours.
fn trusted(jwk: &Value) -> Option<Trusted> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let is_for_signatures = jwk.get("use").is_none_or(|usage| usage == "sig");
    let verifies = |ops: &Value| {
        ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"))
    };
    if !is_for_signatures || !jwk.get("key_ops").is_none_or(verifies) {
        return None;
    }
    let alg = match jwk.get("alg") {
        Some(named) => Some(named.as_str().and_then(Alg::parse)?),
        None => None,
    };
    let key = PublicKey::of_jwk(jwk)?;
    Some(Trusted { kid: text("kid").map(str::to_owned), alg, key })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests may read files")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jwt::key::SigningKey;

    fn vector(name: &str) -> SigningKey {
        let path = format!("{}/src/jwt/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        SigningKey::parse(&std::fs::read(path).unwrap()).unwrap()
    }

    fn token(key: &SigningKey, alg: Alg, header: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(&json!({"sub": "anna"})));
        let mut signature = Vec::new();
        key.sign(alg, message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn published(key: &SigningKey, kid: &str) -> Value {
        PublicKey::of(key).unwrap().published(kid, &[])
    }

    fn set(keys: &[Value]) -> TrustedKeys {
        TrustedKeys::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_key_verifies_its_own_tokens() {
        for (name, alg) in [
            ("rfc7515-a2.pem", Alg::Rs256),
            ("rfc7515-a2.pem", Alg::Ps512),
            ("rfc7515-a3.pem", Alg::Es256),
            ("rfc7515-a4.pem", Alg::Es512),
            ("rfc8037-a1.pem", Alg::EdDsa),
        ] {
            let key = vector(name);
            let header = json!({"alg": alg.as_str(), "kid": "one"});
            let keys = set(&[published(&key, "one")]);
            let claims = keys.claims(&token(&key, alg, &header), &Alg::ALL).unwrap();
            assert_eq!(claims.get("sub"), Some(&json!("anna")), "{name}");
        }
    }

    #[test]
    fn whatever_else_a_token_says_it_is_not_believed() {
        let (key, other) = (vector("rfc7515-a3.pem"), vector("p256-other.pem"));
        let keys = set(&[published(&key, "one"), published(&other, "two")]);
        let refused = |key: &SigningKey, header: Value| {
            keys.claims(&token(key, Alg::Es256, &header), &[Alg::Es256, Alg::Rs256]).unwrap_err()
        };
        let es256 = |kid: &str| json!({"alg": "ES256", "kid": kid});
        assert_eq!(refused(&key, es256("two")), DistrustError::Signature);
        assert_eq!(refused(&other, es256("one")), DistrustError::Signature);
        assert_eq!(refused(&key, es256("three")), DistrustError::UnknownKey);
        assert_eq!(refused(&key, json!({"alg": "ES256", "kid": 1})), DistrustError::UnknownKey);
        assert_eq!(refused(&key, json!({"alg": "ES256"})), DistrustError::Unnamed);
        let rs256 = json!({"alg": "RS256", "kid": "one"});
        assert_eq!(refused(&key, rs256), DistrustError::Mismatch("RS256"));
        let hs256 = json!({"alg": "HS256", "kid": "one"});
        assert_eq!(refused(&key, hs256), DistrustError::Alg("HS256"));
        for header in [
            json!({"alg": "none", "kid": "one"}),
            json!({"kid": "one"}),
            json!({"alg": "ES256", "kid": "one", "crit": ["x"]}),
        ] {
            assert!(matches!(refused(&key, header), DistrustError::Token(_)));
        }
        let embedded = json!({"alg": "ES256", "kid": "x", "jwk": published(&key, "x")});
        assert_eq!(refused(&key, embedded), DistrustError::UnknownKey);
        let good = token(&key, Alg::Es256, &es256("one"));
        let (message, _) = good.rsplit_once('.').unwrap();
        let unsigned = keys.claims(&format!("{message}."), &Alg::ALL).unwrap_err();
        assert!(matches!(unsigned, DistrustError::Token(_)));
    }

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let key = vector("rfc7515-a3.pem");
        let with = |name: &str, value: Value| {
            let mut jwk = published(&key, "one");
            jwk[name] = value;
            TrustedKeys::parse(json!({"keys": [jwk]}).to_string().as_bytes())
        };
        assert!(with("key_ops", json!(["verify"])).is_ok());
        for (name, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("alg", json!("ECDH-ES")),
            ("alg", json!(5)),
            ("kty", json!("oct")),
            ("crv", json!("secp256k1")),
            ("x", json!("AA")),
            ("x", json!(null)),
        ] {
            assert_eq!(
                with(name, value.clone()).unwrap_err(),
                KeySetError::Empty,
                "{name} {value}"
            );
        }
        let named = with("alg", json!("ES256")).unwrap();
        let good = token(&key, Alg::Es256, &json!({"alg": "ES256", "kid": "one"}));
        assert!(named.claims(&good, &[Alg::Es256]).is_ok());
        let parse = |text: &str| TrustedKeys::parse(text.as_bytes()).unwrap_err();
        for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
            assert_eq!(parse(text), KeySetError::Malformed, "{text}");
        }
        let many = json!({"keys": vec![json!({}); MAX_KEYS + 1]}).to_string();
        assert_eq!(parse(&many), KeySetError::TooMany);
    }
}
