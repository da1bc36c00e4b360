//! The replays that are served. This is the only place that swaps them.
//!
//! Readers load one table and see one state; writers change a copy and swap it in whole, one at a time. A key ring never gives way to an
//! older one.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use countersign_engine::{
    compile::CompiledSnapshot,
    diagnostic::{Diagnostic, Severity},
    jwt::key::{KeyRing, SecretRef},
    serving::Serving,
    snapshot::digest::Digest,
};
use tokio::sync::watch;

use crate::{metrics::Metrics, server};

/// What the control plane told this responder to serve under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// `projects/{project}/replays/{replay}`.
    pub(crate) name: String,
    /// The bundle.
    pub(crate) bundle: Digest,
    /// Grows with each start.
    pub(crate) generation: u64,
    /// When it was started, in nanoseconds since the epoch.
    pub(crate) start_time: i64,
    /// The revision that announced it; only a younger tombstone removes it.
    pub(crate) revision: u64,
}

/// A replay that is served.
#[derive(Debug)]
pub(crate) struct Replay {
    /// What was assigned.
    pub(crate) assignment: Assignment,
    /// Answers its requests.
    pub(crate) serving: Arc<Serving>,
    /// The secrets that it signs with.
    pub(crate) secrets: Vec<SecretRef>,
    /// How many pairs it holds.
    pub(crate) pairs: usize,
    /// Every blob that its bundle consists of, the snapshot's manifest at last.
    pub(crate) blobs: Arc<[Digest]>,
    /// Tells this version of it from others.
    pub(crate) serial: u64,
}

/// A bundle that was refused.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    /// The bundle.
    pub(crate) bundle: Digest,
    /// The generation that brought it.
    pub(crate) generation: u64,
    /// Why.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// What is served, the replay that was started last first.
    pub(crate) replays: Vec<Arc<Replay>>,
    /// Names that are assigned, but not served in any version.
    pub(crate) awaited: BTreeSet<String>,
    /// Bundles that were refused and not replaced since.
    pub(crate) rejected: BTreeMap<String, Rejected>,
}

/// The table and its writers' lock.
#[derive(Debug)]
pub(crate) struct Snapshots {
    table: ArcSwap<Table>,
    ring: Mutex<Ring>,
    changes: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Ring {
    generation: u64,
    keys: Arc<KeyRing>,
}

impl Rejected {
    /// The first error, in a sentence.
    pub(crate) fn first_reason(&self) -> String {
        let worst = self
            .diagnostics
            .iter()
            .find(|found| found.severity == Severity::Error)
            .or_else(|| self.diagnostics.first());
        worst.map_or_else(|| "no reason is known".to_owned(), Diagnostic::to_string)
    }
}

impl Assignment {
    /// A number that only the same version of the same replay has.
    fn serial(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, self.bundle.to_string(), self.generation).hash(&mut hasher);
        hasher.finish()
    }
}

impl Table {
    /// The replay of this serial number, while it is served.
    pub(crate) fn of_serial(&self, serial: u64) -> Option<&Arc<Replay>> {
        self.replays.iter().find(|replay| replay.serial == serial)
    }

    /// The replay of this id or full name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Replay>> {
        self.replays.iter().find(|replay| {
            let full = replay.assignment.name.as_str();
            full == name || full.rsplit('/').next() == Some(name)
        })
    }
}

