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
    time::Duration,
};

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use dashmap::DashMap;
pub(crate) use peers::Peer;
use peers::Peers;
use tokio::sync::watch;

use crate::{
    publish::Assignment,
    rollout::{Node, Standing},
    store::now,
};

/// Entries of responders that are gone are kept up to this number of entries in all.
const KEPT: usize = 4096;

/// How far a responder has come with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fetching or compiling.
    Fetching,
    /// Compiled and held, but not served.
    Prepared,
    /// Serving.
    Active,
    /// Refused; the last good bundle goes on.
    Rejected,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fetching, Self::Prepared, Self::Active, Self::Rejected];
}

/// What a responder made of one assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The bundle that this is about.
    pub bundle: Option<Digest>,
    /// The generation that this is about.
    pub generation: u64,
    /// How far it has come.
    pub phase: Phase,
    /// Why it was refused; empty when it was not.
    pub refusal: String,
    /// The secrets that were looked for in vain.
    pub unresolved: Vec<String>,
    /// The responder's own message, encoded, to be handed on as it came.
    pub report: Bytes,
}

/// What a responder made of a replay: the version that it serves, and another one that it was told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AtReplay {
    /// What it serves.
    pub serving: Option<Outcome>,
    /// What it does not serve, because it prepares, has prepared or has refused it.
    pub next: Option<Outcome>,
}

impl AtReplay {
    /// Notes an outcome.
    pub fn note(&mut self, outcome: Outcome) {
        if outcome.phase != Phase::Active {
            self.next = Some(outcome);
            return;
        }
        self.next.take_if(|next| next.generation <= outcome.generation);
        self.serving = Some(outcome);
    }

    /// What it made of this version.
    #[must_use]
    pub fn of(&self, version: &Assignment) -> Option<&Outcome> {
        let is = |outcome: &&Outcome| {
            outcome.generation == version.generation && outcome.bundle == Some(version.bundle)
        };
        self.serving.iter().chain(&self.next).find(is)
    }

    /// Both, what is served first.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.serving.iter().chain(&self.next)
    }

    fn standing(&self, version: &Assignment) -> Standing {
        match self.of(version) {
            None => Standing::Silent,
            Some(outcome) => match outcome.phase {
                Phase::Fetching => Standing::Fetching,
                Phase::Prepared => Standing::Prepared,
                Phase::Active => Standing::Active,
                Phase::Rejected => Standing::Rejected(outcome.refusal.clone()),
            },
        }
    }
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
    /// When it was gone, in nanoseconds since the epoch; 0 while it is connected.
    pub leave_time: i64,
    /// How many other processes that go by its name are connected to the same control plane: only the newest counts.
    pub others: u32,
    /// The replays that it wants; empty for all of the project.
    pub selectors: Vec<String>,
    /// What it made of each replay.
    pub replays: BTreeMap<String, AtReplay>,
}

impl Responder {
    /// Whether it wants this replay.
    #[must_use]
    pub fn wants(&self, replay: &str) -> bool {
        wants(&self.project, &self.selectors, replay)
    }

    /// How it stands to a version of a replay.
    #[must_use]
    pub fn node(&self, replay: &str, version: &Assignment) -> Node {
        let standing = self.replays.get(replay).map(|at| at.standing(version));
        Node {
            name: self.name.clone(),
            here: self.connected,
            standing: standing.unwrap_or(Standing::Silent),
        }
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

/// How long the absence of a responder says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absence {
    /// A responder that was gone for so long is gone.
    pub(crate) lease: Duration,
    /// Since when responders could have come, in nanoseconds since the epoch.
    pub(crate) began: i64,
    /// The time now, in nanoseconds since the epoch.
    pub(crate) now: i64,
}

impl Absence {
    fn is_short(&self, since: i64) -> bool {
        let lease = i64::try_from(self.lease.as_nanos()).unwrap_or(i64::MAX);
        // Where a clock was put back, what has been lies ahead: nobody is waited for until it is there again.
        self.now.saturating_sub(since).saturating_abs() < lease
    }

