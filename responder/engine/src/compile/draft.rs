//! Running response chains with stand-ins for tokens.
//!
//! A stand-in is a long decimal number that the response does not contain. It passes through JSON, strings, headers and patterns like a
//! token would, and is found again afterwards, wherever the chains have put it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    CompiledSnapshot, Fields, Known, Living, Way,
    expiry::{self, Ends},
    headers, name_of, run_on_response,
};
use crate::{
    answer::Spliced,
    diagnostic::{Diagnostic, Diagnostics},
    grpc,
    jwt::{ResignConfig, TokenError, TokenSlot},
    snapshot::{Header, RrPair, digest::Digest, header},
    transform::{
        Chain, Nature, Scope,
        message::Reply,
        op::{Effects, NoTokens, StepError},
    },
};

/// What a hole is filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fill {
    /// The current form of a token.
    Token(usize),
    /// A point in time that moves with a token.
    Moment { slot: usize, text: String, follows: Follows },
    /// A point in time that is as old as the recording, which is of this second.
    Aged { text: String, from: i64 },
    /// Always the same.
    Text(String),
}

/// Which claim a point in time moves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    Expiry,
    Issue,
}

/// The reply as its chains leave it when no token can be signed: chains with `jwt_resign` are skipped.
pub(super) fn without_tokens(
    chains: &[Chain],
    admitted: &[usize],
    reply: &Reply,
    scope: Scope,
) -> Reply {
    let mut plain = reply.clone();
    run_on_response(chains, admitted, &mut plain, &mut NoTokens { scope }, |_, _| {});
    plain
}

/// Running the chains of one response.
pub(super) struct Draft<'c> {
    mark: String,
    /// Tokens stay in their place, because later steps look at them and a stand-in has not their shape.
    probes: bool,
    recorded_at: Option<i64>,
    first_fill: usize,
    first_slot: usize,
    fills: &'c mut Vec<Fill>,
    slots: &'c mut Vec<TokenSlot>,
    known: Vec<Known>,
    scope: Scope,
}

impl Draft<'_> {
    /// Runs the chains; `None` when nothing in the reply is made anew.
    pub(super) fn run(
        compiled: &mut CompiledSnapshot,
        pair: &RrPair,
        admitted: &[usize],
        reply: &Reply,
        scope: Scope,
        found: &mut Diagnostics,
    ) -> Option<Living> {
        let chains = |of: &dyn Fn(&Chain) -> bool| {
            admitted.iter().filter_map(|nth| compiled.response_chains.get(*nth)).any(of)
        };
        // Within a message lengths are written down, which a hole would not change.
        let content_type = header(&reply.response.headers, "content-type");
        let call = content_type.is_some_and(|value| grpc::is_grpc(value));
        let per_request = compiled.learns || chains(&|chain| chain.nature() == Nature::PerRequest);
        let mut draft = Draft {
            mark: unused_number(reply),
            probes: call || per_request || chains(&Chain::looks_at_its_token),
            recorded_at: pair.ts,
            first_fill: compiled.fills.len(),
            first_slot: compiled.slots.len(),
            fills: &mut compiled.fills,
            slots: &mut compiled.slots,
            known: Vec::new(),
            scope,
        };
        let mut marked = reply.clone();
        run_on_response(
            &compiled.response_chains,
            admitted,
            &mut marked,
            &mut draft,
            |chain, why| {
                // A chain that does not concern a response says so quietly; a token that cannot be re-signed is worth a warning.
                let at = chain.path.clone();
                let message = format!("the chain is skipped: {why}");
                let finding = match why.code {
                    "not_json" | "path_not_found" | "alg_filtered" => {
                        Diagnostic::info(why.code, at, message)
                    }
                    // It may find what it looks for once it runs for a request.
                    _ if chain.nature() == Nature::PerRequest => {
                        Diagnostic::info(why.code, at, message)
                    }
                    _ => Diagnostic::warning(why.code, at, message),
                };
                found.push(finding.subject(name_of(pair)));
            },
        );
        let (mark, first_fill, first_slot) = (draft.mark, draft.first_fill, draft.first_slot);
        let (probed, known) = (draft.probes, draft.known);
        let tokens = u32::try_from(compiled.slots.len() - first_slot).unwrap_or(u32::MAX);
        if tokens == 0 && !per_request {
            return None;
        }
        let way = if probed {
            None
        } else {
            let subject = || name_of(pair);
            let way = splice(&mark, first_fill, compiled, marked, &subject, found);
            way.map(|way| tie(way, compiled, first_slot))
        };
        let way = way.unwrap_or_else(|| {
            if !per_request && !call {
                found.push(
                    Diagnostic::info(
                        "chain_per_request",
                        "",
                        "a re-signed token is worked on once more, so its chains run for each request",
                    )
                    .subject(name_of(pair)),
                );
            }
            Way::Dynamic {
                reply: Box::new(reply.clone()),
                chains: admitted.to_vec(),
                known,
                recorded_at: pair.ts,
            }
        });
        Some(Living { tokens, way })
    }
}

