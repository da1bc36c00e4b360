//! What chains share and remember: variables, learned replacements, materials; and one run's view of them.
//!
//! A [`World`] lives as long as a compiled snapshot. A [`Scope`] is one run of chains over one message. What a run wants to change in the
//! world is kept in its scope until [`Scope::commit`], because a live request may be tried with several combinations of chains and only
//! the one that finds an answer counts; a chain that fails is undone with [`Scope::rollback`].

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;

use super::{Side, Variable, materials::Materials, replacements::Replacements, tables::Table};
use crate::{
    dlp::Redactor,
    jwt::key::{KeyRing, SecretRef},
    signature::Edit,
};

/// An answer is held back this long at the most.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(60);
/// At most this many variables are remembered.
const MAX_VARIABLES: usize = 100_000;
/// At most this many tables are kept read.
const MAX_TABLES: usize = 1_000;

/// What outlives a request.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) materials: Arc<Materials>,
    pub(crate) replacements: Replacements,
    /// Redacts where a chain asks for it.
    pub(crate) redactor: Redactor,
    variables: DashMap<String, Bytes>,
    tables: DashMap<String, (Bytes, Arc<Table>)>,
    cursors: DashMap<String, AtomicUsize>,
    declared: Vec<Variable>,
    /// The secrets that are put into answers.
    pub(crate) secret_texts: BTreeSet<SecretRef>,
    started: OnceLock<()>,
    runs: AtomicU64,
}

impl World {
    pub(crate) fn new(materials: Arc<Materials>, declared: Vec<Variable>) -> Self {
        Self { materials, declared, ..Self::default() }
    }

    /// The same with another redactor.
    pub(crate) fn redacting(self, redactor: Option<Redactor>) -> Self {
        Self { redactor: redactor.unwrap_or_default(), ..self }
    }

    /// The same, whose chains put these secrets into answers.
    pub(crate) fn telling(self, secret_texts: BTreeSet<SecretRef>) -> Self {
        Self { secret_texts, ..self }
    }

    /// A variable's value.
    pub(crate) fn variable(&self, name: &str) -> Option<Bytes> {
        self.variables.get(name).map(|value| value.clone())
    }

    pub(crate) fn set_variable(&self, name: &str, value: Bytes) {
        if self.variables.len() < MAX_VARIABLES || self.variables.contains_key(name) {
            self.variables.insert(name.to_owned(), value);
        }
    }

    /// A table, read once as long as its text stays the same.
    fn table(&self, name: &str, text: &Bytes) -> Option<Arc<Table>> {
        if let Some(known) = self.tables.get(name)
            && known.0 == *text
        {
            return Some(Arc::clone(&known.1));
        }
        let table = Arc::new(Table::parse(text).ok()?);
        if self.tables.len() < MAX_TABLES {
            self.tables.insert(name.to_owned(), (text.clone(), Arc::clone(&table)));
        }
        Some(table)
    }

    /// The first cell of the next row of a table without a header; from the start again after the last.
    pub(crate) fn next_row(&self, name: &str, text: &Bytes) -> Option<String> {
        let table = self.table(name, text)?;
        let column = table.column();
        let turn = self.cursors.entry(name.to_owned()).or_default().fetch_add(1, Ordering::Relaxed);
        column.get(turn.checked_rem(column.len())?).cloned()
    }

    /// A number that no other run of this world got.
    fn next_seed(&self) -> u64 {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        rapidhash::v3::rapidhash_v3_seeded(
            &run.to_le_bytes(),
            &rapidhash::v3::RapidSecrets::seed(self.materials.seed),
        )
    }
}

