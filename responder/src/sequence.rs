//! Turns that several nodes share.
//!
//! A request that needs one waits for the [`SequenceStore`]: for the node that owns the list, or for Redis. It never fails for want of a turn:
//! when none can be had in time, it goes on from what this node has seen, and that is counted as a discontinuity.

mod ledger;
mod owners;
mod peers;
mod redis;
mod register;
mod service;
mod tls;
mod view;

use std::{
    collections::HashMap,
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use countersign_engine::{
    serving::{Awaited, Turn},
    turns::{ListId, Moved},
};
use countersign_proto::{control::v1::SequencePeer, discovery::v1::Members};
use countersign_tls::client::ClientTls;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout_at},
};

use self::redis::Redis;
use crate::{
    app::StartError,
    config::Config,
    metrics::Metrics,
    snapshots::{Replay, Table},
};
use ledger::Ledger;
use owners::Owners;
use peers::Peers;
use register::Step;
pub(crate) use service::Running;
pub(crate) use tls::{PeerTls, PeerTlsError};
use view::View;

/// So many replays are followed.
const REPLAYS: usize = 10_000;

/// What the listener is for.
pub(crate) const PURPOSE: &str = "other responders";

/// The turns that this node shares with others, and where they ask for them.
pub(crate) fn start(
    config: &Config,
    listener: Option<(TcpListener, SocketAddr)>,
    tls: Option<PeerTls>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Sequences>, Option<Running>), StartError> {
    let (handle, metrics) = (Handle::current(), Arc::clone(metrics));
    let address = config.peer_address(listener.as_ref().map(|listener| listener.1));
    let client = tls.as_ref().map(|tls| Arc::clone(&tls.client));
    let mut sequences = Sequences::new(&config.name, address, metrics, (handle.clone(), client));
    if let Some(url) = &config.sequence_redis {
        let redis = Redis::new(url, &handle);
        let redis = redis.map_err(|error| StartError::Redis(Box::new(error)))?;
        sequences = Sequences { store: Arc::new(redis), owners: None, ..sequences };
    }
    let sequences = Arc::new(sequences);
    let running = listener.map(|(listener, addr)| {
        let failed = |source| StartError::Listen { addr, purpose: PURPOSE, source };
        service::serve(listener, tls, Arc::clone(&sequences)).map_err(failed)
    });
    Ok((sequences, running.transpose()?))
}

/// Where turns come from.
#[async_trait]
pub(crate) trait SequenceStore: fmt::Debug + Send + Sync {
    /// Takes turns of a list, one after the other, or puts it somewhere.
    ///
    /// # Errors
    /// When that cannot be done until the deadline.
    async fn advance(
        &self,
        ledger: &Ledger,
        list: ListId,
        step: Step,
        deadline: Instant,
    ) -> Result<Given, Lost>;

    /// Begins lists anew, all of the replay when none is named.
    async fn reset(&self, ledger: &Ledger, lists: &[ListId]);

    /// Who keeps a list, by name.
    fn owner(&self, ledger: &Ledger, list: ListId) -> Option<Arc<str>>;
}

/// Turns that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    first: u64,
    /// It is not known for sure that they go on from the one before.
    breaks: bool,
    /// So many calls may have taken turns that nobody got.
    skipped: u64,
}

/// No turn was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    skipped: u64,
}

/// The turns of all replays.
#[derive(Debug)]
pub(crate) struct Sequences {
    session: Arc<str>,
    /// Where peers reach this node; empty when they do not.
    address: String,
    ledgers: RwLock<HashMap<String, Arc<Ledger>>>,
    store: Arc<dyn SequenceStore>,
    /// The same, where responders keep the turns.
    owners: Option<Arc<Owners>>,
    metrics: Arc<Metrics>,
    handle: Handle,
    /// Whether this node takes part no more.
    leaving: watch::Sender<bool>,
}

/// What is told of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListState {
    /// Who keeps it; `None` when nobody is known to.
    pub(crate) owner: Option<Arc<str>>,
    /// How often its order broke at this node.
    pub(crate) discontinuities: u64,
}

