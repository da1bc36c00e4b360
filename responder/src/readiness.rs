//! Whether requests may come: only once everything is served that was assigned to this responder at first, and something where that is expected.
//!
//! Readiness is a predicate over the table of replays and the flags below, computed when asked; nobody sets it. A replay that is started
//! later does not take it away, however long its bundle takes or if it is refused: what is served goes on, and all responders hear of the
//! new one at the same time.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use crate::snapshots::Snapshots;

/// Judges readiness.
#[derive(Debug)]
pub(crate) struct Readiness {
    snapshots: Arc<Snapshots>,
    expects_replay: bool,
    flags: watch::Sender<Flags>,
}

/// What readiness depends on besides the table of replays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// Where the assignments come from.
    pub(crate) source: Source,
    /// What was assigned, but not served, when the assignments became known.
    first: BTreeSet<String>,
    /// The process is about to end.
    pub(crate) draining: bool,
    /// The subscription is open.
    pub(crate) connected: bool,
    /// Why it is not.
    pub(crate) problem: Option<String>,
}

/// Where the assignments come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Source {
    /// From nowhere yet.
    #[default]
    Nothing,
    /// From the disk cache, as of the last sync.
    Disk,
    /// From the control plane.
    ControlPlane,
}

/// Watches for whatever readiness depends on.
#[derive(Debug)]
pub(crate) struct Watch {
    flags: watch::Receiver<Flags>,
    changes: watch::Receiver<u64>,
}

impl Watch {
    /// Completes when something has changed since it completed last. Does so as long as the [`Readiness`] lives.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            _ = self.flags.changed() => {}
            _ = self.changes.changed() => {}
        }
    }
}

impl Readiness {
    pub(crate) fn new(snapshots: Arc<Snapshots>, expects_replay: bool) -> Self {
        Self { snapshots, expects_replay, flags: watch::Sender::new(Flags::default()) }
    }

    /// Changes the flags.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Flags)) {
        self.flags.send_modify(change);
    }

    /// The assignments are known, from there.
    pub(crate) fn known(&self, source: Source) {
        let table = self.snapshots.load_full();
        self.note(|flags| {
            if flags.source == Source::Nothing {
                flags.first.clone_from(&table.awaited);
            }
            flags.source = source;
        });
    }

    /// The flags as they are.
    pub(crate) fn flags(&self) -> Flags {
        self.flags.borrow().clone()
    }

    /// What stands in the way; empty when the responder is ready.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let flags = self.flags();
        let mut reasons = Vec::new();
        if flags.draining {
            reasons.push("the responder is shutting down".to_owned());
        }
        if flags.source == Source::Nothing {
            let why = flags.problem.map(|problem| format!(": {problem}")).unwrap_or_default();
            reasons.push(format!("nothing is known yet about what to serve{why}"));
        }
        let table = self.snapshots.load();
        if self.expects_replay && table.replays.is_empty() && table.awaited.is_empty() {
            reasons.push("no replay was started yet".to_owned());
        }
        let counts = |name: &&String| {
            flags.source == Source::Nothing || self.expects_replay || flags.first.contains(*name)
        };
        for name in table.awaited.iter().filter(counts) {
            reasons.push(match table.rejected.get(name) {
                Some(rejected) => format!("{name} was refused: {}", rejected.first_reason()),
                None => format!("{name} is being fetched"),
            });
        }
        reasons
    }

    /// Waits until nothing stands in the way.
    pub(crate) async fn ready(&self) {
        let mut watch = self.watch();
        while !self.reasons().is_empty() {
            watch.changed().await;
        }
    }

    /// Watches for whatever readiness depends on, from now on.
    pub(crate) fn watch(&self) -> Watch {
        Watch { flags: self.flags.subscribe(), changes: self.snapshots.subscribe() }
    }
}
