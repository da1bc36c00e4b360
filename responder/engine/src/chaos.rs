//! Chaos: what a test config lets befall answers, by rules.
//!
//! It acts after a hit only. The first rule that an answer fits is the one that counts, also when its dice decline. Dice depend on the
//! seed, the rule, what was asked for and how often that was asked before, and on nothing else, so a run can be repeated. Where a test
//! config names no rule there is no [`Chaos`], and nothing is looked at.

mod config;
mod effect;
mod roll;
mod rule;
mod stroke;
mod text;
mod touch;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    compile::CompiledSnapshot,
    diagnostic::{Diagnostic, Diagnostics},
    identity,
    index::Index,
    jwt::TokenSlot,
    request::{Parts, Request},
    signature::number_of,
    snapshot::RrPair,
    transform::filter::Verdict,
};
pub(crate) use config::{Config, read};
pub(crate) use effect::Latency;
use roll::{Dice, fnv};
use rule::Rule;
pub(crate) use stroke::{Spoiling, Stroke};
pub(crate) use touch::MARKER;
pub use touch::{Fate, Touched};

/// The rules of a replay and what they need to know of its answers.
#[derive(Debug)]
pub(crate) struct Chaos {
    config: Config,
    /// Of each instance.
    facts: Vec<Facts>,
    /// One for each instance, of which the first of a signature counts for all of it, then one for what was not recorded.
    places: Box<[Place]>,
    /// For each token the rules whose claims it has.
    slots: Vec<u64>,
}

/// What is known of an instance.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// The rules whose filter its recorded pair passes: a live request does not know everything.
    admits: u64,
    /// How long it took.
    took: Duration,
}

/// What can be asked for.
#[derive(Debug)]
struct Place {
    signature: u64,
    taken: AtomicU64,
}

/// An answer that is about to be made.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request<'a>,
    /// The first instance of its signature; `None` when it was not recorded.
    pub(crate) place: Option<usize>,
    pub(crate) instance: Option<usize>,
    /// How long the replay has been running, in nanoseconds.
    pub(crate) elapsed: i64,
    /// There may be tokens in it.
    pub(crate) tokens: bool,
    /// Those that the compiler met.
    pub(crate) slots: &'a [usize],
    /// It is a key set.
    pub(crate) key_set: bool,
}

