//! One answer, and what befalls it: the effects whose dice fell, and doing them.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{
    Asked, MARKER,
    effect::{Break, Effect},
    roll::{Dice, below, fnv, one_of},
    rule::{Pick, Rule},
    touch::{Fate, Marker, Touched},
};
use crate::{
    answer::Hit,
    token_fault::{KeySetFault, TokenFault},
    transform::{MAX_DELAY, format_duration},
};

/// The number of the roll that picks one of several effects.
const PICK: u64 = u64::MAX;
/// A body is corrupted in one place for so many bytes.
const CORRUPT_EVERY: usize = 256;

/// The effects that befall an answer.
#[derive(Debug)]
pub(crate) struct Stroke<'c> {
    rule: &'c Rule,
    dice: Dice,
    effects: Vec<(u64, &'c Effect)>,
    took: Duration,
    cap: Duration,
    tokens: Option<Spoiling<'c>>,
}

impl<'c> Stroke<'c> {
    /// Rolls the dice; `None` when no effect comes.
    pub(super) fn new(
        rule: &'c Rule,
        dice: Dice,
        seed: u64,
        asked: &Asked<'_>,
        whole: bool,
        (took, cap): (Duration, Duration),
    ) -> Option<Self> {
        let can_be = |effect: &Effect| match effect {
            Effect::Tokens(_) => asked.tokens,
            Effect::KeySet(_) => asked.key_set,
            _ => true,
        };
        let numbered = (1_u64..).zip(&rule.effects).filter(|(_, dosed)| can_be(&dosed.effect));
        let mut all: Vec<_> = numbered.collect();
        if rule.pick == Pick::One {
            all = one_of(dice.roll(PICK), &all).copied().into_iter().collect();
        }
        let comes = |nth: u64, toxicity: Option<super::roll::Share>| {
            toxicity.unwrap_or(rule.toxicity).takes(dice.roll(nth))
        };
        let effects: Vec<(u64, &Effect)> = all
            .into_iter()
            .filter(|(nth, dosed)| comes(*nth, dosed.toxicity))
            .map(|(nth, dosed)| (nth, &dosed.effect))
            .collect();
        let tokens = effects.iter().find_map(|(nth, effect)| match effect {
            Effect::Tokens(faults) => Some(Spoiling {
                faults,
                rule,
                dice,
                nth: *nth,
                seed,
                whole,
                done: RefCell::default(),
            }),
            _ => None,
        });
        (!effects.is_empty()).then_some(Self { rule, dice, effects, took, cap, tokens })
    }

