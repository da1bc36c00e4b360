//! How much of the store one project may take, so that it leaves room to the others.
//!
//! A snapshot counts with all blobs that it is made of, whether or not it shares some with another one, and one that is not committed with what was uploaded
//! or written for it. So do all records of a project, and what its running replays are made of, be their snapshots deleted or not.
//! What is stored is looked at anew every few seconds while something is stored, and what is taken meanwhile is added to it.
//!
//! Blobs of what was deleted or refused stay until they are removed, which is after a day or so. Deleting makes room at once all the same, but no more than
//! as much again: a project that fills and deletes all the time would fill the disk otherwise.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_engine::snapshot::{digest::Digest, wire::decode_digest};
use countersign_proto::control::v1::{Replay, SnapshotState};
use tokio::time::Instant;

use super::{
    Plane, Problem,
    name::{self, Name},
    stored,
    wire::{self, StoredSnapshot},
};
use crate::{
    content::{self, Root},
    held,
    store::{self, Expect, Kind, Record, Txn, Weight},
    sweep,
};

/// What was looked at is good for so long, while there is room.
const FRESH: Duration = Duration::from_secs(5);
/// And for so long where there is none, so that who asks in vain does not have everything looked at each time.
const JUST: Duration = Duration::from_secs(1);

/// What a record takes besides what it says, in rows and indexes, so that a project cannot have any number of empty ones.
const RECORD: u64 = 1024;
/// So many sizes are remembered.
const MOST_SIZES: usize = 100_000;

/// What projects have taken of what each of them may.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// As much as there is when there is none.
    limit: Option<u64>,
    projects: Mutex<HashMap<String, Ledger>>,
    sizes: Mutex<Sizes>,
}

/// What was found out before, which holds for ever.
#[derive(Debug, Default)]
struct Sizes {
    /// What manifests lead to.
    contents: HashMap<Digest, u64>,
    /// What bundles name.
    bundles: HashMap<Digest, Named>,
}

/// What a bundle names.
#[derive(Debug, Clone, Copy)]
struct Named {
    manifest: Digest,
    /// The bundle itself, its template and its test config.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Ledger {
    looked: Option<Instant>,
    taken: u64,
    /// What nothing names any more and is still there.
    gone: Vec<(Instant, u64)>,
}

impl Ledger {
    /// As many of these bytes as there is room for, if that is known.
    fn known(&mut self, limit: u64, wanted: u64) -> Option<u64> {
        let age = self.looked?.elapsed();
        let is_known = age < JUST || (age < FRESH && self.left(limit, self.taken) >= wanted);
        is_known.then(|| self.grant(limit, wanted))
    }

    fn grant(&mut self, limit: u64, wanted: u64) -> u64 {
        let granted = self.left(limit, self.taken).min(wanted);
        self.taken = self.taken.saturating_add(granted);
        granted
    }

    fn left(&mut self, limit: u64, taken: u64) -> u64 {
        self.gone.retain(|(since, _)| since.elapsed() < sweep::AFTER);
        let gone = self.gone.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let there = limit.saturating_mul(2).saturating_sub(taken).saturating_sub(gone);
        limit.saturating_sub(taken).min(there)
    }
}

impl Quota {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes as many of these bytes as there is room for.
    pub(crate) async fn take_up_to(
        &self,
        plane: &Plane,
        project: &str,
        wanted: u64,
    ) -> Result<u64, Problem> {
        let Some(limit) = self.limit else { return Ok(wanted) };
        let known = || self.projects().entry(project.to_owned()).or_default().known(limit, wanted);
        if let Some(granted) = known() {
            return Ok(granted);
        }
        let _turn = plane.look(project).await?;
        // Somebody else may have looked meanwhile.
        if let Some(granted) = known() {
            return Ok(granted);
        }
        let taken = self.look(plane, project, None).await?;
        let mut projects = self.projects();
        let ledger = projects.entry(project.to_owned()).or_default();
        (ledger.looked, ledger.taken) = (Some(Instant::now()), taken);
        Ok(ledger.grant(limit, wanted))
    }

    /// Takes these bytes, or refuses them.
    pub(crate) async fn take(
        &self,
        plane: &Plane,
        project: &str,
        bytes: u64,
    ) -> Result<(), Problem> {
        let granted = self.take_up_to(plane, project, bytes).await?;
        if granted == bytes {
            return Ok(());
        }
        self.give_back(project, granted);
        Err(self.refusal(project))
    }

