//! From one key to the next: when a successor signs, and how long its predecessor's public half is published.
//!
//! Verifiers keep key sets. So a successor may be published for a while before it signs, and a key that has signed stays published until the
//! verifiers have no use for it. A successor that is itself replaced before its time never signs: another replica, which looks at other moments,
//! may never have seen it. HMAC secrets are not published: they are replaced at once.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_engine::jwt::key::{PublicKey, SigningKey};

/// So many keys of one secret are published that do not sign any more; the oldest go first.
const MAX_BESIDE: usize = 128;

/// How keys follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long a successor is published before it signs.
    pub(crate) overlap: Duration,
    /// How long a key is published after it has signed.
    pub(crate) grace: Duration,
    /// How long a key signs on after its file has gone, or holds none that can be used.
    pub(crate) kept: Duration,
}

/// The keys of one secret, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rotation {
    signing: Option<Arc<SigningKey>>,
    waiting: Option<(Instant, Arc<SigningKey>)>,
    retired: VecDeque<(Instant, Arc<PublicKey>)>,
}

impl Rotation {
    /// Takes a new key. It signs at once when there is none before it, or when the overlap is nothing.
    pub(crate) fn push(&mut self, key: SigningKey, pace: Pace, now: Instant) {
        let key = Arc::new(key);
        let published = |key: &SigningKey| key.thumbprint().is_some();
        let both = self.signing.as_deref().is_some_and(published) && published(&key);
        // Another replica may have seen this one later, and sign with the older one meanwhile.
        let skipped = self.waiting.take();
        self.retire(skipped.as_ref().map(|(_, key)| &**key), pace, now);
        if both && !pace.overlap.is_zero() {
            self.waiting = Some((now + pace.overlap, key));
        } else {
            self.sign_with(key, pace, now);
        }
    }

    /// Moves on; tells whether anything changed.
    pub(crate) fn advance(&mut self, pace: Pace, now: Instant) -> bool {
        let before = (self.is_waiting(), self.retired.len());
        if let Some((_, key)) = self.waiting.take_if(|(due, _)| *due <= now) {
            self.sign_with(key, pace, now);
        }
        self.retired.retain(|(until, _)| *until > now);
        before != (self.is_waiting(), self.retired.len())
    }

    /// Signs with none any more. What has signed stays published for its time.
    pub(crate) fn give_up(&mut self, pace: Pace, now: Instant) {
        let waiting = self.waiting.take();
        self.retire(waiting.as_ref().map(|(_, key)| &**key), pace, now);
        let signing = self.signing.take();
        self.retire(signing.as_deref(), pace, now);
    }

    fn sign_with(&mut self, key: Arc<SigningKey>, pace: Pace, now: Instant) {
        let previous = self.signing.replace(key);
        self.retire(previous.as_deref(), pace, now);
    }

    /// Publishes a key for a while that does not sign here any more, or never did.
    fn retire(&mut self, key: Option<&SigningKey>, pace: Pace, now: Instant) {
        let public = key.and_then(PublicKey::of).filter(|_| !pace.grace.is_zero());
        if let Some(public) = public {
            self.retired.push_back((now + pace.grace, Arc::new(public)));
        }
        if self.retired.len() > MAX_BESIDE {
            self.retired.pop_front();
        }
    }

    /// The key that signs.
    pub(crate) fn signing(&self) -> Option<&Arc<SigningKey>> {
        self.signing.as_ref()
    }

