//! The index: from a signature to the responses recorded under it, and the cursor that takes turns among them.

use std::{hash::BuildHasher as _, sync::OnceLock};

use hashbrown::HashTable;

use crate::{
    identity::{IdentityId, Who},
    near_miss::Order,
    signature::{Signature, around_host, write_part},
    test_config::End,
    turns::{Cursor, ListId, Narrowed, Progress, Shared, Turns},
};

/// How many recorded hosts are tried for a request whose own host was never recorded.
const MAX_HOSTS: usize = 64;

/// From a signature to its instances.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Numbers of entries, which have the signatures themselves.
    by_signature: HashTable<u32>,
    state: rapidhash::fast::RandomState,
    entries: Vec<Entry>,
    hosts: Vec<Box<[u8]>>,
    /// Made when the first miss is explained.
    order: OnceLock<Order>,
}

/// The responses recorded under one signature, in recorded order.
#[derive(Debug)]
pub(crate) struct Entry {
    signature: Box<[u8]>,
    instances: Instances,
    cursor: Cursor,
    /// `None` when it does not matter who asks.
    turns: Option<Box<Turns>>,
}

/// Most signatures have one response, which needs no list of its own.
#[derive(Debug)]
enum Instances {
    One([usize; 1]),
    Several(Vec<usize>),
}

impl Instances {
    fn as_slice(&self) -> &[usize] {
        match self {
            Self::One(one) => one,
            Self::Several(several) => several,
        }
    }

    fn push(&mut self, instance: usize) {
        match self {
            Self::One([first]) => *self = Self::Several(vec![*first, instance]),
            Self::Several(several) => several.push(instance),
        }
    }
}

impl Index {
    /// Makes room for so many signatures.
    pub(crate) fn reserve(&mut self, signatures: usize) {
        self.by_signature.reserve(signatures, hasher(&self.entries, &self.state));
        self.entries.reserve_exact(signatures);
    }

    /// Gives back the room that was not needed.
    pub(crate) fn shrink(&mut self) {
        self.by_signature.shrink_to_fit(hasher(&self.entries, &self.state));
        self.entries.shrink_to_fit();
    }

    /// Adds a response under a signature and tells which entry that is. Responses come in recorded order.
    pub(crate) fn add(&mut self, signature: &Signature, instance: usize) -> usize {
        self.add_bytes(signature.host(), &signature.to_bytes(), instance)
    }

    /// The same by the host and the bytes of a signature.
    pub(crate) fn add_bytes(
        &mut self,
        host: Option<&[u8]>,
        signature: &[u8],
        instance: usize,
    ) -> usize {
        let hash = self.hash(signature);
        if let Some(entry) = self.find(signature, hash) {
            return self.add_to(entry, host, instance);
        }
        self.add_new(host, signature.into(), hash, instance)
    }

    /// The same by the bytes of a signature and their [`Self::hash`].
    pub(crate) fn add_hashed(
        &mut self,
        host: Option<&[u8]>,
        signature: Box<[u8]>,
        hash: u64,
        instance: usize,
    ) -> usize {
        match self.find(&signature, hash) {
            Some(entry) => self.add_to(entry, host, instance),
            None => self.add_new(host, signature, hash, instance),
        }
    }

    /// The hash of a signature's bytes.
    pub(crate) fn hash(&self, signature: &[u8]) -> u64 {
        self.state.hash_one(signature)
    }

    fn add_to(&mut self, entry: usize, host: Option<&[u8]>, instance: usize) -> usize {
        self.know(host);
        if let Some(known) = self.entries.get_mut(entry) {
            known.instances.push(instance);
        }
        entry
    }

    fn add_new(
        &mut self,
        host: Option<&[u8]>,
        signature: Box<[u8]>,
        hash: u64,
        instance: usize,
    ) -> usize {
        self.know(host);
        let entry = self.entries.len();
        let cursor = Cursor::default();
        let instances = Instances::One([instance]);
        self.entries.push(Entry { signature, instances, cursor, turns: None });
        // More signatures than these are not told apart by number; they would be found by none.
        if let Ok(number) = u32::try_from(entry) {
            self.by_signature.insert_unique(hash, number, hasher(&self.entries, &self.state));
        }
        self.order.take();
        entry
    }

    fn know(&mut self, host: Option<&[u8]>) {
        if let Some(host) = host
            && self.hosts.len() < MAX_HOSTS
            && !self.knows_host(host)
        {
            self.hosts.push(host.into());
        }
    }

