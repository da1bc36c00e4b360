//! Introspection answers (RFC 7662): their times are those of the token that they are about.

use std::{collections::HashMap, ops::Range};

use crate::{
    body,
    compile::{Fill, Follows},
    identity::claims_of,
    json::{self, Kind},
    jwt::TokenSlot,
    snapshot::RrPair,
};

/// A recorded introspection of a JWT.
#[derive(Debug)]
pub(super) struct Introspection {
    /// The position of its response.
    pub(super) instance: usize,
    /// The claims of the token that was presented.
    claims: Vec<u8>,
}

impl Introspection {
    /// Reads the request of an answer that says `active`; `None` when it presents no JWT.
    pub(super) fn of(pair: &RrPair, instance: usize) -> Option<Self> {
        let request = pair.request.as_ref()?;
        let text = std::str::from_utf8(&request.body).ok()?;
        let (_, token) = body::pairs(text).find(|(name, _)| name == "token")?;
        Some(Self { instance, claims: claims_of(token.as_bytes())? })
    }

    /// Which times in the answer move with which token.
    pub(super) fn fills(
        &self,
        answer: &[u8],
        by_claims: &HashMap<&[u8], usize>,
        slots: &[TokenSlot],
    ) -> Vec<(Range<usize>, Fill)> {
        let Some(slot) = by_claims.get(self.claims.as_slice()).copied() else { return Vec::new() };
        let Some(times) = slots.get(slot).map(|token| token.times(0)) else { return Vec::new() };
        let start = answer.len() - answer.trim_ascii_start().len();
        let number = |name: &str| -> Option<(Range<usize>, String)> {
            let at = json::member(answer, start, name).filter(|at| at.kind == Kind::Number)?;
            let text = String::from_utf8(json::text(answer, &at)).ok()?;
            Some((at.span, text))
        };
        let mut fills = Vec::new();
        for (name, follows, recorded) in [
            ("exp", Follows::Expiry, times.recorded_exp),
            ("iat", Follows::Issue, times.recorded_iat),
        ] {
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
}
