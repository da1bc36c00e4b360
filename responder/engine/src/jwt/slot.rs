//! A slot: one recorded token, ready to be made current.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    alg::Alg,
    claims::Claims,
    config::{KeySource, ResignConfig},
    key::{KeyError, SigningKey},
    token::{Token, TokenError},
};
use crate::json;

/// Everything of one recorded token that can be known before the moment and the key are.
#[derive(Debug, Clone)]
pub struct TokenSlot {
    config: Arc<ResignConfig>,
    alg: Alg,
    prefix: String,
    /// The JOSE header in base64url, with its dot.
    header: String,
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
        if config.match_alg.as_deref().is_some_and(|wanted| Alg::parse(wanted) != Some(token.alg)) {
            return Err(TokenError::AlgFiltered);
        }
        let claims =
            Claims::new(&token, config, recorded_at.map(|nanos| nanos.div_euclid(1_000_000_000)));
        let mut header = String::new();
        URL_SAFE_NO_PAD.encode_string(self::header(&token, config), &mut header);
        header.push('.');
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
        let start = out.len();
        out.extend_from_slice(self.prefix.as_bytes());
        let signed_from = out.len();
        let mut token = self.header.clone();
        let mut scratch = Vec::with_capacity(self.claims.recorded().len() + 32);
        self.claims.render(now, &mut scratch);
        URL_SAFE_NO_PAD.encode_string(&scratch, &mut token);
        out.extend_from_slice(token.as_bytes());
        scratch.clear();
        let trimmed = if self.config.trim_newline { key.trimmed() } else { None };
        let message = out.get(signed_from..).unwrap_or_default();
        if let Err(why) = trimmed.as_ref().unwrap_or(key).sign(self.alg, message, &mut scratch) {
            out.truncate(start);
            return Err(why);
        }
        token.clear();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&scratch, &mut token);
        out.extend_from_slice(token.as_bytes());
        Ok(())
    }

    /// When the token was and is issued and expires.
    #[must_use]
    pub fn times(&self, now: i64) -> Times {
        let (iat, exp) = (self.claims.iat, self.claims.exp);
        Times {
            iat: iat.map(|moment| moment.at(now)),
            exp: exp.map(|moment| moment.at(now)),
            recorded_iat: iat.and_then(|moment| moment.recorded),
            recorded_exp: exp.and_then(|moment| moment.recorded),
        }
    }

    /// By how many seconds the token lives longer than the recorded one; `None` when that depends on the moment or is not known.
    #[must_use]
    pub fn lifetime_change(&self) -> Option<i64> {
        let lifetime = |now| {
            let times = self.times(now);
            let iat = times.iat.unwrap_or(now);
            Some(times.exp?.saturating_sub(iat))
        };
        let times = self.times(0);
        let recorded = match (times.recorded_exp, times.recorded_iat) {
            (Some(exp), Some(iat)) => exp.saturating_sub(iat),
            // Without `iat` the lifetime is the same unless it is given anew, and what it was is not known.
            _ => return None,
        };
        let (first, second) = (lifetime(0)?, lifetime(1_000_000)?);
        (first == second).then(|| first.saturating_sub(recorded))
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

    /// The recorded claims, a JSON object.
    #[must_use]
    pub fn recorded_claims_json(&self) -> &[u8] {
        self.claims.recorded()
    }
}

/// The recorded header with `alg` and `kid` as configured.
fn header(token: &Token, config: &ResignConfig) -> Vec<u8> {
    let mut edits = Vec::new();
    let mut missing = Vec::new();
    for (name, value) in [("alg", config.alg.map(Alg::as_str)), ("kid", config.kid.as_deref())] {
        let Some(value) = value else { continue };
        match token.header_members.iter().find(|member| member.name == name) {
            Some(member) => edits.push((member.value.clone(), json::quote(value))),
            None => missing
                .push([b",".as_slice(), &json::quote(name), b":", &json::quote(value)].concat()),
        }
    }
    // A header that was parsed has an `alg`, so a new member follows another one.
    if let Some(brace) = token.header.iter().rposition(|byte| *byte == b'}')
        && !missing.is_empty()
    {
        edits.push((brace..brace, missing.concat()));
    }
    edits.sort_by_key(|edit| edit.0.start);
    json::replace(&token.header, &edits)
}

#[cfg(test)]
mod tests;
