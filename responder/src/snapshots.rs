//! The replays that are served, and beside each the version before and the one that is prepared. This is the only place that swaps them.
//!
//! Readers load one table and see one state; writers change a copy and swap it in whole, one at a time. A key ring never gives way to an
//! older one.

mod target;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
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

use crate::{
    metrics::Metrics,
    report::{Reports, Tally},
    server,
};
pub(crate) use target::{Phase, Target};

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
    /// What its requests come to.
    pub(crate) tally: Arc<Tally>,
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
    /// Whether it was to be served, and not only to be prepared.
    pub(crate) activating: bool,
}

/// The version that was served before.
#[derive(Debug, Clone)]
pub(crate) struct Previous {
    /// What was assigned.
    pub(crate) assignment: Assignment,
    /// Every blob that its bundle consists of.
    pub(crate) blobs: Arc<[Digest]>,
    /// Ready to be served again; `None` where only its blobs are kept.
    pub(crate) replay: Option<Arc<Replay>>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// What is served, the replay that was started last first.
    pub(crate) replays: Vec<Arc<Replay>>,
    /// What was served before, by name.
    pub(crate) previous: BTreeMap<String, Previous>,
    /// What can be served at once, by name.
    pub(crate) prepared: BTreeMap<String, Arc<Replay>>,
    /// What the control plane has said since the subscription was opened, by name.
    pub(crate) targets: BTreeMap<String, Target>,
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
    reports: Arc<Reports>,
    /// Whether the version before stays in memory.
    keeps_previous: bool,
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
    /// Whether this is the same version of the same replay, whenever it was announced.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.bundle == other.bundle
            && self.generation == other.generation
    }

    /// Whether this is its replay's id or full name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.rsplit('/').next() == Some(name)
    }

    /// A number that only the same version of the same replay has.
    fn serial(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, self.bundle.to_string(), self.generation).hash(&mut hasher);
        hasher.finish()
    }
}

impl Table {
    /// The replay of this serial number, while it is served or can be asked for.
    pub(crate) fn of_serial(&self, serial: u64) -> Option<&Arc<Replay>> {
        self.versions().find(|replay| replay.serial == serial)
    }

    /// Everything that can answer: what is served, then what was before.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Replay>> {
        let previous = self.previous.values().filter_map(|previous| previous.replay.as_ref());
        self.replays.iter().chain(previous)
    }

    /// What is served under this full name.
    pub(crate) fn active(&self, name: &str) -> Option<&Arc<Replay>> {
        self.replays.iter().find(|replay| replay.assignment.name == name)
    }

    /// Forgets that this version, or an older one, was refused.
    fn forget_refusal(&mut self, assignment: &Assignment) {
        let older = |refused: &Rejected| refused.generation <= assignment.generation;
        if self.rejected.get(&assignment.name).is_some_and(older) {
            self.rejected.remove(&assignment.name);
        }
    }

    /// Whether another version is to be served under this name than is.
    pub(crate) fn is_behind(&self, name: &str) -> bool {
        let wanted = self.targets.get(name).and_then(|target| target.active.as_ref());
        wanted.is_some_and(|wanted| !self.active(name).is_some_and(|it| it.assignment.is(wanted)))
    }

    /// The blobs and secrets of all versions that are kept.
    pub(crate) fn kept(&self) -> (HashSet<Digest>, BTreeSet<SecretRef>) {
        let held = || self.versions().chain(self.prepared.values());
        let before = self.previous.values().flat_map(|previous| previous.blobs.iter());
        (
            held().flat_map(|replay| replay.blobs.iter()).chain(before).copied().collect(),
            held().flat_map(|replay| replay.secrets.iter().cloned()).collect(),
        )
    }

    /// The replay of this id or full name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Replay>> {
        self.replays.iter().find(|replay| replay.assignment.is_called(name))
    }
}

impl Snapshots {
    pub(crate) fn new(metrics: Arc<Metrics>, keeps_previous: bool) -> Self {
        Self {
            table: ArcSwap::default(),
            ring: Mutex::new(Ring {
                generation: 0,
                keys: Arc::new(KeyRing::new(0, BTreeMap::new())),
            }),
            changes: watch::Sender::new(0),
            reports: Arc::clone(&metrics.reports),
            metrics,
            keeps_previous,
        }
    }

    /// Whether the version before stays in memory.
    pub(crate) fn keeps_previous(&self) -> bool {
        self.keeps_previous
    }