    /// The same, but waits until it may be looked at again before it refuses: an upload has more than it needs for moments.
    async fn take_in_time(&self, plane: &Plane, project: &str, bytes: u64) -> Result<(), Problem> {
        let taken = self.take(plane, project, bytes).await;
        if !matches!(taken, Err(Problem::Full { .. })) {
            return taken;
        }
        tokio::time::sleep(JUST).await;
        self.take(plane, project, bytes).await
    }

    /// How much more a record takes than before; 0 where nothing is bounded.
    async fn growth(
        &self,
        plane: &Plane,
        kind: Kind,
        name: &Name,
        length: usize,
    ) -> Result<u64, Problem> {
        if self.limit.is_none() {
            return Ok(0);
        }
        let before = plane.meta.get(kind, &name.full).await?;
        Ok(growth(before.map(|record| record.body.len()), length))
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, project: &str, bytes: u64) {
        if let Some(ledger) = self.projects().get_mut(project) {
            ledger.taken = ledger.taken.saturating_sub(bytes);
        }
    }

    /// Notes that something is named no more, whose bytes are there until they are removed, and that what is taken has to be looked at anew.
    pub(crate) fn released(&self, project: &str, bytes: u64) {
        if self.limit.is_none() {
            return;
        }
        let mut projects = self.projects();
        let ledger = projects.entry(project.to_owned()).or_default();
        ledger.looked = None;
        if bytes > 0 {
            ledger.gone.push((Instant::now(), bytes));
        }
    }

    /// How many bytes a snapshot may have beside the others of its project.
    pub(crate) async fn room(
        &self,
        plane: &Plane,
        project: &str,
        snapshot: &str,
    ) -> Result<u64, Problem> {
        let Some(limit) = self.limit else { return Ok(u64::MAX) };
        let _turn = plane.look(project).await?;
        let taken = self.look(plane, project, Some(snapshot)).await?;
        Ok(self.projects().entry(project.to_owned()).or_default().left(limit, taken))
    }

    /// What is said when there is no room.
    pub(crate) fn refusal(&self, project: &str) -> Problem {
        let limit = self.limit.unwrap_or(u64::MAX);
        let has_gone = self.projects().get(project).is_some_and(|ledger| !ledger.gone.is_empty());
        let gone = if has_gone {
            "; what was deleted or replaced takes its space for about a day"
        } else {
            ""
        };
        let message = format!(
            "{project} may store {limit} bytes, and has no room for this beside all that it has; delete snapshots, or other things, that nobody needs{gone}"
        );
        Problem::Full { project: project.to_owned(), message }
    }

    /// What a snapshot takes of the store besides its upload; 0 where nothing is bounded.
    pub(crate) async fn weigh(&self, plane: &Plane, record: &Record) -> Result<u64, Problem> {
        if self.limit.is_none() {
            return Ok(0);
        }
        // What cannot be read keeps nobody from the project's other things.
        let known: StoredSnapshot = stored(record).unwrap_or_default();
        let known = known.snapshot.unwrap_or_default();
        if known.state() != SnapshotState::Ready {
            return Ok(held::of(&*plane.meta, record).await?.iter().map(Digest::size).sum());
        }
        match known.manifest.as_ref().map(decode_digest) {
            Some(Ok(manifest)) if known.size_bytes == 0 => Ok(self.content(plane, manifest).await),
            _ => Ok(known.size_bytes),
        }
    }

    /// What a manifest leads to. What cannot be read now has no size that could be told, and is looked at again.
    async fn content(&self, plane: &Plane, manifest: Digest) -> u64 {
        if let Some(size) = self.sizes().contents.get(&manifest) {
            return *size;
        }
        let Ok(size) = content(plane, manifest).await else { return 0 };
        self.sizes().contents.insert(manifest, size);
        size
    }

    /// What a bundle names, if it can be read.
    async fn named(&self, plane: &Plane, bundle: Digest) -> Option<Named> {
        if let Some(named) = self.sizes().bundles.get(&bundle) {
            return Some(*named);
        }
        let parts = wire::decode_bundle(plane.blobs.get(&bundle).await.ok()??).ok()?;
        let beside = parts.transform.as_ref().map_or(0, Digest::size);
        let bytes = bundle.size().saturating_add(parts.test_config.size()).saturating_add(beside);
        let named = Named { manifest: parts.manifest, bytes };
        self.sizes().bundles.insert(bundle, named);
        Some(named)
    }

