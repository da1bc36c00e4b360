//! A presented credential: what it is, and the key that it is recognised by.
//!
//! Nothing is verified: a mock does not authenticate. A token is read within bounds, and only its claims matter; whatever cannot be read is
//! an opaque text. Keys are digests, so that no credential is kept.

use std::{borrow::Cow, ops::Range};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiter::{Jiter, Peek};

use crate::jwt;

/// Longer tokens are opaque.
const MAX_TOKEN: usize = 64 * 1024;

/// What a credential is recognised by.
pub(crate) type Key = [u8; 16];

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential<'v> {
    /// A JWT, as far as its look tells.
    Jwt(Cow<'v, [u8]>),
    /// A token, key or session id that says nothing of itself.
    Opaque(Cow<'v, [u8]>),
    /// Somebody who names himself.
    User(String),
}

/// A digest with a domain of its own.
pub(super) fn key(domain: u8, parts: &[&[u8]]) -> Key {
    let mut hash = blake3::Hasher::new();
    hash.update(&[domain]);
    for part in parts {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    short(&hash)
}

fn short(hash: &blake3::Hasher) -> Key {
    hash.finalize().as_bytes().first_chunk::<16>().copied().unwrap_or_default()
}

/// The key of an opaque text.
pub(super) fn opaque_key(text: &[u8]) -> Key {
    key(b'o', &[text])
}

/// The key of a user's name.
pub(super) fn user_key(name: &str) -> Key {
    key(b'u', &[name.as_bytes()])
}

/// The key of a session that a chain has named.
pub(super) fn session_key(name: &[u8]) -> Key {
    key(b's', &[name])
}

/// The value of `Authorization`.
pub(super) fn authorization(value: &[u8]) -> Option<Credential<'_>> {
    let value = value.trim_ascii();
    let Some((scheme, rest)) = scheme(value) else { return bare(value) };
    if scheme.eq_ignore_ascii_case(b"basic") {
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        return Some(Credential::User(text.split(':').next()?.to_owned()));
    }
    if scheme.eq_ignore_ascii_case(b"digest") {
        let text = std::str::from_utf8(rest).ok()?;
        let name = text.split(',').find_map(|part| part.trim().strip_prefix("username="))?;
        return Some(Credential::User(name.trim_matches('"').to_owned()));
    }
    bare(rest)
}

/// Any other value: a JWT, or an opaque text where the name says that it is a credential.
pub(super) fn named<'v>(value: &'v [u8], is_credential: bool) -> Option<Credential<'v>> {
    let value = value.trim_ascii();
    let inner = scheme(value).map_or(value, |(_, rest)| rest);
    if is_jwt(inner) {
        return Some(Credential::Jwt(inner.into()));
    }
    (is_credential && !inner.is_empty() && !inner.contains(&b' '))
        .then(|| Credential::Opaque(inner.into()))
}

fn bare(value: &[u8]) -> Option<Credential<'_>> {
    named(value, true)
}

impl Credential<'_> {
    /// The same with a copy of its text.
    pub(super) fn into_owned(self) -> Credential<'static> {
        match self {
            Self::Jwt(text) => Credential::Jwt(Cow::Owned(text.into_owned())),
            Self::Opaque(text) => Credential::Opaque(Cow::Owned(text.into_owned())),
            Self::User(name) => Credential::User(name),
        }
    }

    /// What it is, in words that give nothing away. `now` is in nanoseconds since the epoch.
    pub(crate) fn tell(&self, now: i64) -> String {
        match self {
            Self::User(name) => format!("the user {name}"),
            Self::Opaque(_) => "an opaque token, key or session id".to_owned(),
            Self::Jwt(token) => jwt::describe(token, now)
                .unwrap_or_else(|| "a token that cannot be read".to_owned()),
        }
    }
}

/// A word and what stands behind it.
fn scheme(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (word, rest) = value.split_at_checked(end)?;
    (!word.is_empty() && word.iter().all(u8::is_ascii_alphabetic))
        .then(|| (word, rest.trim_ascii()))
}

