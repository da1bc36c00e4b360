//! Carries out what the control plane says: fetch, compile, bind, swap; or refuse, and leave what is served as it is.

use std::{collections::BTreeSet, error::Error, sync::Arc};

use countersign_engine::{
    compile::{CompiledSnapshot, compile_encoded},
    diagnostic::{Diagnostic, Diagnostics, has_errors},
    snapshot::encoded::Encoded,
    test_config::TestConfig,
    transform::Template,
};
use tokio::task::spawn_blocking;

use crate::{
    fetch::{Blobs, FetchError, Fetched, Remote, disk::Current},
    materials::Allowed,
    secrets::Secrets,
    snapshots::{Assignment, Rejected, Snapshots},
};

/// Carries out assignments, one at a time.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) project: String,
    /// The full names to serve; empty for all.
    pub(crate) selectors: Vec<String>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) allowed: Arc<Allowed>,
    /// Serves key sets that were not recorded.
    pub(crate) serve_jwks: bool,
}

/// How far the responder has followed a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) store_uid: String,
    pub(crate) revision: u64,
}

impl Applier {
    /// Serves an assignment, or refuses it for good.
    ///
    /// # Errors
    /// When trying again may help.
    pub(crate) async fn assign(
        &self,
        remote: Option<&Remote>,
        assignment: Assignment,
    ) -> Result<(), FetchError> {
        let same = |held: &Assignment| {
            held.bundle == assignment.bundle && held.generation == assignment.generation
        };
        if self
            .snapshots
            .load()
            .find(&assignment.name)
            .is_some_and(|replay| same(&replay.assignment))
        {
            self.snapshots.confirm(&assignment);
            return Ok(());
        }
        let fetched = match self.blobs.bundle(remote, &assignment.name, assignment.bundle).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                self.refuse(&assignment, vec![Diagnostic::error(error.code(), "", chain(&error))]);
                return Ok(());
            }
        };
        match self.install(fetched, assignment.clone()).await {
            Ok(()) => {
                tracing::info!(replay = assignment.name, bundle = %assignment.bundle, generation = assignment.generation, "serving");
            }
            Err(diagnostics) => self.refuse(&assignment, diagnostics),
        }
        Ok(())
    }

    async fn install(
        &self,
        fetched: Fetched,
        assignment: Assignment,
    ) -> Result<(), Vec<Diagnostic>> {
        let (snapshots, secrets) = (Arc::clone(&self.snapshots), Arc::clone(&self.secrets));
        let (allowed, serve_jwks) = (Arc::clone(&self.allowed), self.serve_jwks);
        let held = Arc::clone(&self.blobs);
        let task = spawn_blocking(move || {
            // What is compiled is forgotten bit by bit, unless somebody else holds it.
            held.release();
            let blobs = Arc::clone(&fetched.blobs);
            let compiled = build(fetched, &allowed, serve_jwks)?;
            // The keys come first, so that the first answer is signed.
            secrets.require(compiled.required_secrets());
            snapshots.install(assignment, Arc::new(compiled), blobs);
            Ok(())
        });
        task.await.unwrap_or_else(|error| {
            Err(vec![Diagnostic::error("compile_failed", "", chain(&error))])
        })
    }

    /// Withdraws a replay. Freeing a large one takes a while, so it is not done on a thread that others wait for.
    pub(crate) async fn withdraw(&self, name: &str, revision: u64) {
        let (snapshots, replay) = (Arc::clone(&self.snapshots), name.to_owned());
        if spawn_blocking(move || snapshots.withdraw(&replay, revision)).await.unwrap_or_default() {
            tracing::info!(replay = name, "withdrawn");
        }
    }

    /// Serves from the disk cache alone what was served last; tells how far that had come.
    pub(crate) async fn restore(&self) -> Option<Position> {
        let blobs = Arc::clone(&self.blobs);
        let current = spawn_blocking(move || match blobs.disk()?.current() {
            Ok(current) => current,
            Err(error) => {
                tracing::warn!(%error, "the disk cache cannot be read");
                None
            }
        });
        let current =
            current.await.ok().flatten().filter(|current| current.project == self.project)?;
        let wanted = |name: &str| {
            self.selectors.is_empty() || self.selectors.iter().any(|selector| selector == name)
        };
        for assignment in current.assignments().filter(|assignment| wanted(&assignment.name)) {
            self.snapshots.expect([assignment.name.clone()]);
            if let Err(error) = self.assign(None, assignment).await {
                tracing::warn!(error = chain(&error), "the disk cache is incomplete");
            }
        }
        let blobs = Arc::clone(&self.blobs);
        if let Err(error) = spawn_blocking(move || blobs.release()).await {
            tracing::warn!(%error, "the blobs in memory could not be released");
        }
        tracing::info!(
            replays = self.snapshots.load().replays.len(),
            "serving from the disk cache"
        );
        Some(Position { store_uid: current.store_uid, revision: current.revision })
    }

    /// Notes on disk what is served, and forgets the bytes and keys that nothing needs any more.
    pub(crate) async fn settle(&self, position: Position) {
        let project = self.project.clone();
        let (snapshots, secrets, blobs) =
            (Arc::clone(&self.snapshots), Arc::clone(&self.secrets), Arc::clone(&self.blobs));
        let settled = spawn_blocking(move || {
            let table = snapshots.load_full();
            let needed: BTreeSet<_> =
                table.replays.iter().flat_map(|replay| replay.secrets.iter().cloned()).collect();
            secrets.retain(&needed);
            let assignments = table.replays.iter().map(|replay| &replay.assignment);
            let current =
                Current::new(&project, &position.store_uid, position.revision, assignments);
            if let Some(Err(error)) = blobs.disk().map(|disk| disk.set_current(&current)) {
                tracing::warn!(%error, "the disk cache cannot be written");
            }
            let served = table.replays.iter().map(|replay| {
                let Assignment { name, bundle, .. } = &replay.assignment;
                (name.as_str(), *bundle, &replay.blobs)
            });
            blobs.retain(served);
        });
        if let Err(error) = settled.await {
            tracing::warn!(%error, "the disk cache cannot be written");
        }
        let blobs = Arc::clone(&self.blobs);
        // The next assignment does not wait for it.
        drop(spawn_blocking(move || blobs.pack()));
    }

    fn refuse(&self, assignment: &Assignment, diagnostics: Vec<Diagnostic>) {
        let rejected =
            Rejected { bundle: assignment.bundle, generation: assignment.generation, diagnostics };
        tracing::warn!(replay = assignment.name, bundle = %assignment.bundle, reason = rejected.first_reason(), "bundle refused");
        self.snapshots.reject(&assignment.name, rejected);
    }
}