/// One run of chains over one message.
pub(crate) struct Scope {
    pub(crate) world: Arc<World>,
    pub(crate) side: Side,
    /// The chains of its side that have run.
    pub(crate) ran: Vec<usize>,
    /// Which chain of its side is running.
    pub(crate) chain: usize,
    /// The current time in nanoseconds since the epoch; `None` while a snapshot is compiled.
    pub(crate) now: Option<i64>,
    /// When the pair was recorded.
    pub(crate) recorded_at: Option<i64>,
    /// The node's secrets; none while a snapshot is compiled and on requests.
    pub(crate) secrets: Option<Arc<KeyRing>>,
    /// What to do to a body once the chain is through.
    pub(crate) finalizers: Vec<Finalizer>,
    /// The edits of the signature.
    pub(crate) edits: Vec<Edit>,
    /// The values that steps which compare recorded with live ones have seen.
    pub(crate) captured: Vec<Captured>,
    /// The session that the chains gave the pair.
    pub(crate) session: Option<Vec<u8>>,
    /// How long the answer is held back.
    pub(crate) delay: Duration,
    stored: Vec<(String, Bytes)>,
    learned: Vec<Learned>,
    seed: u64,
    drawn: u64,
}

/// A value that a chain has seen, to be compared with what it sees in the other of recorded and live message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) side: Side,
    pub(crate) chain: usize,
    pub(crate) value: Vec<u8>,
    pub(crate) overwrite: bool,
}

/// A replacement to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) original: Vec<u8>,
    pub(crate) replacement: Vec<u8>,
    pub(crate) overwrite: bool,
}

/// Something done to a whole body after a chain.
pub(crate) struct Finalizer {
    /// Which bodies it changes.
    pub(crate) of: Bodies,
    /// The change.
    pub(crate) edit: BodyEdit,
}

/// A change of a body; `None` leaves it as it is.
pub(crate) type BodyEdit = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Which bodies are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    Request,
    Response,
    Both,
}

/// How far a run had come.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    finalizers: usize,
    edits: usize,
    captured: usize,
    stored: usize,
    learned: usize,
    delay: Duration,
    session: Option<Vec<u8>>,
}

impl Scope {
    /// A run over a recorded message, when a snapshot is compiled.
    pub(crate) fn recorded(world: &Arc<World>, side: Side, recorded_at: Option<i64>) -> Self {
        Self {
            world: Arc::clone(world),
            side,
            ran: Vec::new(),
            chain: 0,
            now: None,
            recorded_at,
            secrets: None,
            finalizers: Vec::new(),
            edits: Vec::new(),
            captured: Vec::new(),
            session: None,
            delay: Duration::ZERO,
            stored: Vec::new(),
            learned: Vec::new(),
            seed: 0,
            drawn: 0,
        }
    }

    /// A run for a live request. `now` is in nanoseconds since the epoch.
    pub(crate) fn live(world: &Arc<World>, side: Side, now: i64) -> Self {
        let per_pair = world.declared.iter().filter(|variable| variable.per_pair());
        per_pair.fold(Self::looking(world, side, now), |scope, variable| variable.evaluate(scope))
    }

    /// The same for somebody who only looks: variables that walk through a table stay where they are, and are not set.
    pub(crate) fn looking(world: &Arc<World>, side: Side, now: i64) -> Self {
        let new = || Self {
            now: Some(now),
            seed: world.next_seed(),
            ..Self::recorded(world, side, None)
        };
        if !world.declared.is_empty() {
            world.started.get_or_init(|| {
                let once = world.declared.iter().filter(|variable| !variable.per_pair());
                once.fold(new(), |scope, variable| variable.evaluate(scope)).commit();
            });
        }
        new()
    }

    /// A run for the same request from the beginning, with the same values for its variables.
    pub(crate) fn again(&self) -> Self {
        Self {
            now: self.now,
            seed: self.seed,
            stored: self.stored.clone(),
            ..Self::recorded(&self.world, self.side, None)
        }
    }

    /// A random number.
    pub(crate) fn random(&mut self) -> u64 {
        self.drawn += 1;
        rapidhash::v3::rapidhash_v3(&[self.seed.to_le_bytes(), self.drawn.to_le_bytes()].concat())
    }