    /// What becomes of tokens; `None` when they are left alone.
    pub(crate) fn tokens(&self) -> Option<&Spoiling<'c>> {
        self.tokens.as_ref()
    }

    /// What becomes of a key set.
    pub(crate) fn key_set(&self) -> Option<KeySetFault> {
        self.effects.iter().find_map(|(_, effect)| match effect {
            Effect::KeySet(fault) => Some(*fault),
            _ => None,
        })
    }

    /// Does to the answer what befalls it. An answer that nothing can befall is left as it is.
    pub(crate) fn finish(self, hit: &mut Hit) {
        let mut touched = Touched::default();
        let mut marker = Marker::default();
        for (nth, effect) in &self.effects {
            self.apply(*nth, effect, hit, &mut touched, &mut marker);
        }
        if !touched.is_any() {
            return;
        }
        if let Some(value) = marker.value(&self.rule.id) {
            hit.headers.insert(MARKER, value);
        }
        hit.touched = Some(Box::new(touched));
    }

    fn apply(
        &self,
        nth: u64,
        effect: &Effect,
        hit: &mut Hit,
        touched: &mut Touched,
        marker: &mut Marker,
    ) {
        let roll = self.dice.roll(nth.wrapping_add(1 << 32));
        let mut mark = |name: &str, detail: &str| {
            touched.add("", name);
            marker.add(name, detail);
        };
        match effect {
            Effect::Latency(latency) => {
                mark("latency", &self.hold(hit, latency.by(roll, self.took)));
            }
            Effect::Status(statuses) => {
                let Some(status) = one_of(roll, statuses) else { return };
                fail(hit, *status);
                mark("status", &status.to_string());
            }
            Effect::Connection(what) => {
                let (fate, name) = match what {
                    Break::Refuse => (Fate::Refused, "refuse"),
                    Break::Reset => (Fate::Reset, "reset"),
                    Break::Stall => (Fate::Stalled, "stall"),
                    Break::Drop => (Fate::Dropped, "drop"),
                    Break::NoResponse => (Fate::Stalled, "no-response"),
                };
                mark(name, "1");
                touched.fate = fate;
            }
            Effect::Corrupt => {
                if let Some(body) = corrupted(&hit.body, roll) {
                    hit.body = body;
                    mark("corrupt", "1");
                }
            }
            Effect::Truncate(after) => {
                let after = after.unwrap_or(hit.body.len() / 2);
                if after < hit.body.len() {
                    mark("truncate", &after.to_string());
                    touched.fate = Fate::Cut(after);
                }
            }
            Effect::Header(name, value) => {
                match value {
                    Some(value) => drop(hit.headers.insert(name.clone(), value.clone())),
                    None => drop(hit.headers.remove(name)),
                }
                mark("header", name.as_str());
            }
            Effect::Tokens(_) => {
                let done = self.tokens.as_ref().map(|tokens| tokens.done.take());
                for fault in done.unwrap_or_default() {
                    touched.add("token-", fault.as_str());
                    marker.add("token", fault.as_str());
                }
            }
            Effect::KeySet(fault) => {
                let detail = match fault {
                    KeySetFault::Error(status) => {
                        fail(hit, *status);
                        status.to_string()
                    }
                    KeySetFault::Slow(latency) => {
                        drop(self.hold(hit, latency.by(roll, self.took)));
                        fault.as_str().to_owned()
                    }
                    // The body is another one already.
                    KeySetFault::Stale | KeySetFault::Empty => fault.as_str().to_owned(),
                };
                touched.add("jwks-", fault.as_str());
                marker.add("jwks", &detail);
            }
        }
    }

    /// Holds the answer back, and tells how long.
    fn hold(&self, hit: &mut Hit, longer: Duration) -> String {
        let longer = longer.min(self.cap);
        hit.delay = hit.delay.saturating_add(longer).min(MAX_DELAY);
        format_duration(i64::try_from(longer.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// What fails has nothing to say about what was asked for.
fn fail(hit: &mut Hit, status: u16) {
    hit.status = status;
    hit.headers = HeaderMap::new();
    hit.body = Bytes::new();
    hit.trailers = None;
    hit.headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
}

/// A body with flipped bits; `None` when it has none. The first bit of a byte makes text unreadable.
fn corrupted(body: &Bytes, roll: u64) -> Option<Bytes> {
    if body.is_empty() {
        return None;
    }
    let mut bytes = body.to_vec();
    for (nth, part) in (0_u64..).zip(bytes.chunks_mut(CORRUPT_EVERY)) {
        let count = u64::try_from(part.len()).unwrap_or(1);
        let at = below(roll.rotate_left(u32::try_from(nth % 64).unwrap_or_default()), count);
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| part.get_mut(at)) {
            *byte ^= 0x80;
        }
    }
    Some(bytes.into())
}

/// Making the tokens of one answer unsound.
#[derive(Debug)]
pub(crate) struct Spoiling<'c> {
    faults: &'c [TokenFault],
    rule: &'c Rule,
    dice: Dice,
    nth: u64,
    seed: u64,
    /// All tokens are meant, whatever their claims.
    whole: bool,
    done: RefCell<Vec<TokenFault>>,
}

impl Spoiling<'_> {
    /// What is wrong with a token that has these recorded claims; `None` when it is sound. A token is wrong in one way, wherever in the
    /// answer it stands.
    pub(crate) fn fault(&self, claims: &[u8]) -> Option<TokenFault> {
        if !self.whole && !self.rule.fits_claims(claims) {
            return None;
        }
        let roll = self.dice.roll(self.nth ^ fnv(claims));
        one_of(roll, self.faults).copied()
    }

    /// What made-up parts of tokens come from.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Notes that a token has been made unsound.
    pub(crate) fn done(&self, fault: TokenFault) {
        let mut done = self.done.borrow_mut();
        if !done.contains(&fault) {
            done.push(fault);
        }
    }
}