    /// Whether this process has not been there for long.
    pub(crate) fn is_young(&self) -> bool {
        self.is_short(self.began)
    }
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
    /// The sessions that are open, each with its process.
    open: Vec<(u64, String)>,
}

impl Entry {
    /// Counts the processes beside that of the newest session.
    fn count_others(&mut self) {
        let newest = self.open.iter().find(|(number, _)| *number == self.session);
        let others = self.open.iter().map(|(_, process)| process);
        let others: BTreeSet<&String> =
            others.filter(|process| newest.is_none_or(|(_, own)| own != *process)).collect();
        self.responder.others = u32::try_from(others.len()).unwrap_or(u32::MAX);
    }
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
    /// Enters a responder that connected, with an id of its process, and tells whether another process of its name is connected.
    pub fn connect(&self, responder: Responder, process: &str) -> (Session, bool) {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let key = (responder.project.clone(), responder.name.clone());
        let others = {
            let fresh =
                || Entry { session: number, responder: responder.clone(), open: Vec::new() };
            let mut entry = self.entries.entry(key.clone()).or_insert_with(fresh);
            entry.open.push((number, process.to_owned()));
            (entry.session, entry.responder) = (number, responder);
            entry.count_others();
            entry.responder.others
        };
        self.forget_the_oldest();
        self.changed(&key);
        (Session { key, number }, others > 0)
    }

    /// Notes that a session has ended. With the newest one its responder is gone.
    pub fn disconnect(&self, session: &Session) {
        if let Some(mut entry) = self.entries.get_mut(&session.key) {
            entry.open.retain(|(number, _)| *number != session.number);
            entry.count_others();
            if entry.session == session.number {
                entry.responder.connected = false;
                entry.responder.leave_time = now();
            }
        }
        self.changed(&session.key);
    }

    /// Whether a session does not count, and the one that did is gone: it has to come anew.
    pub(crate) fn is_left_over(&self, session: &Session) -> bool {
        self.entries
            .get(&session.key)
            .is_some_and(|entry| entry.session != session.number && !entry.responder.connected)
    }

    /// Notes what a responder made of a replay.
    pub fn report(&self, session: &Session, replay: &str, outcome: Outcome) {
        self.write(session, |responder| {
            responder.replays.entry(replay.to_owned()).or_default().note(outcome);
        });
    }

    /// Drops what a responder made of a version that it is not to prepare any more. Why it refused it may still be asked.
    pub fn forget(&self, session: &Session, replay: &str, generation: u64) {
        self.write(session, |responder| {
            if let Some(at) = responder.replays.get_mut(replay) {
                at.next.take_if(|it| it.generation == generation && it.phase != Phase::Rejected);
            }
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

    /// The responders that count for a version of a replay: those that are connected and want it, and for a `lease` those that have gone. Of those
    /// that were `known` before this process began, `began` ago, nothing can be said until then.
    pub(crate) fn nodes(
        &self,
        replay: &str,
        version: &Assignment,
        known: &[String],
        absence: Absence,
    ) -> Vec<Node> {
        let project = replay.split_once("/replays/").map_or("", |(project, _)| project);
        let mut nodes: BTreeMap<String, (i64, Option<Node>)> = BTreeMap::new();
        let mut enter = |responder: &Responder, connected: bool| {
            let counts =
                responder.wants(replay) && (connected || absence.is_short(responder.leave_time));
            let newest = if connected { i64::MAX } else { responder.connect_time };
            let node = counts.then(|| Node { here: connected, ..responder.node(replay, version) });
            match nodes.get(&responder.name) {
                Some((other, _)) if *other >= newest => {}
                _ => drop(nodes.insert(responder.name.clone(), (newest, node))),
            }
        };
        for entry in self.entries.iter().filter(|entry| entry.key().0 == project) {
            enter(&entry.responder, entry.responder.connected);
        }
        self.peers.each(project, enter);
        if absence.is_young() {
            for name in known {
                let unheard = Node { name: name.clone(), here: false, standing: Standing::Silent };
                nodes.entry(name.clone()).or_insert((0, Some(unheard)));
            }
        }
        nodes.into_values().filter_map(|(_, node)| node).collect()
    }

    /// The responders that are or were connected to this control plane.
    pub(crate) fn here(&self) -> Vec<Responder> {
        self.entries.iter().map(|entry| entry.responder.clone()).collect()
    }

    /// How many responders are known, those of other control planes left aside.
    pub(crate) fn size(&self) -> usize {
        self.entries.len()
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
        // Of the project that has most of them, so that none forgets for the others.
        let mut departed: BTreeMap<String, (usize, i64, String)> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| !entry.responder.connected) {
            let (project, name) = entry.key();
            let since = entry.responder.connect_time;
            let of =
                departed.entry(project.clone()).or_insert_with(|| (0, i64::MAX, String::new()));
            of.0 += 1;
            if since < of.1 {
                (of.1, of.2) = (since, name.clone());
            }
        }
        let most = departed.into_iter().max_by_key(|(_, (count, since, _))| (*count, -since));
        if let Some(key) = most.map(|(project, (_, _, name))| (project, name)) {
            self.entries.remove_if(&key, |_, entry| !entry.responder.connected);
        }
    }
}

#[cfg(test)]
mod tests;