/// Compiles a bundle; what the control plane let through is checked again by the same code.
fn build(
    fetched: Fetched,
    allowed: &Allowed,
    serve_jwks: bool,
) -> Result<CompiledSnapshot, Vec<Diagnostic>> {
    let recording = Encoded::open(fetched.chunks, fetched.ordinals.as_deref())
        .map_err(|error| vec![Diagnostic::error("bundle_malformed", "", chain(&error))])?;
    let held = recording.len();
    if u64::try_from(held) != Ok(fetched.pairs) {
        let message = format!("the chunks hold {held} pairs instead of {}", fetched.pairs);
        return Err(vec![Diagnostic::error("bundle_malformed", "", message)]);
    }
    let mut diagnostics = Diagnostics::default();
    let template = fetched.transform.map_or_else(Template::default, |json| {
        let (template, found) = Template::parse(&json);
        diagnostics.extend(found.into_vec());
        let (materials, found) = allowed.read(&template.required());
        diagnostics.extend(found);
        template.with_materials(Arc::new(materials))
    });
    let config = TestConfig::parse(
        fetched.test_config.as_deref().unwrap_or(TestConfig::STANDARD.as_bytes()),
    )?;
    let config = if serve_jwks { config.serving_jwks() } else { config };
    let treatment = fetched.treatment.open().ok_or_else(|| {
        let message = "what was done to the recording cannot be done to requests";
        vec![Diagnostic::error("bundle_malformed", "", message)]
    })?;
    let (mut compiled, found) =
        compile_encoded(recording, &template, &config, fetched.serve, treatment);
    compiled.note(diagnostics.as_slice());
    diagnostics.extend(found.into_vec());
    if has_errors(diagnostics.as_slice()) { Err(diagnostics.into_vec()) } else { Ok(compiled) }
}

/// An error with all of its sources, in a line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