    /// What is counted of its requests.
    pub(crate) fn reports(&self) -> &Arc<Reports> {
        &self.reports
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

    /// Joins a compiled snapshot with the keys, and serves it or holds it beside what is served, as is wanted by now; tells which, if any. Takes
    /// time: not for the request path's threads.
    pub(crate) fn arrive(
        &self,
        assignment: &Assignment,
        compiled: &Arc<CompiledSnapshot>,
        blobs: &Arc<[Digest]>,
    ) -> Option<Phase> {
        let mut arrived = None;
        self.reports.prepare(compiled);
        self.change(|ring, table| {
            if !table.wants(assignment) {
                return;
            }
            let replay = Arc::new(Replay::new(
                assignment.clone(),
                compiled,
                blobs,
                (&ring.keys, &self.reports),
            ));
            table.forget_refusal(assignment);
            arrived = Some(if table.serves(assignment) {
                self.swap_in(table, replay);
                Phase::Activate
            } else {
                table.prepared.insert(assignment.name.clone(), replay);
                Phase::Prepare
            });
        });
        arrived
    }

    /// The same with what was served before, if this is its bundle.
    pub(crate) fn arrive_again(&self, assignment: &Assignment) -> Option<Phase> {
        let previous = self.load().previous.get(&assignment.name).and_then(|p| p.replay.clone())?;
        if previous.assignment.bundle != assignment.bundle {
            return None;
        }
        self.arrive(assignment, previous.serving.snapshot(), &previous.blobs)
    }

    /// Serves what was prepared from now on, if it was.
    pub(crate) fn activate(&self, assignment: &Assignment) -> Option<Phase> {
        let mut activated = None;
        self.change(|_, table| {
            let name = &assignment.name;
            if table.prepared.get(name).is_some_and(|held| held.assignment.is(assignment))
                && let Some(replay) = table.prepared.remove(name)
            {
                table.forget_refusal(assignment);
                self.swap_in(table, replay);
                activated = Some(Phase::Activate);
            }
        });
        activated
    }

    /// What was served until now stays for those who ask for it.
    fn swap_in(&self, table: &mut Table, next: Arc<Replay>) {
        let name = next.assignment.name.clone();
        if let Some(previous) = table.previous.get(&name).and_then(|p| p.replay.as_ref())
            && Arc::ptr_eq(previous.serving.snapshot(), next.serving.snapshot())
        {
            // Whoever asked for it meanwhile has moved its turns.
            next.serving.snapshot().reset();
        }
        let old = table.active(&name).cloned();
        table.replays.retain(|replay| replay.assignment.name != name);
        table.awaited.remove(&name);
        // A version with the same bundle is no way back.
        if let Some(old) = old.filter(|old| old.assignment.bundle != next.assignment.bundle) {
            table.previous.insert(name, self.previous(old));
        }
        table.replays.push(next);
        sort(&mut table.replays);
        self.metrics.swaps.inc();
    }

    fn previous(&self, old: Arc<Replay>) -> Previous {
        Previous {
            assignment: old.assignment.clone(),
            blobs: Arc::clone(&old.blobs),
            replay: self.keeps_previous.then_some(old),
        }
    }

    /// Holds what was served before the process was started; without a compiled snapshot, only its blobs.
    pub(crate) fn hold_previous(
        &self,
        assignment: Assignment,
        compiled: Option<&Arc<CompiledSnapshot>>,
        blobs: Arc<[Digest]>,
    ) {
        self.change(|ring, table| {
            let replay = compiled.map(|compiled| {
                Arc::new(Replay::new(
                    assignment.clone(),
                    compiled,
                    &blobs,
                    (&ring.keys, &self.reports),
                ))
            });
            let name = assignment.name.clone();
            table.previous.insert(name, Previous { assignment, blobs, replay });
        });
    }

    /// Notes that what is served under this name was announced again at a later revision.
    pub(crate) fn confirm(&self, assignment: &Assignment) {
        self.change(|_, table| {
            for replay in
                table.replays.iter_mut().filter(|replay| replay.assignment.name == assignment.name)
            {
                *replay = Arc::new(replay.with(
                    assignment.clone(),
                    Arc::clone(&replay.serving),
                    &self.reports,
                ));
            }
            sort(&mut table.replays);
            table.forget_refusal(assignment);
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
        if self.load().active(name).is_some_and(|replay| replay.assignment.revision >= revision) {
            return false;
        }
        self.change(|_, table| {
            table.replays.retain(|replay| replay.assignment.name != name);
            table.previous.remove(name);
            table.prepared.remove(name);
            table.targets.remove(name);
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
            let previous = table.previous.values_mut().filter_map(|p| p.replay.as_mut());
            let held = table.replays.iter_mut().chain(previous).chain(table.prepared.values_mut());
            for replay in held.filter(|replay| !replay.secrets.is_empty()) {
                *replay = Arc::new(replay.with(
                    replay.assignment.clone(),
                    Arc::new(replay.serving.rebind(&ring.keys)),
                    &self.reports,
                ));
            }
            self.metrics.key_ring.set(i64::try_from(generation).unwrap_or(i64::MAX));
        });
    }

    /// The keys that it serves with.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.lock().unwrap_or_else(PoisonError::into_inner).keys)
    }

    /// Holds no keys but these any more, if they are still those that are served with: replays hold what they need by themselves.
    pub(crate) fn forget_keys(&self, keys: Arc<KeyRing>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.generation == keys.generation() {
            ring.keys = keys;
        }
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
    fn new(
        assignment: Assignment,
        compiled: &Arc<CompiledSnapshot>,
        blobs: &Arc<[Digest]>,
        (keys, reports): (&KeyRing, &Reports),
    ) -> Self {
        let start = assignment.start_time;
        let serving = Serving::new(Arc::clone(compiled), keys);
        Self {
            serial: assignment.serial(),
            tally: reports.open(&assignment, &serving),
            assignment,
            secrets: compiled.required_secrets().to_vec(),
            pairs: compiled.pairs(),
            serving: Arc::new(serving.started_at(start).on_cores(server::cores())),
            blobs: Arc::clone(blobs),
        }
    }

    fn with(&self, assignment: Assignment, serving: Arc<Serving>, reports: &Reports) -> Self {
        Self {
            serial: assignment.serial(),
            tally: reports.open(&assignment, &serving),
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

#[cfg(test)]
mod tests;
