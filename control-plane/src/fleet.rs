//! The responders that are or were connected, and what they made of each replay.
//!
//! Only a responder's newest session may write its entry. Entries of the departed are kept up to a bound, the oldest going first. Responders
//! that are connected to other control planes are known by what those report.

mod peers;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use dashmap::DashMap;
pub(crate) use peers::Peer;
use peers::Peers;
use tokio::sync::watch;

/// Entries of responders that are gone are kept up to this number of entries in all.
const KEPT: usize = 4096;

/// How far a responder has come with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fetching or compiling.
    Fetching,
    /// Serving.
    Active,
    /// Refused; the last good bundle goes on.
    Rejected,
}

/// What a responder made of one assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The bundle that this is about.
    pub bundle: Option<Digest>,
    /// How far it has come.
    pub phase: Phase,
    /// Why it was refused; empty when it was not.
    pub refusal: String,
    /// The secrets that were looked for in vain.
    pub unresolved: Vec<String>,
    /// The responder's own message, encoded, to be handed on as it came.
    pub report: Bytes,
}

/// A responder.
#[derive(Debug, Clone)]
pub struct Responder {
    /// Its project, `projects/{project}`.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Whether its subscription is open now.
    pub connected: bool,
    /// Where its data plane listens, as it says itself.
    pub data_address: String,
    /// Its version.
    pub version: String,
    /// When it connected last, in nanoseconds since the epoch.
    pub connect_time: i64,
    /// The replays that it wants; empty for all of the project.
    pub selectors: Vec<String>,
    /// What it made of each replay.
    pub replays: BTreeMap<String, Outcome>,
}

impl Responder {
    /// Whether it wants this replay.
    #[must_use]
    pub fn wants(&self, replay: &str) -> bool {
        wants(&self.project, &self.selectors, replay)
    }
}

/// Whether a replay is in the project and among the selectors, which are names or ids; none selects all.
#[must_use]
pub fn wants(project: &str, selectors: &[String], replay: &str) -> bool {
    let id = replay.strip_prefix(project).and_then(|rest| rest.strip_prefix("/replays/"));
    id.is_some_and(|id| {
        selectors.is_empty() || selectors.iter().any(|wanted| wanted == replay || wanted == id)
    })
}

/// All responders.
#[derive(Debug)]
pub struct Fleet {
    entries: DashMap<(String, String), Entry>,
    sessions: AtomicU64,
    changes: watch::Sender<u64>,
    peers: Peers,
    /// The entries that other control planes have not been told of, where there are any.
    untold: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Debug)]
struct Entry {
    session: u64,
    responder: Responder,
}

/// The right to write one responder's entry, until a newer session takes it over.
#[derive(Debug, Clone)]
pub struct Session {
    key: (String, String),
    number: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            entries: DashMap::new(),
            sessions: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            peers: Peers::default(),
            untold: Mutex::default(),
        }
    }
}

impl Fleet {
    /// Enters a responder that connected, and tells whether a session of the same name was open.
    pub fn connect(&self, responder: Responder) -> (Session, bool) {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let key = (responder.project.clone(), responder.name.clone());
        let replaced = self.entries.insert(key.clone(), Entry { session: number, responder });
        self.forget_the_oldest();
        self.changed(&key);
        (Session { key, number }, replaced.is_some_and(|entry| entry.responder.connected))
    }

    /// Marks a responder as gone.
    pub fn disconnect(&self, session: &Session) {
        self.write(session, |responder| responder.connected = false);
    }

    /// Notes what a responder made of a replay.
    pub fn report(&self, session: &Session, replay: &str, outcome: Outcome) {
        self.write(session, |responder| {
            responder.replays.insert(replay.to_owned(), outcome);
        });
    }

    /// Drops what a responder made of a replay that it serves no more.
    pub fn withdraw(&self, session: &Session, replay: &str) {
        self.write(session, |responder| {
            responder.replays.remove(replay);
        });
    }

