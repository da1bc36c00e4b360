//! Tokens of the moment: what a slot's token is in this second, and when it is worth signing.
//!
//! A token is signed at most once a second: within a second every replica gives the same token out, and a client that asks twice gets it
//! twice. When many tokens are asked for all of them would have to be signed at the turn of each second, and every request then would wait
//! for others. So tokens are signed anew within a budget, which is laid out evenly over time, and above it an earlier token is given out,
//! which is as valid: the one of the second before. An RSA signature takes a thousand times as long as anything else here, so that one may
//! be older: a tenth of its life, or a minute. An RSA token that was never signed is *owed*: whoever asks may have it signed elsewhere, so
//! that others do not wait.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::NANOS;
use crate::{
    jwt::{TokenSlot, key::SigningKey},
    scratch,
};

/// The oldest token that is given out, in seconds: one that takes long to sign, and any other one.
const OLDEST: i64 = 60;
const OLDEST_CHEAP: i64 = 1;

/// A signature that takes this many microseconds takes long.
const LONG: u32 = 500;

/// A slot's key, and its token.
#[derive(Debug)]
pub(super) struct Token {
    /// `None` while its key is missing or cannot sign it.
    pub(super) key: Option<Arc<SigningKey>>,
    /// What a key set calls the key; `None` when none has it.
    pub(super) kid: Option<Arc<str>>,
    /// The JOSE header with that `kid`, as [`TokenSlot::header_named`] gives it.
    header: Option<Arc<[u8]>>,
    signed: ArcSwapOption<Signed>,
    /// The second of the last signature, for whom the token does not matter.
    second: AtomicI64,
    /// The second for which somebody signs it anew while others give the old one out.
    renewed: AtomicI64,
    /// The microseconds that a signature takes.
    cost: u32,
    /// How old it may be when there is no time to sign it, in seconds.
    patience: i64,
}

/// A token and the second that it was signed for.
#[derive(Debug)]
struct Signed {
    second: i64,
    token: Bytes,
}

impl Token {
    /// A token that was never signed.
    pub(super) fn new(
        slot: &TokenSlot,
        key: Option<Arc<SigningKey>>,
        kid: Option<Arc<str>>,
        header: Option<Arc<[u8]>>,
    ) -> Self {
        let cost = key.as_deref().map_or(0, SigningKey::cost);
        Self {
            key,
            kid,
            header,
            signed: ArcSwapOption::empty(),
            second: AtomicI64::new(i64::MIN),
            renewed: AtomicI64::new(i64::MIN),
            cost,
            patience: patience(slot, if cost < LONG { OLDEST_CHEAP } else { OLDEST }),
        }
    }

    /// Whether signing it takes long.
    pub(super) fn is_costly(&self) -> bool {
        self.cost >= LONG
    }

    /// Whether it has to be signed before it can be given out in this second, and that takes long.
    pub(super) fn is_owed(&self, second: i64) -> bool {
        self.is_costly() && !self.serves(self.second.load(Ordering::Relaxed), second)
    }

    /// The token for this second, signed now unless somebody did already, or one that serves as well.
    pub(super) fn current(&self, slot: &TokenSlot, now: i64, budget: &Budget) -> Option<Bytes> {
        let second = now.div_euclid(NANOS);
        if let Some(signed) = &*self.signed.load()
            && (signed.second == second
                || self.serves(signed.second, second) && !self.renews(now, second, budget))
        {
            return Some(signed.token.clone());
        }
        let token = scratch::with(|out| {
            slot.render_with(second, self.key.as_deref()?, self.header.as_deref(), out).ok()?;
            Some(Bytes::copy_from_slice(out))
        })?;
        budget.made.fetch_add(1, Ordering::Relaxed);
        self.signed.store(Some(Arc::new(Signed { second, token: token.clone() })));
        self.second.store(second, Ordering::Relaxed);
        Some(token)
    }

    /// Whether a token that was signed for one second may be given out in another.
    fn serves(&self, signed: i64, second: i64) -> bool {
        (0..=self.patience).contains(&second.saturating_sub(signed))
    }

    /// Whether the caller is to sign it anew.
    fn renews(&self, now: i64, second: i64, budget: &Budget) -> bool {
        self.renewed.load(Ordering::Relaxed) != second
            && budget.spend(now, self.cost)
            && self.renewed.swap(second, Ordering::Relaxed) != second
    }
}

/// How old a token of a slot may be, in seconds.
fn patience(slot: &TokenSlot, oldest: i64) -> i64 {
    let times = slot.times(0);
    let lifetime = times.exp.zip(times.iat).and_then(|(exp, iat)| exp.checked_sub(iat));
    lifetime.map_or(oldest, |lifetime| (lifetime / 10).clamp(0, oldest))
}

/// How much time may go into signing anew what serves as it is.
#[derive(Debug)]
pub(super) struct Budget {
    cores: i64,
    /// Until when the time that was spent is paid off, in nanoseconds since the Unix epoch.
    paid_off: AtomicI64,
    /// How many signatures were made, whoever asked for them.
    made: Arc<AtomicU64>,
}