/// What is told of the turns of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerState {
    pub(crate) epoch: u64,
    /// The names of those who share turns.
    pub(crate) members: Vec<Arc<str>>,
    /// Whether this node gives out those that it keeps.
    pub(crate) settled: bool,
    /// How often the order of any list broke at this node.
    pub(crate) discontinuities: u64,
}

impl Sequences {
    pub(crate) fn new(
        name: &str,
        address: String,
        metrics: Arc<Metrics>,
        (handle, tls): (Handle, Option<Arc<ClientTls>>),
    ) -> Self {
        let session: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let owners = Arc::new(Owners::new(name, &session, Peers::new(handle.clone(), tls)));
        Self {
            session,
            address,
            ledgers: RwLock::default(),
            store: Arc::<Owners>::clone(&owners),
            owners: Some(owners),
            metrics,
            handle,
            leaving: watch::Sender::new(false),
        }
    }

    /// How this node presents itself to those who share turns; `None` when it takes part no more.
    pub(crate) fn peer(&self) -> Option<SequencePeer> {
        let peer =
            || SequencePeer { session_id: self.session.to_string(), address: self.address.clone() };
        (self.owners.is_some() && !*self.leaving.borrow()).then(peer)
    }

    /// Changes when [`Self::peer`] does.
    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Hears who shares the turns of a replay.
    pub(crate) fn hear(&self, members: &Members) {
        let (Some(owners), Some(ledger)) = (self.owners.clone(), self.ledger(&members.replay))
        else {
            return;
        };
        let view = View::decode(members);
        tracing::debug!(
            replay = members.replay,
            epoch = view.epoch,
            members = view.members.len(),
            "heard who shares turns"
        );
        drop(self.handle.spawn(async move { owners.adopt(&ledger, view).await }));
    }

    /// Forgets all epochs, because another store counts them from now on.
    pub(crate) fn forget_epochs(&self) {
        for ledger in self.all() {
            ledger.change(register::Register::forget_epochs);
        }
    }