    /// A variable's value, as this run sees it.
    pub(crate) fn variable(&self, name: &str) -> Option<Bytes> {
        let own = self.stored.iter().rev().find(|stored| stored.0 == name);
        own.map_or_else(|| self.world.variable(name), |stored| Some(stored.1.clone()))
    }

    /// The text of a table: a variable's, or that of a node's file.
    pub(crate) fn table_text(&self, name: &str) -> Option<Bytes> {
        self.variable(name).or_else(|| self.world.materials.dataframe(name).cloned())
    }

    /// A cell of a table.
    pub(crate) fn cell(&self, table: &str, key: &str, field: &str) -> Option<String> {
        let text = self.table_text(table)?;
        self.world.table(table, &text)?.cell(key, field).map(str::to_owned)
    }

    /// Remembers a variable.
    pub(crate) fn store(&mut self, name: &str, value: Bytes) {
        self.stored.push((name.to_owned(), value));
    }

    /// Remembers a replacement.
    pub(crate) fn learn(&mut self, learned: Learned) {
        self.learned.push(learned);
    }

    /// Learns that what was `recorded` is now what this run captured.
    pub(crate) fn learn_from(&mut self, recorded: &[Captured]) {
        let captured = std::mem::take(&mut self.captured);
        let of = |all: &[Captured], side: Side, chain: usize| -> Vec<Captured> {
            all.iter().filter(|one| one.side == side && one.chain == chain).cloned().collect()
        };
        let mut chains: Vec<(Side, usize)> =
            captured.iter().map(|one| (one.side, one.chain)).collect();
        chains.dedup();
        for (side, chain) in chains {
            let pairs = of(recorded, side, chain).into_iter().zip(of(&captured, side, chain));
            for (recorded, live) in pairs.filter(|(recorded, live)| recorded.value != live.value) {
                self.learned.push(Learned {
                    original: recorded.value,
                    replacement: live.value,
                    overwrite: live.overwrite,
                });
            }
        }
    }

    /// The text of a mounted secret.
    pub(crate) fn secret(&self, secret: &SecretRef) -> Option<&[u8]> {
        let entry = self.secrets.as_ref()?.get(secret)?;
        // What a private key is for is to be had without it, and who had it would need the mock no more.
        let is_text = entry.key.as_ref().is_some_and(|key| key.is_hmac());
        entry.text.as_ref().filter(|_| is_text).map(|text| text.as_slice())
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            finalizers: self.finalizers.len(),
            edits: self.edits.len(),
            captured: self.captured.len(),
            stored: self.stored.len(),
            learned: self.learned.len(),
            delay: self.delay,
            session: self.session.clone(),
        }
    }

    /// Undoes everything since a mark.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        self.finalizers.truncate(mark.finalizers);
        self.edits.truncate(mark.edits);
        self.captured.truncate(mark.captured);
        self.stored.truncate(mark.stored);
        self.learned.truncate(mark.learned);
        self.delay = mark.delay;
        self.session = mark.session;
    }

    /// Takes the finalizers since a mark.
    pub(crate) fn finalizers_since(&mut self, mark: &Mark) -> Vec<Finalizer> {
        self.finalizers.split_off(mark.finalizers.min(self.finalizers.len()))
    }

    /// Holds the answer back for longer.
    pub(crate) fn hold_back(&mut self, delay: Duration) {
        self.delay = self.delay.saturating_add(delay).min(MAX_DELAY);
    }

    /// Makes the run's variables and replacements everybody's.
    pub(crate) fn commit(&mut self) {
        for (name, value) in self.stored.drain(..) {
            self.world.set_variable(&name, value);
        }
        if !self.learned.is_empty() {
            self.world.replacements.learn(&std::mem::take(&mut self.learned));
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("side", &self.side)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Finalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer").field("of", &self.of).finish_non_exhaustive()
    }
}