impl Budget {
    /// One of so many parts of each core is spent.
    const PART: i64 = 20;
    /// What may be owed when more is spent, in nanoseconds: a little at a time need not be laid out.
    const CREDIT: i64 = 20_000_000;
    /// Nobody owes so much unless the clock was put back.
    const MOST: i64 = 60 * NANOS;

    /// The budget of a node with so many cores.
    pub(super) fn of_cores(cores: usize) -> Self {
        let cores = i64::try_from(cores).unwrap_or(1).max(1);
        Self { cores, paid_off: AtomicI64::new(i64::MIN), made: Arc::default() }
    }

    /// The same, nothing of it spent; signatures are counted on.
    pub(super) fn again(&self) -> Self {
        let made = Arc::clone(&self.made);
        Self { cores: self.cores, paid_off: AtomicI64::new(i64::MIN), made }
    }

    /// How many signatures were made.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Takes so many microseconds out of it, if they are there.
    fn spend(&self, now: i64, cost: u32) -> bool {
        let takes = i64::from(cost) * 1000 * Self::PART / self.cores;
        let after = |paid_off: i64| {
            let owed = paid_off.saturating_sub(now);
            let owed = if owed > Self::MOST { 0 } else { owed.max(0) };
            (owed <= Self::CREDIT).then(|| now.saturating_add(owed + takes))
        };
        self.paid_off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::{diagnostic::Diagnostics, jwt::ResignConfig};

    const RSA: &[u8] = include_bytes!("../jwt/vectors/rfc7515-a2.pem");

    /// The token of a slot that lives so many seconds.
    fn slot(lifetime: i64) -> TokenSlot {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let claims = format!(r#"{{"iat":1000,"exp":{}}}"#, 1000 + lifetime);
        let token = [&part(r#"{"alg":"RS256"}"#), &part(&claims), "c2ln"].join(".");
        let settings = [("secretpath".to_owned(), "a/b".to_owned())].into();
        let config = ResignConfig::parse(&settings, "c", &mut Diagnostics::default()).unwrap();
        TokenSlot::new(token.as_bytes(), &Arc::new(config), None).unwrap()
    }

    fn token(slot: &TokenSlot) -> Token {
        Token::new(slot, Some(Arc::new(SigningKey::parse(RSA).unwrap())), None, None)
    }

    /// A moment some seconds after the epoch.
    fn at(seconds: i64) -> i64 {
        seconds * NANOS
    }

    #[test]
    fn without_time_to_sign_a_token_serves_for_a_tenth_of_its_life() {
        let slot = slot(300);
        let token = token(&slot);
        assert!(token.is_costly() && token.is_owed(5000));
        let budget = Budget::of_cores(1);
        let current = |second| {
            let spent = AtomicI64::new(at(second) + 2 * Budget::CREDIT);
            token.current(&slot, at(second), &Budget { paid_off: spent, ..budget.again() }).unwrap()
        };
        let first = current(5000);
        assert!([5000, 5001, 5030].map(current).iter().all(|token| *token == first));
        assert!(!token.is_owed(5030) && token.is_owed(5031) && token.is_owed(4999));
        let second = current(5031);
        assert_ne!(second, first);
        assert_eq!(current(5032), second);
        assert_ne!(current(5030), second, "a clock that goes back gets no token of the future");
    }

    #[test]
    fn with_time_to_sign_each_second_has_its_own_token_signed_by_one() {
        let slot = slot(300);
        let token = token(&slot);
        let budget = Budget::of_cores(1);
        let first = token.current(&slot, at(5000), &budget).unwrap();
        token.renewed.store(5001, Ordering::Relaxed);
        assert_eq!(token.current(&slot, at(5001), &budget).unwrap(), first, "somebody is at it");
        let second = token.current(&slot, at(5002), &budget).unwrap();
        assert_ne!(second, first);
        assert_eq!(token.current(&slot, at(5002), &budget).unwrap(), second);
    }

    #[test]
    fn short_lives_are_never_cut_by_much() {
        for (lifetime, oldest) in [(9, 0), (10, 1), (300, 30), (3600, 60), (-5, 0)] {
            assert_eq!(token(&slot(lifetime)).patience, oldest, "{lifetime}");
            assert_eq!(patience(&slot(lifetime), OLDEST_CHEAP), oldest.min(1), "{lifetime}");
        }
    }

    #[test]
    fn a_budget_is_a_part_of_each_core_laid_out_over_time() {
        for (cores, cost, least, most) in
            [(1, 900, 55, 58), (2, 900, 111, 115), (1, 25, 1999, 2042), (1, 60_000, 1, 2)]
        {
            let budget = Budget::of_cores(cores);
            // 10,000 times a second.
            let spends = |second: i64| {
                let times = (0..10_000).map(|nth| at(second) + nth * 100_000);
                times.filter(|now| budget.spend(*now, cost)).count()
            };
            for second in [7, 8, 9, 100, -5, 3] {
                let spent = spends(second);
                assert!((least..=most).contains(&spent), "{cores} {cost} {second}: {spent}");
            }
        }
    }

    #[test]
    fn a_little_is_spent_at_once() {
        let budget = Budget::of_cores(1);
        assert_eq!((0..1000).filter(|_| budget.spend(at(1), 25)).count(), 41);
        assert_eq!((0..1000).filter(|_| budget.spend(at(2), 900)).count(), 2);
    }
}