    /// Forgets replays that are not assigned any more, and lists that those which are served have no more.
    pub(crate) fn retain(&self, table: &Table) {
        let served = |name: &str| table.replays.iter().find(|r| r.assignment.name == *name);
        let mut ledgers = self.ledgers.write().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|name, _| table.awaited.contains(name) || served(name).is_some());
        for (name, ledger) in &*ledgers {
            if let Some(replay) = served(name) {
                let snapshot = replay.serving.snapshot();
                ledger.serve(snapshot.shared_lists().chain(snapshot.shared_progress()).collect());
            }
        }
    }

    /// A turn for a request. There is always one.
    pub(crate) async fn turn(&self, replay: &Replay, awaited: &Awaited) -> Turn {
        let Some(ledger) = self.ledger(&replay.assignment.name) else { return Turn::Shared(0) };
        let list = awaited.list();
        if awaited.is_progress() {
            return Turn::Shared(self.advance(&ledger, list, Step::Take(0)).await);
        }
        let Some(turns) = awaited.lease() else {
            return Turn::Shared(self.advance(&ledger, list, Step::Take(1)).await);
        };
        // Whoever comes meanwhile finds what the first has leased.
        let _alone = ledger.room(list).await;
        loop {
            if let Some(turn) = replay.serving.leased(awaited) {
                return turn;
            }
            self.advance(&ledger, list, Step::Take(turns)).await;
            replay.serving.lease(awaited, turns);
        }
    }

    /// Tells how far somebody is from now on, so that every node knows it that is asked afterwards.
    pub(crate) async fn moved(&self, replay: &str, moved: &Moved) {
        if let Some(ledger) = self.ledger(replay) {
            self.advance(&ledger, moved.list, Step::Put(moved.to.into())).await;
        }
    }

    async fn advance(&self, ledger: &Ledger, list: ListId, step: Step) -> u64 {
        let patience = ledger.patience();
        let given = self.store.advance(ledger, list, step, Instant::now() + patience).await;
        let (first, skipped) = match given {
            Ok(given) => {
                ledger.found();
                if given.breaks {
                    self.note_lost(ledger, list, given.first);
                }
                (given.first, given.skipped)
            }
            Err(lost) => {
                let first = ledger.lock().take_alone(list, step).first;
                self.metrics.break_sequence("alone", 1);
                // Whoever did not wait has learned nothing.
                if !patience.is_zero() && ledger.missed() {
                    tracing::warn!(
                        replay = &*ledger.replay,
                        "the owner of a list of answers cannot be asked; requests go on from what this responder has seen"
                    );
                }
                tracing::debug!(
                    target: BREAKS, replay = &*ledger.replay, %list, at = first, reason = "alone", "discontinuity"
                );
                (first, lost.skipped)
            }
        };
        if skipped > 0 {
            self.metrics.break_sequence("skipped", skipped);
            ledger.lock().note_break(list);
            tracing::debug!(
                target: BREAKS, replay = &*ledger.replay, %list, calls = skipped, reason = "skipped", "discontinuity"
            );
        }
        first
    }

    /// Counts the first turn of a list that was taken after somebody did not hand it over.
    fn note_lost(&self, ledger: &Ledger, list: ListId, first: u64) {
        self.metrics.break_sequence("lost", 1);
        tracing::debug!(
            target: BREAKS, replay = &*ledger.replay, %list, at = first, reason = "lost", "discontinuity"
        );
    }

    /// Begins lists anew, all of the replay when none is named.
    pub(crate) async fn reset(&self, replay: &str, lists: &[ListId]) {
        if let Some(ledger) = self.known(replay) {
            self.store.reset(&ledger, lists).await;
        }
    }

    /// Has a snapshot tell its turns as far as this node has seen them.
    pub(crate) fn tell(&self, replay: &Replay) {
        if let Some(ledger) = self.known(&replay.assignment.name) {
            let taken = |list| ledger.lock().cursor(list).map(|cursor| cursor.taken);
            replay.serving.snapshot().follow(taken);
        }
    }

    /// What is known of a list.
    pub(crate) fn list(&self, replay: &str, list: ListId) -> Option<ListState> {
        let ledger = self.known(replay)?;
        let cursor = ledger.lock().cursor(list);
        let discontinuities = cursor.map_or(0, |cursor| cursor.breaks);
        Some(ListState { owner: self.store.owner(&ledger, list), discontinuities })
    }

    /// What is known of a replay; `None` when its turns are not shared.
    pub(crate) fn of_replay(&self, replay: &str) -> Option<LedgerState> {
        let ledger = self.known(replay)?;
        let register = ledger.lock();
        let members = register.view().map(|view| &view.members);
        Some(LedgerState {
            epoch: register.epoch(),
            members: members.into_iter().flatten().map(|peer| Arc::clone(&peer.name)).collect(),
            settled: register.is_settled(),
            discontinuities: register.breaks(),
        })
    }

    /// Takes part no more: says so, and waits until others have taken over, for so long at most.
    pub(crate) async fn leave(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.leaving.send_replace(true);
        let alone =
            |ledger: &Arc<Ledger>| ledger.lock().view().is_none_or(|view| view.members.len() < 2);
        for ledger in self.all().into_iter().filter(|ledger| !alone(ledger)) {
            let mut changes = ledger.subscribe();
            while !ledger.lock().is_taken_over() {
                if timeout_at(deadline, changes.changed()).await.is_err() {
                    return;
                }
            }
        }
    }

    fn all(&self) -> Vec<Arc<Ledger>> {
        let ledgers = self.ledgers.read().unwrap_or_else(PoisonError::into_inner);
        ledgers.values().map(Arc::clone).collect()
    }

    fn known(&self, replay: &str) -> Option<Arc<Ledger>> {
        let ledgers = self.ledgers.read().unwrap_or_else(PoisonError::into_inner);
        ledgers.get(replay).map(Arc::clone)
    }

    /// The ledger of a replay, a new one if need be; `None` when there are too many.
    fn ledger(&self, replay: &str) -> Option<Arc<Ledger>> {
        if let Some(known) = self.known(replay) {
            return Some(known);
        }
        let mut ledgers = self.ledgers.write().unwrap_or_else(PoisonError::into_inner);
        if ledgers.len() >= REPLAYS && !ledgers.contains_key(replay) {
            return None;
        }
        let new = || Arc::new(Ledger::new(replay, &self.session));
        Some(Arc::clone(ledgers.entry(replay.to_owned()).or_insert_with(new)))
    }
}

/// What each discontinuity is logged under.
const BREAKS: &str = "countersign_responder::sequence::discontinuity";
