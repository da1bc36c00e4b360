//! A slot: one recorded token, ready to be made current.

mod spoil;

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    alg::Alg,
    claims::Claims,
    config::{KeySource, ResignConfig},
    key::{KeyError, SigningKey},
    members::{self, Member},
    token::{Token, TokenError},
};
use crate::{json, token_world::Issuers};

const SHORT: &str = "the HMAC secret is shorter than the hash (RFC 7518, section 3.2)";

/// Everything of one recorded token that can be known before the moment and the key are.
#[derive(Clone)]
pub struct TokenSlot {
    config: Arc<ResignConfig>,
    alg: Alg,
    prefix: String,
    /// The JOSE header in base64url, with its dot.
    header: Vec<u8>,
    claims: Claims,
}

/// When a token was and is issued and expires, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as its claim")]
pub struct Times {
    pub iat: Option<i64>,
    pub exp: Option<i64>,
    pub recorded_iat: Option<i64>,
    pub recorded_exp: Option<i64>,
}

impl Times {
    /// How many seconds the recorded token lived.
    pub(crate) fn recorded_lifetime(&self) -> Option<i64> {
        self.recorded_exp?.checked_sub(self.recorded_iat?)
    }
}

impl TokenSlot {
    /// Takes a recorded token apart. `recorded_at`, in nanoseconds since the epoch, stands in for an `iat` that is missing.
    ///
    /// # Errors
    /// When it cannot be re-signed; it is then served as recorded.
    pub fn new(
        value: &[u8],
        config: &Arc<ResignConfig>,
        recorded_at: Option<i64>,
    ) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(value).map_err(|_| TokenError::NotAJwt)?;
        let prefix = config
            .prefixes
            .iter()
            .find(|prefix| text.starts_with(prefix.as_str()))
            .map_or("", String::as_str);
        let token = Token::parse(text.strip_prefix(prefix).unwrap_or(text).as_bytes())?;
        if config.match_alg.is_some_and(|wanted| wanted != token.alg) {
            return Err(TokenError::AlgFiltered);
        }
        let claims = Claims::new(&token, config, recorded_at);
        let mut header = Vec::new();
        push_base64(&self::header(&token, config), &mut header);
        header.push(b'.');
        Ok(Self {
            alg: config.alg.unwrap_or(token.alg),
            prefix: prefix.to_owned(),
            header,
            claims,
            config: Arc::clone(config),
        })
    }

    /// Appends the current token, prefix and all. `now` is in seconds since the epoch.
    ///
    /// # Errors
    /// When the key cannot sign it. Nothing is appended then.
    pub fn render(&self, now: i64, key: &SigningKey, out: &mut Vec<u8>) -> Result<(), KeyError> {
        self.render_with(now, key, None, out)
    }

    /// The same with another JOSE header, in base64url with its dot, as [`Self::header_named`] gives it.
    pub(crate) fn render_with(
        &self,
        now: i64,
        key: &SigningKey,
        header: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        if !self.config.allow_weak_keys && key.is_short(self.alg, self.config.trim_newline) {
            return Err(KeyError::Weak(SHORT));
        }
        let start = out.len();
        out.extend_from_slice(self.prefix.as_bytes());
        let signed_from = out.len();
        out.extend_from_slice(header.unwrap_or(&self.header));
        let mut scratch = Vec::with_capacity(self.claims.recorded().len() + 32);
        self.claims.render(now, &mut scratch);
        push_base64(&scratch, out);
        scratch.clear();
        let message = out.get(signed_from..).unwrap_or_default();
        let signed = if self.config.trim_newline {
            key.sign_trimmed(self.alg, message, &mut scratch)
        } else {
            key.sign(self.alg, message, &mut scratch)
        };
        if signed.is_err() {
            out.truncate(start);
            return signed;
        }
        out.push(b'.');
        push_base64(&scratch, out);
        Ok(())
    }

    /// The current token as it would be signed, with `signature` in the place of the JWS signature.
    pub(crate) fn render_unsigned(&self, now: i64, signature: &str) -> Vec<u8> {
        let mut out = self.prefix.clone().into_bytes();
        out.extend_from_slice(&self.header);
        let mut claims = Vec::with_capacity(self.claims.recorded().len() + 32);
        self.claims.render(now, &mut claims);
        push_base64(&claims, &mut out);
        out.push(b'.');
        out.extend_from_slice(signature.as_bytes());
        out
    }

    /// When the token was and is issued and expires.
    #[must_use]
    pub fn times(&self, now: i64) -> Times {
        let (iat, exp) = (self.claims.iat, self.claims.exp);
        Times {
            iat: iat.at(now),
            exp: exp.at(now),
            recorded_iat: iat.recorded(),
            recorded_exp: exp.recorded(),
        }
    }

    /// By how many seconds the token lives longer than the recorded one; `None` when that depends on the moment or is not known.
    #[must_use]
    pub fn lifetime_change(&self) -> Option<i64> {
        self.claims.lifetime_change()
    }

    /// The recorded issuer.
    pub(crate) fn recorded_issuer(&self) -> Option<String> {
        self.claims.recorded_text("iss")
    }

    /// Names another issuer if the recorded one is called otherwise and no chain says what it is.
    pub(crate) fn issued_by(&mut self, issuers: &Issuers) {
        if issuers.is_empty() || self.config.claims.iter().any(|(name, _)| name == "iss") {
            return;
        }
        if let Some(new) = self.recorded_issuer().and_then(|recorded| issuers.of(&recorded)) {
            self.claims.put("iss", json::quote(new));
        }
    }

    /// The JOSE header in base64url with its dot: as recorded but for what is configured.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// The JOSE header with a `kid` that a key set has for the key, in base64url with its dot; `None` where one is configured, which stays.
    pub(crate) fn header_named(&self, kid: &str) -> Option<Vec<u8>> {
        if self.config.kid.is_some() {
            return None;
        }
        let header = self.header_json()?;
        let members = members::of(&header).ok()?;
        // They name the recorded key, as a `kid` does, and would lead verifiers to it.
        let header = without(header, &members, &["x5t", "x5t#S256", "x5c", "x5u", "jwk"]);
        let members = members::of(&header).ok()?;
        let mut out = Vec::with_capacity(self.header.len() + 64);
        push_base64(&with_members(&header, &members, &[("kid", Some(kid))]), &mut out);
        out.push(b'.');
        Some(out)
    }

    /// The JOSE header, a JSON object: as recorded but for what is configured.
    pub(crate) fn header_json(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.header.strip_suffix(b".")?).ok()
    }

    /// The `kid` that is configured for it.
    pub(crate) fn configured_kid(&self) -> Option<&str> {
        self.config.kid.as_deref()
    }

    /// Where its key comes from.
    #[must_use]
    pub fn secret(&self) -> &KeySource {
        &self.config.secret
    }

    /// The algorithm that it is signed with.
    #[must_use]
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// Why the key is not signed with, although it could be: it is shorter than the hash, and the config does not allow that.
    #[must_use]
    pub fn shortage(&self, key: &SigningKey) -> Option<String> {
        if self.config.allow_weak_keys {
            return None;
        }
        key.shortage(self.alg, self.config.trim_newline)
    }

    /// Why the key is a poor choice for this token under its config, if it is.
    #[must_use]
    pub fn weakness(&self, key: &SigningKey) -> Option<String> {
        if self.config.trim_newline {
            key.weakness_trimmed(self.alg)
        } else {
            key.weakness(self.alg)
        }
    }

    /// The recorded claims, a JSON object.
    #[must_use]
    pub fn recorded_claims_json(&self) -> &[u8] {
        self.claims.recorded()
    }
}