    /// The number of a signature's entry.
    fn find(&self, signature: &[u8], hash: u64) -> Option<usize> {
        let found = self
            .by_signature
            .find(hash, |nth| signature_of(&self.entries, *nth) == Some(signature));
        found.and_then(|nth| usize::try_from(*nth).ok())
    }

    /// An entry by its number.
    pub(crate) fn entry(&self, nth: usize) -> Option<&Entry> {
        self.entries.get(nth)
    }

    /// The entry of a signature. A host that was never recorded stands for every recorded one, in recorded order: a mock is often reached
    /// under another name than the service that it stands for.
    pub(crate) fn get(&self, signature: &Signature) -> Option<&Entry> {
        let bytes = signature.to_bytes();
        if let Some(entry) = self.get_bytes(&bytes) {
            return Some(entry);
        }
        if self.knows_host(signature.host()?) {
            return None;
        }
        let (before, behind) = around_host(&bytes)?;
        let mut other = Vec::with_capacity(bytes.len() + 64);
        self.hosts.iter().find_map(|known| {
            other.clear();
            other.extend_from_slice(before);
            write_part(known, &mut other);
            other.extend_from_slice(behind);
            self.get_bytes(&other)
        })
    }

    /// Whether a host was recorded.
    pub(crate) fn knows_host(&self, host: &[u8]) -> bool {
        self.hosts.iter().any(|known| **known == *host)
    }

    /// The entry of a signature's bytes.
    pub(crate) fn get_bytes(&self, signature: &[u8]) -> Option<&Entry> {
        self.entries.get(self.number(signature)?)
    }

    /// The number of that entry.
    pub(crate) fn number(&self, signature: &[u8]) -> Option<usize> {
        self.find(signature, self.hash(signature))
    }

    /// The bytes of each signature, and the first of its instances.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((&*entry.signature, *entry.instances().first()?)))
    }

    /// The signatures in the order of their paths. The first call takes as long as sorting them does.
    pub(crate) fn order(&self) -> &Order {
        self.order.get_or_init(|| Order::of(self))
    }

    /// The hosts that were recorded, the first of them.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &[u8]> {
        self.hosts.iter().map(|host| &**host)
    }

    /// How many signatures there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Lays out the turns of signatures with several instances. To be called once, after the last was added.
    pub(crate) fn lay_out(&mut self, mut turns: impl FnMut(&[u8], &[usize]) -> Option<Box<Turns>>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.instances().len() > 1) {
            entry.turns = turns(&entry.signature, entry.instances());
        }
    }

    /// What nodes share of the turns of each signature.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Shared> {
        self.entries.iter().flat_map(|entry| {
            let lists = entry.turns.iter().flat_map(|turns| turns.lists());
            lists.filter_map(|(_, list)| list.shared).chain(entry.shared())
        })
    }

    /// Every cursor, and how many instances take turns by it.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = (&Cursor, usize)> {
        self.entries.iter().flat_map(|entry| {
            let own = (&entry.cursor, entry.instances().len());
            let lists = entry.turns.iter().flat_map(|turns| turns.lists());
            lists.map(|(_, list)| (list.cursor, list.instances.len())).chain([own])
        })
    }

    /// Every signature's bytes and its entry, in recorded order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|entry| (&*entry.signature, entry))
    }
}

/// Hashes the signature of an entry by its number, for a table that grows or shrinks.
fn hasher<'i>(
    entries: &'i [Entry],
    state: &'i rapidhash::fast::RandomState,
) -> impl Fn(&u32) -> u64 + 'i {
    |nth| state.hash_one(signature_of(entries, *nth).unwrap_or_default())
}

fn signature_of(entries: &[Entry], nth: u32) -> Option<&[u8]> {
    let entry = usize::try_from(nth).ok().and_then(|nth| entries.get(nth))?;
    Some(&entry.signature)
}

impl Entry {
    /// The bytes of its signature.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// All instances.
    pub(crate) fn instances(&self) -> &[usize] {
        self.instances.as_slice()
    }