impl Effects for Draft<'_> {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            return Ok(Vec::new());
        }
        if contains(token, self.mark.as_bytes()) {
            return Err(StepError::new(
                "token_resigned_twice",
                "an earlier chain has re-signed this token already",
            ));
        }
        let slot =
            TokenSlot::new(token, config, self.recorded_at).map_err(|why| token_error(&why))?;
        if self.probes {
            self.known.push(Known {
                token: token.to_vec(),
                config: Arc::clone(config),
                slot: self.slots.len(),
            });
            self.slots.push(slot);
            return Ok(token.to_vec());
        }
        let fill = Fill::Token(self.slots.len());
        self.slots.push(slot);
        Ok(self.stand_in(fill))
    }

    fn resigned(&self) -> usize {
        self.slots.len()
    }

    fn forget(&mut self, resigned: usize) {
        self.slots.truncate(resigned);
        self.known.retain(|known| known.slot < resigned);
        let kept = self.fills.iter().rposition(|fill| match fill {
            Fill::Token(slot) | Fill::Moment { slot, .. } => *slot < resigned,
            Fill::Aged { .. } | Fill::Text(_) => true,
        });
        self.fills.truncate(kept.map_or(0, |last| last + 1));
    }

    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>> {
        let slot = self.slots.len().checked_sub(1).filter(|_| !self.probes)?;
        let token = self.slots.get(slot)?;
        if let Some(relative) = relative_validity(name, text, token) {
            return relative;
        }
        let follows = follows(name);
        moved(text, 0)?;
        Some(self.stand_in(Fill::Moment { slot, text: text.to_owned(), follows }))
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

impl Draft<'_> {
    fn stand_in(&mut self, fill: Fill) -> Vec<u8> {
        let text = format!("{}{:06}", self.mark, self.fills.len() - self.first_fill);
        self.fills.push(fill);
        text.into_bytes()
    }
}

/// Why a chain stops at a token.
pub(crate) fn token_error(why: &TokenError) -> StepError {
    StepError::new(why.code(), format!("jwt_resign: {why}"))
}

fn follows(name: &str) -> Follows {
    if name == "not_before" { Follows::Issue } else { Follows::Expiry }
}

/// `expires_in` and its kin, which are known before any request: `Some(None)` means that the value stays. `None` for points in time.
fn relative_validity(name: &str, text: &str, token: &TokenSlot) -> Option<Option<Vec<u8>>> {
    if !name.to_ascii_lowercase().replace('_', "").ends_with("expiresin") {
        return None;
    }
    let change = token.lifetime_change().unwrap_or(0);
    let new = text
        .trim()
        .parse::<i64>()
        .ok()
        .filter(|_| change != 0)
        .map(|seconds| seconds.saturating_add(change).max(0));
    Some(new.map(|seconds| seconds.to_string().into_bytes()))
}

