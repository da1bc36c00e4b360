//! The index: from a signature to the responses recorded under it, and the cursor that takes turns among them.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::signature::Signature;

/// How many recorded hosts are tried for a request whose own host was never recorded.
const MAX_HOSTS: usize = 64;

/// From a signature to its instances.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_signature: HashMap<Box<[u8]>, usize, rapidhash::fast::RandomState>,
    entries: Vec<Entry>,
    hosts: Vec<Box<[u8]>>,
}

/// The responses recorded under one signature, in recorded order.
#[derive(Debug)]
pub(crate) struct Entry {
    instances: Vec<usize>,
    cursor: AtomicU32,
}

impl Index {
    /// Adds a response under a signature. Responses come in recorded order.
    pub(crate) fn add(&mut self, signature: &Signature, instance: usize) {
        if let Some(host) = signature.host()
            && self.hosts.len() < MAX_HOSTS
            && !self.knows_host(host)
        {
            self.hosts.push(host.into());
        }
        let entry = *self.by_signature.entry(signature.to_bytes()).or_insert(self.entries.len());
        match self.entries.get_mut(entry) {
            Some(entry) => entry.instances.push(instance),
            None => {
                self.entries.push(Entry { instances: vec![instance], cursor: AtomicU32::new(0) });
            }
        }
    }

    /// The entry of a signature. A host that was never recorded stands for every recorded one, in recorded order: a mock is often reached
    /// under another name than the service that it stands for.
    pub(crate) fn get(&self, signature: &Signature) -> Option<&Entry> {
        if let Some(entry) = self.exact(signature) {
            return Some(entry);
        }
        let host = signature.host()?;
        if self.knows_host(host) {
            return None;
        }
        self.hosts
            .iter()
            .find_map(|known| self.exact(&signature.with_host(&String::from_utf8_lossy(known))))
    }

    /// Whether a host was recorded.
    pub(crate) fn knows_host(&self, host: &[u8]) -> bool {
        self.hosts.iter().any(|known| **known == *host)
    }

    /// The entry of a signature's bytes.
    pub(crate) fn get_bytes(&self, signature: &[u8]) -> Option<&Entry> {
        self.entries.get(*self.by_signature.get(signature)?)
    }

    fn exact(&self, signature: &Signature) -> Option<&Entry> {
        self.get_bytes(&signature.to_bytes())
    }

    /// Every signature, in no particular order.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = Signature> + '_ {
        self.by_signature.keys().filter_map(|bytes| Signature::from_bytes(bytes))
    }

    /// How many signatures there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    /// The instances, and which of them comes next, without taking it.
    pub(crate) fn peek(&self) -> (&[usize], usize) {
        let turn = usize::try_from(self.cursor.load(Ordering::Relaxed)).unwrap_or_default();
        (&self.instances, turn.checked_rem(self.instances.len()).unwrap_or_default())
    }

    /// The next instance: recorded order, then from the start again.
    pub(crate) fn next(&self) -> Option<usize> {
        match self.instances.as_slice() {
            [only] => Some(*only),
            several => {
                let turn = usize::try_from(self.cursor.fetch_add(1, Ordering::Relaxed))
                    .unwrap_or_default();
                // `checked_rem` is `None` only for an entry without instances, which `add` never makes.
                several.get(turn.checked_rem(several.len())?).copied()
            }
        }
    }
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

    #[test]
    fn takes_turns_in_recorded_order_and_wraps() {
        let mut index = Index::default();
        for instance in 0..3 {
            index.add(&signature("a", "/p"), instance);
        }
        let entry = index.get(&signature("a", "/p")).unwrap();
        assert_eq!(
            (0..7).map(|_| entry.next().unwrap()).collect::<Vec<_>>(),
            [0, 1, 2, 0, 1, 2, 0]
        );
    }

    #[test]
    fn an_unknown_host_stands_for_every_recorded_one_and_a_known_host_for_itself() {
        let mut index = Index::default();
        index.add(&signature("a", "/p"), 0);
        index.add(&signature("b", "/q"), 1);
        assert_eq!(index.get(&signature("localhost:4140", "/q")).unwrap().next(), Some(1));
        assert!(index.get(&signature("a", "/q")).is_none());
        assert!(index.get(&signature("localhost", "/r")).is_none());
    }
}