impl Snapshots {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            table: ArcSwap::default(),
            ring: Mutex::new(Ring {
                generation: 0,
                keys: Arc::new(KeyRing::new(0, BTreeMap::new())),
            }),
            changes: watch::Sender::new(0),
            metrics,
        }
    }

    /// The table as it is now; not to be held across an await.
    pub(crate) fn load(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// The table as it is now, to keep.
    pub(crate) fn load_full(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Changes with every swap.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Notes that these names are assigned; they are awaited until served.
    pub(crate) fn expect(&self, names: impl IntoIterator<Item = String>) {
        self.change(|_, table| {
            for name in names {
                if !table.replays.iter().any(|replay| replay.assignment.name == name) {
                    table.awaited.insert(name);
                }
            }
        });
    }

    /// Joins a compiled snapshot with the keys and serves it from now on. Takes time: not for the request path's threads.
    pub(crate) fn install(
        &self,
        assignment: Assignment,
        compiled: Arc<CompiledSnapshot>,
        blobs: Arc<[Digest]>,
    ) {
        self.change(|ring, table| {
            let (name, start) = (assignment.name.clone(), assignment.start_time);
            let replay = Replay {
                serial: assignment.serial(),
                assignment,
                secrets: compiled.required_secrets().to_vec(),
                pairs: compiled.pairs(),
                serving: Arc::new(
                    Serving::new(compiled, &ring.keys).started_at(start).on_cores(server::cores()),
                ),
                blobs,
            };
            table.replays.retain(|old| old.assignment.name != name);
            table.replays.push(Arc::new(replay));
            sort(&mut table.replays);
            table.awaited.remove(&name);
            table.rejected.remove(&name);
            self.metrics.swaps.inc();
        });
    }

    /// Notes that what is served under this name was announced again at a later revision.
    pub(crate) fn confirm(&self, assignment: &Assignment) {
        self.change(|_, table| {
            for replay in
                table.replays.iter_mut().filter(|replay| replay.assignment.name == assignment.name)
            {
                *replay = Arc::new(replay.with(assignment.clone(), Arc::clone(&replay.serving)));
            }
            sort(&mut table.replays);
            table.rejected.remove(&assignment.name);
        });
    }

    /// Notes that a bundle was refused; what was served before goes on.
    pub(crate) fn reject(&self, name: &str, rejected: Rejected) {
        self.change(|_, table| {
            table.rejected.insert(name.to_owned(), rejected);
        });
        self.metrics.nacks.inc();
    }

    /// Withdraws a replay unless it was announced at this revision or later; tells whether it is gone.
    pub(crate) fn withdraw(&self, name: &str, revision: u64) -> bool {
        let younger = |replay: &Arc<Replay>| {
            replay.assignment.name == name && replay.assignment.revision >= revision
        };
        if self.load().replays.iter().any(younger) {
            return false;
        }
        self.change(|_, table| {
            table.replays.retain(|replay| replay.assignment.name != name);
            table.awaited.remove(name);
            table.rejected.remove(name);
        });
        true
    }

    /// Forgets at which revisions the assignments were announced, for the store that counted them is gone.
    pub(crate) fn forget_revisions(&self) {
        let assignments: Vec<Assignment> = self
            .load()
            .replays
            .iter()
            .map(|replay| Assignment { revision: 0, ..replay.assignment.clone() })
            .collect();
        for assignment in &assignments {
            self.confirm(assignment);
        }
    }

    /// Serves with these keys from now on, unless newer ones came first. Takes time: not for the request path's threads.
    pub(crate) fn rebind(&self, generation: u64, keys: Arc<KeyRing>) {
        self.change(|ring, table| {
            if generation <= ring.generation {
                return;
            }
            *ring = Ring { generation, keys };
            for replay in table.replays.iter_mut().filter(|replay| !replay.secrets.is_empty()) {
                *replay =
                    Arc::new(replay.with(
                        replay.assignment.clone(),
                        Arc::new(replay.serving.rebind(&ring.keys)),
                    ));
            }
            self.metrics.key_ring.set(i64::try_from(generation).unwrap_or(i64::MAX));
        });
    }

    /// The one place that swaps. The old table is dropped by the writer, so that its memory is seldom freed within a request.
    fn change(&self, edit: impl FnOnce(&mut Ring, &mut Table)) {
        let old = {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let mut table = Table::clone(&self.table.load());
            edit(&mut ring, &mut table);
            self.table.swap(Arc::new(table))
        };
        self.changes.send_modify(|change| *change = change.wrapping_add(1));
        drop(old);
    }
}

impl Replay {
    fn with(&self, assignment: Assignment, serving: Arc<Serving>) -> Self {
        Self {
            serial: assignment.serial(),
            assignment,
            serving,
            secrets: self.secrets.clone(),
            pairs: self.pairs,
            blobs: Arc::clone(&self.blobs),
        }
    }
}

fn sort(replays: &mut [Arc<Replay>]) {
    replays.sort_by(|a, b| {
        let (a, b) = (&a.assignment, &b.assignment);
        b.start_time.cmp(&a.start_time).then_with(|| a.name.cmp(&b.name))
    });
}
