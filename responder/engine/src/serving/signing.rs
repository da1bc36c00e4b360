//! Tokens of the moment: what a slot's token is in this second, and when it is worth signing.
//!
//! A token is signed at most once a second: within a second every replica gives the same token out, and a client that asks twice gets it
//! twice. An RSA signature takes a thousand times as long as anything else here. So those are signed within a budget, and above it the
//! token of some seconds ago is given out, which is as valid; no token is ever older than a tenth of its life, or a minute. A token
//! that was never signed is *owed*: whoever asks may have it signed elsewhere, so that others do not wait.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::jwt::{TokenSlot, key::SigningKey};

/// The oldest token that is given out, in seconds.
const OLDEST: i64 = 60;

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
    /// The microseconds that a signature takes; 0 for those that are not worth counting.
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
            patience: if cost == 0 { 0 } else { patience(slot) },
        }
    }

    /// Whether signing it takes long.
    pub(super) fn is_costly(&self) -> bool {
        self.cost > 0
    }

    /// Whether it has to be signed before it can be given out in this second, and that takes long.
    pub(super) fn is_owed(&self, second: i64) -> bool {
        self.is_costly() && !self.serves(self.second.load(Ordering::Relaxed), second)
    }

    /// The token for this second, signed now unless somebody did already, or one that serves as well.
    pub(super) fn current(&self, slot: &TokenSlot, second: i64, budget: &Budget) -> Option<Bytes> {
        if let Some(signed) = &*self.signed.load()
            && (signed.second == second
                || self.serves(signed.second, second) && !self.renews(second, budget))
        {
            return Some(signed.token.clone());
        }
        let mut out = Vec::with_capacity(1024);
        slot.render_with(second, self.key.as_deref()?, self.header.as_deref(), &mut out).ok()?;
        let token = Bytes::from(out);
        self.signed.store(Some(Arc::new(Signed { second, token: token.clone() })));
        self.second.store(second, Ordering::Relaxed);
        Some(token)
    }

    /// Whether a token that was signed for one second may be given out in another.
    fn serves(&self, signed: i64, second: i64) -> bool {
        (0..=self.patience).contains(&second.saturating_sub(signed))
    }

    /// Whether the caller is to sign it anew.
    fn renews(&self, second: i64, budget: &Budget) -> bool {
        self.renewed.load(Ordering::Relaxed) != second
            && budget.spend(second, self.cost)
            && self.renewed.swap(second, Ordering::Relaxed) != second
    }
}

/// How old a token of a slot may be, in seconds.
fn patience(slot: &TokenSlot) -> i64 {
    let times = slot.times(0);
    let lifetime = times.exp.zip(times.iat).and_then(|(exp, iat)| exp.checked_sub(iat));
    lifetime.map_or(OLDEST, |lifetime| (lifetime / 10).clamp(0, OLDEST))
}

/// How much time may go into signing anew what serves as it is.
#[derive(Debug)]
pub(super) struct Budget {
    /// Microseconds in each second.
    limit: u64,
    /// The second, by its lower half, and below it the microseconds that were spent in it.
    spent: AtomicU64,
}

impl Budget {
    /// A twentieth of each core.
    const PER_CORE: u64 = 50_000;

    /// The budget of a node with so many cores.
    pub(super) fn of_cores(cores: usize) -> Self {
        let cores = u64::try_from(cores).unwrap_or(1).max(1);
        Self { limit: cores.saturating_mul(Self::PER_CORE).min(LOWER), spent: AtomicU64::new(0) }
    }

    /// The same, nothing of it spent.
    pub(super) fn again(&self) -> Self {
        Self { limit: self.limit, spent: AtomicU64::new(0) }
    }

    /// Takes so many microseconds out of a second's budget; `false` when there are no more. The first may always be taken.
    fn spend(&self, second: i64, cost: u32) -> bool {
        let second = second.cast_unsigned() << 32;
        let taken = |packed: u64| {
            let spent = if packed & !LOWER == second { packed & LOWER } else { 0 };
            let after = spent + u64::from(cost);
            (spent == 0 || after <= self.limit).then_some(second | after.min(LOWER))
        };
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

/// The lower half of 64 bits.
const LOWER: u64 = 0xffff_ffff;

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

    #[test]
    fn without_time_to_sign_a_token_serves_for_a_tenth_of_its_life() {
        let slot = slot(300);
        let token = token(&slot);
        assert!(token.is_costly() && token.is_owed(5000));
        let budget = Budget { limit: 0, spent: AtomicU64::new(0) };
        let at = |second| {
            // The first of a second may always be signed; it is another one.
            budget.spend(second, 900);
            token.current(&slot, second, &budget).unwrap()
        };
        let first = at(5000);
        assert_eq!((at(5000), at(5001), at(5030)), (first.clone(), first.clone(), first.clone()));
        assert!(!token.is_owed(5030) && token.is_owed(5031) && token.is_owed(4999));
        let second = at(5031);
        assert_ne!(second, first);
        assert_eq!(at(5032), second);
        assert_ne!(at(5030), second, "a clock that goes back gets no token of the future");
    }

    #[test]
    fn with_time_to_sign_each_second_has_its_own_token_signed_by_one() {
        let slot = slot(300);
        let token = token(&slot);
        let budget = Budget::of_cores(1);
        let first = token.current(&slot, 5000, &budget).unwrap();
        token.renewed.store(5001, Ordering::Relaxed);
        assert_eq!(token.current(&slot, 5001, &budget).unwrap(), first, "somebody is at it");
        let second = token.current(&slot, 5002, &budget).unwrap();
        assert_ne!(second, first);
        assert_eq!(token.current(&slot, 5002, &budget).unwrap(), second);
    }

    #[test]
    fn short_lives_are_never_cut_by_much() {
        for (lifetime, oldest) in [(9, 0), (10, 1), (300, 30), (3600, 60), (-5, 0)] {
            assert_eq!(token(&slot(lifetime)).patience, oldest, "{lifetime}");
        }
    }

    #[test]
    fn a_budget_is_spent_by_the_second() {
        let budget = Budget::of_cores(1);
        let spend = |second, times: usize| (0..times).filter(|_| budget.spend(second, 900)).count();
        assert_eq!((spend(7, 100), spend(7, 1), spend(8, 54), spend(8, 2)), (55, 0, 54, 1));
        assert_eq!((spend(-1, 56), spend(12, 56)), (55, 55));
        let dear = |second| (0..3).filter(|_| budget.spend(second, 60_000)).count();
        assert_eq!((dear(1), dear(2)), (1, 1), "however much one costs, there is one a second");
        let two = Budget::of_cores(2);
        assert_eq!((0..1000).filter(|_| two.spend(3, 900)).count(), 111);
    }
}
