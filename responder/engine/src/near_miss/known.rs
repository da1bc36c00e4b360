//! What a node knows of the tokens that it gives out: who signs them, under which names, and for whom. Found out at the first miss.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use crate::{
    identity::Heard,
    jwt::{
        Presented,
        alg::Alg,
        key::{KeyRing, PublicKey, SigningKey},
    },
    serving::Serving,
};

/// So many keys are tried on a presented token.
const MAX_KEYS: usize = 64;
/// So many tokens are looked at for what they say.
const MAX_HEARD: usize = 1_000;

/// What is known of the tokens of a replay.
#[derive(Debug, Default)]
pub(crate) struct Known {
    keys: Vec<Arc<SigningKey>>,
    /// Keys that signed before or will sign next.
    beside: Vec<Arc<PublicKey>>,
    /// The `kid`s of the tokens that are given out.
    kids: BTreeSet<String>,
    /// Digests of the claims of recorded tokens that are given out anew.
    recorded: HashSet<[u8; 32]>,
    heard: Heard,
}

/// Who signed a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// A key that signs here now.
    Here,
    /// A key that signed here before, or will.
    Beside,
    /// Nobody here.
    Elsewhere,
}

impl Known {
    /// What a replay gives out. `now` is in seconds since the epoch.
    pub(crate) fn of(serving: &Serving, ring: &KeyRing, now: i64) -> Self {
        let mut known = Self::default();
        for (slot, key, kid) in serving.signers() {
            known.recorded.insert(*blake3::hash(slot.recorded_claims_json()).as_bytes());
            // Rendering takes longer than all the rest, and one token mostly says what the others do.
            if known.recorded.len() <= MAX_HEARD {
                let fresh = slot.render_unsigned(now, "c2ln");
                let from = fresh.iter().rposition(|byte| *byte == b' ').map_or(0, |at| at + 1);
                if let Some(read) = fresh.get(from..).and_then(|token| {
                    known.heard.token(token);
                    Presented::read(token)
                }) {
                    let named = kid.filter(|_| slot.configured_kid().is_none()).map(str::to_owned);
                    known.kids.extend(named.or_else(|| read.kid()));
                }
            }
            if let Some(key) = key
                && known.keys.len() < MAX_KEYS
                && !known.keys.iter().any(|other| Arc::ptr_eq(other, key))
            {
                known.keys.push(Arc::clone(key));
            }
        }
        let required = serving.snapshot().required_secrets();
        let entries = required.iter().filter_map(|secret| ring.get(secret));
        known.beside =
            entries.flat_map(|entry| entry.beside.iter().cloned()).take(MAX_KEYS).collect();
        known
    }

    /// Whether tokens are signed here at all.
    pub(super) fn signs(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Who signed a token.
    pub(super) fn signer_of(&self, token: &Presented<'_>, alg: Alg) -> Signed {
        let (message, signature) = (token.message(), token.signature());
        if self.keys.iter().any(|key| key.verifies(alg, message, signature)) {
            return Signed::Here;
        }
        if self.beside.iter().any(|key| key.has_signed(alg, message, signature)) {
            return Signed::Beside;
        }
        Signed::Elsewhere
    }

    /// Whether these are the claims of a recorded token.
    pub(super) fn was_recorded(&self, claims: &[u8]) -> bool {
        self.recorded.contains(blake3::hash(claims).as_bytes())
    }

    /// The `kid`s of the tokens that are given out, and the thumbprints of keys that verify tokens besides.
    pub(super) fn kids(&self) -> BTreeSet<&str> {
        let beside = self.beside.iter().map(|key| key.thumbprint());
        self.kids.iter().map(String::as_str).chain(beside).collect()
    }

    /// What the tokens that are given out say.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }
}
