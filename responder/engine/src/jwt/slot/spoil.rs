//! Unsound tokens: a sound one with exactly one thing wrong, so that a verifier has one reason to refuse it.
//!
//! What has to be made up comes from a seed. A signature of a foreign key is made of such bytes: without that key nobody can tell it from
//! one, and no foreign private key has to be kept anywhere.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Alg, SigningKey, TokenSlot, members, push_base64};
use crate::{
    json::{self, Kind},
    jwt::config::NUMERIC_DATES,
    token_fault::TokenFault,
};

/// So far from now are moments that are wrong. No verifier is that lenient.
const FAR: i64 = 3_600;
/// Names that nobody can have (RFC 6761, section 6.4).
const OTHER_AUDIENCE: &str = "https://audience.invalid";
const OTHER_ISSUER: &str = "https://issuer.invalid";

/// A token taken apart.
struct Sound<'t> {
    prefix: &'t [u8],
    /// JOSE header and claims as they stand in the token.
    header_part: &'t [u8],
    claims_part: &'t [u8],
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl TokenSlot {
    /// A token of this slot made unsound; `None` when this fault cannot be had of it, as confusion cannot where there is no public key.
    pub(crate) fn spoil(
        &self,
        sound: &[u8],
        key: &SigningKey,
        now: i64,
        fault: TokenFault,
        seed: u64,
    ) -> Option<Vec<u8>> {
        let sound = self.take_apart(sound)?;
        let with_claim = |name: &str, value: &str| {
            self.signed(&sound, &sound.header, &set(&sound.claims, name, value.as_bytes())?, key)
        };
        match fault {
            TokenFault::Expired => {
                self.signed(&sound, &sound.header, &ended(&sound.claims, now)?, key)
            }
            TokenFault::NotYetValid => {
                let claims = set(&sound.claims, "nbf", later(now, 1).as_bytes())?;
                // It must not have ended before it begins.
                let ends = number(&claims, "exp").filter(|ends| *ends <= now.saturating_add(FAR));
                let claims = match ends {
                    Some(_) => set(&claims, "exp", later(now, 2).as_bytes())?,
                    None => claims,
                };
                self.signed(&sound, &sound.header, &claims, key)
            }
            TokenFault::WrongAud => {
                let quoted = String::from_utf8(json::quote(OTHER_AUDIENCE)).ok()?;
                with_claim("aud", &quoted)
            }
            TokenFault::WrongIss => {
                let quoted = String::from_utf8(json::quote(OTHER_ISSUER)).ok()?;
                with_claim("iss", &quoted)
            }
            TokenFault::UnknownKid => {
                let [one, two, ..] = made_up(seed, sound.claims_part);
                let kid = json::quote(&format!("unknown-{one:02x}{two:02x}-{seed:x}"));
                self.signed(&sound, &set(&sound.header, "kid", &kid)?, &sound.claims, key)
            }
            TokenFault::WrongKey => {
                let signature = foreign(self.alg, seed, &sound);
                Some(sound.joined(sound.header_part, sound.claims_part, &signature))
            }
            TokenFault::BadSignature => {
                let mut signature = sound.signature.clone();
                let middle = signature.len() / 2;
                *signature.get_mut(middle)? ^= 1;
                Some(sound.joined(sound.header_part, sound.claims_part, &signature))
            }
            TokenFault::AlgNone => {
                let header = base64(&set(&sound.header, "alg", b"\"none\"")?);
                Some(sound.joined(&header, sound.claims_part, b""))
            }
            TokenFault::AlgConfusion => {
                let secret = key.public_pem()?;
                let header = base64(&set(&sound.header, "alg", b"\"HS256\"")?);
                let message = [&header, sound.claims_part].join(&b'.');
                let mac = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                let signature = hmac::sign(&mac, &message);
                Some(sound.joined(&header, sound.claims_part, signature.as_ref()))
            }
            TokenFault::Truncated => {
                let half = sound.claims_part.get(..sound.claims_part.len() / 2)?;
                Some([sound.prefix, sound.header_part, b".", half].concat())
            }
        }
    }

    fn take_apart<'t>(&self, token: &'t [u8]) -> Option<Sound<'t>> {
        let (prefix, token) = token.split_at_checked(self.prefix.len())?;
        let mut parts = token.split(|byte| *byte == b'.');
        let (header_part, claims_part, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Sound {
            prefix,
            header_part,
            claims_part,
            header: decode(header_part)?,
            claims: decode(claims_part)?,
            signature: decode(signature)?,
        })
    }

    /// The token with another header or other claims, signed as it should be.
    fn signed(
        &self,
        sound: &Sound<'_>,
        header: &[u8],
        claims: &[u8],
        key: &SigningKey,
    ) -> Option<Vec<u8>> {
        let (header, claims) = (base64(header), base64(claims));
        let message = [header.as_slice(), &claims].join(&b'.');
        let mut signature = Vec::new();
        if self.config.trim_newline {
            key.sign_trimmed(self.alg, &message, &mut signature).ok()?;
        } else {
            key.sign(self.alg, &message, &mut signature).ok()?;
        }
        Some(sound.joined(&header, &claims, &signature))
    }
}

