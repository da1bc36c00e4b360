//! What other control planes report of the responders that are connected to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, RwLock},
};

use super::Responder;
use crate::store::now;

/// Who was connected to a control plane that has ended is remembered for so long, in nanoseconds.
const REMEMBERED: i64 = 60_000_000_000;

/// What one other control plane reports.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The control plane.
    pub(crate) replica: String,
    /// Whether it was heard of just now; the responders of one that was not are not connected any more.
    pub(crate) alive: bool,
    /// Its last report.
    pub(crate) reports: u64,
    /// The responders that have changed since they were heard last.
    pub(crate) responders: Vec<Responder>,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    known: RwLock<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    alive: bool,
    /// Since when it is not, in nanoseconds since the epoch.
    dead_since: i64,
    /// It has ended in order. Its responders are on their way to others, and are listed no more.
    left: bool,
    reports: u64,
    responders: HashMap<(String, String), Responder>,
}

impl Peers {
    /// Takes in reports of all there are; says whether anything is new.
    pub(super) fn hear(&self, peers: Vec<Peer>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for (name, known) in known.iter_mut().filter(|(_, known)| !known.left) {
            if !peers.iter().any(|peer| peer.replica == *name) {
                known.dead_since = if known.alive { now() } else { known.dead_since };
                (known.alive, known.left, news) = (false, true, true);
            }
        }
        let forgotten = now().saturating_sub(REMEMBERED);
        known.retain(|_, known| !known.left || known.dead_since > forgotten);
        for peer in peers {
            let known = known.entry(peer.replica).or_default();
            news |= known.alive != peer.alive || !peer.responders.is_empty();
            if known.alive && !peer.alive {
                known.dead_since = now();
            }
            (known.alive, known.left) = (peer.alive, false);
            known.reports = peer.reports;
            let keyed =
                peer.responders.into_iter().map(|r| ((r.project.clone(), r.name.clone()), r));
            known.responders.extend(keyed);
        }
        news
    }

    pub(super) fn heard(&self) -> BTreeMap<String, u64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let present = known.iter().filter(|(_, known)| !known.left);
        present.map(|(name, known)| (name.clone(), known.reports)).collect()
    }

    /// Adds the responders of a project.
    pub(super) fn add(&self, project: &str, found: &mut Vec<Responder>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for known in known.values().filter(|known| !known.left) {
            let of_project = known.responders.values().filter(|r| r.project == project);
            found.extend(of_project.map(|r| known.seen(r)));
        }
    }

    /// Shows each responder of a project, and whether it is connected.
    pub(super) fn each(&self, project: &str, mut show: impl FnMut(&Responder, bool)) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for known in known.values() {
            for responder in known.responders.values().filter(|r| r.project == project) {
                if known.alive {
                    show(responder, responder.connected);
                } else {
                    show(&known.seen(responder), false);
                }
            }
        }
    }
}

impl Known {
    /// A responder as it is to be seen: whose control plane is gone is gone, too.
    fn seen(&self, responder: &Responder) -> Responder {
        let lost = responder.connected && !self.alive;
        Responder {
            connected: responder.connected && self.alive,
            leave_time: if lost { self.dead_since } else { responder.leave_time },
            ..responder.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_engine::snapshot::digest::Digest;

    use super::*;
    use crate::{
        fleet::{Absence, Fleet},
        publish::Assignment,
    };

    fn responder(name: &str, connected: bool, connect_time: i64) -> Responder {
        Responder {
            project: "projects/p".into(),
            name: name.into(),
            connected,
            data_address: connect_time.to_string(),
            version: String::new(),
            connect_time,
            leave_time: 0,
            others: 0,
            selectors: Vec::new(),
            replays: BTreeMap::new(),
        }
    }

    fn peer(replica: &str, alive: bool, reports: u64, responders: &[Responder]) -> Peer {
        Peer { replica: replica.into(), alive, reports, responders: responders.to_vec() }
    }

    fn listed(fleet: &Fleet) -> Vec<(String, bool, i64)> {
        let all = fleet.list("projects/p").into_iter();
        all.map(|r| (r.name, r.connected, r.connect_time)).collect()
    }

    #[test]
    fn a_responder_is_where_it_is_connected_or_else_was_last() {
        let fleet = Fleet::default();
        let mut changes = fleet.subscribe();
        let (session, _) = fleet.connect(responder("moves", true, 5), "x");
        fleet.hear(vec![peer(
            "a",
            true,
            1,
            &[responder("far", true, 1), responder("moves", false, 9)],
        )]);
        assert!(changes.has_changed().unwrap());
        assert_eq!(listed(&fleet), [("far".into(), true, 1), ("moves".into(), true, 5)]);
        assert_eq!(fleet.heard(), BTreeMap::from([("a".into(), 1)]));
        fleet.disconnect(&session);
        fleet.hear(vec![peer("a", true, 2, &[responder("moves", true, 9)])]);
        assert_eq!(listed(&fleet)[1], ("moves".into(), true, 9));

        changes.mark_unchanged();
        fleet.hear(vec![peer("a", true, 2, &[])]);
        assert!(!changes.has_changed().unwrap(), "nothing is new");
        fleet.hear(vec![peer("a", false, 2, &[])]);
        assert_eq!(listed(&fleet), [("far".into(), false, 1), ("moves".into(), false, 9)]);
        fleet.hear(Vec::new());
        assert_eq!(listed(&fleet), [("moves".into(), false, 5)]);

        // Who was connected to one that has ended may be on its way here.
        let connected = [responder("far", true, 1)];
        fleet.hear(vec![peer("b", true, 1, &connected)]);
        fleet.hear(Vec::new());
        assert_eq!((listed(&fleet).len(), fleet.heard().len()), (1, 0));
        let version = Assignment { bundle: Digest::of(b"x"), generation: 1, start_time: 0 };
        let nodes = |now| {
            let absence = Absence { lease: Duration::from_secs(10), began: 0, now };
            let nodes = fleet.nodes("projects/p/replays/r", &version, &[], absence);
            nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (nodes(now()), nodes(now() + 20_000_000_000)),
            (vec!["far".to_owned(), "moves".to_owned()], vec![])
        );
    }

    #[test]
    fn what_changed_is_told_once_and_again_when_that_failed() {
        let fleet = Fleet::default();
        let (session, _) = fleet.connect(responder("a", true, 1), "x");
        assert_eq!(fleet.untold().len(), 1);
        assert!(fleet.untold().is_empty());
        fleet.disconnect(&session);
        let untold = fleet.untold();
        assert!(untold.len() == 1 && !untold[0].connected);
        fleet.tell_again(&untold);
        assert_eq!(fleet.untold().len(), 1);
    }
}