    /// The responders of a project, by name.
    #[must_use]
    pub fn list(&self, project: &str) -> Vec<Responder> {
        let own = self.entries.iter().filter(|entry| entry.key().0 == project);
        let mut found: Vec<Responder> = own.map(|entry| entry.responder.clone()).collect();
        self.peers.add(project, &mut found);
        // One that moved is entered more than once: where it is connected it is, or else was last.
        found.sort_by(|a, b| {
            let newest = |r: &Responder| (!r.connected, std::cmp::Reverse(r.connect_time));
            a.name.cmp(&b.name).then_with(|| newest(a).cmp(&newest(b)))
        });
        found.dedup_by(|a, b| a.name == b.name);
        found
    }

    /// Takes in what other control planes report.
    pub(crate) fn hear(&self, peers: Vec<Peer>) {
        if self.peers.hear(peers) {
            self.changes.send_modify(|change| *change = change.wrapping_add(1));
        }
    }

    /// How far each other control plane was heard.
    pub(crate) fn heard(&self) -> BTreeMap<String, u64> {
        self.peers.heard()
    }

    /// The entries that have changed since this was asked last.
    pub(crate) fn untold(&self) -> Vec<Responder> {
        let untold = mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner));
        let entry = |key| self.entries.get(&key).map(|entry| entry.responder.clone());
        untold.into_iter().filter_map(entry).collect()
    }

    /// Has these told again, because telling them failed.
    pub(crate) fn tell_again(&self, responders: &[Responder]) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        untold.extend(responders.iter().map(|r| (r.project.clone(), r.name.clone())));
    }

    /// Changes whenever an entry does.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn write(&self, session: &Session, change: impl FnOnce(&mut Responder)) {
        match self.entries.get_mut(&session.key) {
            Some(mut entry) if entry.session == session.number => change(&mut entry.responder),
            _ => return,
        }
        self.changed(&session.key);
    }

    fn changed(&self, key: &(String, String)) {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        self.changes.send_modify(|change| *change = change.wrapping_add(1));
    }

    fn forget_the_oldest(&self) {
        if self.entries.len() <= KEPT {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|entry| !entry.responder.connected)
            .min_by_key(|entry| entry.responder.connect_time)
            .map(|entry| entry.key().clone());
        if let Some(key) = oldest {
            self.entries.remove_if(&key, |_, entry| !entry.responder.connected);
        }
    }
}

/// Whether a replay is served by all who want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is.
    pub ready: bool,
    /// Why, as one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// Each secret that a responder looked for in vain, with that responder's name.
    pub unresolved: Vec<String>,
}

