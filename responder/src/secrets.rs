//! Secret directories become a key ring. Read again once a second; a key that cannot be used never replaces one that can, which is given up after
//! a while all the same.
//!
//! The keys of one secret are read through one directory descriptor, so that they belong to one generation. Content decides what is new,
//! never a time stamp. Whoever needs further keys asks with [`Secrets::require`], which reads them before it returns.

mod open;
mod rotation;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_engine::{
    jwt::key::{KeyEntry, KeyProblem, KeyRing, SecretRef, SigningKey},
    snapshot::digest::Digest,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use zeroize::Zeroizing;

use crate::{
    config::{Config, DEFAULT_SECRET_DIR},
    metrics::Metrics,
    snapshots::Snapshots,
};
use open::Content;
pub use open::{Denied, OpenError};
pub(crate) use rotation::Pace;
use rotation::Rotation;
use told::{EXPOSED, STAYS};
pub(crate) use told::{Note, Report};

/// The link that the kubelet switches from one generation of a secret to the next.
const DATA_LINK: &str = "..data";
/// How often a read is tried again when the generation vanishes under it.
const RETRIES: usize = 3;
/// How long a file that was replaced in place has to stay as it is.
const SETTLE: Duration = Duration::from_millis(20);
/// A file that changes all the time is left for the next poll.
const SETTLE_ROUNDS: usize = 10;

/// The keys of this node.
#[derive(Debug)]
pub(crate) struct Secrets {
    dir: PathBuf,
    pace: Pace,
    /// Files that everybody may read are refused, except in the kubelet's mounts.
    strict: bool,
    state: Mutex<State>,
    /// Held while files are read, which may take long; what is known can be asked for all the same.
    reading: Mutex<()>,
    changes: watch::Sender<u64>,
    snapshots: Arc<Snapshots>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    keys: BTreeMap<SecretRef, Known>,
}

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The keys that were good, of which one signs.
    keys: Rotation,
    /// The digest of the file that the last good key came from.
    digest: Option<Digest>,
    problem: Option<KeyProblem>,
    /// Since when the file has had a problem.
    since: Option<Instant>,
    /// What is worth knowing of a file that can be used.
    note: Option<&'static Note>,
    /// The generation of the ring in which the key was last replaced.
    generation: u64,
    /// The file as it was last taken over, if it is an HMAC secret: of a private key nothing but the parsed form is kept.
    text: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// Content that was seen once and is taken when it is seen again.
    candidate: Option<Digest>,
}

/// Whether there is a secret directory. Without the usual one, tokens are served as recorded, which is no reason not to start.
pub(crate) fn check(dir: &Path) -> io::Result<()> {
    match std::fs::read_dir(dir) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && dir == Path::new(DEFAULT_SECRET_DIR) =>
        {
            tracing::warn!(
                dir = DEFAULT_SECRET_DIR,
                "there is no secret directory yet; tokens are served as recorded until their keys appear"
            );
            Ok(())
        }
        read => read.map(drop),
    }
}

/// Whether all files have been taken as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// They have.
    Yes,
    /// One has changed and counts only when it is found unchanged.
    NotYet,
}

/// A file of a secret as it was found.
#[derive(Debug)]
struct Found {
    content: Result<Content, OpenError>,
    /// It came through the kubelet's link, which is only switched to files that are whole.
    atomic: bool,
}

impl Secrets {
    /// Those of a node with these settings.
    pub(crate) fn of(config: &Config, snapshots: &Arc<Snapshots>, metrics: &Arc<Metrics>) -> Self {
        let Config { key_overlap: overlap, key_grace: grace, secret_grace: kept, .. } = *config;
        let place = (config.secret_dir.clone(), config.strict_perms);
        let pace = Pace { overlap, grace, kept };
        Self::new(place, pace, Arc::clone(snapshots), Arc::clone(metrics))
    }