/// No byte of the token is shown.
impl fmt::Debug for TokenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSlot")
            .field("alg", &self.alg)
            .field("secret", &self.config.secret)
            .finish_non_exhaustive()
    }
}

fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = base64::encoded_len(bytes.len(), false).unwrap_or_default();
    out.resize(start + length, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, room);
    debug_assert_eq!(written, Ok(length), "the room is what base64 needs");
}

/// The recorded header with `alg` and `kid` as configured.
fn header(token: &Token, config: &ResignConfig) -> Vec<u8> {
    let configured = [("alg", config.alg.map(Alg::as_str)), ("kid", config.kid.as_deref())];
    with_members(&token.header, &token.header_members, &configured)
}

/// A header without some members; as it is when it has none of them.
fn without(header: Vec<u8>, members: &[Member], names: &[&str]) -> Vec<u8> {
    let is_named = |member: &&Member| names.contains(&member.name.as_str());
    if !members.iter().any(|member| is_named(&member)) {
        return header;
    }
    let kept: Vec<Vec<u8>> = members
        .iter()
        .filter(|member| !is_named(member))
        .map(|member| {
            let value = header.get(member.value.clone()).unwrap_or_default();
            [&json::quote(&member.name), b":".as_slice(), value].concat()
        })
        .collect();
    [b"{".as_slice(), &kept.join(&b','), b"}"].concat()
}

/// A header with other values for some members, which are added where they are missing.
fn with_members(header: &[u8], members: &[Member], values: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut edits = Vec::new();
    let mut missing = Vec::new();
    for (name, value) in values {
        let Some(value) = value else { continue };
        match members.iter().find(|member| member.name == *name) {
            Some(member) => edits.push((member.value.clone(), json::quote(value))),
            None => missing
                .push([b",".as_slice(), &json::quote(name), b":", &json::quote(value)].concat()),
        }
    }
    // A header that was parsed has an `alg`, so a new member follows another one.
    if let Some(brace) = header.iter().rposition(|byte| *byte == b'}')
        && !missing.is_empty()
    {
        edits.push((brace..brace, missing.concat()));
    }
    edits.sort_by_key(|edit| edit.0.start);
    json::replace(header, &edits)
}

#[cfg(test)]
mod tests;
