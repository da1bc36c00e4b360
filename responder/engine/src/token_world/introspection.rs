//! Introspection answers (RFC 7662): their times are those of the token that they are about.

use std::{collections::HashMap, ops::Range};

use super::Issuers;
use crate::{
    body,
    compile::{Fill, Follows, recorded_second},
    identity::claims_of,
    json::{self, Kind},
    jwt::TokenSlot,
    snapshot::RrPair,
};

/// A recorded introspection of a token that is active.
#[derive(Debug)]
pub(super) struct Introspection {
    /// The position of its response.
    pub(super) instance: usize,
    subject: Subject,
}

/// The token that was presented.
#[derive(Debug)]
enum Subject {
    /// A JWT with these claims.
    Jwt(Vec<u8>),
    /// It says nothing of itself, so that its life is as old as the answer, which is of this second.
    Opaque(i64),
}

impl Introspection {
    /// Reads the request of an answer that says `active`; `None` when it presents no token.
    pub(super) fn of(pair: &RrPair, instance: usize) -> Option<Self> {
        let request = pair.request.as_ref()?;
        let text = std::str::from_utf8(&request.body).ok()?;
        let (_, token) = body::pairs(text).find(|(name, _)| name == "token")?;
        let subject = match claims_of(token.as_bytes()) {
            Some(claims) => Subject::Jwt(claims),
            None => Subject::Opaque(recorded_second(pair)?),
        };
        Some(Self { instance, subject })
    }

    /// What in the answer moves with the token, and the issuer if it has another one now.
    pub(super) fn fills(
        &self,
        answer: &[u8],
        by_claims: &HashMap<&[u8], usize>,
        slots: &[TokenSlot],
        issuers: &Issuers,
    ) -> Vec<(Range<usize>, Fill)> {
        let start = answer.len() - answer.trim_ascii_start().len();
        let member = |name: &str, kind: Kind| -> Option<(Range<usize>, String)> {
            let at = json::member(answer, start, name).filter(|at| at.kind == kind)?;
            let text = String::from_utf8(json::text(answer, &at)).ok()?;
            Some((at.span, text))
        };
        let mut fills = match &self.subject {
            Subject::Opaque(from) => ["exp", "iat", "nbf"]
                .into_iter()
                .filter_map(|name| member(name, Kind::Number))
                .map(|(span, text)| (span, Fill::Aged { text, from: *from }))
                .collect(),
            Subject::Jwt(claims) => match by_claims.get(claims.as_slice()) {
                Some(slot) => of_token(*slot, slots, |name| member(name, Kind::Number)),
                None => return Vec::new(),
            },
        };
        if let Some((span, text)) = member("iss", Kind::String)
            && let Some(new) = issuers.of(&text)
            && let Ok(quoted) = String::from_utf8(json::quote(new))
        {
            fills.push((span, Fill::Text(quoted)));
        }
        fills
    }
}

/// The times that are those of a token that is re-signed.
fn of_token(
    slot: usize,
    slots: &[TokenSlot],
    number: impl Fn(&str) -> Option<(Range<usize>, String)>,
) -> Vec<(Range<usize>, Fill)> {
    let Some(times) = slots.get(slot).map(|token| token.times(0)) else { return Vec::new() };
    let mut fills = Vec::new();
    for (name, follows, recorded) in
        [("exp", Follows::Expiry, times.recorded_exp), ("iat", Follows::Issue, times.recorded_iat)]
    {
        if let Some((span, text)) = number(name)
            && recorded.is_some_and(|recorded| text.parse() == Ok(recorded))
        {
            fills.push((span, Fill::Moment { slot, text, follows }));
        }
    }
    // Where neither end of its life is the token's, the answer speaks of something else.
    if !fills.is_empty()
        && let Some((span, text)) = number("nbf")
    {
        fills.push((span, Fill::Moment { slot, text, follows: Follows::Issue }));
    }
    fills
}