    /// The lists of single identities, and whose they are.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (IdentityId, Narrowed<'_>)> {
        self.turns.iter().flat_map(|turns| turns.lists())
    }

    /// The list of all instances, for whoever has no own one.
    pub(crate) fn whole(&self) -> Narrowed<'_> {
        let (instances, shared) = (self.instances(), self.shared());
        Narrowed { instances, cursor: &self.cursor, epoch: None, shared }
    }

    /// What nodes share of the turns of all instances.
    fn shared(&self) -> Option<&Shared> {
        self.turns.as_ref().and_then(|turns| turns.shared())
    }

    /// The instances that somebody may get, whom `who` names if it matters.
    pub(crate) fn narrow(&self, who: impl FnOnce() -> Who, progress: &Progress) -> Narrowed<'_> {
        self.own(who, progress).unwrap_or_else(|| self.whole())
    }

    /// The instances that were recorded for whoever asks; `None` when there are none, or it does not matter.
    fn own(&self, who: impl FnOnce() -> Who, progress: &Progress) -> Option<Narrowed<'_>> {
        self.turns.as_ref().and_then(|turns| turns.narrow(who(), progress))
    }

    /// The next instance, or whose turn has to be asked for first.
    pub(crate) fn next(
        &self,
        end: End,
        who: impl FnOnce() -> Who,
        progress: &Progress,
    ) -> Option<Next<'_>> {
        if let [only] = self.instances.as_slice() {
            return Some(Next::Instance { nth: *only, borrowed: false });
        }
        let whose = match &self.turns {
            Some(turns) if turns.tells_apart() => turns.whose(who()),
            _ => None,
        };
        if let Some((identity, true)) = whose
            && let Some(id) = progress.shared(identity)
        {
            return Some(Next::Progress(identity, id));
        }
        self.next_of(end, whose.map(|(identity, _)| (identity, progress.of(identity))))
    }

    /// The list of an identity in an epoch, or else of whoever has no own one.
    pub(crate) fn list(&self, whose: Option<(IdentityId, u32)>) -> Narrowed<'_> {
        let own = whose.and_then(|(identity, epoch)| {
            self.turns.as_ref().and_then(|turns| turns.narrow_at(identity, epoch))
        });
        own.unwrap_or_else(|| self.whole())
    }

    /// The next instance of an identity in an epoch, or of whoever has no own one.
    pub(crate) fn next_of(&self, end: End, whose: Option<(IdentityId, u32)>) -> Option<Next<'_>> {
        let list = self.list(whose);
        let borrowed = whose.is_none() && self.tells_apart();
        let len = list.instances.len();
        let at = match list.shared {
            None => list.cursor.take(len, end),
            Some(shared) => match shared.lease.take(len) {
                Some(at) => {
                    list.cursor.count();
                    at
                }
                None => return Some(Next::Shared(shared, whose)),
            },
        };
        Some(Next::Instance { nth: *list.instances.get(at)?, borrowed })
    }

    /// Whether it matters who asks.
    pub(crate) fn tells_apart(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.tells_apart())
    }
}

/// Which instance is next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next<'e> {
    /// This one.
    Instance {
        nth: usize,
        /// It is one of others, for want of an own one.
        borrowed: bool,
    },
    /// Nodes share the turns of this identity in this epoch, or of whoever has no own ones, and none is leased to this node.
    Shared(&'e Shared, Option<(IdentityId, u32)>),
    /// Nodes share how far this identity is.
    Progress(IdentityId, ListId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Parts;

    fn signature(host: &str, path: &str) -> Signature {
        Signature::of(
            &Parts {
                method: "GET".into(),
                host: host.into(),
                path: path.into(),
                ..Parts::default()
            },
            &[],
        )
    }

    fn next(entry: &Entry, end: End) -> usize {
        match entry.next(end, || Who::Unknown, &Progress::default()) {
            Some(Next::Instance { nth, .. }) => nth,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn takes_turns_in_recorded_order_and_wraps() {
        let mut index = Index::default();
        for instance in 0..3 {
            index.add(&signature("a", "/p"), instance);
        }
        let entry = index.get(&signature("a", "/p")).unwrap();
        let taken: Vec<_> = (0..7).map(|_| next(entry, End::Wrap)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn an_unknown_host_stands_for_every_recorded_one_and_a_known_host_for_itself() {
        let mut index = Index::default();
        index.add(&signature("a", "/p"), 0);
        index.add(&signature("b", "/q"), 1);
        let entry = index.get(&signature("localhost:4140", "/q")).unwrap();
        assert_eq!(next(entry, End::Wrap), 1);
        assert!(index.get(&signature("a", "/q")).is_none());
        assert!(index.get(&signature("localhost", "/r")).is_none());
    }
}
