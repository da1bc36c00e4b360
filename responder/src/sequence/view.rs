//! Who shares the turns of a replay in one epoch, and which of them owns a list: the one with the highest number drawn from both names.
//!
//! Whoever comes or goes moves only the lists that it owns, and nobody has to be asked who owns what.

use std::sync::Arc;

use countersign_engine::{snapshot::digest::Digest, turns::ListId};
use countersign_proto::discovery::v1::{Member, Members};

/// A responder that shares turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    /// Its process.
    pub(crate) session: Arc<str>,
    /// Where it is reached; empty when it is not.
    pub(crate) address: Arc<str>,
    draw: Draw,
}

/// What a name is worth for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Draw(u64);

/// One epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    pub(crate) epoch: u64,
    pub(crate) members: Vec<Peer>,
    pub(crate) previous_epoch: u64,
    pub(crate) previous: Vec<Peer>,
}

/// The names of all who may own lists in an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners(Vec<(String, Draw)>);

impl Draw {
    fn of(name: &str) -> Self {
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            *Digest::of(name.as_bytes()).hash();
        Self(u64::from_le_bytes(head))
    }

    /// The finalizer of splitmix64: each bit of both numbers changes about half of the bits of this one.
    fn of_list(self, list: ListId) -> u64 {
        let mixed = list.number() ^ self.0.rotate_left(32);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Peer {
    pub(crate) fn new(name: &str, session: &str, address: &str) -> Self {
        let draw = Draw::of(name);
        Self { name: name.into(), session: session.into(), address: address.into(), draw }
    }
}

/// Who of these owns a list. Those who cannot be reached own nothing, unless there is but one.
pub(crate) fn owner(peers: &[Peer], list: ListId) -> Option<&Peer> {
    owners(peers).max_by_key(|peer| (peer.draw.of_list(list), &peer.name))
}

/// Who of these may own lists.
pub(crate) fn owners(peers: &[Peer]) -> impl Iterator<Item = &Peer> {
    let alone = peers.len() == 1;
    peers.iter().filter(move |peer| alone || !peer.address.is_empty())
}

impl Owners {
    pub(crate) fn of(names: Vec<String>) -> Self {
        let draw = |name: String| {
            let draw = Draw::of(&name);
            (name, draw)
        };
        Self(names.into_iter().map(draw).collect())
    }

    /// Whether this is the name of a list's owner.
    pub(crate) fn owns(&self, name: &str, list: ListId) -> bool {
        let first = self.0.iter().max_by_key(|(name, draw)| (draw.of_list(list), name));
        first.is_some_and(|(first, _)| first == name)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl View {
    pub(crate) fn decode(members: &Members) -> Self {
        let peers = |members: &[Member]| {
            let peer = |m: &Member| Peer::new(&m.name, &m.session_id, &m.address);
            members.iter().map(peer).collect()
        };
        Self {
            epoch: members.epoch,
            members: peers(&members.members),
            previous_epoch: members.previous_epoch,
            previous: peers(&members.previous),
        }
    }

    /// Who owns a list.
    pub(crate) fn owner(&self, list: ListId) -> Option<&Peer> {
        owner(&self.members, list)
    }

    /// Who owned it in the epoch before.
    pub(crate) fn owner_before(&self, list: ListId) -> Option<&Peer> {
        owner(&self.previous, list)
    }

    /// Whether a process is among the members.
    pub(crate) fn has(&self, session: &str) -> bool {
        self.members.iter().any(|peer| *peer.session == *session)
    }

    /// Whether it was in the epoch before.
    pub(crate) fn had(&self, session: &str) -> bool {
        self.previous.iter().any(|peer| *peer.session == *session)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn list(number: u32) -> ListId {
        let digest = Digest::of(&number.to_le_bytes()).to_hex();
        ListId::from_bytes(&digest.as_bytes()[..16]).unwrap()
    }

    fn peers(names: &[&str]) -> Vec<Peer> {
        names.iter().map(|name| Peer::new(name, &format!("{name}1"), "a:1")).collect()
    }

    #[test]
    fn lists_are_spread_evenly_and_only_those_of_who_leaves_move() {
        let (all, left) = (peers(&["a", "b", "c", "d"]), peers(&["a", "b", "c"]));
        let mut counts = std::collections::BTreeMap::<&str, u32>::new();
        for number in 0..4000 {
            let before = owner(&all, list(number)).unwrap();
            *counts.entry(&before.name).or_default() += 1;
            let after = owner(&left, list(number)).unwrap();
            assert!(before.name == after.name || &*before.name == "d");
        }
        assert!(counts.len() == 4 && counts.values().all(|count| (850..1150).contains(count)));
    }

    #[test]
    fn who_cannot_be_reached_owns_nothing_unless_it_is_alone() {
        let mut both = peers(&["a", "b"]);
        both[0].address = "".into();
        assert!((0..100).all(|number| &*owner(&both, list(number)).unwrap().name == "b"));
        both[1].address = "".into();
        assert_eq!(owner(&both, list(1)), None);
        assert_eq!(&*owner(&both[..1], list(1)).unwrap().name, "a");
        assert_eq!(owner(&[], list(1)), None);
    }

    #[test]
    fn names_alone_tell_the_owner() {
        let all = peers(&["a", "b", "c"]);
        let names = Owners::of(all.iter().map(|peer| peer.name.to_string()).collect());
        for number in 0..100 {
            let first = owner(&all, list(number)).unwrap();
            for peer in &all {
                assert_eq!(names.owns(&peer.name, list(number)), peer == first);
            }
        }
    }
}