impl Sound<'_> {
    fn joined(&self, header: &[u8], claims: &[u8], signature: &[u8]) -> Vec<u8> {
        let mut out = [self.prefix, header, b".", claims, b"."].concat();
        push_base64(signature, &mut out);
        out
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_base64(bytes, &mut out);
    out
}

/// A JSON object with this value for a member, which is added where it is missing.
fn set(object: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let members = members::of(object).ok()?;
    if let Some(member) = members.iter().find(|member| member.name == name) {
        return Some(json::replace(object, &[(member.value.clone(), value.to_vec())]));
    }
    let brace = object.iter().rposition(|byte| *byte == b'}')?;
    let comma: &[u8] = if members.is_empty() { b"" } else { b"," };
    let member = [comma, &json::quote(name), b":", value].concat();
    Some(json::replace(object, &[(brace..brace, member)]))
}

/// Whole seconds of a claim.
fn number(claims: &[u8], name: &str) -> Option<i64> {
    let members = members::of(claims).ok()?;
    let member = members.iter().find(|member| member.name == name)?;
    let text = std::str::from_utf8(claims.get(member.value.clone())?).ok()?;
    let text = if member.kind == Kind::String { text.trim_matches('"') } else { text };
    text.split('.').next()?.parse().ok()
}

fn later(now: i64, times: i64) -> String {
    now.saturating_add(FAR.saturating_mul(times)).to_string()
}

/// Claims of a token that ended a while ago and else lived as long as it should.
fn ended(claims: &[u8], now: i64) -> Option<Vec<u8>> {
    let end = now.saturating_sub(FAR);
    let Some(ends) = number(claims, "exp") else {
        return set(claims, "exp", end.to_string().as_bytes());
    };
    let earlier = ends.saturating_sub(end);
    NUMERIC_DATES.iter().try_fold(claims.to_vec(), |claims, name| match number(&claims, name) {
        Some(at) => set(&claims, name, at.saturating_sub(earlier).to_string().as_bytes()),
        None => Some(claims),
    })
}

fn made_up(seed: u64, of: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&seed.to_le_bytes()).update(of).finalize().as_bytes()
}

/// What a key that nobody knows leaves behind: bytes in the range that the algorithm's signatures have.
fn foreign(alg: Alg, seed: u64, sound: &Sound<'_>) -> Vec<u8> {
    let mut signature = vec![0; sound.signature.len()];
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes()).update(sound.header_part).update(b".");
    hash.update(sound.claims_part).finalize_xof().fill(&mut signature);
    let half = signature.len() / 2;
    // Numbers that are too large would be no signatures at all.
    let tops = match alg {
        Alg::Es256 | Alg::Es384 | Alg::Es512 => vec![0, half],
        Alg::EdDsa => vec![signature.len().saturating_sub(1)],
        _ => vec![0],
    };
    let keep = match alg {
        Alg::Es512 => 0x00,
        Alg::EdDsa => 0x0f,
        Alg::Hs256 | Alg::Hs384 | Alg::Hs512 => 0xff,
        _ => 0x7f,
    };
    for top in tops {
        if let Some(byte) = signature.get_mut(top) {
            *byte &= keep;
        }
    }
    signature
}

#[cfg(test)]
mod tests;