    /// Whether a successor is published that does not sign yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// What is published beside it.
    pub(crate) fn beside(&self) -> Vec<Arc<PublicKey>> {
        let waiting = self.waiting.iter().filter_map(|(_, key)| PublicKey::of(key).map(Arc::new));
        waiting.chain(self.retired.iter().map(|(_, key)| Arc::clone(key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = [
        "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "MC4CAQAwBQYDK2VwBCIEIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
        "MC4CAQAwBQYDK2VwBCIEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
    ];

    fn key(nth: usize) -> SigningKey {
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", KEYS[nth]);
        SigningKey::parse(pem.as_bytes()).unwrap()
    }

    fn name(nth: usize) -> String {
        key(nth).thumbprint().unwrap()
    }

    fn state(rotation: &Rotation) -> (Option<String>, Vec<String>) {
        (
            rotation.signing().and_then(|key| key.thumbprint()),
            rotation.beside().iter().map(|key| key.thumbprint().to_owned()).collect(),
        )
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_successor_is_published_before_it_signs_and_a_predecessor_after() {
        let pace = Pace { overlap: 5 * MINUTE, grace: 10 * MINUTE, kept: MINUTE };
        let begin = Instant::now();
        let mut rotation = Rotation::default();
        rotation.push(key(0), pace, begin);
        assert_eq!(state(&rotation), (Some(name(0)), vec![]));
        rotation.push(key(1), pace, begin);
        assert_eq!(state(&rotation), (Some(name(0)), vec![name(1)]));
        assert!(!rotation.advance(pace, begin + 4 * MINUTE) && rotation.is_waiting());
        assert!(rotation.advance(pace, begin + 5 * MINUTE) && !rotation.is_waiting());
        assert_eq!(state(&rotation), (Some(name(1)), vec![name(0)]));
        assert!(!rotation.advance(pace, begin + 14 * MINUTE));
        assert!(rotation.advance(pace, begin + 15 * MINUTE));
        assert_eq!(state(&rotation), (Some(name(1)), vec![]));
    }

    #[test]
    fn a_successor_that_is_replaced_before_its_time_never_signs() {
        let pace = Pace { overlap: 5 * MINUTE, grace: 10 * MINUTE, kept: MINUTE };
        let begin = Instant::now();
        let mut rotation = Rotation::default();
        rotation.push(key(0), pace, begin);
        rotation.push(key(1), pace, begin);
        rotation.push(key(2), pace, begin + 4 * MINUTE);
        // It is published on, for a replica that has not seen the second successor yet may sign with the first one.
        assert_eq!(state(&rotation), (Some(name(0)), vec![name(2), name(1)]));
        assert!(!rotation.advance(pace, begin + 8 * MINUTE));
        assert!(rotation.advance(pace, begin + 9 * MINUTE));
        assert_eq!(state(&rotation), (Some(name(2)), vec![name(1), name(0)]));
        assert!(rotation.advance(pace, begin + 14 * MINUTE));
        assert_eq!(state(&rotation), (Some(name(2)), vec![name(0)]));
    }

    #[test]
    fn without_overlap_and_for_secrets_the_new_key_signs_at_once() {
        let begin = Instant::now();
        let mut rotation = Rotation::default();
        let at_once = Pace { overlap: Duration::ZERO, grace: MINUTE, kept: MINUTE };
        rotation.push(key(0), at_once, begin);
        rotation.push(key(1), at_once, begin);
        assert_eq!(state(&rotation), (Some(name(1)), vec![name(0)]));

        let slow = Pace { overlap: MINUTE, grace: MINUTE, kept: MINUTE };
        let secret = || SigningKey::parse(b"a secret of at least thirty-two bytes").unwrap();
        rotation.push(secret(), slow, begin);
        assert_eq!(state(&rotation), (None, vec![name(0), name(1)]));
        rotation.push(key(2), slow, begin);
        assert_eq!(state(&rotation).0, Some(name(2)));
    }

    #[test]
    fn a_key_that_is_given_up_signs_no_more_and_stays_published() {
        let pace = Pace { overlap: 5 * MINUTE, grace: 10 * MINUTE, kept: MINUTE };
        let begin = Instant::now();
        let mut rotation = Rotation::default();
        rotation.push(key(0), pace, begin);
        rotation.push(key(1), pace, begin);
        rotation.give_up(pace, begin);
        assert_eq!(state(&rotation), (None, vec![name(1), name(0)]));
        rotation.push(key(2), pace, begin);
        assert_eq!(state(&rotation).0, Some(name(2)));
    }

    #[test]
    fn what_is_published_is_bounded() {
        let begin = Instant::now();
        for overlap in [Duration::ZERO, MINUTE] {
            let pace = Pace { overlap, grace: MINUTE, kept: MINUTE };
            let mut rotation = Rotation::default();
            for nth in 0..2 * MAX_BESIDE {
                rotation.push(key(nth % 3), pace, begin);
            }
            let waiting = usize::from(rotation.is_waiting());
            assert_eq!(rotation.beside().len(), MAX_BESIDE + waiting);
        }
    }
}
