//! Carries out what the control plane says: fetch, compile, bind, swap; or refuse, and leave what is served as it is.

use std::{error::Error, sync::Arc};

use countersign_engine::{
    compile::{CompiledSnapshot, compile_encoded},
    diagnostic::{Diagnostic, Diagnostics, has_errors},
    snapshot::{digest::Digest, encoded::Encoded},
    test_config::TestConfig,
    transform::Template,
};
use countersign_telemetry::{Span, Tracer};
use tokio::task::spawn_blocking;

use crate::{
    fetch::{Blobs, FetchError, Fetched, Remote, disk::Current},
    materials::Allowed,
    secrets::Secrets,
    sequence::Sequences,
    snapshots::{Assignment, Phase, Rejected, Snapshots},
    trace,
};

/// Carries out assignments, one at a time.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) project: String,
    /// The full names to serve; empty for all.
    pub(crate) selectors: Vec<String>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) sequences: Arc<Sequences>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) allowed: Arc<Allowed>,
    /// Serves key sets that were not recorded.
    pub(crate) serve_jwks: bool,
    /// `None` where nothing is traced.
    pub(crate) tracer: Option<Tracer>,
}

/// How far the responder has followed a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) store_uid: String,
    pub(crate) revision: u64,
}

impl Applier {
    /// Carries out what takes no time; tells whether something is left that does.
    pub(crate) async fn hear(&self, assignment: &Assignment, phase: Phase) -> bool {
        self.snapshots.hear(assignment, phase);
        let table = self.snapshots.load_full();
        if table.active(&assignment.name).is_some_and(|replay| replay.assignment.is(assignment)) {
            self.snapshots.confirm(assignment);
            return false;
        }
        if phase == Phase::Activate && self.snapshots.is_refused_already(assignment) {
            return false;
        }
        let prepared = table.prepared.get(&assignment.name);
        let held = prepared.is_some_and(|replay| replay.assignment.is(assignment));
        drop(table);
        let (snapshots, wanted) = (Arc::clone(&self.snapshots), assignment.clone());
        let arrived = spawn_blocking(move || match phase {
            Phase::Prepare if held => Some(Phase::Prepare),
            Phase::Activate if held => snapshots.activate(&wanted),
            // Going back to what was served before takes no more than going on.
            Phase::Prepare | Phase::Activate => snapshots.arrive_again(&wanted),
        });
        let arrived = arrived.await.unwrap_or_default();
        tell(assignment, arrived);
        if arrived.is_none() {
            self.snapshots.try_again(assignment);
        }
        arrived.is_none()
    }