    pub(crate) fn new(
        (dir, strict): (PathBuf, bool),
        pace: Pace,
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            dir,
            pace,
            strict,
            state: Mutex::default(),
            reading: Mutex::default(),
            changes: watch::Sender::new(0),
            snapshots,
            metrics,
        }
    }

    /// Changes when a key or a problem does.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes sure that these keys are known, or known to be missing. Reads files.
    pub(crate) fn require(&self, refs: &[SecretRef]) {
        {
            let mut state = self.lock();
            for secret in refs {
                state.keys.entry(secret.clone()).or_default();
            }
        }
        // A file that is there for the first time may be half written, too.
        for _ in 0..SETTLE_ROUNDS {
            if self.reload() == Settled::Yes {
                return;
            }
            std::thread::park_timeout(SETTLE);
        }
    }

    /// Forgets all keys but these.
    pub(crate) fn retain(&self, needed: &BTreeSet<SecretRef>) {
        let ring = {
            let mut state = self.lock();
            let before = state.keys.len();
            state.keys.retain(|secret, _| needed.contains(secret));
            (state.keys.len() < before).then(|| Arc::new(state.ring()))
        };
        if let Some(ring) = ring {
            self.snapshots.forget_keys(ring);
        }
    }

    /// Reads all secrets again and, when anything changed, serves with the new keys from now on.
    pub(crate) fn reload(&self) -> Settled {
        // One after the other, so that what was read first does not come last.
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: BTreeSet<SecretRef> = self.lock().keys.keys().cloned().collect();
        let found = self.read(&wanted);
        let (settled, generation, ring) = {
            let mut state = self.lock();
            let (changed, settled) = self.update(&mut state, found);
            if !changed {
                return settled;
            }
            (settled, state.generation, Arc::new(state.ring()))
        };
        self.snapshots.rebind(generation, ring);
        self.changes.send_modify(|change| *change = generation);
        settled
    }

    /// Reads until no file changes any more, so that a key that was replaced in place is taken within one poll.
    async fn settle(self: &Arc<Self>) {
        for _ in 0..SETTLE_ROUNDS {
            let secrets = Arc::clone(self);
            match tokio::task::spawn_blocking(move || secrets.reload()).await {
                Ok(Settled::Yes) => return,
                Ok(Settled::NotYet) => sleep(SETTLE).await,
                Err(error) => return tracing::error!(%error, "reading the secrets failed"),
            }
        }
    }

    /// Reloads for ever.
    pub(crate) async fn poll(self: Arc<Self>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.settle().await;
        }
    }

    /// What may be told about a key.
    pub(crate) fn report(&self, secret: &SecretRef) -> Report {
        self.lock().keys.get(secret).cloned().unwrap_or_default().report()
    }

    /// What may be told about all keys.
    pub(crate) fn reports(&self) -> Vec<(SecretRef, Report)> {
        self.lock().keys.iter().map(|(secret, known)| (secret.clone(), known.report())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads these keys.
    fn read(&self, secrets: &BTreeSet<SecretRef>) -> BTreeMap<SecretRef, Found> {
        let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for secret in secrets {
            wanted.entry(&secret.secret).or_default().insert(&secret.key);
        }
        wanted.into_iter().flat_map(|(secret, keys)| self.read_secret(secret, &keys)).collect()
    }

    /// Takes over what was read; tells whether anything changed, and whether a file has to be looked at once more before it counts.
    fn update(&self, state: &mut State, found: BTreeMap<SecretRef, Found>) -> (bool, Settled) {
        let next = state.generation + 1;
        let mut changed = state.generation == 0 && !state.keys.is_empty();
        for (secret, found) in found {
            let Some(known) = state.keys.get_mut(&secret) else { continue };
            changed |= known.adopt(&secret, &found, next, self.pace, &self.metrics);
            changed |= known.expire(&secret, self.pace, Instant::now());
            if known.keys.advance(self.pace, Instant::now()) {
                known.generation = next;
                changed = true;
            }
        }
        if changed {
            state.generation = next;
        }
        let waiting = state.keys.values().any(|known| known.candidate.is_some());
        (changed, if waiting { Settled::NotYet } else { Settled::Yes })
    }

    /// Reads keys of one secret, all from the same generation.
    fn read_secret(&self, secret: &str, keys: &BTreeSet<&str>) -> Vec<(SecretRef, Found)> {
        let mut found = Vec::new();
        for _ in 0..RETRIES {
            let (directory, atomic) = match self.open_secret(secret) {
                Ok(opened) => opened,
                Err(error) => {
                    return keys
                        .iter()
                        .map(|key| {
                            (named(secret, key), Found { content: Err(error), atomic: false })
                        })
                        .collect();
                }
            };
            found = keys
                .iter()
                .map(|key| {
                    let content = match open::read(&directory, key) {
                        _ if !is_plain(key) => Err(OpenError::Escape),
                        Ok(read) if self.strict && !atomic && read.is_exposed() => {
                            Err(OpenError::Exposed(read.mode))
                        }
                        read => read,
                    };
                    (named(secret, key), Found { content, atomic })
                })
                .collect();
            // The kubelet removes a generation after it has switched the link away from it; then the new one is read.
            if !atomic
                || !found.iter().any(|(_, found)| matches!(found.content, Err(OpenError::Missing)))
            {
                break;
            }
        }
        found
    }

    fn open_secret(&self, secret: &str) -> Result<(std::os::fd::OwnedFd, bool), OpenError> {
        open_in(&self.dir, secret)
    }
}

/// Reads a key beneath a directory, once. Links that lead out of it, devices and large files are refused, and nothing is waited for.
///
/// # Errors
/// When it cannot be read.
pub fn read_secret(dir: &Path, secret: &SecretRef) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if !is_plain(&secret.key) {
        return Err(OpenError::Escape);
    }
    let (directory, _) = open_in(dir, &secret.secret)?;
    open::read(&directory, &secret.key).map(|read| read.bytes)
}