/// Whether a name tells of a credential. Tokens against forgery, of pages and of devices come and go while their user stays.
pub(super) fn names_credential(name: &str) -> bool {
    const NOT: [&str; 16] = [
        "csrf", "xsrf", "nonce", "state", "type", "page", "next", "sync", "cursor", "device",
        "push", "request", "idempot", "expire", "captcha", "count",
    ];
    const YES: [&str; 9] = [
        "apikey",
        "token",
        "session",
        "sessid",
        "connectsid",
        "jwt",
        "accesskey",
        "credential",
        "assertion",
    ];
    let bare: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    // Most names are no credential's, so that is asked first.
    let any = |words: &[&str]| words.iter().any(|word| bare.contains(word));
    (bare.ends_with("sid") || bare.ends_with("auth") || any(&YES)) && !any(&NOT)
}

/// Whether a byte may stand in a token.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Whether a text looks like a JWS: three parts, of which the first begins like a JOSE header.
pub(super) fn is_jwt(text: &[u8]) -> bool {
    text.starts_with(b"eyJ")
        && text.len() <= MAX_TOKEN
        && text.iter().filter(|byte| **byte == b'.').count() == 2
        && text.iter().copied().all(is_token_byte)
}

/// The claims of a token, JSON.
pub(crate) fn claims_of(token: &[u8]) -> Option<Vec<u8>> {
    if !is_jwt(token) {
        return None;
    }
    let part = token.split(|byte| *byte == b'.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(part).ok()?;
    (claims.first() == Some(&b'{') && std::str::from_utf8(&claims).is_ok()).then_some(claims)
}

/// Tells of each claim that `wanted` gives a number to: the number, what kind of value it has, and where. `None` when the claims are no
/// JSON object.
pub(super) fn walk(
    claims: &[u8],
    mut wanted: impl FnMut(&str) -> Option<usize>,
    mut on: impl FnMut(usize, Peek, Range<usize>),
) -> Option<()> {
    let mut reader = Jiter::new(claims);
    let mut next = reader.next_object().ok()?.map(&mut wanted);
    while let Some(number) = next {
        let peek = reader.peek().ok()?;
        let start = reader.current_index();
        reader.known_skip(peek).ok()?;
        if let Some(number) = number {
            on(number, peek, start..reader.current_index());
        }
        next = reader.next_key().ok()?.map(&mut wanted);
    }
    reader.finish().ok()
}

/// A value in the form that is compared: a string without its escapes, anything else as written.
pub(super) fn plain(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.first() == Some(&b'"')
        && raw.contains(&b'\\')
        && let Ok(text) = serde_json::from_slice::<String>(raw)
    {
        return Cow::Owned([b"\"", text.as_bytes(), b"\""].concat());
    }
    Cow::Borrowed(raw)
}

/// The claims that some purpose has chosen, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chosen(pub(super) Vec<String>);

impl Chosen {
    /// The key of a token's claims; `None` when they cannot be read, or have one of these names twice.
    pub(super) fn key(&self, domain: u8, claims: &[u8]) -> Option<Key> {
        let mut spans: Vec<Option<Range<usize>>> = vec![None; self.0.len()];
        let mut twice = false;
        walk(
            claims,
            |name| self.0.iter().position(|chosen| chosen == name),
            |nth, _, span| {
                if let Some(place) = spans.get_mut(nth) {
                    twice |= place.replace(span).is_some();
                }
            },
        )?;
        if twice {
            return None;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(&[domain]);
        for span in spans {
            // A claim that is absent is not one that is empty.
            let Some(raw) = span.and_then(|span| claims.get(span)) else {
                hash.update(&[0]);
                continue;
            };
            let value = plain(raw);
            hash.update(&[1]);
            hash.update(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(&value);
        }
        Some(short(&hash))
    }

    /// The claims and their values, in words.
    pub(super) fn tell(&self, claims: &[u8]) -> String {
        let mut told: Vec<(usize, String)> = Vec::new();
        let read = walk(
            claims,
            |name| self.0.iter().position(|chosen| chosen == name),
            |nth, _, span| {
                let raw = plain(claims.get(span).unwrap_or_default());
                let text = String::from_utf8_lossy(&raw);
                let text: String = text.trim_matches('"').chars().take(64).collect();
                let name = self.0.get(nth).map_or("", String::as_str);
                told.push((nth, format!("{name}={text}")));
            },
        );
        told.sort();
        if read.is_none() || told.is_empty() {
            return "a token without telling claims".to_owned();
        }
        told.into_iter().map(|claim| claim.1).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