impl Chaos {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, facts: Vec::new(), places: Box::default(), slots: Vec::new() }
    }

    /// Looks at an instance when it is compiled.
    pub(crate) fn look(&mut self, nth: usize, pair: &RrPair, parts: &Parts) {
        let admits = self
            .mask(|rule| rule.filters.as_ref().is_none_or(|filters| filters.admits(pair, parts)));
        self.facts.resize(nth.saturating_add(1), Facts::default());
        if let Some(facts) = self.facts.get_mut(nth) {
            *facts = Facts { admits, took: Duration::from_nanos(pair.duration) };
        }
    }

    /// Gets ready to answer once everything is compiled.
    pub(crate) fn settle(compiled: &mut CompiledSnapshot, found: &mut Diagnostics) {
        let CompiledSnapshot { chaos: Some(chaos), index, instances, slots, .. } = compiled else {
            return;
        };
        chaos.lay_out(index, instances.len(), slots);
        found.extend(chaos.tell(slots));
    }

    fn lay_out(&mut self, index: &Index, instances: usize, slots: &[TokenSlot]) {
        let stub = |nth: usize| fnv(format!("answer {nth}").as_bytes());
        let mut signatures: Vec<u64> = (0..=instances).map(stub).collect();
        for (bytes, first) in index.firsts() {
            if let Some(signature) = signatures.get_mut(first) {
                *signature = number_of(bytes, fnv);
            }
        }
        self.places = signatures
            .into_iter()
            .map(|signature| Place { signature, taken: AtomicU64::new(0) })
            .collect();
        let named = self.config.rules.iter().any(|rule| !rule.claims.is_empty());
        self.slots = slots
            .iter()
            .filter(|_| named)
            .map(|slot| self.mask(|rule| rule.fits_claims(slot.recorded_claims_json())))
            .collect();
    }

    /// The rules of which something holds, as bits.
    fn mask(&self, holds: impl Fn(&Rule) -> bool) -> u64 {
        let bit = |nth: usize, rule: &Rule| u64::from(holds(rule)).checked_shl(u32_of(nth));
        let bits = self.config.rules.iter().enumerate().filter_map(|(nth, rule)| bit(nth, rule));
        bits.fold(0, |all, bit| all | bit)
    }

    /// Counts all answers anew.
    pub(crate) fn reset(&self) {
        self.places.iter().for_each(|place| place.taken.store(0, Ordering::Relaxed));
    }

    /// What befalls an answer; `None` when nothing does.
    pub(crate) fn strike(&self, asked: &Asked<'_>) -> Option<Stroke<'_>> {
        let mut parts = None;
        let (rule, whole) = self.config.rules.iter().enumerate().find_map(|(nth, rule)| {
            if !rule.is_active(asked.elapsed) || !concerns(rule, asked) {
                return None;
            }
            let fits =
                self.fits_filter(nth, rule, asked, &mut parts) && rule.fits_pattern(asked.request);
            let whole = fits.then(|| self.fits_claims(nth, rule, asked)).flatten()?;
            Some((rule, whole))
        })?;
        let place = asked.place.map_or_else(|| self.places.last(), |nth| self.places.get(nth))?;
        let taken = place.taken.fetch_add(1, Ordering::Relaxed);
        if let Some((few, all)) = rule.rate
            && taken.checked_rem(all).is_none_or(|turn| turn >= few)
        {
            return None;
        }
        let seed = rule.seed.unwrap_or(self.config.seed);
        let occurrence = if rule.sticky { 0 } else { taken };
        let dice = Dice::new(seed, &rule.id, place.signature, occurrence);
        if !rule.percent.takes(dice.roll(0)) {
            return None;
        }
        let took =
            asked.instance.and_then(|nth| self.facts.get(nth)).map_or(Duration::ZERO, |f| f.took);
        let cap = rule.max_latency.unwrap_or(self.config.cap);
        Stroke::new(rule, dice, seed, asked, whole, (took, cap))
    }

    /// Whether the request passes the filter, and where it cannot tell, whether its recorded pair does.
    fn fits_filter(
        &self,
        nth: usize,
        rule: &Rule,
        asked: &Asked<'_>,
        parts: &mut Option<Parts>,
    ) -> bool {
        let Some(filters) = &rule.filters else { return true };
        match filters.admits_live(parts.get_or_insert_with(|| Parts::of_live(asked.request))) {
            Verdict::Yes => true,
            Verdict::No => false,
            Verdict::Unknown => asked
                .instance
                .and_then(|instance| self.facts.get(instance))
                .is_some_and(|facts| has(facts.admits, nth)),
        }
    }

    /// Whether the answer is for somebody whom the rule names: `Some(true)` when the request says so, so that all of its tokens are meant,
    /// `Some(false)` when only tokens in the answer do.
    fn fits_claims(&self, nth: usize, rule: &Rule, asked: &Asked<'_>) -> Option<bool> {
        if rule.claims.is_empty() {
            return Some(true);
        }
        let presented = identity::presented(asked.request);
        let says = |credential: &identity::Credential<'_>| match credential {
            identity::Credential::Jwt(token) => {
                identity::claims_of(token).is_some_and(|claims| rule.fits_claims(&claims))
            }
            _ => false,
        };
        if presented.iter().any(|(_, credential)| says(credential)) {
            return Some(true);
        }
        let issued = |slot: &usize| self.slots.get(*slot).is_some_and(|rules| has(*rules, nth));
        // What chains make for a request shows only then.
        let may_come = asked.tokens && asked.slots.is_empty() && rule.spoils_tokens();
        (asked.slots.iter().any(issued) || may_come).then_some(false)
    }

    /// What was found when the rules were compiled.
    fn tell(&self, slots: &[TokenSlot]) -> Vec<Diagnostic> {
        let spoils = |rule: &&Rule| rule.spoils_tokens() && slots.is_empty();
        self.config
            .rules
            .iter()
            .filter(spoils)
            .map(|rule| {
                Diagnostic::warning(
                    "no_token_to_spoil",
                    "chaos.rules",
                    "no token is re-signed here, so that none can be made unsound",
                )
                .hint("re-sign tokens with jwt_resign in the transform template")
                .subject(rule.id.clone())
            })
            .collect()
    }
}

/// Whether any effect of a rule can befall an answer: what is about tokens and key sets leaves all others to the next rule.
fn concerns(rule: &Rule, asked: &Asked<'_>) -> bool {
    !rule.is_about_tokens()
        || (asked.tokens && rule.spoils_tokens())
        || (asked.key_set && rule.spoils_key_sets())
}

fn has(rules: u64, nth: usize) -> bool {
    rules.checked_shr(u32_of(nth)).unwrap_or_default() & 1 == 1
}

fn u32_of(nth: usize) -> u32 {
    u32::try_from(nth).unwrap_or(u32::MAX)
}