/// Opens a secret, as it is now; tells whether it came through the kubelet's link.
fn open_in(dir: &Path, secret: &str) -> Result<(std::os::fd::OwnedFd, bool), OpenError> {
    if !is_plain(secret) {
        return Err(OpenError::Escape);
    }
    let directory = open::directory(open::root(dir)?, secret)?;
    match open::directory(&directory, DATA_LINK) {
        Ok(generation) => Ok((generation, true)),
        Err(OpenError::Missing) => Ok((directory, false)),
        Err(error) => Err(error),
    }
}

fn named(secret: &str, key: &str) -> SecretRef {
    SecretRef { secret: secret.to_owned(), key: key.to_owned() }
}

/// Whether a name is one component that cannot lead anywhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.contains(['/', '\0'])
        && !name.starts_with("..")
        && name != "."
}

impl State {
    fn ring(&self) -> KeyRing {
        let entry = |known: &Known| KeyEntry {
            key: known.keys.signing().cloned(),
            problem: known.problem.clone(),
            generation: known.generation,
            text: known.text.clone(),
            beside: known.keys.beside(),
        };
        KeyRing::new(
            self.generation,
            self.keys.iter().map(|(secret, known)| (secret.clone(), entry(known))).collect(),
        )
    }
}

impl Known {
    /// Takes a file over; tells whether the key or the problem changed.
    fn adopt(
        &mut self,
        secret: &SecretRef,
        found: &Found,
        generation: u64,
        pace: Pace,
        metrics: &Metrics,
    ) -> bool {
        let content = match &found.content {
            Ok(content) => content,
            Err(error) => {
                (self.candidate, self.note) = (None, None);
                return self.fail(secret, error.code(), error.to_string(), metrics);
            }
        };
        let bytes = &content.bytes;
        self.remark(secret, content, found.atomic);
        let digest = Digest::of(bytes);
        if self.digest == Some(digest) {
            (self.candidate, self.since) = (None, None);
            return self.problem.take().is_some();
        }
        // A writer that replaces a file in place may be half done, and half an HMAC secret is a valid HMAC secret.
        if !found.atomic && self.candidate.replace(digest) != Some(digest) {
            return false;
        }
        match SigningKey::parse(bytes) {
            Ok(key) => {
                let text = key.is_text().then(|| Arc::new(Zeroizing::new(bytes.to_vec())));
                let (kind, mut keys) = (key.kind(), std::mem::take(&mut self.keys));
                keys.push(key, pace, Instant::now());
                tracing::info!(%secret, kind, waits = keys.is_waiting(), "signing key loaded");
                *self = Self {
                    keys,
                    digest: Some(digest),
                    problem: None,
                    since: None,
                    note: self.note,
                    generation,
                    text,
                    candidate: None,
                };
                true
            }
            Err(error) => {
                self.candidate = None;
                self.fail(secret, error.code(), error.to_string(), metrics)
            }
        }
    }

    /// Notes what is worth knowing of a file, and says it once.
    fn remark(&mut self, secret: &SecretRef, content: &Content, atomic: bool) {
        let note = match content {
            _ if atomic => None,
            Content { is_mount: true, .. } => Some(&STAYS),
            exposed if exposed.is_exposed() => Some(&EXPOSED),
            _ => None,
        };
        if let Some(note) = note.filter(|note| self.note != Some(note)) {
            tracing::warn!(%secret, code = note.code, "{}", note.message);
        }
        self.note = note;
    }

    /// Gives up a key whose file has had a problem for too long; tells whether it did.
    fn expire(&mut self, secret: &SecretRef, pace: Pace, now: Instant) -> bool {
        let over = self.since.is_some_and(|since| now.duration_since(since) >= pace.kept);
        if !over || self.keys.signing().is_none() {
            return false;
        }
        self.keys.give_up(pace, now);
        (self.digest, self.text) = (None, None);
        tracing::warn!(%secret, kept_secs = pace.kept.as_secs(), "signing key given up: its file was not put right in time");
        true
    }

    /// Keeps the key and notes what is wrong with its successor.
    fn fail(
        &mut self,
        secret: &SecretRef,
        code: &'static str,
        message: String,
        metrics: &Metrics,
    ) -> bool {
        self.since.get_or_insert_with(Instant::now);
        if self
            .problem
            .as_ref()
            .is_some_and(|problem| problem.code == code && problem.message == message)
        {
            return false;
        }
        tracing::warn!(%secret, code, problem = message, kept = self.digest.is_some(), "signing key unusable");
        metrics.secret_errors.inc();
        self.problem = Some(KeyProblem { code, message });
        true
    }

    fn report(&self) -> Report {
        Report {
            resolved: self.keys.signing().is_some(),
            kind: self.keys.signing().map(|key| key.kind()).unwrap_or_default(),
            thumbprint: self.keys.signing().and_then(|key| key.thumbprint()),
            problem: self.problem.as_ref().map(|problem| (problem.code, problem.message.clone())),
            note: self.note,
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests;
