//! What chaos does to answers: it looks at each one before it is made, since tokens are made unsound while they are made.

use bytes::Bytes;

use super::{NANOS, Serving};
use crate::{
    answer::Hit,
    chaos::{Asked, Spoiling, Stroke},
    compile::{Instance, Living, Way},
    jwt::{TokenSlot, key::SigningKey},
    request::Request,
    token_fault::{KeySetFault, TokenFault},
};

/// A key set without keys.
const NO_KEYS: &str = r#"{"keys":[]}"#;

impl Serving {
    /// What befalls this answer; `None` where nothing is configured. `place` stands for all that was recorded under the same signature.
    pub(super) fn strike(
        &self,
        request: &Request<'_>,
        found: Option<(usize, usize, &Instance)>,
        real: i64,
    ) -> Option<Stroke<'_>> {
        let chaos = self.snapshot.chaos.as_deref()?;
        let living = found.and_then(|(_, _, instance)| instance.living.as_deref());
        let (slots, per_request) = match living {
            Some(Living { way: Way::Dynamic { known, .. }, .. }) => {
                (known.iter().map(|known| known.slot).collect(), true)
            }
            Some(living) => {
                let mut slots = Vec::new();
                self.any_slot(living, |slot| {
                    slots.push(slot);
                    false
                });
                (slots, false)
            }
            None => (Vec::new(), false),
        };
        let key_set = living.is_some_and(|living| matches!(living.way, Way::KeySet(_)));
        chaos.strike(&Asked {
            request,
            place: found.map(|(place, ..)| place),
            instance: found.map(|(_, nth, _)| nth),
            elapsed: real.saturating_sub(self.start),
            tokens: per_request || !slots.is_empty(),
            slots: &slots,
            key_set: found.is_none() || key_set,
        })
    }

    /// A key set that was not recorded, and what befalls it.
    pub(super) fn befallen(&self, request: &Request<'_>, mut hit: Hit, real: i64) -> Hit {
        let stroke = self.strike(request, None, real);
        let fault = stroke.as_ref().and_then(Stroke::key_set);
        if let Some(unsound) = fault.and_then(|fault| self.unsound_set(None, fault)) {
            hit.body = unsound;
        }
        finish(stroke, &mut hit);
        hit
    }

    /// The body of a key set that is not what it should be; `None` when the sound one is served.
    pub(super) fn unsound_set(&self, set: Option<usize>, fault: KeySetFault) -> Option<Bytes> {
        match fault {
            KeySetFault::Error(_) | KeySetFault::Slow(_) => None,
            KeySetFault::Stale => {
                let stale = set.and_then(|set| self.snapshot.token_world.without_ours(set));
                Some(stale.unwrap_or_else(|| Bytes::from_static(NO_KEYS.as_bytes())))
            }
            KeySetFault::Empty => Some(Bytes::from_static(NO_KEYS.as_bytes())),
        }
    }

    /// The token of a slot, unsound if it is to be so. It is made for this request only.
    pub(super) fn spoilt(
        &self,
        slot: usize,
        now: i64,
        spoiling: Option<&Spoiling<'_>>,
    ) -> Option<Bytes> {
        let sound = self.token(slot, now)?;
        let (Some(spoiling), Some(slot), Some(token)) =
            (spoiling, self.snapshot.slots.get(slot), self.tokens.get(slot))
        else {
            return Some(sound);
        };
        Some(match token.key.as_deref() {
            Some(key) => {
                let second = now.div_euclid(NANOS);
                spoil(slot, &sound, key, second, spoiling).unwrap_or(sound)
            }
            None => sound,
        })
    }
}

/// A token made unsound; `None` when it stays as it is.
pub(super) fn spoil(
    slot: &TokenSlot,
    sound: &[u8],
    key: &SigningKey,
    second: i64,
    spoiling: &Spoiling<'_>,
) -> Option<Bytes> {
    let fault: TokenFault = spoiling.fault(slot.recorded_claims_json())?;
    let unsound = slot.spoil(sound, key, second, fault, spoiling.seed())?;
    spoiling.done(fault);
    Some(unsound.into())
}

/// Ends an answer that something may have befallen.
pub(super) fn finish(stroke: Option<Stroke<'_>>, hit: &mut Hit) {
    if let Some(stroke) = stroke {
        stroke.finish(hit);
    }
}