/// The current form of what stands beside a token, for chains that run per request.
pub(crate) fn validity_now(name: &str, text: &str, token: &TokenSlot, now: i64) -> Option<Vec<u8>> {
    relative_validity(name, text, token)
        .unwrap_or_else(|| moved(text, shift(follows(name), token, now)).map(String::into_bytes))
}

impl Follows {
    /// The current form of a point in time.
    pub(crate) fn now(self, text: &str, token: &TokenSlot, now: i64) -> Option<String> {
        moved(text, shift(self, token, now))
    }
}

/// A point in time that was written then, as it is now.
pub(crate) fn aged(text: &str, from: i64, now: i64) -> Option<String> {
    moved(text, now.saturating_sub(from))
}

/// By how many seconds a claim of the token has moved.
fn shift(follows: Follows, token: &TokenSlot, now: i64) -> i64 {
    let times = token.times(now);
    let (new, recorded) = match follows {
        Follows::Expiry => (times.exp, times.recorded_exp),
        Follows::Issue => (times.iat, times.recorded_iat),
    };
    match (new, recorded) {
        (Some(new), Some(recorded)) => new.saturating_sub(recorded),
        _ => 0,
    }
}

/// A point in time moved by seconds, in its own notation: seconds or milliseconds since the epoch, or RFC 3339. `None` for anything else.
fn moved(text: &str, seconds: i64) -> Option<String> {
    if let Ok(number) = text.trim().parse::<i64>() {
        let unit = if number.unsigned_abs() >= 100_000_000_000 { 1000 } else { 1 };
        return Some(number.saturating_add(seconds.saturating_mul(unit)).to_string());
    }
    if let Some(new) = expiry::moved(text, seconds) {
        return Some(new);
    }
    let moment: jiff::Timestamp = text.parse().ok()?;
    let new = moment.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
    let digits = text
        .split_once('.')
        .map_or(0, |(_, tail)| tail.bytes().take_while(u8::is_ascii_digit).count());
    Some(format!("{new:.digits$}"))
}