    /// What is announced of a replay, but for what is counted already.
    async fn announced(&self, plane: &Plane, record: Record, counted: &mut HashSet<Digest>) -> u64 {
        let Ok(announced) = wire::decode_announced(record.body) else { return 0 };
        let mut taken = 0_u64;
        for bundle in announced.bundles() {
            if !counted.insert(bundle) {
                continue;
            }
            let Some(named) = self.named(plane, bundle).await else { continue };
            taken = taken.saturating_add(named.bytes);
            if counted.insert(named.manifest) {
                taken = taken.saturating_add(self.content(plane, named.manifest).await);
            }
        }
        taken
    }

    /// What nothing names any more once a replay is not announced; 0 where nothing is bounded.
    pub(crate) async fn of_replay(&self, plane: &Plane, name: &Name) -> Result<u64, Problem> {
        if self.limit.is_none() {
            return Ok(0);
        }
        let Some(record) = plane.meta.get(Kind::Assignment, &name.full).await? else {
            return Ok(0);
        };
        let replay = plane.meta.get(Kind::Replay, &name.full).await?;
        let replay: Replay = replay.as_ref().map(stored).transpose()?.unwrap_or_default();
        let snapshot = plane.meta.get(Kind::Snapshot, &replay.snapshot).await?;
        let mut counted = snapshot.and_then(|record| manifest(&record)).into_iter().collect();
        Ok(self.announced(plane, record, &mut counted).await)
    }

    /// What a project takes, but for the content of one snapshot. Who asks has a turn at looking, of which a project has few.
    async fn look(&self, plane: &Plane, project: &str, but: Option<&str>) -> Result<u64, Problem> {
        let mut taken = 0_u64;
        for kind in Kind::ALL {
            let Weight { records, bytes } = plane.meta.weigh(kind, &format!("{project}/")).await?;
            taken = taken.saturating_add(bytes).saturating_add(records.saturating_mul(RECORD));
        }
        let mut counted = HashSet::new();
        let prefix = name::prefix(Kind::Snapshot, project);
        for record in store::all(&*plane.meta, Kind::Snapshot, &prefix).await? {
            if but == Some(&*record.name) {
                continue;
            }
            counted.extend(manifest(&record));
            taken = taken.saturating_add(self.weigh(plane, &record).await?);
            let (staging, name) = (plane.staging.clone(), record.name);
            taken = taken.saturating_add(store::blocking(move || staging.size(&name)).await??);
        }
        let prefix = name::prefix(Kind::Assignment, project);
        for record in store::all(&*plane.meta, Kind::Assignment, &prefix).await? {
            taken = taken.saturating_add(self.announced(plane, record, &mut counted).await);
        }
        self.sizes().bound();
        Ok(taken)
    }

    fn projects(&self) -> MutexGuard<'_, HashMap<String, Ledger>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sizes {
    /// Forgets everything once it is much; it is found out again.
    fn bound(&mut self) {
        if self.contents.len() + self.bundles.len() > MOST_SIZES {
            *self = Self::default();
        }
    }
}

/// The manifest of a snapshot that is committed.
fn manifest(snapshot: &Record) -> Option<Digest> {
    wire::decode_stored_manifest(snapshot.body.clone()).ok().flatten()
}

/// How much more a record takes than before, if it was there.
pub(crate) fn growth(before: Option<usize>, after: usize) -> u64 {
    let weight = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).saturating_add(RECORD);
    weight(after).saturating_sub(before.map_or(0, weight))
}

/// Writes a record of a project that has room for it.
pub(crate) async fn put(
    plane: &Plane,
    kind: Kind,
    name: Name,
    expect: Expect,
    body: Vec<u8>,
) -> Result<Record, Problem> {
    let grown = plane.quota.growth(plane, kind, &name, body.len()).await?;
    plane.quota.take_in_time(plane, &name.project, grown).await?;
    let committed = plane.meta.commit(Txn::put(kind, name.full.clone(), expect, body)).await;
    if committed.is_err() {
        plane.quota.give_back(&name.project, grown);
    }
    let record = committed?.records.into_iter().next();
    record.ok_or(Problem::NotFound { kind, name: name.full })
}

/// How many bytes all blobs have that a manifest leads to, itself among them, each counted once.
pub(crate) async fn content(plane: &Plane, manifest: Digest) -> Result<u64, Problem> {
    let named = content::named_by(&*plane.blobs, vec![Root::Manifest(manifest)]).await?;
    Ok(named.iter().map(Digest::size).sum())
}