/// Judges whether a bundle is served by all connected responders that want the replay.
#[must_use]
pub fn readiness(replay: &str, bundle: Digest, responders: &[Responder]) -> Readiness {
    let wanting: Vec<&Responder> =
        responders.iter().filter(|r| r.connected && r.wants(replay)).collect();
    let outcomes: Vec<(&str, Option<&Outcome>)> = wanting
        .iter()
        .map(|r| {
            (
                r.name.as_str(),
                r.replays.get(replay).filter(|outcome| outcome.bundle == Some(bundle)),
            )
        })
        .collect();
    let unresolved = outcomes
        .iter()
        .filter_map(|(name, outcome)| outcome.map(|outcome| (name, outcome)))
        .flat_map(|(name, outcome)| {
            outcome.unresolved.iter().map(move |secret| format!("{secret} at {name}"))
        })
        .collect();
    let verdict = |ready, reason, message| Readiness { ready, reason, message, unresolved };
    if outcomes.is_empty() {
        return verdict(
            false,
            "NoResponders",
            "no responder is connected that wants this replay".to_owned(),
        );
    }
    let rejected = outcomes.iter().filter_map(|(name, outcome)| {
        outcome
            .filter(|outcome| outcome.phase == Phase::Rejected)
            .map(|outcome| format!("{name}: {}", outcome.refusal))
    });
    let rejected: Vec<String> = rejected.collect();
    if !rejected.is_empty() {
        return verdict(false, "ResponderRejected", rejected.join("; "));
    }
    let active = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.is_some_and(|o| o.phase == Phase::Active))
        .count();
    let message = format!("{active} of {} responders serve it", outcomes.len());
    if active < outcomes.len() {
        return verdict(false, "Fetching", message);
    }
    verdict(true, "Serving", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLAY: &str = "projects/p/replays/r";

    fn responder(name: &str, time: i64) -> Responder {
        Responder {
            project: "projects/p".into(),
            name: name.into(),
            connected: true,
            data_address: String::new(),
            version: String::new(),
            connect_time: time,
            selectors: Vec::new(),
            replays: BTreeMap::new(),
        }
    }

    fn outcome(bundle: &str, phase: Phase) -> Outcome {
        let refusal = if phase == Phase::Rejected { "too new".into() } else { String::new() };
        Outcome {
            bundle: Some(Digest::of(bundle.as_bytes())),
            phase,
            refusal,
            unresolved: Vec::new(),
            report: Bytes::new(),
        }
    }

    #[test]
    fn selectors_are_names_or_ids_within_the_project() {
        assert!(wants("projects/p", &[], REPLAY));
        assert!(wants("projects/p", &["x".into(), "r".into()], REPLAY));
        assert!(wants("projects/p", &[REPLAY.into()], REPLAY));
        assert!(!wants("projects/p", &["x".into()], REPLAY));
        assert!(!wants("projects/q", &[], REPLAY));
        assert!(!wants("projects", &[], REPLAY));
    }

    #[test]
    fn only_the_newest_session_writes() {
        let fleet = Fleet::default();
        let (old, replaced) = fleet.connect(responder("a", 1));
        assert!(!replaced);
        let (new, replaced) = fleet.connect(responder("a", 2));
        assert!(replaced);
        fleet.disconnect(&old);
        fleet.report(&old, REPLAY, outcome("x", Phase::Active));
        assert!(
            fleet.list("projects/p")[0].connected && fleet.list("projects/p")[0].replays.is_empty()
        );
        fleet.disconnect(&new);
        assert!(!fleet.list("projects/p")[0].connected);
        assert!(fleet.list("projects/q").is_empty());
    }

    #[test]
    fn the_departed_are_forgotten_past_the_bound() {
        let fleet = Fleet::default();
        let (gone, _) = fleet.connect(responder("gone", 5));
        fleet.disconnect(&gone);
        for n in 0..KEPT {
            fleet.connect(responder(&format!("r{n}"), 10));
        }
        let left = fleet.list("projects/p");
        assert_eq!(left.len(), KEPT);
        assert!(left.iter().all(|r| r.name != "gone"));
    }

    #[test]
    fn ready_means_that_every_connected_responder_that_wants_it_serves_this_bundle() {
        let bundle = Digest::of(b"new");
        let with = |name: &str, outcome: Option<Outcome>| {
            let mut responder = responder(name, 1);
            responder.replays.extend(outcome.map(|outcome| (REPLAY.to_owned(), outcome)));
            responder
        };
        let reason = |responders: &[Responder]| readiness(REPLAY, bundle, responders).reason;
        assert_eq!(reason(&[]), "NoResponders");
        let mut gone = with("gone", Some(outcome("new", Phase::Active)));
        gone.connected = false;
        let mut other = with("other", None);
        other.selectors = vec!["another".into()];
        assert_eq!(reason(&[gone.clone(), other.clone()]), "NoResponders");
        let good = with("good", Some(outcome("new", Phase::Active)));
        assert_eq!(reason(&[good.clone(), gone, other]), "Serving");
        assert_eq!(
            reason(&[good.clone(), with("old", Some(outcome("old", Phase::Active)))]),
            "Fetching"
        );
        assert_eq!(reason(&[good.clone(), with("new", None)]), "Fetching");
        let bad =
            readiness(REPLAY, bundle, &[good, with("bad", Some(outcome("new", Phase::Rejected)))]);
        assert_eq!(
            (bad.ready, bad.reason, bad.message.as_str()),
            (false, "ResponderRejected", "bad: too new")
        );
    }
}