/// A number that the response does not contain.
fn unused_number(reply: &Reply) -> String {
    let response = &reply.response;
    let mut seed = Digest::of(&response.body);
    loop {
        // It must not begin with a zero, to be a JSON number.
        let digits: String = std::iter::once('7')
            .chain(seed.hash().iter().take(16).map(|byte| char::from(b'0' + byte % 10)))
            .collect();
        let taken = contains(&response.body, digits.as_bytes())
            || (response.headers.iter().chain(&reply.trailers))
                .any(|field| contains(&field.value, digits.as_bytes()));
        if !taken {
            return digits;
        }
        seed = Digest::of(seed.hash());
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// Turns stand-ins into holes; `None` when one of them is nowhere in sight.
fn splice(
    mark: &str,
    first: usize,
    compiled: &CompiledSnapshot,
    marked: Reply,
    subject: &dyn Fn() -> String,
    found: &mut Diagnostics,
) -> Option<Way> {
    let mut seen = vec![false; compiled.fills.len().saturating_sub(first)];
    let mut holes = |bytes: Bytes| {
        let holes = find_stand_ins(&bytes, mark, first);
        for fill in holes.iter().map(|hole| hole.1) {
            if let Some(seen) = fill.checked_sub(first).and_then(|nth| seen.get_mut(nth)) {
                *seen = true;
            }
        }
        Spliced::new(bytes, holes)
    };
    let body = holes(marked.response.body);
    let mut fields = |marked: &[Header]| {
        let (mut spliced, mut plain) = (Vec::new(), http::HeaderMap::new());
        for field in marked {
            let Some((name, value)) = headers::servable(field, subject, found) else { continue };
            if contains(&field.value, mark.as_bytes()) {
                spliced.push((name, holes(field.value.clone())));
            } else {
                plain.append(name, value);
            }
        }
        Fields { spliced, plain: plain.into() }
    };
    let headers = fields(&marked.response.headers);
    let trailers = (!marked.trailers.is_empty()).then(|| Box::new(fields(&marked.trailers)));
    seen.iter().all(|seen| *seen).then_some(Way::Spliced { headers, body, trailers })
}

/// Ties header fields to the tokens whose end they tell: holes are added where they do.
fn tie(way: Way, compiled: &mut CompiledSnapshot, first_slot: usize) -> Way {
    let Way::Spliced { headers: Fields { spliced: mut headers, plain }, body, trailers } = way
    else {
        return way;
    };
    let slots = compiled.slots.get(first_slot..).unwrap_or_default().to_vec();
    let mut still_plain = http::HeaderMap::with_capacity(plain.len());
    for (name, value) in &*plain {
        let ends = expiry::of(name.as_str(), value.as_bytes(), None, &slots, first_slot);
        if ends.is_empty() {
            still_plain.append(name.clone(), value.clone());
            continue;
        }
        let value = Spliced::new(Bytes::copy_from_slice(value.as_bytes()), Vec::new());
        headers.push((name.clone(), tied(value, ends, compiled)));
    }
    for (name, value) in &mut headers {
        let own = value.fills().find_map(|fill| match compiled.fills.get(fill) {
            Some(Fill::Token(slot)) => Some(*slot),
            _ => None,
        });
        // Those that were plain are tied already.
        let Some(own) = own else { continue };
        let ends = expiry::of(name.as_str(), value.base(), Some(own), &slots, first_slot);
        *value = tied(value.clone(), ends, compiled);
    }
    let headers = Fields { spliced: headers, plain: still_plain.into() };
    Way::Spliced { headers, body, trailers }
}

fn tied(mut value: Spliced, ends: Vec<Ends>, compiled: &mut CompiledSnapshot) -> Spliced {
    for end in ends {
        let (Ends::At(span, slot) | Ends::In(span, slot)) = &end;
        let text = value.base().get(span.clone()).unwrap_or_default();
        let Ok(text) = std::str::from_utf8(text).map(str::to_owned) else { continue };
        if let Ends::In(..) = end {
            let change = compiled.slots.get(*slot).and_then(TokenSlot::lifetime_change);
            let age = text.parse::<i64>().ok().zip(change.filter(|change| *change != 0));
            if let Some((age, change)) = age {
                let text = age.saturating_add(change).max(0).to_string();
                compiled.fills.push(Fill::Text(text));
                value = value.with_hole(span.clone(), compiled.fills.len() - 1);
            }
            continue;
        }
        compiled.fills.push(Fill::Moment { slot: *slot, text, follows: Follows::Expiry });
        value = value.with_hole(span.clone(), compiled.fills.len() - 1);
    }
    value
}

fn find_stand_ins(bytes: &[u8], mark: &str, first: usize) -> Vec<(std::ops::Range<usize>, usize)> {
    let mut holes = Vec::new();
    let mut from = 0;
    while let Some(at) =
        bytes.get(from..).and_then(|rest| memchr::memmem::find(rest, mark.as_bytes()))
    {
        let start = from + at;
        let end = start + mark.len() + 6;
        let nth = bytes
            .get(start + mark.len()..end)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| text.parse::<usize>().ok());
        if let Some(nth) = nth {
            holes.push((start..end, first + nth));
        }
        from = end.min(bytes.len());
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_move_in_their_own_notation() {
        assert_eq!(moved("1700000000", 60).as_deref(), Some("1700000060"));
        assert_eq!(moved("1700000000123", 60).as_deref(), Some("1700000060123"));
        assert_eq!(moved("2024-01-01T00:00:00Z", 60).as_deref(), Some("2024-01-01T00:01:00Z"));
        assert_eq!(
            moved("2024-01-01T00:00:00.250Z", 60).as_deref(),
            Some("2024-01-01T00:01:00.250Z")
        );
        assert_eq!(moved("soon", 60), None);
    }
}
