//! Verifying tokens of somebody who is trusted, with the keys that they publish: who calls a control plane is decided here, unlike on the request path,
//! where signatures are looked at to explain misses only.
//!
//! The key decides what it verifies, an allow-list bounds that, and the token's `alg` only selects among both. A token is read as strictly as one that is
//! re-signed: nothing twice, no critical extensions, no JWE. `jku`, `x5u` and `jwk` in a token are not looked at.

use serde_json::{Map, Value};

use super::{
    alg::Alg,
    key::PublicKey,
    members,
    token::{Jws, TokenError},
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
    /// Several keys have the name and would do.
    #[error("it names a key that stands twice in the key set")]
    Twice,
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
        let jws = self.verified(token, allowed)?;
        // A member twice, or what is too deep, is refused here.
        members::of(&jws.payload)?;
        let malformed = |_| TokenError::Malformed("its claims are no JSON object");
        Ok(serde_json::from_slice(&jws.payload).map_err(malformed)?)
    }

    /// A token that one of these keys has signed, whatever it says.
    fn verified<'t>(&self, token: &'t str, allowed: &[Alg]) -> Result<Jws<'t>, DistrustError> {
        let jws = Jws::parse(token.as_bytes())?;
        if !allowed.contains(&jws.alg) {
            return Err(DistrustError::Alg(jws.alg.as_str()));
        }
        if !self.key(&jws)?.has_signed(jws.alg, jws.message, &jws.signature) {
            return Err(DistrustError::Signature);
        }
        Ok(jws)
    }

    /// The one key that may have signed a token.
    fn key(&self, jws: &Jws<'_>) -> Result<&PublicKey, DistrustError> {
        let alg = jws.alg;
        let kid = kid(jws)?;
        let is_named = |trusted: &&Trusted| kid.is_none() || trusted.kid == kid;
        if !self.keys.iter().any(|trusted| is_named(&trusted)) {
            return Err(DistrustError::UnknownKey);
        }
        let mut fitting = self.keys.iter().filter(is_named).filter(|trusted| {
            trusted.key.verifies(alg) && trusted.alg.is_none_or(|only| only == alg)
        });
        let Some(Trusted { key, .. }) = fitting.next() else {
            let named = DistrustError::Mismatch(alg.as_str());
            return Err(if kid.is_some() { named } else { DistrustError::UnknownKey });
        };
        // One key may well stand there once for each of its algorithms.
        if fitting.any(|other| other.key != *key) {
            return Err(if kid.is_some() { DistrustError::Twice } else { DistrustError::Unnamed });
        }
        Ok(key)
    }
}

/// The key that a token names; what is no string names none that could be published.
fn kid(jws: &Jws<'_>) -> Result<Option<String>, DistrustError> {
    let Some(member) = jws.header_members.iter().find(|member| member.name == "kid") else {
        return Ok(None);
    };
    let text = jws.header.get(member.value.clone());
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
mod tests;