    /// Gets and compiles a version, and serves it if it is to be served by then; or refuses it for good.
    ///
    /// # Errors
    /// When trying again may help.
    pub(crate) async fn work(
        &self,
        remote: Option<&Remote>,
        assignment: &Assignment,
    ) -> Result<(), FetchError> {
        let tracer = self.tracer.as_ref();
        let whole = trace::work(tracer, "serve a version", assignment, None);
        let above = whole.as_ref().and_then(Span::context);
        // Whoever began no trace here begins none for its parts either.
        let tracer = tracer.filter(|_| above.is_some());
        let fetching = trace::work(tracer, "fetch", assignment, above);
        let fetched = self.blobs.bundle(remote, &assignment.name, assignment.bundle).await;
        drop(fetching);
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                self.refuse(assignment, vec![Diagnostic::error(error.code(), "", chain(&error))]);
                return Ok(());
            }
        };
        let snapshots = Arc::clone(&self.snapshots);
        let wanted = assignment.clone();
        let compiled = self
            .compile(fetched, move |compiled, blobs| snapshots.arrive(&wanted, &compiled, &blobs));
        let compiling = trace::work(tracer, "compile", assignment, above);
        let compiled = compiled.await;
        drop(compiling);
        match compiled {
            Ok(arrived) => tell(assignment, arrived),
            Err(diagnostics) => self.refuse(assignment, diagnostics),
        }
        Ok(())
    }

    /// Compiles what was fetched, and does something with it.
    async fn compile<T: Send + 'static>(
        &self,
        fetched: Fetched,
        then: impl FnOnce(Arc<CompiledSnapshot>, Arc<[Digest]>) -> T + Send + 'static,
    ) -> Result<T, Vec<Diagnostic>> {
        let secrets = Arc::clone(&self.secrets);
        let (allowed, serve_jwks) = (Arc::clone(&self.allowed), self.serve_jwks);
        let held = Arc::clone(&self.blobs);
        let task = spawn_blocking(move || {
            // What is compiled is forgotten bit by bit, unless somebody else holds it.
            held.release();
            let blobs = Arc::clone(&fetched.blobs);
            let compiled = build(fetched, &allowed, serve_jwks)?;
            // The keys come first, so that the first answer is signed.
            secrets.require(compiled.required_secrets());
            Ok(then(Arc::new(compiled), blobs))
        });
        task.await.unwrap_or_else(|error| {
            Err(vec![Diagnostic::error("compile_failed", "", chain(&error))])
        })
    }

    /// Drops what was prepared at this generation.
    pub(crate) async fn unprepare(&self, name: &str, generation: u64) {
        let (snapshots, replay) = (Arc::clone(&self.snapshots), name.to_owned());
        if let Err(error) = spawn_blocking(move || snapshots.unprepare(&replay, generation)).await {
            tracing::warn!(%error, "what was prepared could not be dropped");
        }
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
            self.snapshots.hear(&assignment, Phase::Activate);
            if let Err(error) = self.work(None, &assignment).await {
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

    /// Holds from the disk cache what was served before that.
    pub(crate) async fn restore_previous(&self) {
        let blobs = Arc::clone(&self.blobs);
        let current = spawn_blocking(move || blobs.disk()?.current().ok().flatten()).await;
        let Some(current) = current.ok().flatten().filter(|it| it.project == self.project) else {
            return;
        };
        for assignment in current.previous() {
            if self.snapshots.load().active(&assignment.name).is_none() {
                continue;
            }
            let name = assignment.name.clone();
            let fetched = self.blobs.bundle(None, &name, assignment.bundle).await;
            let snapshots = Arc::clone(&self.snapshots);
            let held = match fetched {
                Ok(fetched) if snapshots.keeps_previous() => {
                    let hold = move |compiled: Arc<_>, blobs| {
                        snapshots.hold_previous(assignment, Some(&compiled), blobs);
                    };
                    self.compile(fetched, hold)
                        .await
                        .map_err(|_| "it cannot be compiled any more".to_owned())
                }
                Ok(fetched) => {
                    snapshots.hold_previous(assignment, None, fetched.blobs);
                    Ok(())
                }
                Err(error) => Err(chain(&error)),
            };
            if let Err(reason) = held {
                tracing::debug!(replay = name, reason, "the version before is not held");
            }
        }
        let blobs = Arc::clone(&self.blobs);
        if let Err(error) = spawn_blocking(move || blobs.release()).await {
            tracing::warn!(%error, "the blobs in memory could not be released");
        }
    }

    /// Notes on disk what is served, and forgets the bytes and keys that nothing needs any more, if nothing is being fetched.
    pub(crate) async fn settle(&self, position: Position, idle: bool) {
        let project = self.project.clone();
        let sequences = Arc::clone(&self.sequences);
        let (snapshots, secrets, blobs) =
            (Arc::clone(&self.snapshots), Arc::clone(&self.secrets), Arc::clone(&self.blobs));
        let settled = spawn_blocking(move || {
            let table = snapshots.load_full();
            sequences.retain(&table);
            let active = table.replays.iter().map(|replay| &replay.assignment);
            let previous = table.previous.values().map(|previous| &previous.assignment);
            let (uid, revision) = (&position.store_uid, position.revision);
            let current = Current::new(&project, uid, revision, active, previous);
            if let Some(Err(error)) = blobs.disk().map(|disk| disk.set_current(&current)) {
                tracing::warn!(%error, "the disk cache cannot be written");
            }
            if idle {
                let (keep, needed) = table.kept();
                secrets.retain(&needed);
                blobs.retain(&keep);
            }
        });
        if let Err(error) = settled.await {
            tracing::warn!(%error, "the disk cache cannot be written");
        }
        if idle {
            let blobs = Arc::clone(&self.blobs);
            // The next assignment does not wait for it.
            drop(spawn_blocking(move || blobs.pack()));
        }
    }

    fn refuse(&self, assignment: &Assignment, diagnostics: Vec<Diagnostic>) {
        let activating = self.snapshots.load().serves(assignment);
        let (bundle, generation) = (assignment.bundle, assignment.generation);
        let rejected = Rejected { bundle, generation, diagnostics, activating };
        tracing::warn!(replay = assignment.name, bundle = %assignment.bundle, reason = rejected.first_reason(), "bundle refused");
        self.snapshots.reject(&assignment.name, rejected);
    }
}

fn tell(assignment: &Assignment, arrived: Option<Phase>) {
    let Assignment { name, bundle, generation, .. } = assignment;
    match arrived {
        Some(Phase::Prepare) => tracing::info!(replay = name, %bundle, generation, "prepared"),
        Some(Phase::Activate) => tracing::info!(replay = name, %bundle, generation, "serving"),
        None => {}
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
