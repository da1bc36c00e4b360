//! Plain pairs: nothing works on their request or response, so that each can be compiled for itself, and in any order.
//!
//! They are read as they lie in their chunks, which is much faster than as they were recorded, and most pairs of most recordings are plain.
//! Their signatures are entered later, in recorded order, with those of all others.

use std::time::Duration;

use super::{CompiledSnapshot, Instance, Keep, instance::Served, respond::is_plain};
use crate::{
    body, extra,
    identity::Seen,
    signature::Signature,
    snapshot::{RrPair, encoded::Pairs, wire::Part},
    token_world::may_be_document,
    transform::filter,
    turns::{self, Recorded},
};

/// More hosts than these are not told apart.
const MAX_HOSTS: usize = 1024;

/// A pair that is compiled but for its place among the others.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) instance: Instance,
    pub(super) recorded: Recorded,
    pub(super) signature: Box<[u8]>,
    /// Its hash, as the index takes it.
    pub(super) hash: u64,
    /// Its host, by its number among those of all plain pairs.
    pub(super) host: u32,
}

/// The plain pairs of a recording by their numbers, and the hosts that they name.
#[derive(Debug, Default)]
pub(super) struct Plains {
    pairs: Vec<Option<Plain>>,
    hosts: Vec<Box<[u8]>>,
}

impl Plains {
    /// Compiles all pairs that are plain, and forgets them.
    pub(super) fn of(
        compiled: &CompiledSnapshot,
        pairs: &mut Pairs,
        seen: &[Seen],
        keep: &mut Keep,
    ) -> Self {
        let mut plains = Self::default();
        plains.pairs.resize_with(pairs.len(), || None);
        let mut room = RrPair::default();
        for at in 0..pairs.len() {
            let number = pairs.number(at);
            let seen = seen.get(number).copied().unwrap_or_default();
            let pair = pairs.at(at, Part::Whole, &mut room);
            let plain = plains.compile(compiled, pair, seen, keep);
            if let (Some(plain), Some(place)) = (plain, plains.pairs.get_mut(number)) {
                *place = Some(plain);
                pairs.forget(at);
            }
        }
        plains
    }

    /// Takes a pair out, if it is plain.
    pub(super) fn take(&mut self, number: usize) -> Option<Plain> {
        self.pairs.get_mut(number).and_then(Option::take)
    }

    /// The host of a plain pair.
    pub(super) fn host(&self, plain: &Plain) -> Option<&[u8]> {
        self.hosts.get(usize::try_from(plain.host).ok()?).map(|host| &**host)
    }

    fn compile(
        &mut self,
        compiled: &CompiledSnapshot,
        pair: &RrPair,
        seen: Seen,
        keep: &mut Keep,
    ) -> Option<Plain> {
        let response = &pair.response;
        let untouched = (200..=999).contains(&response.status)
            && response.status != 304
            && pair.stub.is_none()
            && is_plain(pair)
            && !extra::may_have_trailers(pair)
            && !body::is_gzip(&response.body)
            && !(response.status == 200 && may_be_document(&response.body));
        if !untouched {
            return None;
        }
        let recorded = filter::Recorded::new(pair);
        if compiled.response_chains.iter().any(|chain| chain.filters.selects(&recorded)) {
            return None;
        }
        keep.scratch.clear();
        let (host, request) = Signature::write_pair(pair, &mut keep.scratch)?;
        let signature: Box<[u8]> = keep.scratch.as_slice().into();
        let headers = keep.sound_headers(&response.headers)?;
        let delay = compiled.timing.of(Duration::from_nanos(pair.duration));
        let served = Served { of: response, trailers: None, delay };
        let mut instance = served.instance(pair, headers, keep);
        instance.identity = seen.identity;
        let host = self.number_of(&host)?;
        Some(Plain {
            instance,
            recorded: turns::recorded(&request.method, response, seen),
            hash: compiled.index.hash(&signature),
            signature,
            host,
        })
    }

    fn number_of(&mut self, host: &[u8]) -> Option<u32> {
        // Pairs of one host mostly lie side by side.
        let known = self.hosts.iter().rposition(|known| **known == *host);
        if known.is_none() && self.hosts.len() < MAX_HOSTS {
            self.hosts.push(host.into());
        }
        let known = known.or_else(|| self.hosts.len().checked_sub(1))?;
        self.hosts.get(known).filter(|known| ***known == *host)?;
        u32::try_from(known).ok()
    }
}

impl CompiledSnapshot {
    /// Whether pairs can be compiled each for itself, when nothing of their own is in the way.
    pub(super) fn takes_plain_pairs(&self) -> bool {
        self.plan.leaves_recorded()
            && self.methods.is_empty()
            && self.chaos.is_none()
            && !self.learns
    }

    /// Adds a plain pair.
    pub(super) fn add_plain(&mut self, plain: Plain, host: Option<&[u8]>) -> Recorded {
        self.index.add_hashed(host, plain.signature, plain.hash, self.instances.len());
        self.instances.push(plain.instance);
        plain.recorded
    }
}
